"""The parts of PVD written as slow loops over single rows and pairs, apart from the package."""

import math
from collections import defaultdict

import numpy as np


def kl_rows(student, teacher, temperature=1.0, reverse=False):
    """Divergence of each row times the temperature squared."""
    rows = []
    for student_scores, teacher_scores in zip(student, teacher, strict=True):
        p = _softmax(teacher_scores, temperature)
        q = _softmax(student_scores, temperature)
        if reverse:
            p, q = q, p
        rows.append(temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return rows


def _softmax(scores, temperature):
    powers = [math.exp(score / temperature) for score in scores]
    return [power / sum(powers) for power in powers]


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def affinity_distance(student, teacher):
    """Squared differences of cosine affinities over all ordered pairs."""
    count = len(student)
    return sum(
        (cosine(student[i], student[j]) - cosine(teacher[i], teacher[j])) ** 2
        for i in range(count)
        for j in range(count)
    )


def supervoxel_members(coords, grid, size):
    """Cells of every supervoxel, found by walking through the blocks in the order of their ids."""
    members, next_id = {}, 0
    for rho in range(0, grid[0], size[0]):
        for phi in range(0, grid[1], size[1]):
            for z in range(0, grid[2], size[2]):
                start = np.array([rho, phi, z])
                inside = (coords >= start) & (coords < start + size)
                members[next_id] = np.flatnonzero(inside.all(axis=1)).tolist()
                next_id += 1
    return members


def sampling_probs(coords, labels, minority, grid, size, gain=4.0, decay=2.0, exponent=1.0):
    """Probability of every supervoxel, 0 for those without cells."""
    members = supervoxel_members(coords, grid, size)
    per_ring = math.ceil(grid[1] / size[1]) * math.ceil(grid[2] / size[2])
    weights = []
    for id_, cells in members.items():
        rare = sum(int(labels[cell]) in minority for cell in cells)
        outer = min((id_ // per_ring + 1) * size[0], grid[0]) / grid[0]
        weight = outer**exponent / (gain * math.exp(-decay * rare) + 1) / len(members)
        weights.append(weight if cells else 0.0)
    return np.array(weights) / sum(weights)


def kept_rows(ids, wanted, labels, minority, keys, limit):
    """Rows kept of one supervoxel: drops majority rows of largest key first."""
    kept = [row for row, id_ in enumerate(ids) if id_ == wanted]
    while len(kept) > limit:
        common = [row for row in kept if int(labels[row]) not in minority]
        kept.remove(max(common or kept, key=lambda row: keys[row]))
    return kept


def draw_one_by_one(weights, count, rng):
    """Successive draws in proportion to the weights that are left."""
    left, drawn = dict(enumerate(weights)), []
    for _ in range(count):
        ids = list(left)
        probs = np.array([left[id_] for id_ in ids])
        drawn.append(int(rng.choice(ids, p=probs / probs.sum())))
        del left[drawn[-1]]
    return drawn


def frequencies(sequences):
    """How often each sequence occurs."""
    counts = defaultdict(int)
    for sequence in sequences:
        counts[tuple(sequence)] += 1
    return {sequence: count / len(sequences) for sequence, count in counts.items()}
