"""Rare vehicles at the kerb, traffic, and people."""

import numpy as np

from kdsweep.data.synthetic import people, vehicles
from kdsweep.data.synthetic.canvas import Canvas, Maker
from kdsweep.data.synthetic.labels import Raw
from kdsweep.data.synthetic.mesh import Rng, Soup


def park_rare(canvas: Canvas) -> None:
    """Bicycles and motorcycles on the pavement, trucks and trailers at the kerb."""
    rng = canvas.rng
    small: list[tuple[Maker, Raw, float]] = [
        (vehicles.bicycle, Raw.BICYCLE, 0.3),
        (vehicles.motorcycle, Raw.MOTORCYCLE, 0.25),
    ]
    for maker, raw, mean in small:
        for nth in range(canvas.count(raw, mean)):
            side = int(rng.choice([1, -1]))
            lat = side * (canvas.plan.side(side).bays + 0.75)
            s = canvas.free(canvas.near(raw, nth, (5, 15)), lat, 2.5)
            canvas.thing(maker, raw, s, lat, float(rng.normal(0, 0.08)))
    big: list[tuple[Maker, Raw, float]] = [
        (vehicles.truck, Raw.TRUCK, 0.12),
        (vehicles.trailer, Raw.OTHER_VEHICLE, 0.12),
    ]
    for maker, raw, mean in big:
        for nth in range(canvas.count(raw, mean)):
            side = int(rng.choice([1, -1]))
            strip = canvas.plan.side(side)
            if strip.walk - strip.road < 2.2:
                side, strip = 1, canvas.plan.side(1)
            room = strip.walk - strip.road
            lat = side * (strip.road + (1.25 if room >= 2.2 else -0.9))
            s = canvas.free(canvas.near(raw, nth, (16, 30)), lat, 9.0)
            canvas.thing(maker, raw, s, lat, float(rng.normal(0, 0.05)))


def start_traffic(canvas: Canvas) -> None:
    """Cars, buses, trucks and riders in both lanes; the sensor's own place stays free."""
    rng, lane, own = canvas.rng, canvas.lane_lat, canvas.speed_m_s
    other = -lane + float(rng.normal(0, 0.15))
    for _ in range(int(rng.poisson(1.6))):
        ahead = rng.random() < 0.5
        lat = lane if ahead else other
        s = canvas.free(float(rng.uniform(-60, 70)), lat, 12.0)
        draw = rng.random()
        maker: Maker
        maker, raw = (vehicles.car, Raw.CAR) if draw < 0.95 else (vehicles.truck, Raw.TRUCK)
        if draw > 0.985:
            maker, raw = vehicles.bus, Raw.BUS
        canvas.mover(maker, raw, s, lat, own if ahead else -own)
    riders: list[tuple[Maker, Raw, float, tuple[float, float]]] = [
        (people.bicyclist, Raw.BICYCLIST, 0.15, (9, 22)),
        (people.motorcyclist, Raw.MOTORCYCLIST, 0.05, (13, 26)),
    ]
    for maker, raw, mean, reach in riders:
        for nth in range(canvas.count(raw, mean)):
            towards = rng.random() < 0.5
            lat = other if towards else lane
            slow = raw is Raw.BICYCLIST
            if slow:
                lat += -0.6 if lat < 0 else 0.6
            s = canvas.free(canvas.near(raw, nth, reach), lat, 6.0)
            speed = float(rng.uniform(3, 6)) if slow else own
            canvas.mover(maker, raw, s, lat, -speed if towards else speed)


def _walker(rng: Rng) -> Soup:
    return people.person(rng, walking=True)


def start_people(canvas: Canvas) -> None:
    """People who stand or walk, mostly on the pavement, some on the road's edge."""
    rng = canvas.rng
    for nth in range(canvas.count(Raw.PERSON, canvas.plan.kind.people)):
        side = int(rng.choice([1, -1]))
        strip = canvas.plan.side(side)
        inner = strip.verge if strip.walk > strip.verge else strip.bays - 0.6
        lat = side * float(rng.uniform(inner + 0.3, max(strip.walk - 0.3, inner + 0.4)))
        s = canvas.free(canvas.near(Raw.PERSON, nth, (6, 20)), lat, 1.0)
        if rng.random() < 0.6:
            speed = float(rng.choice([-1, 1]) * rng.uniform(0.8, 1.7))
            canvas.mover(_walker, Raw.PERSON, s, lat, speed)
        else:
            canvas.thing(people.person, Raw.PERSON, s, lat, float(rng.uniform(0, 2 * np.pi)))
