"""Houses, fences, walls and what stands on pavements.

Everything comes with its label. Houses: the facade is on y = 0 and looks along -y, the house
reaches to +y, and x goes from 0 to its width. Fences run along x from 0 to their length.
"""

import numpy as np

from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.materials import Material
from kdsweep.data.synthetic.mesh import Array, Rng, Soup, box, ellipsoid, merge, paint, quads, tube


def _facade_openings(rng: Rng, width: float, height: float, y: float) -> tuple[Array, Array]:
    """Windows (glass) and frames or sills (solid) on a facade at y, 1 cm before the wall."""
    panes, sills = [np.empty((0, 3, 3))], [np.empty((0, 3, 3))]
    storey, bay = rng.uniform(2.7, 3.2), rng.uniform(2.2, 3.4)
    wide, tall, sill = rng.uniform(0.9, 1.6), rng.uniform(1.1, 1.6), rng.uniform(0.8, 1.1)
    sign = -1.0 if y <= 0 else 1.0
    for floor in range(max(int(height / storey), 1)):
        for x in np.arange(bay / 2, width - bay / 3, bay):
            if rng.random() < 0.12:
                continue
            z = floor * storey + sill
            face = y + sign * 0.02
            panes.append(box(x - wide / 2, x + wide / 2, face - 0.005, face + 0.005, z, z + tall))
            sills.append(box(x - wide / 2 - 0.1, x + wide / 2 + 0.1, min(y, y + sign * 0.12),
                             max(y, y + sign * 0.12), z - 0.08, z))  # fmt: skip
    return np.concatenate(panes), np.concatenate(sills)


def house(rng: Rng, width: float, depth: float, eaves: float, gable: bool) -> Soup:
    """A house with windows, a door step, a gable or flat roof, and sometimes a bay or balcony."""
    walls = [box(0, width, 0, depth, -0.6, eaves)]
    roof = []
    if gable:
        rise, over = rng.uniform(0.3, 0.55) * depth, rng.uniform(0.2, 0.5)
        ridge = [(-over, depth / 2, eaves + rise), (width + over, depth / 2, eaves + rise)]
        for y in (-over, depth + over):
            low = eaves - 2 * rise * over / depth
            roof.append(quads((-over, y, low), (width + over, y, low), ridge[1], ridge[0]))
        ends = [
            [(x, 0, eaves), (x, depth, eaves), (x, depth / 2, eaves + rise)] for x in (0, width)
        ]
        walls.append(np.asarray(ends, np.float64))
    else:
        roof.append(box(-0.15, width + 0.15, -0.15, depth + 0.15, eaves, eaves + 0.35))
    panes, sills = _facade_openings(rng, width, eaves, 0.0)
    back, _ = _facade_openings(rng, width, eaves, depth)
    door = rng.uniform(1.0, max(width - 1.5, 1.2))
    extra = [sills, box(door - 0.7, door + 0.7, -1.0, 0.0, -0.5, 0.25)]
    if rng.random() < 0.4:
        bay = rng.uniform(0.15, 0.6) * width
        extra.append(box(bay, bay + rng.uniform(1.5, 3.0), -rng.uniform(0.5, 1.2), 0.0, -0.5,
                         min(eaves, 2.7)))  # fmt: skip
    if rng.random() < 0.3 and eaves > 5:
        extra.append(box(0.3 * width, 0.7 * width, -1.2, 0.0, 2.7, 3.7))
    pipe = [tube((x, -0.06, 0), (x, -0.06, eaves), 0.05, 0.05, 5) for x in (0.15, width - 0.15)]
    soup = merge(
        [
            paint(rng, np.concatenate(walls), Material.WALL),
            paint(rng, np.concatenate(extra + pipe), Material.WALL),
            paint(rng, np.concatenate(roof), Material.ROOF),
            paint(rng, np.concatenate([panes, back]), Material.GLASS),
        ]
    )
    return soup.labelled(Raw.BUILDING)


def picket_fence(rng: Rng, length: float) -> Soup:
    """Posts, rails and slats with gaps that rays pass through."""
    height, gap = rng.uniform(0.8, 1.5), rng.uniform(0.1, 0.16)
    slat = gap * rng.uniform(0.45, 0.8)
    x = np.arange(0, length, gap)
    zero = np.zeros_like(x)
    low, high = zero + 0.08, height + 0.03 * rng.normal(size=len(x))
    corners = ((x, low), (x + slat, low), (x + slat, high), (x, high))
    slats = quads(*(np.stack([across, zero, up], 1) for across, up in corners))
    posts = [
        box(p - 0.05, p + 0.05, 0.02, 0.12, 0, height) for p in np.arange(0, length + 0.1, 2.4)
    ]
    rails = [box(0, length, 0.02, 0.06, z, z + 0.08) for z in (0.25 * height, 0.8 * height)]
    return paint(rng, np.concatenate([slats, *posts, *rails]), Material.WOOD).labelled(Raw.FENCE)


def panel_fence(rng: Rng, length: float) -> Soup:
    """Closed timber panels between posts."""
    height = rng.uniform(1.4, 1.9)
    posts = [box(p - 0.06, p + 0.06, -0.06, 0.06, 0, height + 0.1)
             for p in np.arange(0, length + 0.1, 1.9)]  # fmt: skip
    return paint(
        rng, np.concatenate([box(0, length, -0.015, 0.015, 0.05, height), *posts]), Material.WOOD
    ).labelled(Raw.FENCE)


def garden_wall(rng: Rng, length: float) -> Soup:
    """A low wall, sometimes with pillars and railings; SemanticKITTI labels it fence."""
    height = rng.uniform(0.5, 1.3)
    parts = [
        box(0, length, -0.12, 0.12, -0.3, height),
        box(0, length, -0.16, 0.16, height, height + 0.06),
    ]
    parts += [box(x - 0.2, x + 0.2, -0.2, 0.2, -0.3, height + 0.35) for x in (0.2, length - 0.2)]
    return paint(rng, np.concatenate(parts), Material.WALL).labelled(Raw.FENCE)


def guard_rail(rng: Rng, length: float) -> Soup:
    """A steel guard rail on posts."""
    parts = [box(x - 0.05, x + 0.05, 0.03, 0.13, -0.2, 0.7) for x in np.arange(0, length, 2.0)]
    parts += [box(0, length, -0.03, 0.03, 0.42, 0.56), box(0, length, -0.03, 0.03, 0.6, 0.72)]
    return paint(rng, np.concatenate(parts), Material.METAL).labelled(Raw.FENCE)


FENCES = (picket_fence, panel_fence, garden_wall)
"""Fences around a plot."""


def street_lamp(rng: Rng) -> Soup:
    """A lamp post with an arm along +y."""
    height, r = rng.uniform(4.5, 8.0), rng.uniform(0.06, 0.1)
    parts = [
        tube((0, 0, -0.2), (0, 0, 1.0), 1.5 * r, 1.3 * r),
        tube((0, 0, 1.0), (0, 0, height), r, 0.6 * r),
        tube((0, 0, height), (0, 1.4, height + 0.25), 0.04, 0.04, 6),
        box(-0.12, 0.12, 1.1, 1.7, height + 0.2, height + 0.3),
    ]
    return paint(rng, np.concatenate(parts), Material.METAL).labelled(Raw.POLE)


def sign_post(rng: Rng) -> Soup:
    """A thin pole with one or two reflecting plates that look along -x."""
    height = rng.uniform(2.1, 3.0)
    pole = paint(rng, tube((0, 0, -0.2), (0, 0, height), 0.035, 0.035, 6), Material.METAL)
    plates, backs, z = [], [], height
    for _ in range(int(rng.integers(1, 3))):
        half = rng.uniform(0.25, 0.36)
        if rng.random() < 0.5:
            plates.append(ellipsoid((-0.06, 0, z - half), (0.012, half, half)))
            backs.append(ellipsoid((-0.045, 0, z - half), (0.012, half, half)))
        else:
            plates.append(box(-0.06, -0.055, -half, half, z - 2 * half, z))
            backs.append(box(-0.05, -0.045, -half, half, z - 2 * half, z))
        z -= 2 * half + 0.05
    sign = merge(
        [
            paint(rng, np.concatenate(plates), Material.RETRO),
            paint(rng, np.concatenate(backs), Material.METAL, 0.12),
        ]
    )
    return merge([pole.labelled(Raw.POLE), sign.labelled(Raw.TRAFFIC_SIGN)])


def bollard(rng: Rng) -> Soup:
    """A short post that keeps cars off the pavement."""
    return paint(
        rng, tube((0, 0, -0.1), (0, 0, rng.uniform(0.7, 1.1)), 0.07, 0.06, 8, True), Material.METAL
    ).labelled(Raw.POLE)


def clutter(rng: Rng) -> Soup:
    """A bin, a cabinet, a bench or a pile of boxes: 'other object', unlabelled in training."""
    kind = int(rng.integers(4))
    if kind == 0:
        parts = [tube((0, 0, 0), (0, 0, 0.95), 0.25, 0.28, 9, True)]
    elif kind == 1:
        parts = [box(-0.5, 0.5, -0.2, 0.2, 0, rng.uniform(1.0, 1.5))]
    elif kind == 2:
        parts = [box(-0.8, 0.8, -0.2, 0.2, 0.42, 0.48), box(-0.8, 0.8, 0.18, 0.24, 0.42, 0.85),
                 *(box(x - 0.04, x + 0.04, -0.2, 0.2, 0, 0.42) for x in (-0.6, 0.6))]  # fmt: skip
    else:
        parts = [box(-0.35, 0.35, -0.4, 0.35, 0, 1.1), box(0.45, 1.1, -0.4, 0.3, 0, 1.05)]
    return paint(rng, np.concatenate(parts), Material.PAINT, 0.2).labelled(Raw.OTHER_OBJECT)


def shelter(rng: Rng) -> Soup:
    """A bus shelter that opens along -y: 'other structure', unlabelled in training."""
    width = rng.uniform(2.5, 4.0)
    frame = [box(0, width, -1.4, 0, 2.3, 2.4), box(0, width, -0.05, 0, 0, 0.4)]
    frame += [box(x - 0.05, x + 0.05, y - 0.05, y + 0.05, 0, 2.3)
              for x in (0, width) for y in (-1.35, -0.05)]  # fmt: skip
    glass = box(0, width, -0.03, -0.01, 0.4, 2.2)
    return merge(
        [paint(rng, np.concatenate(frame), Material.METAL), paint(rng, glass, Material.GLASS)]
    ).labelled(Raw.OTHER_STRUCTURE)
