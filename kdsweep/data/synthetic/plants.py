"""Trees, bushes, hedges and tall grass that let part of the laser through.

A crown is a cloud of leaf triangles around a smaller, irregular solid core: some rays stop at the
first leaf, some deeper, a few pass, so that returns scatter in depth as those of real foliage.
The plants come with their labels (vegetation, trunk). `detail` (1 = usual) thins the leaves
of distant plants out and makes the rest larger, so that the foliage hides as much.
"""

import numpy as np

from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.materials import Material
from kdsweep.data.synthetic.mesh import Array, Rng, Soup, blob, flakes, merge, paint, tube


def _leaves(rng: Rng, triangles: Array) -> Soup:
    """Paints leaves one by one, since every leaf hangs at its own angle."""
    soup = paint(rng, triangles, Material.LEAF)
    soup.albedo[:] *= rng.normal(1.0, 0.18, len(triangles)).clip(0.4, 1.6)
    return soup.labelled(Raw.VEGETATION)


def _thinned(count: int, size: float, detail: float) -> tuple[int, float]:
    """Fewer and larger leaves that cover the same area."""
    return max(int(count * detail), 4), size * detail**-0.5


def _crown(
    rng: Rng,
    centre: tuple[float, float, float],
    radii: Array,
    count: int,
    leaf: float,
    detail: float,
) -> Array:
    """Leaves in a shell around an irregular core."""
    count, leaf = _thinned(count, leaf, detail)
    core = blob(rng, centre, 0.72 * radii, rough=0.4)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth = rng.uniform(0.6, 1.12, size=(count, 1))
    return np.concatenate([core, flakes(rng, np.asarray(centre) + direction * depth * radii, leaf)])


def tree(rng: Rng, tall: float | None = None, detail: float = 1.0) -> Soup:
    """A tree with one trunk, a few branches and a crown of several clumps."""
    height = tall if tall is not None else rng.uniform(4.0, 10.0)
    radius = 0.025 * height * rng.uniform(0.7, 1.3) + 0.03
    fork = min(height * rng.uniform(0.22, 0.4), 2.8)
    lean = rng.normal(scale=0.03 * height, size=2)
    top = (lean[0], lean[1], height * 0.75)
    bars = [tube((0, 0, -0.3), (0.4 * lean[0], 0.4 * lean[1], fork), 1.25 * radius, radius),
            tube((0.4 * lean[0], 0.4 * lean[1], fork), top, radius, 0.4 * radius)]  # fmt: skip
    crowns = []
    spread = height * rng.uniform(0.2, 0.3)
    for _ in range(int(rng.integers(2, 5))):
        angle, out = rng.uniform(0, 2 * np.pi), spread * rng.uniform(0.25, 0.8)
        level = rng.uniform(fork + 0.3 * spread, height - 0.5 * spread)
        centre = (lean[0] + out * np.cos(angle), lean[1] + out * np.sin(angle), level)
        bars.append(
            tube((0.4 * lean[0], 0.4 * lean[1], fork), centre, 0.5 * radius, 0.2 * radius, 5)
        )
        radii = spread * rng.uniform(0.6, 1.0) * np.array([1.0, 1.0, rng.uniform(0.6, 1.0)])
        crowns.append(_crown(rng, centre, radii, 130, 0.3, detail))
    trunk = paint(rng, np.concatenate(bars), Material.BARK).labelled(Raw.TRUNK)
    return merge([trunk, _leaves(rng, np.concatenate(crowns))])


def conifer(rng: Rng, detail: float = 1.0) -> Soup:
    """A spruce: foliage nearly to the ground, narrowing upwards."""
    height = rng.uniform(4.0, 11.0)
    width = height * rng.uniform(0.16, 0.24)
    count, leaf = _thinned(420, 0.32, detail)
    up = rng.uniform(0.06, 1.0, count)
    reach = width * (1 - up) * rng.uniform(0.55, 1.1, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    centres = np.stack([reach * np.cos(angle), reach * np.sin(angle), up * height], 1)
    core = tube((0, 0, 0.12 * height), (0, 0, 0.95 * height), 0.55 * width, 0.05, sides=9)
    trunk = paint(rng, tube((0, 0, -0.3), (0, 0, 0.4 * height), 0.02 * height, 0.012 * height),
                  Material.BARK).labelled(Raw.TRUNK)  # fmt: skip
    return merge([trunk, _leaves(rng, np.concatenate([core, flakes(rng, centres, leaf)]))])


def bush(rng: Rng, width: float | None = None, detail: float = 1.0) -> Soup:
    """A shrub of one to three clumps, 0.6 to 2.5 m wide unless `width` says so."""
    width = width if width is not None else rng.uniform(0.6, 2.5)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        centre = (*rng.normal(scale=0.25 * width, size=2), 0.32 * width)
        radii = width * rng.uniform(0.35, 0.55) * np.array([1.0, 1.0, rng.uniform(0.7, 1.1)])
        leaves = 60 + int(30 * width)
        parts.append(_crown(rng, centre, radii, leaves, 0.16 + 0.03 * width, detail))
    return _leaves(rng, np.concatenate(parts))


def hedge(rng: Rng, length: float, detail: float = 1.0) -> Soup:
    """A clipped hedge along x, from x = 0 to `length` metres, standing on z = 0."""
    height, half = rng.uniform(0.8, 2.6), rng.uniform(0.3, 0.7)
    parts = []
    clump = 0.45 * max(detail, 0.3) ** -0.5
    for x in np.arange(0.9 * clump, length, 2 * clump):
        radii = np.array([1.65 * clump, half, height * rng.uniform(0.48, 0.55)])
        parts.append(blob(rng, (x, 0, 0.45 * height), 0.9 * radii, rough=0.2))
    count, leaf = _thinned(int(45 * length), 0.16, detail)
    centres = np.stack(
        [rng.uniform(0, length, count), half * rng.uniform(-1.1, 1.1, count),
         height * np.sqrt(rng.uniform(0.0, 1.05, count))], 1
    )  # fmt: skip
    return _leaves(rng, np.concatenate([*parts, flakes(rng, centres, leaf)]))


def tufts(rng: Rng, centres: Array, height: float) -> Soup:
    """Clumps of tall grass and weeds, a few blades at every centre (metres)."""
    blades = np.repeat(centres, 6, axis=0)
    blades[:, :2] += rng.normal(scale=0.18, size=(len(blades), 2))
    blades[:, 2] += rng.uniform(0.0, height, len(blades))
    return _leaves(rng, flakes(rng, blades, 0.14))
