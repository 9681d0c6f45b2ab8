"""Builds one scene: a street with all that stands on it and all that moves."""

from dataclasses import dataclass

import numpy as np

from kdsweep.data.synthetic import furnish, traffic
from kdsweep.data.synthetic.canvas import Canvas, Mover
from kdsweep.data.synthetic.mesh import Array, Rng, Soup, merge
from kdsweep.data.synthetic.plan import Plan, draw_plan


@dataclass(frozen=True)
class Scene:
    """What a drive sees.

    Attributes:
        plan: The street.
        static: All that does not move, in world coordinates.
        movers: What moves.
        lane_lat: The sensor's place across the street, metres to the left of the centre line.
        speed_m_s: The sensor's speed along the street.
    """

    plan: Plan
    static: Soup
    movers: list[Mover]
    lane_lat: float
    speed_m_s: float

    def moved(self, time_s: float) -> Soup:
        """The movers at a time after the start, in world coordinates."""
        street = self.plan.street
        return merge(
            [
                street.place(
                    m.soup, m.s + m.speed_m_s * time_s, m.lat, 0.0 if m.speed_m_s > 0 else np.pi
                )
                for m in self.movers
            ]
        )

    def sensor_position(self, s: float, height_m: float) -> tuple[Array, float, float]:
        """World position (3,), heading and pitch (radians) of the sensor on the drive."""
        street, lat = self.plan.street, self.lane_lat
        position = street.to_world(s, lat, float(street.height(s, lat)) + height_m)
        return position, float(street.heading(s)), float(np.arctan(street.tilt(s, lat, 0.0)[0]))


def build_scene(rng: Rng, index: int, drive_m: float, reach_m: float) -> Scene:
    """Draws and furnishes a street.

    Args:
        rng: Source of all choices; the same state gives the same scene.
        index: Number of the scene in its split; decides which rare classes must appear.
        drive_m: Length of the drive in metres.
        reach_m: How far the street goes on before and after the drive, metres.
    """
    plan = draw_plan(rng, index, drive_m, reach_m)
    canvas = Canvas(rng, plan)
    canvas.add(plan.street.ground(rng))
    furnish.mark_lanes(canvas)
    for plot in plan.plots:
        furnish.furnish_plot(canvas, plot)
    traffic.park_rare(canvas)
    for side in (1, -1):
        furnish.line_kerb(canvas, side)
        furnish.background(canvas, side)
    traffic.start_traffic(canvas)
    traffic.start_people(canvas)
    return Scene(plan, merge(canvas.soups), canvas.movers, canvas.lane_lat, canvas.speed_m_s)
