"""Cars, trucks, buses, trailers, bicycles and motorcycles: each more than a box.

Every function draws sizes and paint from `rng` and returns an unlabelled `Soup` that stands on
z = 0, looks along +x and has its middle at the origin.
"""

from itertools import pairwise

import numpy as np

from kdsweep.data.synthetic.materials import Material
from kdsweep.data.synthetic.mesh import Array, Rng, Soup, box, merge, paint, taper, tube


def _wheels(xs: tuple[float, ...], half_track: float, radius: float, width: float) -> Array:
    """Wheels at every x, on both sides."""
    return np.concatenate(
        [
            tube((x, side * half_track, radius), (x, side * (half_track - width), radius),
                 radius, radius, sides=10, caps=True)
            for x in xs
            for side in (1.0, -1.0)
        ]
    )  # fmt: skip


def _paint_albedo(rng: Rng) -> float:
    """Remission of car paint: most cars are dark to a 905 nm laser, some shine."""
    return float(np.clip(rng.lognormal(np.log(0.09), 0.8), 0.02, 0.7))


def _lights_and_plates(length: float, half: float, z: float) -> Array:
    """Licence plates and rear lights, which throw light back."""
    x = length / 2 + 0.01
    plates = [box(s * x - 0.01, s * x, -0.26, 0.26, z - 0.06, z + 0.06) for s in (1, -1)]
    lamps = [
        box(-x, -x + 0.02, s * half - 0.12, s * half + 0.12, z + 0.2, z + 0.32) for s in (1, -1)
    ]
    return np.concatenate(plates + lamps)


def car(rng: Rng) -> Soup:
    """A saloon, estate, SUV or van with a continuous body."""
    kind = rng.choice(4, p=[0.4, 0.25, 0.22, 0.13])
    length = rng.uniform(*[(4.2, 4.8), (3.6, 4.2), (4.3, 4.9), (4.7, 5.4)][kind])
    half = rng.uniform(*[(0.86, 0.92), (0.82, 0.88), (0.9, 0.97), (0.94, 1.0)][kind])
    height = rng.uniform(*[(1.4, 1.5), (1.44, 1.55), (1.62, 1.8), (1.85, 2.1)][kind])
    front = length / 2
    belt = height * rng.uniform(0.58, 0.64)
    clearance = rng.uniform(0.16, 0.24)
    nose = rng.uniform(0.9, 1.2) if kind < 3 else 0.5
    boot = (rng.uniform(0.5, 0.75), 0.12, 0.15, 0.05)[kind]
    body = [
        taper((-front + 0.1, front - 0.08, -half, half), (-front, front, -half, half),
              clearance, belt * 0.62),
        taper((-front, front, -half, half),
              (-front + 0.06, front - 0.25, -half + 0.05, half - 0.05), belt * 0.62, belt),
    ]  # fmt: skip
    cabin = (-front + boot + 0.05, front - nose, -half + 0.06, half - 0.06)
    slope = (0.35, 0.25, 0.2, 0.08)[kind]
    roof = (cabin[0] + slope, cabin[1] - rng.uniform(0.55, 0.8), -half + 0.22, half - 0.22)
    glass = taper(cabin, roof, belt, height - 0.06)
    top = taper(roof, tuple(r * 0.97 for r in roof), height - 0.06, height)  # type: ignore[arg-type]
    radius = rng.uniform(0.3, 0.35)
    mirrors = [box(front - nose - 0.4, front - nose - 0.25, s * half - 0.1, s * half + 0.1,
                   belt, belt + 0.16) for s in (1, -1)]  # fmt: skip
    albedo = _paint_albedo(rng)
    return merge(
        [
            paint(rng, np.concatenate([*body, top, *mirrors]), Material.PAINT, albedo),
            paint(rng, glass, Material.GLASS),
            paint(rng, _wheels((-length * 0.3, length * 0.31), half + 0.01, radius, 0.2),
                  Material.RUBBER),
            paint(rng, _lights_and_plates(length, half - 0.15, 0.55), Material.RETRO),
        ]
    )  # fmt: skip


def truck(rng: Rng) -> Soup:
    """A box truck or pick-up: a cabin, and a load that stands apart from it."""
    length, half = rng.uniform(5.8, 8.5), rng.uniform(1.05, 1.25)
    front, height = length / 2, rng.uniform(2.6, 3.4)
    cab_back = front - rng.uniform(1.7, 2.1)
    cab = taper((cab_back, front, -half, half), (cab_back, front - 0.05, -half, half), 0.45, 1.5)
    screen = taper((cab_back, front - 0.05, -half, half),
                   (cab_back, front - 0.4, -half + 0.1, half - 0.1), 1.5, 2.3)  # fmt: skip
    chassis = box(-front, front - 0.3, -0.45, 0.45, 0.5, 0.85)
    load = box(-front, cab_back - 0.25, -half, half, 0.9, height)
    wheels = _wheels((front - 1.0, -front + 1.2, -front + 2.2), half, 0.46, 0.28)
    return merge(
        [
            paint(rng, np.concatenate([cab, chassis]), Material.PAINT, _paint_albedo(rng)),
            paint(rng, screen, Material.GLASS),
            paint(rng, load, Material.PAINT, float(rng.uniform(0.15, 0.5))),
            paint(rng, wheels, Material.RUBBER),
            paint(rng, _lights_and_plates(length, half - 0.15, 0.75), Material.RETRO),
        ]
    )


def bus(rng: Rng) -> Soup:
    """A city bus with a band of windows."""
    length, half, height = rng.uniform(10.5, 12.5), 1.25, rng.uniform(2.9, 3.2)
    front = length / 2
    low = box(-front, front, -half, half, 0.3, 1.2)
    top = box(-front, front, -half, half, 2.3, height)
    glass = box(-front + 0.05, front - 0.05, -half + 0.03, half - 0.03, 1.2, 2.3)
    return merge(
        [
            paint(rng, np.concatenate([low, top]), Material.PAINT, float(rng.uniform(0.15, 0.5))),
            paint(rng, glass, Material.GLASS),
            paint(
                rng, _wheels((front - 2.6, -front + 3.0), half + 0.01, 0.48, 0.3), Material.RUBBER
            ),
        ]
    )


def trailer(rng: Rng) -> Soup:
    """A caravan or a tarpaulin trailer: the usual 'other vehicle' at the kerb."""
    length, half = rng.uniform(3.4, 5.8), rng.uniform(1.0, 1.15)
    front, height = length / 2, rng.uniform(1.9, 2.6)
    body = taper((-front + 0.1, front - 0.3, -half, half), (-front + 0.2, front - 0.1, -half, half),
                 0.45, height)  # fmt: skip
    bar = box(front - 0.3, front + 0.9, -0.06, 0.06, 0.45, 0.55)
    window = box(-0.7, 0.6, -half - 0.01, half + 0.01, 1.3, min(1.75, height - 0.2))
    return merge(
        [
            paint(rng, body, Material.PAINT, float(rng.uniform(0.2, 0.5))),
            paint(rng, bar, Material.METAL),
            paint(rng, window, Material.GLASS),
            paint(rng, _wheels((-0.2,), half + 0.01, 0.32, 0.2), Material.RUBBER),
        ]
    )


def _two_wheels(base: float, radius: float, tyre: float) -> Array:
    """Two upright rings, each of short bars, and a few spokes."""
    angle = np.linspace(0, 2 * np.pi, 11)
    parts = []
    for x in (-base / 2, base / 2):
        rim = np.stack([x + radius * np.cos(angle), 0 * angle, radius * (1 + np.sin(angle))], 1)
        parts += [tube(a, b, tyre, tyre, sides=4) for a, b in pairwise(rim)]
        parts += [tube((x, 0, radius), rim[i], 0.012, 0.012, sides=3) for i in range(0, 10, 2)]
    return np.concatenate(parts)


def bicycle(rng: Rng) -> Soup:
    """Wheels, frame, saddle and handlebar."""
    base, radius = rng.uniform(1.0, 1.1), rng.uniform(0.31, 0.35)
    crank, saddle = np.array([-0.05, 0, 0.3]), np.array([-0.22, 0, rng.uniform(0.88, 1.0)])
    head = np.array([base / 2 - 0.18, 0, rng.uniform(0.9, 1.0)])
    rear, front = np.array([-base / 2, 0, radius]), np.array([base / 2, 0, radius])
    bars = [(rear, crank), (rear, saddle), (crank, saddle), (crank, head), (saddle, head),
            (head, front)]  # fmt: skip
    frame = [tube(a, b, 0.022, 0.022, sides=5) for a, b in bars]
    x, z = head[0], head[2] + 0.1
    frame.append(tube((x, -0.28, z), (x, 0.28, z), 0.018, 0.018, sides=5))
    seat = box(-0.36, -0.1, -0.08, 0.08, saddle[2], saddle[2] + 0.06)
    return merge(
        [
            paint(rng, np.concatenate(frame), Material.METAL),
            paint(rng, np.concatenate([_two_wheels(base, radius, 0.022), seat]), Material.RUBBER),
        ]
    )


def motorcycle(rng: Rng) -> Soup:
    """A motorcycle or scooter: fat wheels, tank, seat, engine and fork."""
    base, radius = rng.uniform(1.3, 1.45), rng.uniform(0.28, 0.32)
    tank = taper((-0.1, 0.4, -0.16, 0.16), (-0.05, 0.35, -0.12, 0.12), 0.72, 1.0)
    seat = box(-0.75, -0.1, -0.14, 0.14, 0.68, 0.82)
    engine = taper((-0.25, 0.3, -0.18, 0.18), (-0.3, 0.35, -0.2, 0.2), 0.22, 0.7)
    fork = tube((base / 2, 0, radius), (base / 2 - 0.3, 0, 1.05), 0.05, 0.05, sides=6)
    bar = tube((base / 2 - 0.3, -0.36, 1.07), (base / 2 - 0.3, 0.36, 1.07), 0.02, 0.02, sides=5)
    shield = box(base / 2 - 0.28, base / 2 - 0.22, -0.17, 0.17, 0.9, 1.25)
    tyres = np.concatenate([
        tube((x, -0.07, radius), (x, 0.07, radius), radius, radius, sides=12, caps=True)
        for x in (-base / 2, base / 2)
    ])  # fmt: skip
    return merge(
        [
            paint(rng, np.concatenate([tank, shield]), Material.PAINT, _paint_albedo(rng)),
            paint(rng, np.concatenate([engine, fork, bar]), Material.METAL),
            paint(rng, np.concatenate([tyres, seat]), Material.RUBBER),
        ]
    )
