"""Segmentation losses written as slow loops over sets, apart from the code under test."""

import math


def softmax(scores):
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / sum(powers) for power in powers]


def cross_entropy(logits, labels, class_weights=None, ignore=0):
    total = weight_total = 0.0
    for scores, label in zip(logits, labels, strict=True):
        if label != ignore:
            weight = 1.0 if class_weights is None else class_weights[label]
            total -= weight * math.log(softmax(scores)[label])
            weight_total += weight
    return total / weight_total if weight_total else 0.0


def jaccard_loss(truth: set[int], wrong: set[int]) -> float:
    """1 - IoU of a class, by the rows that truly have it and the rows that are mispredicted."""
    union = truth | wrong
    return 1.0 - len(truth - wrong) / len(union) if union else 0.0


def lovasz_softmax(logits, labels, ignore=0, classes="present"):
    """The Lovasz extension by definition: errors, largest first, times the growth of the loss."""
    kept = [row for row, label in enumerate(labels) if label != ignore]
    if not kept:
        return 0.0
    probs = {row: softmax(logits[row]) for row in kept}
    losses = []
    for class_ in range(len(logits[0])):
        truth = {row for row in kept if labels[row] == class_}
        if not truth and classes == "present":
            continue
        errors = {row: abs((row in truth) - probs[row][class_]) for row in kept}
        order = sorted(kept, key=lambda row: -errors[row])
        loss = 0.0
        for i, row in enumerate(order):
            growth = jaccard_loss(truth, set(order[: i + 1])) - jaccard_loss(truth, set(order[:i]))
            loss += errors[row] * growth
        losses.append(loss)
    return sum(losses) / len(losses)
