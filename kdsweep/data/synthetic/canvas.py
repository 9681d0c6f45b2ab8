"""Where a scene is put together: what was placed so far, and how things get onto the ground."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kdsweep.data.synthetic.labels import MOVING, Raw
from kdsweep.data.synthetic.mesh import Rng, Soup
from kdsweep.data.synthetic.plan import Plan

Maker = Callable[[Rng], Soup]


@dataclass(frozen=True)
class Mover:
    """An object that goes along the street at a steady speed.

    Attributes:
        soup: The labelled object in its own frame.
        s: Where it is at time 0, metres along the street.
        lat: Its lane, metres to the left of the centre line.
        speed_m_s: Metres per second along s; negative comes towards the start.
    """

    soup: Soup
    s: float
    lat: float
    speed_m_s: float


class Canvas:
    """Collects triangles, instances and movers of one scene.

    Attributes:
        rng: Source of all choices.
        plan: The street that is furnished.
        lane_lat: The sensor's place across the street, metres to the left of the centre line.
        speed_m_s: The sensor's speed along the street.
        soups: What stands, in world coordinates.
        movers: What moves.
    """

    def __init__(self, rng: Rng, plan: Plan) -> None:
        """Starts with nothing on the street but the sensor's own car."""
        self.rng, self.plan, self.street = rng, plan, plan.street
        self.lane_lat = -plan.street.right.road * float(rng.uniform(0.4, 0.55))
        self.speed_m_s = float(rng.uniform(5.0, 12.0))
        self.soups: list[Soup] = []
        self.movers: list[Mover] = []
        self._instances = 0
        self._taken: list[tuple[float, float, float]] = [(0.0, self.lane_lat, 12.0)]

    def add(self, soup: Soup) -> None:
        """Adds triangles that are in world coordinates already."""
        self.soups.append(soup)

    def put(self, soup: Soup, s: float, lat: float, yaw: float = 0.0, level: bool = True) -> None:
        """Stands a labelled object on the ground."""
        self.add(self.street.place(soup, s, lat, yaw, level))

    def thing(self, maker: Maker, raw: Raw, s: float, lat: float, yaw: float = 0.0) -> None:
        """Stands a new instance of a class on the ground, tilted like the ground."""
        self._instances += 1
        self.put(maker(self.rng).labelled(raw, self._instances), s, lat, yaw, level=False)

    def mover(self, maker: Maker, raw: Raw, s: float, lat: float, speed: float) -> None:
        """Starts a new moving instance of a class."""
        self._instances += 1
        soup = maker(self.rng).labelled(MOVING[raw], self._instances)
        self.movers.append(Mover(soup, s, lat, speed))

    def along(self, soup: Soup, s0: float, s1: float, distance: float, side: int) -> None:
        """Puts something long (x from 0 to its length, its back to +y) beside the street."""
        if side > 0:
            self.put(soup, s0, distance, 0.0, level=False)
        else:
            self.put(soup, s1, -distance, np.pi, level=False)

    def detail(self, s: float, lat: float) -> float:
        """Leaves that a plant needs at a place, 1 = usual: 2 beside the drive, 0.2 far away."""
        beside = max(-s, s - self.plan.drive_m, 0.0)
        return max(min(18.0 / max(float(np.hypot(beside, lat)), 1.0), 2.0), 0.2)

    def free(self, s: float, lat: float, gap: float) -> float:
        """Moves a place forward until no other on the street is within `gap` metres of it."""
        while any(abs(s - t) < max(gap, g) and abs(lat - m) < 2.5 for t, m, g in self._taken):
            s += gap
        self._taken.append((s, lat, gap))
        return s

    def count(self, raw: Raw, mean: float) -> int:
        """How many of a rare class there are: at least one where the plan wants it."""
        return max(int(self.rng.poisson(mean)), int(raw in self.plan.forced))

    def near(self, raw: Raw, nth: int, reach: tuple[float, float]) -> float:
        """A place along the street.

        The first of a wanted class is as far from the drive's middle as `reach` says (metres),
        so that it is seen; the others are anywhere but no closer.
        """
        length = self.plan.drive_m
        if nth == 0 and raw in self.plan.forced:
            return float(self.rng.choice([-1, 1]) * self.rng.uniform(*reach) + length / 2)
        offset = float(self.rng.uniform(-45, length + 45)) - length / 2
        if abs(offset) < reach[0]:
            offset += float(np.copysign(reach[0], offset))
        return length / 2 + offset
