"""The relations of RKD written as slow loops over pairs and triplets, apart from the package."""

import math
from itertools import product


def distance_loss(student, teacher):
    """Mean smooth-L1 over all pairs between distances in units of their mean."""
    ours, theirs = _relative_distances(student), _relative_distances(teacher)
    pairs = list(product(range(len(student)), repeat=2))
    return sum(_smooth_l1(ours[pair] - theirs[pair]) for pair in pairs) / len(pairs)


def angle_loss(student, teacher):
    """Mean smooth-L1 over all triplets between the cosines at their first point."""
    triplets = list(product(range(len(student)), repeat=3))
    gaps = (_cosine(student, *triplet) - _cosine(teacher, *triplet) for triplet in triplets)
    return sum(_smooth_l1(gap) for gap in gaps) / len(triplets)


def _smooth_l1(gap):
    return 0.5 * gap * gap if abs(gap) < 1 else abs(gap) - 0.5


def _relative_distances(points):
    count = len(points)
    distances = {(i, i): 0.0 for i in range(count)}
    for i, j in product(range(count), repeat=2):
        if i != j:
            distances[i, j] = max(math.dist(points[i], points[j]), 1e-6)
    mean = sum(distances.values()) / (count * (count - 1))
    return {pair: distance / mean for pair, distance in distances.items()}


def _cosine(points, vertex, first, second):
    lengths = [math.dist(points[vertex], points[end]) for end in (first, second)]
    if min(lengths) == 0:
        return 0.0
    pairs = zip(points[vertex], points[first], points[second], strict=True)
    return sum((b - a) * (c - a) for a, b, c in pairs) / math.prod(lengths)
