"""A rotating LiDAR like the Velodyne HDL-64E: which rays it casts and what comes back.

Rays are cast by Embree against all triangles, so what hides something hides it. Embree only says
which triangle is hit; the range is computed anew in float64, so that it does not depend on the
instruction set Embree finds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdsweep.data.synthetic.config import SynthConfig
from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.materials import Material, surface_table
from kdsweep.data.synthetic.mesh import Array, Rng, Soup

_UPPER_DEG = np.linspace(2.0, -8.33, 32)
_LOWER_DEG = np.linspace(-8.83, -24.8, 32)
_MIN_RANGE_M = 1.5
_UNLABELLED_FROM_M = 58.0
_OUTLIER_SHARE = 0.0006
_BLIND = ((0.0, 14.0, -23.0), (159.0, 6.0, -18.0), (-159.0, 6.0, -18.5), (134.0, 5.0, -22.0),
          (-134.0, 5.0, -22.5), (-66.0, 5.0, -20.5))  # fmt: skip
"""Where the car's own roof rack hides the ground: azimuth, half width, highest elevation, deg."""


_WAVES = np.random.default_rng(np.random.SeedSequence([64, 905]))
_TEXTURE_WAVES = _WAVES.normal(size=(3, 6)) * np.array([0.5, 0.9, 1.6, 3.0, 6.0, 11.0])
_TEXTURE_PHASES = _WAVES.uniform(0, 2 * np.pi, 6)
_TEXTURE_WEIGHTS = np.full(6, 0.4)


@dataclass(frozen=True)
class Scan:
    """One turn of the sensor, beams from the top one down, each in order of azimuth.

    Attributes:
        points: x, y, z in metres (sensor frame, x forward, y left, z up) and remission 0..1;
            float32 (points, 4), coordinates in whole millimetres, remission in steps of 0.01.
        labels: Raw id and instance of each point, uint32 (points,).
    """

    points: NDArray[np.float32]
    labels: NDArray[np.uint32]


@dataclass(frozen=True)
class Hits:
    """Where rays met triangles; only rays that hit.

    Attributes:
        ray: Row of the ray, (hits,).
        range_m: Distance along the ray, (hits,).
        cosine: Cosine of the angle of incidence, 0..1, (hits,).
        label: Label of the triangle, (hits,).
        material: Material of the triangle, (hits,).
        albedo: Albedo of the triangle, (hits,).
    """

    ray: NDArray[np.intp]
    range_m: Array
    cosine: Array
    label: NDArray[np.uint32]
    material: NDArray[np.uint8]
    albedo: Array


def _texture(points: Array) -> Array:
    """A fixed pattern over the world, about -1..1: surfaces are never evenly bright."""
    return np.sin(points @ _TEXTURE_WAVES + _TEXTURE_PHASES) @ _TEXTURE_WEIGHTS


class RayCaster:
    """Triangles prepared for ray casting (built once, cast against often)."""

    def __init__(self, soup: Soup) -> None:
        """Builds Embree's tree over the triangles of `soup`."""
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._soup = soup
        self._scene = None
        if len(soup.triangles):
            # Embree works in float32 near the origin: move the scene there.
            self._origin = soup.triangles.reshape(-1, 3).mean(0)
            self._scene = EmbreeScene(robust=True)
            TriangleMesh(self._scene, (soup.triangles - self._origin).astype(np.float32))

    def cast(self, origin: Array, directions: Array) -> Hits:
        """First triangle along every ray.

        Args:
            origin: Where all rays start, (3,).
            directions: Unit vectors, (rays, 3).
        """
        soup = self._soup
        triangle, told = np.full(len(directions), -1, np.int64), np.zeros(len(directions))
        if self._scene is not None:
            start = np.broadcast_to((origin - self._origin).astype(np.float32), directions.shape)
            answer = self._scene.run(
                np.ascontiguousarray(start), directions.astype(np.float32), output=True
            )
            triangle, told = answer["primID"].astype(np.int64), answer["tfar"].astype(np.float64)
        ray = np.flatnonzero(triangle >= 0)
        hit, told = triangle[ray], told[ray]
        corners = soup.triangles[hit]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        towards = np.einsum("ij,ij->i", normal, directions[ray])
        ahead = np.einsum("ij,ij->i", normal, corners[:, 0] - origin)
        range_m = ahead / np.where(np.abs(towards) < 1e-9, np.inf, towards)
        # A ray along a triangle's own plane meets it anywhere: keep Embree's word there.
        range_m = np.where(np.abs(range_m - told) < 0.02, range_m, told)
        where = origin + directions[ray] * range_m[:, None]
        albedo = soup.albedo[hit] * (1.0 + 0.2 * _texture(where))
        return Hits(ray, range_m, np.abs(towards), soup.label[hit], soup.material[hit],
                    albedo)  # fmt: skip


def nearest(hits: list[Hits], num_rays: int) -> Hits:
    """Keeps, for every ray, the nearest of several casters' hits."""
    best = np.full(num_rays, np.inf)
    for h in hits:
        best[h.ray] = np.minimum(best[h.ray], h.range_m)
    kept = [h.range_m == best[h.ray] for h in hits]
    fields = [np.concatenate([getattr(h, name)[k] for h, k in zip(hits, kept, strict=True)])
              for name in ("ray", "range_m", "cosine", "label", "material", "albedo")]  # fmt: skip
    order = np.argsort(fields[0], kind="stable")
    return Hits(*(f[order] for f in fields))


def beam_elevations(beams: int) -> Array:
    """Elevations in radians from the top beam down: the HDL-64E's, resampled to `beams`."""
    all_deg = np.concatenate([_UPPER_DEG, _LOWER_DEG])
    position = (np.arange(beams) + 0.5) * 64 / beams - 0.5
    return np.radians(np.interp(position, np.arange(64), all_deg))


def _behind_own_car(rng: Rng, elevation: Array, azimuth: Array) -> NDArray[np.bool_]:
    """Which rays meet the car that carries the sensor (radians); ragged, as every beam differs."""
    hidden = np.zeros(np.broadcast(elevation, azimuth).shape, bool)
    for centre, half, top in _BLIND:
        shift = rng.normal(centre, 0.2 * half, elevation.shape)
        off = (np.degrees(azimuth) - shift + 180.0) % 360.0 - 180.0
        roof = -25.5 + (top + 25.5) * np.sqrt(np.maximum(1 - (off / half) ** 2, 0.0))
        hidden |= np.degrees(elevation) < roof
    return hidden


class Sensor:
    """The rays of one turn and the errors of one device, the same for all scans of a data set."""

    def __init__(self, config: SynthConfig) -> None:
        """Draws the device: small errors of its beams' directions and gains."""
        self.config = config
        rng = np.random.default_rng(np.random.SeedSequence([config.seed, 64, config.beams]))
        elevation = beam_elevations(config.beams) + np.radians(rng.normal(0, 0.03, config.beams))
        offset = rng.uniform(0.0, 1.0, config.beams)
        azimuth = 2 * np.pi * (np.arange(config.columns) + offset[:, None]) / config.columns
        level = np.cos(elevation)[:, None]
        self.directions = np.stack(
            np.broadcast_arrays(
                level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)[:, None]
            ),
            -1,
        ).reshape(-1, 3)
        self._open = ~_behind_own_car(rng, elevation[:, None], azimuth).reshape(-1)
        self._gain = np.repeat(rng.normal(1.0, 0.1, config.beams), config.columns)

    def below_sky(self, soup: Soup, poses: list[Array]) -> Soup:
        """Leaves out the triangles above all rays at every pose (tree tops, roofs), for speed.

        What lies above the topmost beam is a convex cone, so a triangle with all its corners in
        there cannot be hit.
        """
        top = float(np.arcsin(self.directions[:, 2].max())) + 1e-3
        if top <= 0:
            return soup
        kept = np.zeros(len(soup.label), bool)
        for pose in poses:
            local = (soup.triangles - pose[:3, 3]) @ pose[:3, :3]
            above = local[..., 2] > np.tan(top) * np.hypot(local[..., 0], local[..., 1])
            kept |= ~above.all(1)
        return Soup(soup.triangles[kept], soup.label[kept], soup.material[kept], soup.albedo[kept])

    def cast(self, casters: list[RayCaster], pose: Array) -> Hits:
        """What a perfect sensor at `pose` (4x4, sensor to world) would hit within its range."""
        directions = self.directions @ pose[:3, :3].T
        hits = nearest([c.cast(pose[:3, 3], directions) for c in casters], len(directions))
        inside = (
            self._open[hits.ray]
            & (hits.range_m > _MIN_RANGE_M)
            & (hits.range_m < self.config.max_range_m)
        )
        return Hits(*(getattr(hits, name)[inside] for name in hits.__dataclass_fields__))

    def measure(self, hits: Hits, rng: Rng) -> Scan:
        """Adds range noise, drop-out, outliers and remission to perfect hits."""
        config, n = self.config, len(hits.ray)
        range_m, label = hits.range_m.copy(), hits.label.copy()
        rough = surface_table("roughness_m")[hits.material]
        spread = np.hypot(config.range_noise_m, rough / np.maximum(hits.cosine, 0.2))
        range_m += spread * rng.standard_normal(n)
        through = (hits.material == Material.GLASS) & (rng.random(n) < 0.2)
        range_m += through * rng.uniform(0.3, 2.5, n)
        returned = rng.random(n) < self._return_probability(hits)
        remission = self._remission(hits, rng)
        outlier = rng.random(n) < _OUTLIER_SHARE
        range_m = np.where(outlier, range_m * rng.uniform(0.3, 1.1, n), range_m)
        # Annotators leave far points out: the further away, the more often.
        far = rng.random(n) < 1 / (1 + np.exp((_UNLABELLED_FROM_M - hits.range_m) / 2.5))
        label[far] = Raw.UNLABELED
        label[outlier] = Raw.OUTLIER
        kept = returned & (range_m > _MIN_RANGE_M) & (range_m < config.max_range_m)
        xyz = self.directions[hits.ray[kept]] * range_m[kept, None]
        points = np.concatenate([np.round(xyz, 3), np.round(remission[kept, None], 2)], 1)
        return Scan(points.astype(np.float32), label[kept])

    def _return_probability(self, hits: Hits) -> Array:
        """Falls with range, grazing incidence and dark surfaces; glass mostly stays silent."""
        strength = self.config.drop_out
        if strength == 0.0:
            return np.ones(len(hits.ray))
        loss = np.minimum(surface_table("loss")[hits.material] * strength, 1.0)
        power = np.maximum(hits.albedo, 0.03) * (0.3 + 0.7 * hits.cosine) * (30 / hits.range_m) ** 2
        return (1 - loss) * (1 - np.exp(-power / (0.025 * strength)))

    def _remission(self, hits: Hits, rng: Rng) -> Array:
        """Albedo, incidence, the beam's gain and noise, within 0..0.99."""
        falloff = surface_table("falloff")[hits.material]
        noise = surface_table("noise")[hits.material]
        value = hits.albedo * np.maximum(hits.cosine, 0.02) ** falloff * self._gain[hits.ray]
        value += noise * rng.standard_normal(len(hits.ray))
        return np.clip(value, 0.0, 0.99)
