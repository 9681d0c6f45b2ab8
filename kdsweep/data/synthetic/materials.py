"""How surfaces answer a laser: remission, roughness, and how often nothing comes back.

The values were set by hand against means and spreads per class of a real SemanticKITTI scan; they
are not measured physical constants.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Material(IntEnum):
    """Row of `MATERIALS`."""

    ASPHALT = 0
    MARKING = 1
    PAVING = 2
    GRAVEL = 3
    GRASS = 4
    LEAF = 5
    BARK = 6
    WALL = 7
    ROOF = 8
    GLASS = 9
    PAINT = 10
    RUBBER = 11
    METAL = 12
    RETRO = 13
    CLOTH = 14
    WOOD = 15


@dataclass(frozen=True)
class Surface:
    """Optical values of one material.

    Attributes:
        albedo: Mean remission at normal incidence, 0..1.
        spread: Standard deviation of the albedo from object to object.
        noise: Standard deviation of the remission from return to return.
        falloff: Exponent of the cosine of incidence in the remission (0 = none, 1 = Lambert).
        roughness_m: Depth of the surface's own relief, in metres; it scatters the range.
        loss: Chance that a ray at normal incidence gives no return at short range.
    """

    albedo: float
    spread: float
    noise: float
    falloff: float
    roughness_m: float
    loss: float


MATERIALS: dict[Material, Surface] = {
    Material.ASPHALT: Surface(0.31, 0.04, 0.055, 0.24, 0.004, 0.01),
    Material.MARKING: Surface(0.60, 0.05, 0.080, 0.24, 0.004, 0.01),
    Material.PAVING: Surface(0.38, 0.04, 0.045, 0.12, 0.005, 0.01),
    Material.GRAVEL: Surface(0.34, 0.03, 0.060, 0.10, 0.012, 0.01),
    Material.GRASS: Surface(0.37, 0.04, 0.060, 0.05, 0.030, 0.01),
    Material.LEAF: Surface(0.335, 0.05, 0.130, 0.20, 0.040, 0.03),
    Material.BARK: Surface(0.36, 0.06, 0.110, 0.20, 0.012, 0.02),
    Material.WALL: Surface(0.27, 0.06, 0.080, 0.30, 0.008, 0.02),
    Material.ROOF: Surface(0.20, 0.05, 0.080, 0.40, 0.020, 0.03),
    Material.GLASS: Surface(0.06, 0.03, 0.050, 0.80, 0.000, 0.88),
    Material.PAINT: Surface(0.14, 0.12, 0.060, 0.90, 0.004, 0.05),
    Material.RUBBER: Surface(0.05, 0.02, 0.030, 0.40, 0.010, 0.15),
    Material.METAL: Surface(0.26, 0.08, 0.120, 0.40, 0.004, 0.03),
    Material.RETRO: Surface(0.85, 0.12, 0.150, 0.15, 0.000, 0.00),
    Material.CLOTH: Surface(0.36, 0.10, 0.100, 0.25, 0.012, 0.02),
    Material.WOOD: Surface(0.28, 0.06, 0.100, 0.30, 0.008, 0.02),
}
"""The materials, ordered like `Material`."""


def surface_table(field: str) -> NDArray[np.float64]:
    """One field of all materials, indexed by `Material`."""
    return np.array([getattr(MATERIALS[material], field) for material in Material])
