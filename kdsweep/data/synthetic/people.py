"""People on foot and on two wheels, built of limbs.

Every function returns an unlabelled `Soup` that stands on z = 0 and looks along +x.
"""

import numpy as np

from kdsweep.data.synthetic import vehicles
from kdsweep.data.synthetic.materials import Material
from kdsweep.data.synthetic.mesh import Array, Rng, Soup, box, ellipsoid, merge, paint, tube

Point = tuple[float, float, float]


def _limb(start: Point, knee: Point, end: Point, thick: float) -> Array:
    """An arm or a leg with one joint."""
    return np.concatenate(
        [
            tube(start, knee, thick, 0.8 * thick, sides=6),
            tube(knee, end, 0.8 * thick, 0.6 * thick, 6),
        ]
    )


def person(rng: Rng, walking: bool = False) -> Soup:
    """A standing or striding person of 1.5 to 1.95 m, some with a bag."""
    size = rng.uniform(1.5, 1.95) / 1.75
    step = rng.uniform(0.15, 0.35) if walking else rng.uniform(0.0, 0.08)
    swing = 0.6 * step
    knee, foot = 0.6 * step + 0.03, step
    legs = [
        _limb((0, s * 0.09, 0.88), (s * knee, s * 0.1, 0.46), (s * foot, s * 0.1, 0.04), 0.085)
        for s in (1, -1)
    ]
    arms = [
        _limb((0, s * 0.2, 1.4), (-s * swing * 0.5, s * 0.26, 1.12),
              (-s * swing + 0.1, s * 0.25, 0.88), 0.055)
        for s in (1, -1)
    ]  # fmt: skip
    torso = ellipsoid((0.0, 0.0, 1.15), (0.14, 0.21, 0.36))
    head = ellipsoid((0.02, 0.0, 1.61), (0.1, 0.085, 0.13))
    soups = [
        paint(rng, size * np.concatenate([torso, *arms]), Material.CLOTH),
        paint(rng, size * np.concatenate(legs), Material.CLOTH),
        paint(rng, size * head, Material.CLOTH, 0.35),
    ]
    if rng.random() < 0.3:
        soups.append(paint(rng, size * box(-0.32, -0.12, -0.16, 0.16, 0.95, 1.4), Material.CLOTH))
    return merge(soups)


def _rider(rng: Rng, seat: Point, hands: Point, feet: Point, lean: float) -> list[Soup]:
    """A person who sits: hips on the seat, both hands and both feet given for the left side."""
    x, _, z = seat
    shoulder = (x + 0.5 * np.sin(lean), 0.0, z + 0.55 * np.cos(lean))
    torso = tube((x, 0, z), shoulder, 0.16, 0.19, sides=8, caps=True)
    head = ellipsoid((shoulder[0] + 0.1, 0, shoulder[2] + 0.24), (0.13, 0.11, 0.15))
    limbs = []
    for s in (1, -1):
        knee = ((x + feet[0]) / 2 + 0.22, s * 0.14, (z + feet[2]) / 2 + 0.1)
        limbs.append(_limb((x, s * 0.1, z), knee, (feet[0], s * feet[1], feet[2]), 0.085))
        elbow = ((shoulder[0] + hands[0]) / 2, s * 0.27, (shoulder[2] + hands[2]) / 2 - 0.08)
        limbs.append(_limb((shoulder[0], s * 0.2, shoulder[2]), elbow,
                           (hands[0], s * hands[1], hands[2]), 0.055))  # fmt: skip
    return [
        paint(rng, np.concatenate([torso, *limbs]), Material.CLOTH),
        paint(rng, head, Material.PAINT, float(rng.uniform(0.15, 0.5))),
    ]


def bicyclist(rng: Rng) -> Soup:
    """A rider with the bicycle; SemanticKITTI labels both as bicyclist."""
    rider = _rider(rng, (-0.22, 0, 1.0), (0.35, 0.27, 1.05), (-0.02, 0.12, 0.3),
                   rng.uniform(0.3, 0.7))  # fmt: skip
    return merge([vehicles.bicycle(rng), *rider])


def motorcyclist(rng: Rng) -> Soup:
    """A rider with the motorcycle; SemanticKITTI labels both as motorcyclist."""
    rider = _rider(rng, (-0.3, 0, 0.88), (0.4, 0.33, 1.08), (-0.1, 0.22, 0.3),
                   rng.uniform(0.2, 0.6))  # fmt: skip
    return merge([vehicles.motorcycle(rng), *rider])
