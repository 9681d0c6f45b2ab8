"""What every reader of labelled LiDAR scans has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from kdsweep.data.files import map_records, num_records
from kdsweep.data.labels import LabelSet
from kdsweep.errors import DataError

LARGEST = 1e6
"""No LiDAR sees as far (metres) or counts as high (intensity); what exceeds it is damage, and would
overflow in float32 once it is squared."""


@dataclass(frozen=True)
class Scan:
    """One LiDAR scan on disk.

    Attributes:
        name: Identity within the data set: ``08/000000``, or a nuScenes sample_data token.
        points: File of its points.
        labels: File of its labels; None where the split has none.
    """

    name: str
    points: Path
    labels: Path | None


class ScanReader(ABC):
    """Reads the scans of one data root in its native layout.

    Attributes:
        label_set: Classes of the data set.
        columns: float32 values per point in a file; the first four are x, y, z (metres, sensor
            frame) and intensity.
        label_type: NumPy type of a raw label in a file.
        root: The data root.
    """

    label_set: ClassVar[LabelSet]
    columns: ClassVar[int]
    label_type: ClassVar[str]
    root: Path

    @abstractmethod
    def scans(self, split: str) -> tuple[Scan, ...]:
        """Scans of a split (``train``, ``val``, ``test``, or ``unlabelled`` where some are chosen).

        They come in order, at least one; those of the last two splits are read without labels.

        Raises:
            DataError: The root holds no scan of this split.
        """

    @abstractmethod
    def missing(self, split: str) -> tuple[str, ...]:
        """Sequences or scenes that a split should have and the root does not hold."""

    @abstractmethod
    def all_scans(self) -> tuple[Scan, ...]:
        """Every scan under the root, whatever its split."""

    def extra_faults(self) -> Iterator[str]:
        """Faults of files that are neither points nor labels of a scan."""
        yield from ()

    def semantic_ids(self, raw: Integer[np.ndarray, " points"]) -> Integer[np.ndarray, " points"]:
        """The class part of raw labels."""
        return raw

    def points(self, scan: Scan) -> Float32[np.ndarray, "points columns"]:
        """Points of a scan, memory-mapped, as they are on disk.

        Raises:
            DataError: The file is missing, truncated or empty.
        """
        return map_records(scan.points, "<f4", self.columns, kind="scan", unit="point")

    def raw_labels(self, scan: Scan) -> Integer[np.ndarray, " points"]:
        """Labels of a scan, memory-mapped, as they are on disk.

        Raises:
            DataError: The split is unlabelled, or the file is missing, truncated, or has not one
                label per point.
        """
        if scan.labels is None:
            raise DataError(f"{scan.points}: this scan has no labels (its split is unlabelled).")
        self._check_label_count(scan)
        return map_records(scan.labels, self.label_type, 1, kind="label file", unit="label")

    def read(
        self, scan: Scan
    ) -> tuple[Float32[np.ndarray, "points 4"], UInt8[np.ndarray, " points"]]:
        """Points (x, y, z, intensity) and training ids of a scan, checked.

        An unlabelled scan gets training id 0 everywhere.

        Raises:
            DataError: A file is missing or damaged, or holds what cannot be.
        """
        points = self.points(scan)[:, :4]
        _check_values(scan.points, points)
        if scan.labels is None:
            return points, np.zeros(len(points), dtype=np.uint8)
        return points, self._training_ids(scan.labels, self.raw_labels(scan))

    def sizes(self, scan: Scan) -> tuple[int, int]:
        """Points and labels of a scan (0 where it has none), judged by file size: reads nothing.

        Raises:
            DataError: A file is missing or truncated, or there is not one label per point.
        """
        num_points = self._num_points(scan)
        if scan.labels is None:
            return num_points, 0
        self._check_label_count(scan)
        return num_points, num_points

    def faults(self, scan: Scan) -> Iterator[str]:
        """Everything that is wrong with a scan's files, by reading all of them."""
        sound = True
        try:
            self.read(Scan(scan.name, scan.points, None))
        except DataError as error:
            sound = False
            yield str(error)
        if scan.labels is None:
            return
        try:
            raw = map_records(scan.labels, self.label_type, 1, kind="label file", unit="label")
            if sound:
                self._check_label_count(scan)
            self._training_ids(scan.labels, raw)
        except DataError as error:
            yield str(error)

    def _training_ids(
        self, path: Path, raw: Integer[np.ndarray, " points"]
    ) -> UInt8[np.ndarray, " points"]:
        try:
            return self.label_set.to_training(self.semantic_ids(raw))
        except ValueError as error:
            raise DataError(f"{path}: {error}. The file is damaged or foreign.") from None

    def _num_points(self, scan: Scan) -> int:
        return num_records(scan.points, record_bytes=4 * self.columns, kind="scan", unit="point")

    def _check_label_count(self, scan: Scan) -> None:
        assert scan.labels is not None
        label_bytes = np.dtype(self.label_type).itemsize
        num_labels = num_records(
            scan.labels, record_bytes=label_bytes, kind="label file", unit="label"
        )
        num_points = self._num_points(scan)
        if num_labels != num_points:
            raise DataError(
                f"{scan.labels}: {num_labels} labels ({num_labels * label_bytes} bytes) found, "
                f"expected {num_points} ({num_points * label_bytes} bytes), one for each point of "
                f"{scan.points}. One of the two files is damaged or belongs to another scan: copy "
                "both again from their source."
            )


def _check_values(path: Path, points: Float32[np.ndarray, "points 4"]) -> None:
    possible = np.abs(points) <= LARGEST  # NaN is not, either
    if possible.all():
        return
    finite = np.isfinite(points)
    if not finite.all():
        bad = int((~finite.all(axis=1)).sum())
        what = f"{bad} of {len(points)} points hold NaN or infinity"
    else:
        bad = int((~possible.all(axis=1)).sum())
        row, column = np.argwhere(~possible)[0]
        name = ("x", "y", "z", "intensity")[column]
        what = (
            f"{bad} of {len(points)} points cannot be: point {row} has {name} = "
            f"{points[row, column]:.6g}, and no value is beyond {LARGEST:.0e}"
        )
    raise DataError(f"{path}: {what}. The scan is damaged: copy it again from its source.")
