"""Reader of SemanticKITTI in its native layout.

``sequences/SS/{velodyne/NNNNNN.bin, labels/NNNNNN.label, calib.txt, poses.txt}``. Source: Behley et
al., "SemanticKITTI", ICCV 2019; PRBonn/semantic-kitti-api (layout, splits, label maps).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Integer, UInt16, UInt32

from kdsweep.data.labels import SEMANTICKITTI, LabelSet
from kdsweep.data.scans import Scan, ScanReader
from kdsweep.errors import DataError, did_you_mean
from kdsweep.geometry.poses import homogeneous, lidar_poses

SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
        "val": ("08",),
        "test": tuple(f"{number:02d}" for number in range(11, 22)),
    }
)
"""Sequences of the official splits; the test split has no public labels."""


class SemanticKitti(ScanReader):
    """Scans of a SemanticKITTI root. Intensity is the remission, 0..1."""

    label_set: ClassVar[LabelSet] = SEMANTICKITTI
    columns: ClassVar[int] = 4
    label_type: ClassVar[str] = "<u4"

    def __init__(
        self, root: Path, *, sequences: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> None:
        """Finds the sequences.

        Args:
            root: Folder that holds ``sequences``.
            sequences: Sequences of a split, in place of the official ones.

        Raises:
            DataError: The root does not exist or has no ``sequences`` folder.
        """
        self.root = root
        self._chosen = {split: tuple(names) for split, names in sequences.items() if names}
        folder = root / "sequences"
        if not folder.is_dir():
            found = "does not exist" if not root.is_dir() else "has no folder 'sequences'"
            raise DataError(
                f"{root}: this SemanticKITTI root {found}. Expected "
                f"{folder}/00/velodyne/000000.bin and so on; set data.root to the folder that "
                "holds 'sequences'."
            )
        self._present = sorted(
            entry.name for entry in os.scandir(folder) if (Path(entry.path) / "velodyne").is_dir()
        )

    def sequences(self, split: str) -> tuple[str, ...]:
        """Sequences of a split that the root holds.

        Raises:
            DataError: None is there, or one that was chosen by name is not.
        """
        wanted, missing = self._chosen.get(split, SPLITS.get(split, ())), self.missing(split)
        if missing and split in self._chosen:
            raise DataError(
                f"{self.root}: data.{split}_sequences names {missing[0]!r}, which is not here. "
                f"{did_you_mean(missing[0], self._present)}"
            )
        if len(missing) == len(wanted):
            raise DataError(
                f"{self.root}: no sequence of the {split} split is here. Expected some of "
                f"{', '.join(wanted)} in {self.root / 'sequences'}; found: "
                f"{', '.join(self._present) or 'none'}. Add them, or name those to use in "
                f"data.{split}_sequences."
            )
        return tuple(name for name in wanted if name in self._present)

    def missing(self, split: str) -> tuple[str, ...]:
        wanted = self._chosen.get(split, SPLITS.get(split, ()))
        return tuple(name for name in wanted if name not in self._present)

    def scans(self, split: str) -> tuple[Scan, ...]:
        found = tuple(
            scan
            for sequence in self.sequences(split)
            for scan in self._scans(sequence, labelled=split in ("train", "val"))
        )
        if not found:
            raise DataError(
                f"{self.root}: the sequences of the {split} split hold no .bin file in 'velodyne'. "
                "Unpack the scans there."
            )
        return found

    def all_scans(self) -> tuple[Scan, ...]:
        return tuple(
            scan
            for sequence in self._present
            for scan in self._scans(
                sequence,
                labelled=sequence not in SPLITS["test"]
                or (self._folder(sequence) / "labels").is_dir(),
            )
        )

    def extra_faults(self) -> Iterator[str]:
        for sequence in self._present:
            folder = self._folder(sequence)
            scans = {path.stem for path in (folder / "velodyne").glob("*.bin")}
            for label in sorted((folder / "labels").glob("*.label")):
                if label.stem not in scans:
                    scan = folder / "velodyne" / f"{label.stem}.bin"
                    yield f"{label}: its scan {scan} does not exist. Copy it to this place."
            try:
                if (folder / "calib.txt").exists():
                    self.calib(sequence)
                if (folder / "poses.txt").exists():
                    self.poses(sequence)
            except DataError as error:
                yield str(error)

    def semantic_ids(self, raw: Integer[np.ndarray, " points"]) -> UInt16[np.ndarray, " points"]:
        return (raw & 0xFFFF).astype(np.uint16)

    def instance_ids(self, scan: Scan) -> UInt16[np.ndarray, " points"]:
        """Instance of each point, unique within its class and sequence; 0 = none.

        Raises:
            DataError: As `raw_labels`.
        """
        return (self.raw_labels(scan) >> 16).astype(np.uint16)

    def calib(self, sequence: str) -> dict[str, Float64[np.ndarray, "4 4"]]:
        """Matrices of calib.txt by name; ``Tr`` moves points from the LiDAR to the camera frame.

        Raises:
            DataError: The file is missing, or a line is not ``KEY: 12 numbers``.
        """
        path = self._folder(sequence) / "calib.txt"
        matrices = {}
        for number, line in _lines(path):
            key, colon, values = line.partition(":")
            if not colon:
                raise DataError(f"{path}, line {number}: expected 'KEY: 12 numbers', got {line!r}.")
            matrices[key.strip()] = homogeneous(_numbers(path, number, values))
        return matrices

    def poses(self, sequence: str) -> Float64[np.ndarray, "scans 4 4"]:
        """LiDAR pose of each scan, into the LiDAR frame of the sequence's first scan.

        Raises:
            DataError: poses.txt or calib.txt is missing or damaged, or there is no ``Tr``, or the
                number of poses is not that of the scans, or there is none.
        """
        path = self._folder(sequence) / "poses.txt"
        rows = [_numbers(path, number, line) for number, line in _lines(path)]
        velodyne = self._folder(sequence) / "velodyne"
        num_scans = len(list(velodyne.glob("*.bin")))
        if len(rows) != num_scans:
            raise DataError(
                f"{path}: {len(rows)} poses found, expected {num_scans}, one per scan. Copy "
                "it again from its source."
            )
        if not rows:
            raise DataError(
                f"{path}: no pose, and {velodyne} holds no .bin file. Unpack the sequence again, "
                "or remove its folder."
            )
        calib = self.calib(sequence)
        if "Tr" not in calib:
            raise DataError(
                f"{self._folder(sequence) / 'calib.txt'}: no matrix 'Tr' (LiDAR to camera). "
                f"{did_you_mean('Tr', calib)}"
            )
        return lidar_poses(homogeneous(np.stack(rows)), calib["Tr"])

    def _folder(self, sequence: str) -> Path:
        return self.root / "sequences" / sequence

    def _scans(self, sequence: str, *, labelled: bool) -> Iterator[Scan]:
        folder = self._folder(sequence)
        for points in sorted((folder / "velodyne").glob("*.bin")):
            label = folder / "labels" / f"{points.stem}.label" if labelled else None
            yield Scan(f"{sequence}/{points.stem}", points, label)


def write_predictions(out: Path, scan: Scan, ids: Integer[np.ndarray, " points"]) -> Path:
    """Writes predicted training ids in the layout of the benchmark, as raw ids.

    Args:
        out: Folder of the submission.
        scan: The scan that was predicted.
        ids: Training id of each of its points.

    Returns:
        ``out/sequences/SS/predictions/NNNNNN.label``.
    """
    sequence, frame = scan.name.split("/")
    path = out / "sequences" / sequence / "predictions" / f"{frame}.label"
    path.parent.mkdir(parents=True, exist_ok=True)
    raw: UInt32[np.ndarray, " points"] = SEMANTICKITTI.to_raw(ids)
    raw.astype("<u4").tofile(path)
    return path


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Copy it to this place.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read this file: {error}.") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _numbers(path: Path, number: int, text: str) -> Float64[np.ndarray, "12"]:
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != 12:
        raise DataError(
            f"{path}, line {number}: expected 12 numbers (a 3x4 matrix), got {text.strip()!r}."
        )
    return values
