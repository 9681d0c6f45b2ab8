"""What to generate: the configuration of the synthetic scans, and its identity."""

import hashlib
import json
from typing import Annotated

from pydantic import Field

from kdsweep.config import Config, Count, Fraction, Positive

VERSION = 1
"""Version of the generator. It grows whenever the same configuration would give other bytes."""


class SynthConfig(Config):
    """Synthetic scans in the SemanticKITTI layout. The same values give the same bytes."""

    scenes: Count = 24
    """Streets to build, training and validation together."""
    val_share: Fraction = 0.25
    """Share of the scenes that go to validation (sequence 08), rounded; the others are training
    scenes. With two scenes or more, both splits get at least one unless the share is 0 or 1."""
    scans_per_scene: Count = 1
    """Scans along the drive through each street."""
    scan_spacing_m: Positive = 4.0
    """Distance driven from one scan to the next, in metres (KITTI drives about 1 m per scan)."""
    beams: Annotated[int, Field(ge=4, le=128)] = 64
    """Laser beams, spread over the elevations of a Velodyne HDL-64E (-24.8 to +2 degrees)."""
    columns: Annotated[int, Field(ge=64, le=4096)] = 2048
    """Azimuth steps of one turn; beams x columns rays are cast per scan."""
    max_range_m: Annotated[float, Field(ge=20.0, le=120.0)] = 80.0
    """Longest range that gives a return, in metres."""
    sensor_height_m: Annotated[float, Field(ge=0.5, le=4.0)] = 1.73
    """Height of the sensor above the road, in metres."""
    range_noise_m: Annotated[float, Field(ge=0.0, le=0.5)] = 0.012
    """Standard deviation of the range error on a smooth surface hit head-on, in metres."""
    drop_out: Annotated[float, Field(ge=0.0, le=20.0)] = 1.0
    """Strength of the drop-out by range, incidence and material: 0 = none, 1 = like a sensor."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of all scenes. Scene k depends on the seed and on k only, not on their number."""

    @property
    def num_val_scenes(self) -> int:
        """Scenes of the validation split."""
        wanted = int(self.scenes * self.val_share + 0.5)
        if self.scenes > 1 and 0.0 < self.val_share < 1.0:
            return min(max(wanted, 1), self.scenes - 1)
        return wanted


def config_digest(config: SynthConfig) -> str:
    """Names the bytes that a configuration gives.

    Returns:
        16 hexadecimal characters of a SHA-256 over the configuration and the generator's version.
    """
    text = json.dumps({"version": VERSION, **config.model_dump(mode="json")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
