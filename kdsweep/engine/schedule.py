"""Learning rate and distillation strength as functions of progress, so that resuming is exact."""

import math

from kdsweep.spec.train import TrainConfig

MILESTONE_FACTOR = 0.1
"""What each milestone of `multistep` multiplies the learning rate by."""


def learning_rate(train: TrainConfig, step: int, num_steps: int) -> float:
    """Learning rate of one optimiser step.

    Linear warm-up over `warmup_steps` (the first step has lr / warmup_steps), then `constant`,
    `cosine` (half a wave from lr to 0 over the remaining steps; Loshchilov & Hutter 2017, eq. 5,
    one cycle) or `multistep` (times 0.1 from each milestone, a fraction of `num_steps`, on).

    Args:
        train: The schedule's fields.
        step: Number of the optimiser step, from 0.
        num_steps: Optimiser steps of the whole run.
    """
    if step < train.warmup_steps:
        return train.lr * (step + 1) / train.warmup_steps
    if train.schedule == "cosine":
        remaining = max(1, num_steps - train.warmup_steps)
        return train.lr * 0.5 * (1 + math.cos(math.pi * (step - train.warmup_steps) / remaining))
    if train.schedule == "multistep":
        passed = sum(step >= milestone * num_steps for milestone in train.milestones)
        return float(train.lr * MILESTONE_FACTOR**passed)
    return train.lr


def distillation_scale(progress_epochs: float, warmup_epochs: int) -> float:
    """Factor of all method weights: rises linearly from 0 to 1 over the first epochs.

    Args:
        progress_epochs: Epochs done at the end of the step, with the fraction of the current one;
            so the factor is never 0 and the terms of every step are measured.
        warmup_epochs: Length of the ramp; 0 = full strength from the start.
    """
    return min(1.0, progress_epochs / warmup_epochs) if warmup_epochs else 1.0
