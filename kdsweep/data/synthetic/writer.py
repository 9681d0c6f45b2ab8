"""Writes synthetic scenes as sequences in the layout of SemanticKITTI."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdsweep.data.synthetic import drive
from kdsweep.data.synthetic.config import VERSION, SynthConfig, config_digest
from kdsweep.data.synthetic.mesh import Array
from kdsweep.data.synthetic.scene import Scene, build_scene
from kdsweep.data.synthetic.sensor import RayCaster, Scan, Sensor
from kdsweep.errors import DataError

TRAIN_SEQUENCES = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
VAL_SEQUENCE = "08"
MANIFEST = "synthetic.json"
_INSTANCES_PER_SCENE = 1000
_SCENE_GAP_M = 1000.0

_README = """# Synthetic LiDAR scans

These scans were ray-cast from generated streets by kdsweep. They are not measurements, and none of
their content comes from SemanticKITTI: only the file layout and the label ids are the same.
`synthetic.json` holds the configuration; the same configuration gives the same bytes.
"""


@dataclass(frozen=True)
class SceneSlot:
    """Where a scene goes: its split, its number there, its sequence and its place within that."""

    split: str
    index: int
    sequence: str
    position: int


def scene_slots(config: SynthConfig) -> list[SceneSlot]:
    """All scenes in order. Training scenes take the sequences in turn, so that a larger number
    of scenes keeps the earlier ones where they are; validation scenes follow each other in 08."""
    train = config.scenes - config.num_val_scenes
    count = len(TRAIN_SEQUENCES)
    slots = [SceneSlot("train", k, TRAIN_SEQUENCES[k % count], k // count) for k in range(train)]
    return slots + [SceneSlot("val", k, VAL_SEQUENCE, k) for k in range(config.num_val_scenes)]


@dataclass(frozen=True)
class Drive:
    """What one drive through a scene recorded: scans, sensor poses (4x4, to world), seconds."""

    scans: list[Scan]
    poses: list[Array]
    times_s: list[float]


def record_drive(config: SynthConfig, slot: SceneSlot, sensor: Sensor) -> Drive:
    """Builds a slot's scene and records the scans along its drive."""
    key = [config.seed, 0 if slot.split == "train" else 1, slot.index]
    length = (config.scans_per_scene - 1) * config.scan_spacing_m
    draw = np.random.default_rng(np.random.SeedSequence([*key, 0]))
    scene = build_scene(draw, slot.index, length, config.max_range_m + 5.0)
    travelled = config.scan_spacing_m * np.arange(config.scans_per_scene)
    times = [float(way / scene.speed_m_s) for way in travelled]
    draws = [
        np.random.default_rng(np.random.SeedSequence([*key, 1, number]))
        for number in range(config.scans_per_scene)
    ]
    poses = [
        _pose(scene, float(way), config.sensor_height_m, rng)
        for way, rng in zip(travelled, draws, strict=True)
    ]
    static = RayCaster(sensor.below_sky(scene.static, poses))
    scans = [
        sensor.measure(sensor.cast([static, RayCaster(scene.moved(time_s))], pose), rng)
        for time_s, pose, rng in zip(times, poses, draws, strict=True)
    ]
    return Drive(scans, poses, times)


def _pose(scene: Scene, travelled: float, height_m: float, rng: np.random.Generator) -> Array:
    """The sensor's pose on the drive, with the small sway of a car."""
    position, yaw, pitch = scene.sensor_position(travelled, height_m)
    sway = np.radians(rng.normal(0, (0.3, 0.25, 0.25)))
    return drive.sensor_pose(position, yaw + sway[0], pitch + sway[1], sway[2])


def write_semantickitti(
    config: SynthConfig, out: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Writes synthetic scans under ``out/sequences``; the folder appears only when it is complete.

    Args:
        config: What to generate. The same configuration gives the same bytes, whatever the number
            of threads. A folder that holds this configuration already is left as it is.
        out: Folder to write: absent, empty, or written earlier with the same configuration.
        progress: Called with the number of scenes written and their total.

    Raises:
        DataError: `out` holds something else.
    """
    out = Path(out)
    if _is_complete(config, out):
        if progress is not None:
            progress(config.scenes, config.scenes)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    try:
        _write_all(config, partial, progress)
        _publish(config, partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_complete(config: SynthConfig, out: Path) -> bool:
    """Whether `out` holds exactly this configuration; False where it may be written."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{out}: is a file; synthetic scans need a new or an empty folder")
    if not any(out.iterdir()):
        return False
    manifest = out / MANIFEST
    if not manifest.is_file():
        raise DataError(
            f"{out}: is not empty and was not written by the synthetic generator (no {MANIFEST}); "
            "choose a new or an empty folder"
        )
    try:
        held = json.loads(manifest.read_text())
        digest, files = held["digest"], dict(held["files"])
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{manifest}: is damaged ({error}); choose another folder") from error
    if digest != config_digest(config):
        raise DataError(
            f"{out}: holds synthetic scans of another configuration ({digest} instead of "
            f"{config_digest(config)}); choose another folder, or delete this one first"
        )
    wrong = [name for name, size in files.items() if _size(out / name) != size]
    if wrong:
        raise DataError(
            f"{out / wrong[0]}: is missing or damaged ({_size(out / wrong[0])} bytes instead of "
            f"{files[wrong[0]]}; {len(wrong)} such files); delete the folder to write it again"
        )
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _write_all(
    config: SynthConfig, root: Path, progress: Callable[[int, int], None] | None
) -> None:
    sensor, poses, times = Sensor(config), {}, {}  # type: Sensor, dict[str, list], dict[str, list]
    slots = scene_slots(config)
    for done, slot in enumerate(slots):
        if progress is not None:
            progress(done, len(slots))
        recorded = record_drive(config, slot, sensor)
        folder = root / "sequences" / slot.sequence
        for name in ("velodyne", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        first = slot.position * config.scans_per_scene
        shift = np.eye(4)
        shift[0, 3] = slot.position * _SCENE_GAP_M
        for number, scan in enumerate(recorded.scans):
            stem = f"{first + number:06d}"
            scan.points.astype("<f4").tofile(folder / "velodyne" / f"{stem}.bin")
            labels = _renumbered(scan.labels, slot.position * _INSTANCES_PER_SCENE)
            labels.astype("<u4").tofile(folder / "labels" / f"{stem}.label")
        poses.setdefault(slot.sequence, []).extend(shift @ pose for pose in recorded.poses)
        earlier = times.setdefault(slot.sequence, [])
        start = earlier[-1] + 10.0 if earlier else 0.0
        earlier.extend(start + time for time in recorded.times_s)
    for sequence in poses:
        folder = root / "sequences" / sequence
        (folder / "calib.txt").write_text(drive.calib_text())
        (folder / "poses.txt").write_text(drive.poses_text(poses[sequence]))
        (folder / "times.txt").write_text(drive.times_text(times[sequence]))
    (root / "README.md").write_text(_README)
    _write_manifest(config, root)
    if progress is not None:
        progress(len(slots), len(slots))


def _renumbered(labels: NDArray[np.uint32], first: int) -> NDArray[np.uint32]:
    """Shifts instances, so that the scenes of a sequence do not share them; 0 stays 0."""
    instance = (labels >> 16).astype(np.int64)
    shifted = np.where(instance > 0, (instance - 1 + first) % 65535 + 1, 0)
    return ((labels & 0xFFFF).astype(np.int64) | shifted << 16).astype(np.uint32)


def _write_manifest(config: SynthConfig, root: Path) -> None:
    """What was written, with every file's size: lets a later call see that all is there."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    manifest = {
        "synthetic": True,
        "generator_version": VERSION,
        "digest": config_digest(config),
        "config": config.model_dump(mode="json"),
        "scenes": [
            {"split": slot.split, "sequence": slot.sequence,
             "first_scan": slot.position * config.scans_per_scene,
             "scans": config.scans_per_scene}
            for slot in scene_slots(config)
        ],
        "files": {path.relative_to(root).as_posix(): path.stat().st_size for path in files},
    }  # fmt: skip
    (root / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _publish(config: SynthConfig, partial: Path, out: Path) -> None:
    """Renames the finished folder; another writer of the same configuration may come first."""
    partial.chmod(0o755)
    try:
        os.replace(partial, out)
    except OSError:
        if not _is_complete(config, out):
            raise
