"""Raw SemanticKITTI label ids that the synthetic scenes use.

Source: ``semantic-kitti.yaml`` of the SemanticKITTI API (Behley et al., ICCV 2019). The lower 16
bits of a label hold such an id, the upper 16 bits the instance.
"""

from enum import IntEnum


class Raw(IntEnum):
    """A raw semantic id, before the learning map joins them into training classes."""

    UNLABELED = 0
    OUTLIER = 1
    CAR = 10
    BICYCLE = 11
    BUS = 13
    MOTORCYCLE = 15
    TRUCK = 18
    OTHER_VEHICLE = 20
    PERSON = 30
    BICYCLIST = 31
    MOTORCYCLIST = 32
    ROAD = 40
    PARKING = 44
    SIDEWALK = 48
    OTHER_GROUND = 49
    BUILDING = 50
    FENCE = 51
    OTHER_STRUCTURE = 52
    LANE_MARKING = 60
    VEGETATION = 70
    TRUNK = 71
    TERRAIN = 72
    POLE = 80
    TRAFFIC_SIGN = 81
    OTHER_OBJECT = 99
    MOVING_CAR = 252
    MOVING_BICYCLIST = 253
    MOVING_PERSON = 254
    MOVING_MOTORCYCLIST = 255
    MOVING_BUS = 257
    MOVING_TRUCK = 258
    MOVING_OTHER_VEHICLE = 259


MOVING = {
    Raw.CAR: Raw.MOVING_CAR,
    Raw.BICYCLIST: Raw.MOVING_BICYCLIST,
    Raw.PERSON: Raw.MOVING_PERSON,
    Raw.MOTORCYCLIST: Raw.MOVING_MOTORCYCLIST,
    Raw.BUS: Raw.MOVING_BUS,
    Raw.TRUCK: Raw.MOVING_TRUCK,
    Raw.OTHER_VEHICLE: Raw.MOVING_OTHER_VEHICLE,
}
"""Raw id of an object that moves while the scene is recorded, by its id at rest."""
