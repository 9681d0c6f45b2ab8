"""The street itself: a curved centre line, hilly ground, and which surface lies where.

Street coordinates: s metres along the centre line (the drive starts at s = 0), lat metres to the
left of it. World frame: x, y, z in metres, z up, the road near z = 0.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.materials import Material
from kdsweep.data.synthetic.mesh import Array, Rng, Soup, merge, paint, quads

GROUND: dict[Raw, tuple[Material, float]] = {
    Raw.ROAD: (Material.ASPHALT, 0.0),
    Raw.PARKING: (Material.PAVING, 0.03),
    Raw.SIDEWALK: (Material.PAVING, 0.12),
    Raw.OTHER_GROUND: (Material.GRAVEL, 0.10),
    Raw.TERRAIN: (Material.GRASS, 0.10),
}
"""Material and height above the road (metres) of every kind of ground."""

_ALBEDO = {Raw.PARKING: 0.25}
_HALF_WIDTH_M = 90.0

Edge = tuple[Array, Array, NDArray[np.int64]]
"""Both end points of the edges of cells, and the cells' raw ids."""


@dataclass(frozen=True)
class Side:
    """Outer limits of the strips on one side, as distance from the centre line in metres.

    From the middle outwards: road, parking bays, verge, pavement; plots begin at `walk`.
    """

    road: float
    bays: float
    verge: float
    walk: float


@dataclass(frozen=True)
class Patch:
    """A rectangle in street coordinates that has its own kind of ground."""

    s0: float
    s1: float
    l0: float
    l1: float
    raw: Raw


@dataclass(frozen=True)
class Relief:
    """Heights of the ground before kerbs: gentle waves along, slopes and mounds beside the road."""

    rise_m: float
    wave_m: float
    phase: float
    crown: float
    slope_left: float
    slope_right: float
    edge_m: float
    mound_m: float

    def __call__(self, s: ArrayLike, lat: ArrayLike) -> Array:
        """Height in metres at street coordinates."""
        s, lat = np.asarray(s, np.float64), np.asarray(lat, np.float64)
        along = self.rise_m * (
            np.sin(2 * np.pi * s / self.wave_m + self.phase) - np.sin(self.phase)
        )
        beyond = np.maximum(np.abs(lat) - self.edge_m, 0.0)
        slope = np.where(lat > 0, self.slope_left, self.slope_right)
        bank = slope * beyond * beyond / (beyond + 6.0)
        mounds = np.sin(0.31 * s + self.phase) * np.sin(0.23 * lat + 2 * self.phase)
        camber = -self.crown * np.minimum(np.abs(lat), self.edge_m) ** 2 / self.edge_m
        return along + camber + bank + self.mound_m * mounds * np.minimum(beyond / 8.0, 1.0)


class Street:
    """Maps street coordinates to the world and knows the ground everywhere."""

    def __init__(
        self,
        *,
        s_min: float,
        s_max: float,
        curvature_per_m: tuple[float, float],
        left: Side,
        right: Side,
        relief: Relief,
        patches: list[Patch],
    ) -> None:
        """Lays the street out.

        Args:
            s_min: First metre.
            s_max: Last metre.
            curvature_per_m: Amplitudes of a constant and of a slowly waving curvature.
            left: Strips at lat > 0.
            right: Strips at lat < 0.
            relief: Height before kerbs.
            patches: Rectangles laid over the strips, later ones on top.
        """
        self.s_min, self.s_max, self.left, self.right = s_min, s_max, left, right
        self.relief = relief
        self._s = np.arange(s_min - 5.0, s_max + 6.0, 1.0)
        bend = curvature_per_m[0] + curvature_per_m[1] * np.sin(self._s / 40.0)
        heading = np.cumsum(bend)
        self._heading = heading - np.interp(0.0, self._s, heading)
        x, y = np.cumsum(np.cos(self._heading)), np.cumsum(np.sin(self._heading))
        self._x, self._y = x - np.interp(0.0, self._s, x), y - np.interp(0.0, self._s, y)
        self._lay_cells(patches)

    def _lay_cells(self, patches: list[Patch]) -> None:
        """Cuts the ground along every limit, so that each cell has one kind of ground."""
        s = [*np.arange(self.s_min, self.s_max + 1e-9, 3.0), self.s_max]
        lat: list[float] = [0.0]
        for sign, side in ((1.0, self.left), (-1.0, self.right)):
            lat += [sign * v for v in (side.road, side.bays, side.verge, side.walk)]
            far = side.walk + np.array(
                [1.5, 3.0, 5.0, 7.5, 10.0, 13.0, 16.5, 21.0, 27.0, 35.0, 50.0]
            )
            lat += [*(sign * far), sign * _HALF_WIDTH_M]
        for patch in patches:
            s += [patch.s0, patch.s1]
            lat += [patch.l0, patch.l1]
        self._s_edges = np.unique(np.clip(np.round(s, 3), self.s_min, self.s_max))
        self._l_edges = np.unique(np.clip(np.round(lat, 3), -_HALF_WIDTH_M, _HALF_WIDTH_M))
        mid_s = (self._s_edges[:-1] + self._s_edges[1:]) / 2
        mid_l = (self._l_edges[:-1] + self._l_edges[1:]) / 2
        across = np.full(len(mid_l), Raw.TERRAIN, np.int64)
        for side, strip in ((self.left, mid_l > 0), (self.right, mid_l < 0)):
            distance = np.abs(mid_l)
            across[strip & (distance < side.walk)] = Raw.SIDEWALK
            across[strip & (distance < side.verge)] = Raw.TERRAIN
            across[strip & (distance < side.bays)] = Raw.PARKING
            across[strip & (distance < side.road)] = Raw.ROAD
        self._raw = np.broadcast_to(across, (len(mid_s), len(mid_l))).copy()
        for patch in patches:
            rows = (mid_s > patch.s0) & (mid_s < patch.s1)
            columns = (mid_l > patch.l0) & (mid_l < patch.l1)
            self._raw[np.ix_(rows, columns)] = patch.raw
        heights = np.zeros(256)
        for raw, (_, height) in GROUND.items():
            heights[raw] = height
        self._step = heights[self._raw]

    def heading(self, s: ArrayLike) -> Array:
        """Direction of the centre line in radians, counter-clockwise from x."""
        return np.interp(np.asarray(s, np.float64), self._s, self._heading)

    def to_world(self, s: ArrayLike, lat: ArrayLike, z: ArrayLike) -> Array:
        """World points ``(..., 3)`` of street coordinates and heights."""
        s, lat = np.asarray(s, np.float64), np.asarray(lat, np.float64)
        heading = self.heading(s)
        x = np.interp(s, self._s, self._x) - lat * np.sin(heading)
        y = np.interp(s, self._s, self._y) + lat * np.cos(heading)
        return np.stack(np.broadcast_arrays(x, y, np.asarray(z, np.float64)), -1)

    def raw_at(self, s: ArrayLike, lat: ArrayLike) -> NDArray[np.int64]:
        """Raw id of the ground at street coordinates."""
        return self._raw[self._cell(s, lat)]

    def height(self, s: ArrayLike, lat: ArrayLike) -> Array:
        """Height of the ground, kerbs included, in metres."""
        return self.relief(s, lat) + self._step[self._cell(s, lat)]

    def _cell(self, s: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        row = np.searchsorted(self._s_edges, s, side="right") - 1
        column = np.searchsorted(self._l_edges, lat, side="right") - 1
        return (
            np.clip(row, 0, self._raw.shape[0] - 1),
            np.clip(column, 0, self._raw.shape[1] - 1),
        )

    def tilt(self, s: float, lat: float, yaw_rad: float) -> tuple[float, float]:
        """Rise of the ground per metre along x and y of a frame turned against the street."""
        ds = float(self.relief(s + 0.5, lat) - self.relief(s - 0.5, lat))
        dl = float(self.relief(s, lat + 0.5) - self.relief(s, lat - 0.5))
        cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
        return cos * ds + sin * dl, -sin * ds + cos * dl

    def place(
        self, soup: Soup, s: float, lat: float, yaw_rad: float = 0.0, level: bool = False
    ) -> Soup:
        """Sets an object on the ground, turned against the street's direction.

        Args:
            soup: The object in its own frame.
            s: Along the street, metres.
            lat: To the left, metres.
            yaw_rad: Turn against the street's heading.
            level: Keep it upright on sloping ground (buildings, poles).
        """
        position = self.to_world(s, lat, float(self.height(s, lat)))
        tilt = (0.0, 0.0) if level else self.tilt(s, lat, yaw_rad)
        return soup.placed(position, float(self.heading(s)) + yaw_rad, tilt)

    def ground(self, rng: Rng) -> Soup:
        """Triangles of the whole ground: surfaces and the kerbs between them."""
        s, lat = np.meshgrid(self._s_edges, self._l_edges, indexing="ij")
        terrain = np.pad(self._raw == Raw.TERRAIN, 1, mode="edge")
        inner = terrain[:-1, :-1] & terrain[1:, :-1] & terrain[:-1, 1:] & terrain[1:, 1:]
        bumps = rng.uniform(-0.13, 0.13, s.shape) * inner
        flat = self.to_world(s, lat, self.relief(s, lat) + bumps)
        lift = self._step[..., None] * np.array([0.0, 0.0, 1.0])
        corner = [
            flat[:-1, :-1] + lift,
            flat[1:, :-1] + lift,
            flat[1:, 1:] + lift,
            flat[:-1, 1:] + lift,
        ]
        surface = quads(*corner)
        raws = np.tile(self._raw.reshape(-1), 2)
        parts = []
        for raw, (material, _) in GROUND.items():
            chosen = surface[raws == raw]
            parts.append(paint(rng, chosen, material, _ALBEDO.get(raw)).labelled(raw))
        near_right, far_right, far_left, near_left = corner
        kerbs = [
            self._kerb(
                rng,
                (near_left[:, :-1], far_left[:, :-1], self._raw[:, :-1]),
                (near_right[:, 1:], far_right[:, 1:], self._raw[:, 1:]),
            ),
            self._kerb(
                rng,
                (far_right[:-1], far_left[:-1], self._raw[:-1]),
                (near_right[1:], near_left[1:], self._raw[1:]),
            ),
        ]
        return merge(parts + kerbs)

    @staticmethod
    def _kerb(rng: Rng, here: Edge, there: Edge) -> Soup:
        """Upright faces between the edges of cells and the same edges of their neighbours."""
        (a, b, raw_here), (c, d, raw_there) = here, there
        step = np.abs(a[..., 2] - c[..., 2]) > 0.005
        soup = paint(rng, quads(a[step], b[step], d[step], c[step]), Material.PAVING)
        higher = np.where(a[..., 2] > c[..., 2], raw_here, raw_there)[step]
        return replace(soup, label=np.tile(higher, 2).astype(np.uint32))

    def stripes(self, rng: Rng, rectangles: list[tuple[float, float, float, float]]) -> Soup:
        """Lane markings: rectangles ``(s0, s1, l0, l1)`` a centimetre above the road."""
        if not rectangles:
            return merge([])
        r = np.asarray(rectangles)
        corners = [
            self.to_world(r[:, i], r[:, j], self.relief(r[:, i], r[:, j]) + 0.012)
            for i, j in ((0, 2), (1, 2), (1, 3), (0, 3))
        ]
        return paint(rng, quads(*corners), Material.MARKING).labelled(Raw.LANE_MARKING)
