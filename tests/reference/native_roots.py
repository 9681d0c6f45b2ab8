"""Small data roots in the native layouts, written byte by byte without the package's own code."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

Point = Sequence[float]

CALIB = "P0: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: 0 -1 0 0.1 0 0 -1 0.2 1 0 0 0.3\n"
POSE = "1 0 0 {x} 0 1 0 0 0 0 1 0\n"


def points(count: int, columns: int, *, start: int = 0) -> list[Point]:
    """Points on a spiral, with intensity and further columns."""
    rows = []
    for number in range(start, start + count):
        xyz = (1.0 + number, 0.5 * number - 3.0, 0.1 * number - 2.0)
        rows.append((*xyz, 0.25, *([7.0] * (columns - 4))))
    return rows


def write_points(path: Path, rows: Sequence[Point]) -> None:
    """float32, little endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows))


def write_kitti_labels(path: Path, semantic: Sequence[int], instance: int = 0) -> None:
    """uint32, little endian: instance in the upper 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(struct.pack("<I", instance << 16 | raw) for raw in semantic))


def write_kitti(
    root: Path, sequences: Mapping[str, int] | None = None, num_points: int = 12
) -> Path:
    """Scans per sequence; labels cycle through car, road, moving car and unlabeled."""
    for sequence, scans in (sequences or {"00": 3, "08": 2}).items():
        folder = root / "sequences" / sequence
        for scan in range(scans):
            rows = points(num_points, 4, start=scan)
            write_points(folder / "velodyne" / f"{scan:06d}.bin", rows)
            raw = [(10, 40, 252, 0)[number % 4] for number in range(num_points)]
            write_kitti_labels(folder / "labels" / f"{scan:06d}.label", raw, instance=scan + 1)
        (folder / "calib.txt").write_text(CALIB)
        (folder / "poses.txt").write_text("".join(POSE.format(x=scan) for scan in range(scans)))
    return root


def write_nuscenes(
    root: Path,
    *,
    version: str = "v1.0-mini",
    scenes: Sequence[str] = ("scene-0061", "scene-0103"),
    num_points: int = 12,
) -> Path:
    """One key frame, one sweep and one camera image per scene; labels cycle 17 (car), 24, 0."""
    tables: dict[str, list[dict]] = {
        "sensor": [
            {"token": "s-lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
            {"token": "s-cam", "channel": "CAM_FRONT", "modality": "camera"},
        ],
        "calibrated_sensor": [
            {"token": "c-lidar", "sensor_token": "s-lidar"},
            {"token": "c-cam", "sensor_token": "s-cam"},
        ],
        "scene": [],
        "sample": [],
        "sample_data": [],
        "lidarseg": [],
    }
    for number, name in enumerate(scenes):
        tables["scene"].append({"token": f"scene-{number}", "name": name})
        tables["sample"].append({"token": f"sample-{number}", "scene_token": f"scene-{number}"})
        kinds = (
            ("key", "c-lidar", True, f"samples/LIDAR_TOP/{number}.pcd.bin"),
            ("sweep", "c-lidar", False, f"sweeps/LIDAR_TOP/{number}.pcd.bin"),
            ("cam", "c-cam", True, f"samples/CAM_FRONT/{number}.jpg"),
        )
        for kind, calibrated, is_key_frame, filename in kinds:
            tables["sample_data"].append(
                {
                    "token": f"{kind}-{number}",
                    "sample_token": f"sample-{number}",
                    "calibrated_sensor_token": calibrated,
                    "timestamp": 1000 - number,
                    "is_key_frame": is_key_frame,
                    "filename": filename,
                }
            )
        write_points(root / f"samples/LIDAR_TOP/{number}.pcd.bin", points(num_points, 5))
        label = f"lidarseg/{version}/key-{number}_lidarseg.bin"
        tables["lidarseg"].append({"sample_data_token": f"key-{number}", "filename": label})
        (root / label).parent.mkdir(parents=True, exist_ok=True)
        (root / label).write_bytes(bytes((17, 24, 0)[i % 3] for i in range(num_points)))
    for table, rows in tables.items():
        path = root / version / f"{table}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=0))
    return root
