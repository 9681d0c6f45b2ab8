"""Triangles and the solids that scenes are made of.

A solid is a float64 array ``(triangles, 3 corners, 3 coordinates)`` in metres, in its own frame:
x forward, y left, z up, standing on z = 0. Triangles have two sides and no winding: rays hit both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsweep.data.synthetic.materials import MATERIALS, Material

Array = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Soup:
    """Triangles with what a laser needs to know about each.

    Attributes:
        triangles: Corners in metres, float64 (triangles, 3, 3).
        label: Raw semantic id in the lower, instance in the upper 16 bits, uint32 (triangles,).
        material: Row of `MATERIALS`, uint8 (triangles,).
        albedo: Remission at normal incidence before noise, about 0..1, float32 (triangles,).
    """

    triangles: Array
    label: NDArray[np.uint32]
    material: NDArray[np.uint8]
    albedo: NDArray[np.float32]

    def labelled(self, raw: int, instance: int = 0) -> "Soup":
        """The same triangles, all with one label."""
        return replace(self, label=np.full(len(self.label), raw | instance << 16, np.uint32))

    def placed(
        self, position: ArrayLike, yaw_rad: float = 0.0, tilt: tuple[float, float] = (0.0, 0.0)
    ) -> "Soup":
        """Turns by yaw (counter-clockwise from above), shears z by the slopes and moves.

        Args:
            position: Where the frame's origin goes, metres.
            yaw_rad: Turn about z.
            tilt: Rise of the ground per metre along the object's own x and y.
        """
        x, y, z = self.triangles[..., 0], self.triangles[..., 1], self.triangles[..., 2]
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        moved = np.stack([cos * x - sin * y, sin * x + cos * y, z + tilt[0] * x + tilt[1] * y], -1)
        return replace(self, triangles=moved + np.asarray(position, np.float64))


def paint(rng: Rng, triangles: Array, material: Material, albedo: float | None = None) -> Soup:
    """Gives triangles a material. Without an albedo, one is drawn from the material's spread."""
    surface = MATERIALS[material]
    if albedo is None:
        albedo = float(np.clip(rng.normal(surface.albedo, surface.spread), 0.02, 1.0))
    n = len(triangles)
    return Soup(
        triangles=np.asarray(triangles, np.float64),
        label=np.zeros(n, np.uint32),
        material=np.full(n, material, np.uint8),
        albedo=np.full(n, albedo, np.float32),
    )


def merge(soups: Sequence[Soup]) -> Soup:
    """Joins soups, in order; none gives an empty soup."""
    return Soup(
        triangles=np.concatenate([np.empty((0, 3, 3)), *(s.triangles for s in soups)]),
        label=np.concatenate([np.empty(0, np.uint32), *(s.label for s in soups)]),
        material=np.concatenate([np.empty(0, np.uint8), *(s.material for s in soups)]),
        albedo=np.concatenate([np.empty(0, np.float32), *(s.albedo for s in soups)]),
    )


def quads(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike) -> Array:
    """Two triangles for every quadrilateral a-b-c-d; each argument is ``(..., 3)``."""
    corners = np.stack([np.asarray(p, np.float64).reshape(-1, 3) for p in (a, b, c, d)], 1)
    return np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])


_BOX_FACES = np.array(
    [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]]
)
_BOX_TRIANGLES = np.concatenate([_BOX_FACES[:, [0, 1, 2]], _BOX_FACES[:, [0, 2, 3]]])


def taper(
    bottom: tuple[float, float, float, float],
    top: tuple[float, float, float, float],
    z0: float,
    z1: float,
) -> Array:
    """A solid between two rectangles ``(x0, x1, y0, y1)`` at the heights z0 and z1 (metres)."""
    corners = [
        (x, y, z)
        for (x0, x1, y0, y1), z in ((bottom, z0), (top, z1))
        for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    ]
    return np.asarray(corners)[_BOX_TRIANGLES]


def box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> Array:
    """An upright box between the given limits (metres)."""
    return taper((x0, x1, y0, y1), (x0, x1, y0, y1), z0, z1)


def _cross(a: Array, b: Array) -> Array:
    # np.cross spends most of its time on arguments of other shapes.
    return np.array(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )


def tube(
    start: ArrayLike, end: ArrayLike, r0: float, r1: float, sides: int = 8, caps: bool = False
) -> Array:
    """A round bar from `start` to `end` whose radius goes from r0 to r1 (metres)."""
    p0, p1 = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = (p1 - p0) / np.linalg.norm(p1 - p0)
    helper = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.7 else np.array([0.0, 1.0, 0.0])
    u = _cross(axis, helper)
    u /= np.linalg.norm(u)
    v = _cross(axis, u)
    circle, faces = _tube_faces(sides, caps)
    ring = circle[:, :1] * u + circle[:, 1:] * v
    return np.concatenate([p0 + r0 * ring, p1 + r1 * ring, p0[None], p1[None]])[faces]


@lru_cache(maxsize=32)
def _tube_faces(sides: int, caps: bool) -> tuple[Array, NDArray[np.intp]]:
    """The unit circle and the corners of each triangle: two rings, then the ends' middles."""
    angle = 2 * np.pi * np.arange(sides) / sides
    low = np.arange(sides)
    following = (low + 1) % sides
    high = low + sides
    faces = [[low, following, following + sides], [low, following + sides, high]]
    if caps:
        middle = np.full(sides, 2 * sides)
        faces += [[middle, low, following], [middle + 1, high, following + sides]]
    return np.stack([np.cos(angle), np.sin(angle)], 1), np.concatenate(
        [np.stack(f, 1) for f in faces]
    )


@lru_cache(maxsize=4)
def _sphere(subdivisions: int) -> Array:
    """Unit sphere of 20 * 4**subdivisions triangles, from an icosahedron."""
    phi = (1 + 5**0.5) / 2
    corners = np.array(
        [[-1, phi, 0], [1, phi, 0], [-1, -phi, 0], [1, -phi, 0], [0, -1, phi], [0, 1, phi],
         [0, -1, -phi], [0, 1, -phi], [phi, 0, -1], [phi, 0, 1], [-phi, 0, -1], [-phi, 0, 1]]
    )  # fmt: skip
    faces = np.array(
        [[0, 11, 5], [0, 5, 1], [0, 1, 7], [0, 7, 10], [0, 10, 11], [1, 5, 9], [5, 11, 4],
         [11, 10, 2], [10, 7, 6], [7, 1, 8], [3, 9, 4], [3, 4, 2], [3, 2, 6], [3, 6, 8],
         [3, 8, 9], [4, 9, 5], [2, 4, 11], [6, 2, 10], [8, 6, 7], [9, 8, 1]]
    )  # fmt: skip
    triangles = corners[faces] / np.linalg.norm(corners[0])
    for _ in range(subdivisions):
        a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
        ab, bc, ca = a + b, b + c, c + a
        triangles = np.concatenate(
            [np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
        )
        triangles = triangles / np.linalg.norm(triangles, axis=-1, keepdims=True)
    return triangles


@lru_cache(maxsize=1)
def _sphere_corners() -> tuple[Array, NDArray[np.intp]]:
    """Corners (42, 3) of the sphere of 80 triangles, and the corners of each triangle."""
    corners, faces = np.unique(_sphere(1).round(9).reshape(-1, 3), axis=0, return_inverse=True)
    return corners, faces.reshape(-1, 3)


def ellipsoid(centre: ArrayLike, radii: ArrayLike, subdivisions: int = 1) -> Array:
    """An ellipsoid with its axes along x, y, z (metres)."""
    return _sphere(subdivisions) * np.asarray(radii) + np.asarray(centre)


def blob(rng: Rng, centre: ArrayLike, radii: ArrayLike, rough: float = 0.25) -> Array:
    """An ellipsoid with smooth random dents, so that no two are alike."""
    corners, faces = _sphere_corners()
    waves = rng.normal(size=(3, 5)) * rng.uniform(1.5, 4.5, 5)
    bumps = np.sin(corners @ waves + rng.uniform(0, 2 * np.pi, 5)).sum(1)
    scale = 1.0 + rough * np.clip(bumps / 2.0, -1.2, 1.2)
    return (corners * scale[:, None] * np.asarray(radii) + np.asarray(centre))[faces]


def flakes(rng: Rng, centres: Array, size: float) -> Array:
    """One small, randomly turned triangle of about `size` metres at every centre."""
    return centres[:, None, :] + rng.normal(scale=0.5 * size, size=(len(centres), 3, 3))
