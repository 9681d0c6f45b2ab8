"""Draws the plan of a street: its kind, cross-section, crossing, plots and drives."""

from dataclasses import dataclass

import numpy as np

from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.mesh import Rng
from kdsweep.data.synthetic.street import Patch, Relief, Side, Street

RARE = (
    Raw.BICYCLE, Raw.MOTORCYCLE, Raw.TRUCK, Raw.OTHER_VEHICLE, Raw.PERSON, Raw.BICYCLIST,
    Raw.MOTORCYCLIST, Raw.OTHER_GROUND, Raw.PARKING,
)  # fmt: skip
"""Classes that a street may lack; any three consecutive scenes show each at least once."""


@dataclass(frozen=True)
class Kind:
    """How one kind of street is built; shares and chances are 0..1.

    Attributes:
        built: Chance that a plot has a building.
        eaves_m: Range of the eaves' height.
        setback_m: Range of the distance from pavement to facade.
        row: Houses touch each other.
        parked: Share of kerb places taken by a car.
        bays: Chance of parking bays along a side.
        pavement: Chance of a pavement along a side.
        street_trees: Chance of a tree per 9 m of kerb.
        gardens: Mean number of plants per plot.
        fenced: Chance that a plot is fenced or hedged towards the street.
        people: Mean number of people.
        slope: Largest slope of the land beside the street.
    """

    built: float
    eaves_m: tuple[float, float]
    setback_m: tuple[float, float]
    row: bool
    parked: float
    bays: float
    pavement: float
    street_trees: float
    gardens: float
    fenced: float
    people: float
    slope: float


RESIDENTIAL = Kind(0.8, (2.8, 6.2), (2.0, 8.0), False, 0.3, 0.08, 0.95, 0.3, 8.0, 0.8, 1.2, 0.05)
URBAN = Kind(0.95, (8.0, 17.0), (0.0, 1.5), True, 0.4, 0.15, 1.0, 0.35, 1.0, 0.25, 3.0, 0.01)
RURAL = Kind(0.15, (2.8, 5.0), (4.0, 12.0), False, 0.04, 0.03, 0.35, 0.3, 10.0, 0.5, 0.4, 0.14)


@dataclass(frozen=True)
class Plot:
    """A piece of land beside the street, between s0 and s1 (metres)."""

    side: int
    s0: float
    s1: float
    drive: tuple[float, float] | None
    """Limits in s of a paved way from the road to the plot."""


@dataclass(frozen=True)
class Plan:
    """A drawn street.

    Attributes:
        kind: What kind of street.
        street: Its geometry.
        crossing: Limits in s of the crossing road and its pavements, if there is one.
        crossing_road: Limits in s of the crossing road alone.
        plots: Land to build on.
        forced: Rare classes that must be seen near the drive.
        drive_m: Length of the drive in metres.
    """

    kind: Kind
    street: Street
    crossing: tuple[float, float] | None
    crossing_road: tuple[float, float] | None
    plots: list[Plot]
    forced: frozenset[Raw]
    drive_m: float

    def side(self, sign: int) -> Side:
        """Strips of the left (1) or right (-1) side."""
        return self.street.left if sign > 0 else self.street.right

    def clear_of_crossing(self, s: float, margin: float) -> bool:
        """Whether a place along the street stays off the crossing."""
        if self.crossing is None:
            return True
        return s < self.crossing[0] - margin or s > self.crossing[1] + margin


def draw_plan(rng: Rng, index: int, drive_m: float, reach_m: float) -> Plan:
    """Draws a street.

    Args:
        rng: Source of all choices.
        index: Number of the scene in its split; decides which rare classes must appear.
        drive_m: Length of the drive, metres.
        reach_m: How far the street goes on before and after the drive, metres.
    """
    kind = (RESIDENTIAL, URBAN, RURAL)[int(rng.choice(3, p=[0.5, 0.2, 0.3]))]
    forced = frozenset(raw for i, raw in enumerate(RARE) if (index + i) % 3 == 0)
    road = float(rng.uniform(2.5, 3.7))
    left, right = _side(rng, kind, road), _side(rng, kind, road)
    s_min, s_max = -reach_m, drive_m + reach_m
    crossing, crossing_road, patches = _crossing(rng, left, right, drive_m)
    plots = _plots(rng, kind, s_min, s_max, crossing)
    patches = _paved(rng, kind, plots, left, right, forced) + patches
    relief = Relief(
        rise_m=float(rng.uniform(0.0, 0.8)), wave_m=float(rng.uniform(120, 220)),
        crown=float(rng.uniform(0.01, 0.03)),
        phase=float(rng.uniform(0, 2 * np.pi)), slope_left=float(rng.uniform(-0.5, 1) * kind.slope),
        slope_right=float(rng.uniform(-0.5, 1) * kind.slope), edge_m=max(left.walk, right.walk),
        mound_m=float(rng.uniform(0.05, 0.2 + kind.slope)),
    )  # fmt: skip
    street = Street(
        s_min=s_min, s_max=s_max,
        curvature_per_m=(float(rng.normal(0, 0.0015)), float(rng.normal(0, 0.0015))),
        left=left, right=right, relief=relief, patches=patches,
    )  # fmt: skip
    return Plan(kind, street, crossing, crossing_road, plots, forced, drive_m)


def _side(rng: Rng, kind: Kind, road: float) -> Side:
    bays = road + (float(rng.uniform(2.0, 2.5)) if rng.random() < kind.bays else 0.0)
    verge = bays + (float(rng.uniform(0.8, 2.5)) if rng.random() < 0.35 else 0.0)
    walk = verge + (float(rng.uniform(1.6, 3.4)) if rng.random() < kind.pavement else 0.0)
    return Side(road, bays, verge, walk)


def _crossing(
    rng: Rng, left: Side, right: Side, drive_m: float
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, list[Patch]]:
    """A road across, or one that joins from one side; half of all streets have one in view."""
    if rng.random() < 0.3:
        return None, None, []
    centre, half = float(rng.uniform(-35, drive_m + 35)), float(rng.uniform(2.6, 4.0))
    walk = half + float(rng.uniform(1.5, 2.8))
    sides = [[1, -1], [1], [-1]][int(rng.choice(3, p=[0.5, 0.25, 0.25]))]
    patches = []
    for sign in sides:
        strip = left if sign > 0 else right
        near, far = sorted((sign * strip.road, sign * 90.0))
        inner, outer = sorted((sign * strip.bays, sign * 90.0))
        patches.append(Patch(centre - walk, centre + walk, inner, outer, Raw.SIDEWALK))
        patches.append(Patch(centre - half, centre + half, near, far, Raw.ROAD))
    return (centre - walk, centre + walk), (centre - half, centre + half), patches


def _plots(
    rng: Rng, kind: Kind, s_min: float, s_max: float, crossing: tuple[float, float] | None
) -> list[Plot]:
    plots = []
    for side in (1, -1):
        s = s_min + float(rng.uniform(0, 10))
        while s < s_max - 8:
            end = s + float(rng.uniform(11, 26))
            if crossing is not None and s < crossing[1] and end > crossing[0]:
                if crossing[0] - s < 8:
                    s = crossing[1]
                    continue
                end = crossing[0]
            drive = None
            if not kind.row and rng.random() < 0.6 and end - s > 10:
                drive = (s + 0.6, s + 0.6 + float(rng.uniform(2.6, 3.6)))
            plots.append(Plot(side, s, min(end, s_max), drive))
            s = end
    return plots


def _paved(
    rng: Rng, kind: Kind, plots: list[Plot], left: Side, right: Side, forced: frozenset[Raw]
) -> list[Patch]:
    """Drives, yards and strips of other ground (gravel, islands) that break up the strips."""
    patches = []
    for plot in plots:
        strip = left if plot.side > 0 else right
        if kind.row and rng.random() < 0.6:
            l0, l1 = sorted((plot.side * strip.walk, plot.side * (strip.walk + 14.0)))
            patches.append(Patch(plot.s0, plot.s1, l0, l1, Raw.SIDEWALK))
        if plot.drive is not None:
            kinds = (Raw.PARKING, Raw.SIDEWALK, Raw.OTHER_GROUND)
            raw = kinds[int(rng.choice(3, p=[0.35, 0.57, 0.08]))]
            l0, l1 = sorted((plot.side * strip.walk, plot.side * (strip.walk + 9.0)))
            patches.append(Patch(*plot.drive, l0, l1, raw))
    for raw, depth in ((Raw.OTHER_GROUND, 0.9), (Raw.PARKING, 2.2)):
        for _ in range(int(rng.random() < 0.05) + int(raw in forced)):
            sign = int(rng.choice([1, -1]))
            strip = left if sign > 0 else right
            l0, l1 = sorted((sign * strip.bays, sign * (strip.bays + depth)))
            start = float(rng.uniform(-16, 10))
            patches.append(Patch(start, start + float(rng.uniform(5, 12)), l0, l1, raw))
    return patches
