"""Reads nuScenes tables: the LIDAR_TOP key frames of every scene, and their label files.

Source: Caesar et al., "nuScenes", CVPR 2020; nuscenes-devkit, docs/schema_nuscenes.md. Tables point
to each other by token. sample_data.json of v1.0-trainval is about 1 GB, so tables are read row by
row and only key frames are kept.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdsweep.errors import DataError

_CHUNK = 1 << 20
_LONGEST_ROW = 1 << 22  # no table has a row of more than some kilobytes: beyond this it is damaged

Row = dict[str, Any]


@dataclass(frozen=True)
class KeyFrame:
    """One LIDAR_TOP key frame.

    Attributes:
        token: Token of its sample_data row, which also names its label file.
        scene: Name of its scene, ``scene-0061``.
        timestamp: Microseconds.
        filename: Path of its points below the root.
        labels: Path of its labels below the root; None where the version has none.
    """

    token: str
    scene: str
    timestamp: int
    filename: str
    labels: str | None


def key_frames(root: Path, version: str) -> tuple[KeyFrame, ...]:
    """LIDAR_TOP key frames of a version, ordered by scene and time.

    Raises:
        DataError: A table is missing or damaged, or a token leads nowhere.
    """
    folder = root / version
    if not folder.is_dir():
        here = sorted(path.name for path in root.glob("v1.0*")) if root.is_dir() else []
        found = f"versions here: {', '.join(here)}" if here else "no version is here"
        if not root.is_dir():
            found = "the root does not exist"
        raise DataError(
            f"{folder}: no such folder of nuScenes tables ({found}). Set data.root to the folder "
            f"that holds {version!r} and 'samples', and data.version to the version that is there."
        )
    stamps = tuple(path.stat().st_mtime_ns for path in sorted(folder.glob("*.json")))
    return _key_frames(folder, stamps)


@lru_cache(maxsize=4)
def _key_frames(folder: Path, stamps: tuple[int, ...]) -> tuple[KeyFrame, ...]:
    """Reads the tables, once per process and state of the folder (the time stamps of its files)."""
    lidars = {
        row["token"]
        for row in _rows(folder, "sensor", "token", "channel")
        if row["channel"] == "LIDAR_TOP"
    }
    mounted = {
        row["token"]
        for row in _rows(folder, "calibrated_sensor", "token", "sensor_token")
        if row["sensor_token"] in lidars
    }
    scenes = {row["token"]: row["name"] for row in _rows(folder, "scene", "token", "name")}
    samples = {
        row["token"]: row["scene_token"] for row in _rows(folder, "sample", "token", "scene_token")
    }
    labels: dict[str, str] = {}
    if (folder / "lidarseg.json").exists():
        labels = {
            row["sample_data_token"]: row["filename"]
            for row in _rows(folder, "lidarseg", "sample_data_token", "filename")
        }
    frames = []
    fields = ("token", "sample_token", "calibrated_sensor_token", "is_key_frame", "filename")
    for row in _rows(folder, "sample_data", *fields, "timestamp"):
        if not row["is_key_frame"] or row["calibrated_sensor_token"] not in mounted:
            continue
        scene_token = _follow(folder, "sample", samples, row["sample_token"])
        frames.append(
            KeyFrame(
                row["token"],
                _follow(folder, "scene", scenes, scene_token),
                row["timestamp"],
                row["filename"],
                labels.get(row["token"]),
            )
        )
    return tuple(sorted(frames, key=lambda frame: (frame.scene, frame.timestamp)))


def _follow(folder: Path, table: str, rows: dict[str, str], token: str) -> str:
    if token not in rows:
        raise DataError(
            f"{folder / table}.json: no row has the token {token!r} that another table names. The "
            "tables are damaged or of different versions: unpack them again."
        )
    return rows[token]


def _rows(folder: Path, table: str, *fields: str) -> Iterator[Row]:
    path = folder / f"{table}.json"
    for number, row in enumerate(read_table(path)):
        if not isinstance(row, dict) or any(field not in row for field in fields):
            missing = [field for field in fields if not isinstance(row, dict) or field not in row]
            raise DataError(
                f"{path}: row {number} lacks the field {missing[0]!r}. This is not the nuScenes "
                "table of that name: unpack it again."
            )
        yield row


def read_table(path: Path) -> Iterator[Any]:
    """Yields the rows of a table, holding only some of them in memory.

    Raises:
        DataError: The file is missing, or is not a JSON list.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _decode(path, file)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such table. Unpack the tables of this version there."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read this table: {error}.") from error


def _decode(path: Path, file: Any) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    buffer = file.read(_CHUNK).lstrip()
    if not buffer.startswith("["):
        raise DataError(f"{path}: damaged table: expected a JSON list. Unpack it again.")
    position = 1
    while True:
        position = _skip(buffer, position)
        if position < len(buffer) and buffer[position] == "]":
            return
        try:
            row, position = decoder.raw_decode(buffer, position)
            yield row
        except json.JSONDecodeError:
            chunk = file.read(_CHUNK)
            buffer = buffer[position:] + chunk
            position = 0
            if not chunk or len(buffer) > _LONGEST_ROW:
                raise DataError(
                    f"{path}: damaged or truncated table: no whole JSON row at {buffer[:40]!r}. "
                    "Unpack it again."
                ) from None


def _skip(buffer: str, position: int) -> int:
    while position < len(buffer) and buffer[position] in " \t\r\n,":
        position += 1
    return position
