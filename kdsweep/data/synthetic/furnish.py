"""Furnishes a street with what does not move: markings, plots, kerbs and the background."""

from functools import partial

import numpy as np

from kdsweep.data.synthetic import buildings, plants, vehicles
from kdsweep.data.synthetic.canvas import Canvas
from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.plan import RURAL, Plot


def mark_lanes(canvas: Canvas) -> None:
    """Dashes in the middle, sometimes edge lines, and zebra stripes at a crossing."""
    rng, street = canvas.rng, canvas.street
    marks: list[tuple[float, float, float, float]] = []
    if rng.random() < 0.6:
        dashes = np.arange(street.s_min, street.s_max - 4, 8.0)
        marks += [(s, s + 3.0, -0.07, 0.07) for s in dashes]
    if rng.random() < 0.3:
        pieces = np.arange(street.s_min, street.s_max - 5, 4.0)
        for lat in (street.left.road - 0.25, -street.right.road + 0.25):
            marks += [(s, s + 4.0, lat - 0.06, lat + 0.06) for s in pieces]
    road = canvas.plan.crossing_road
    clear = [m for m in marks if road is None or m[1] < road[0] - 4 or m[0] > road[1] + 4]
    if road is not None and rng.random() < 0.6:
        stripes = np.arange(-street.right.road + 0.3, street.left.road - 0.6, 1.0)
        clear += [(road[0] - 3.5, road[0] - 1.0, lat, lat + 0.5) for lat in stripes]
    canvas.add(street.stripes(rng, clear))


def furnish_plot(canvas: Canvas, plot: Plot) -> None:
    """A building or green land, what fences it, and what grows and parks there."""
    rng, kind, strip = canvas.rng, canvas.plan.kind, canvas.plan.side(plot.side)
    width = plot.s1 - plot.s0
    front = strip.walk + float(rng.uniform(*kind.setback_m))
    depth = float(rng.uniform(7.0, 12.0))
    built = rng.random() < kind.built and width > 7
    if built:
        start = plot.s0 + (0.0 if kind.row else 0.7) + (3.4 if plot.drive else 0.0)
        end = plot.s1 - (0.0 if kind.row else float(rng.uniform(0.7, 3.0)))
        eaves = float(rng.uniform(*kind.eaves_m))
        soup = buildings.house(rng, max(end - start, 4.0), depth, eaves, rng.random() < 0.75)
        if plot.side > 0:
            canvas.put(soup, start, front)
        else:
            canvas.put(soup, end, -front, np.pi)
    elif rng.random() < 0.8:
        _thicket(canvas, plot, strip.walk + float(rng.uniform(0.8, 3.0)))
    _fence(canvas, plot, strip.walk + 0.25, front + depth)
    if plot.drive is not None and rng.random() < 0.55 and front - strip.walk > 0.5:
        middle = (plot.drive[0] + plot.drive[1]) / 2
        _car(canvas, middle, plot.side * (strip.walk + float(rng.uniform(3.0, 6.0))), np.pi / 2)
    for _ in range(int(rng.poisson(kind.gardens * width / 18.0))):
        s = float(rng.uniform(plot.s0 + 3.5, plot.s1 - 0.5))
        if front - strip.walk > 1.6 and rng.random() < 0.6:
            distance = float(rng.uniform(strip.walk + 0.9, front - 0.5))
        else:
            distance = front + depth + float(rng.uniform(0.5, 10.0))
        _plant(canvas, s, plot.side * distance, small=distance < front)


def _thicket(canvas: Canvas, plot: Plot, distance: float) -> None:
    """A belt of wild bushes and trees along the front of a plot."""
    rng = canvas.rng
    for s in np.arange(plot.s0 + (4.5 if plot.drive else 1.0), plot.s1 - 0.5, 2.4):
        out = distance + float(rng.uniform(0.0, 2.5))
        detail = canvas.detail(s, out)
        if rng.random() < 0.2:
            soup = plants.tree(rng, detail=detail)
        else:
            soup = plants.bush(rng, float(rng.uniform(1.8, 3.8)), detail)
        canvas.put(soup, s + float(rng.normal(0, 0.5)), plot.side * out)


def _plant(canvas: Canvas, s: float, lat: float, small: bool) -> None:
    rng = canvas.rng
    choice, detail = rng.random(), canvas.detail(s, lat)
    if choice < (0.65 if small else 0.4):
        soup = plants.bush(rng, detail=detail)
    elif choice < 0.78:
        soup = plants.conifer(rng, detail)
    else:
        soup = plants.tree(rng, float(rng.uniform(2.6, 5.0)) if small else None, detail)
    canvas.put(soup, s, lat, float(rng.uniform(0, 2 * np.pi)))


def _fence(canvas: Canvas, plot: Plot, near: float, back: float) -> None:
    """A fence, wall, hedge or nothing towards the street and towards the neighbours."""
    rng, kind = canvas.rng, canvas.plan.kind
    start = plot.drive[1] + 0.1 if plot.drive else plot.s0
    length = plot.s1 - start
    hedge = partial(plants.hedge, detail=canvas.detail(plot.s0 + length / 2, near))
    if rng.random() < kind.fenced and length > 3:
        maker = buildings.FENCES[int(rng.integers(len(buildings.FENCES)))]
        if kind is RURAL and rng.random() < 0.4:
            maker = buildings.guard_rail
        planted = rng.random()
        if planted < 0.5:
            canvas.along(maker(rng, length), start, plot.s1, near, plot.side)
        if planted > 0.3:
            canvas.along(hedge(rng, length), start, plot.s1, near + 0.65, plot.side)
    if not kind.row and rng.random() < 0.6:
        maker = buildings.FENCES[int(rng.integers(2))] if rng.random() < 0.45 else hedge
        soup = maker(rng, back - near)
        canvas.put(soup, plot.s0, plot.side * near, plot.side * np.pi / 2, level=False)


def line_kerb(canvas: Canvas, side: int) -> None:
    """Parked cars, lamps, trees, signs and clutter along one kerb."""
    _park_cars(canvas, side)
    _stand_posts(canvas, side)
    rng, kind, plan, street = canvas.rng, canvas.plan.kind, canvas.plan, canvas.street
    strip, trees = plan.side(side), rng.random() < 0.6
    for place in np.arange(street.s_min, street.s_max, 9.0):
        s = float(place + rng.uniform(-2, 2))
        if not plan.clear_of_crossing(s, 1.0):
            continue
        if trees and rng.random() < kind.street_trees:
            canvas.put(
                plants.tree(rng, detail=canvas.detail(s, 0.0)),
                s,
                side * ((strip.bays + strip.verge) / 2 + 0.5),
            )
        if rng.random() < 0.07:
            _sign(canvas, s + 3.0, side)
        if rng.random() < 0.25:
            turn = float(rng.uniform(0, 2 * np.pi))
            canvas.put(buildings.clutter(rng), s + 1.5, side * (strip.walk + 0.1), turn)


def _park_cars(canvas: Canvas, side: int) -> None:
    """Cars in the bays, or half on a wide enough road."""
    rng, kind, strip, street = canvas.rng, canvas.plan.kind, canvas.plan.side(side), canvas.street
    bays = strip.bays > strip.road
    if not bays and (strip.walk - strip.road < 1.5 or rng.random() < 0.3):
        return
    lat = side * ((strip.road + strip.bays) / 2 if bays else strip.road + 0.35)
    taken = kind.parked * float(rng.uniform(0.3, 1.7))
    s = street.s_min + float(rng.uniform(0, 6))
    while s < street.s_max - 3:
        if rng.random() < taken and canvas.plan.clear_of_crossing(s, 5.0):
            spot = canvas.free(s, lat, 5.4)
            _car(canvas, spot, lat + float(rng.normal(0, 0.1)), 0.0 if side < 0 else np.pi)
        s += float(rng.uniform(5.6, 7.2))


def _stand_posts(canvas: Canvas, side: int) -> None:
    """Street lamps, a sign at the crossing, a bus shelter, bollards."""
    rng, plan, street = canvas.rng, canvas.plan, canvas.street
    strip = plan.side(side)
    edge = strip.walk - 0.3 if strip.walk > strip.bays else strip.bays + 0.6
    stretch = float(rng.uniform(26, 45))
    for s in np.arange(street.s_min + float(rng.uniform(0, 20)), street.s_max, stretch):
        if plan.clear_of_crossing(s, 0.5):
            canvas.put(buildings.street_lamp(rng), s, side * edge, 0.0 if side < 0 else np.pi)
    if plan.crossing is not None:
        _sign(canvas, plan.crossing[0] - 0.5 if side < 0 else plan.crossing[1] + 0.5, side)
    if rng.random() < 0.2:
        s, turn = float(rng.uniform(-20, 30)), 0.0 if side > 0 else np.pi
        if plan.clear_of_crossing(s, 4.5):
            canvas.put(buildings.shelter(rng), s, side * strip.walk, turn)
    if rng.random() < 0.15:
        first = float(rng.uniform(-25, 25))
        for i in range(int(rng.integers(3, 9))):
            if plan.clear_of_crossing(first + 1.6 * i, 0.2):
                canvas.put(buildings.bollard(rng), first + 1.6 * i, side * (strip.bays + 0.3))


def _sign(canvas: Canvas, s: float, side: int) -> None:
    """A sign that faces the traffic on its own side."""
    strip = canvas.plan.side(side)
    yaw = (0.0 if side < 0 else np.pi) + float(canvas.rng.normal(0, 0.15))
    canvas.put(buildings.sign_post(canvas.rng), s, side * (strip.bays + 0.45), yaw)


def background(canvas: Canvas, side: int) -> None:
    """Trees, bushes and tall grass behind the plots and on open land."""
    rng, street, rural = canvas.rng, canvas.street, canvas.plan.kind is RURAL
    strip = canvas.plan.side(side)
    span = street.s_max - street.s_min
    for _ in range(int(span * (0.34 if rural else 0.2))):
        s = float(rng.uniform(street.s_min, street.s_max))
        distance = strip.walk + float(rng.uniform(*((5, 45) if rural else (18, 45))))
        if canvas.plan.clear_of_crossing(s, 2.0):
            _plant(canvas, s, side * distance, small=False)
    start, end = max(street.s_min, -45.0), min(street.s_max, canvas.plan.drive_m + 45.0)
    count = int((end - start) * (18.0 if rural else 7.0))
    places = rng.uniform(start, end, count)
    lats = side * (strip.walk + rng.uniform(0.0, 16.0, count))
    grown = street.raw_at(places, lats) == Raw.TERRAIN
    places, lats = places[grown], lats[grown]
    centres = street.to_world(places, lats, street.height(places, lats))
    canvas.add(plants.tufts(rng, centres, float(rng.uniform(0.15, 0.5))))


def _car(canvas: Canvas, s: float, lat: float, yaw: float) -> None:
    canvas.thing(vehicles.car, Raw.CAR, s, lat, yaw + float(canvas.rng.normal(0, 0.03)))
