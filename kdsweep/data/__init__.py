"""Readers of data sets in their native layouts, augmentation, samples and batches."""
