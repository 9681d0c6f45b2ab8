"""Reader of nuScenes-lidarseg in its native layout: the key frames of LIDAR_TOP.

``samples/LIDAR_TOP/*.pcd.bin``, ``lidarseg/<version>/<token>_lidarseg.bin`` and the tables in
``<version>/``. Source: Fong et al., "Panoptic nuScenes", RA-L 2022; nuscenes-devkit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from jaxtyping import Integer

from kdsweep.data.labels import NUSCENES, LabelSet
from kdsweep.data.nuscenes_splits import SCENES, Version
from kdsweep.data.nuscenes_tables import KeyFrame, key_frames
from kdsweep.data.scans import Scan, ScanReader
from kdsweep.errors import DataError, did_you_mean


class NuScenes(ScanReader):
    """LIDAR_TOP key frames of a nuScenes root. Intensity is raw, 0..255."""

    label_set: ClassVar[LabelSet] = NUSCENES
    columns: ClassVar[int] = 5
    label_type: ClassVar[str] = "u1"

    def __init__(
        self,
        root: Path,
        *,
        version: Version = "v1.0-trainval",
        scenes: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Reads the tables.

        Args:
            root: Folder that holds the version's folder, ``samples`` and ``lidarseg``.
            version: ``v1.0-mini``, ``v1.0-trainval`` or ``v1.0-test``.
            scenes: Scenes of a split, in place of the official ones.

        Raises:
            DataError: The root, the version or a table is missing or damaged.
        """
        self.root = root
        self._version: Version = version
        self._chosen = {split: tuple(names) for split, names in scenes.items() if names}
        self._frames = key_frames(root, version)

    def scenes(self, split: str) -> tuple[str, ...]:
        """Scenes of a split that the tables hold.

        Raises:
            DataError: The version has no such split, or none of its scenes is here, or one that was
                chosen by name is not.
        """
        present = sorted({frame.scene for frame in self._frames})
        wanted, missing = self._wanted(split), self.missing(split)
        if not wanted:
            raise DataError(
                f"{self.root}: {self._version} has no {split} split. It has: "
                f"{', '.join(SCENES[self._version])}; set data.version to another one, or name "
                f"scenes in data.{split}_sequences."
            )
        if missing and split in self._chosen:
            raise DataError(
                f"{self.root}: data.{split}_sequences names {missing[0]!r}, which {self._version} "
                f"does not have. {did_you_mean(missing[0], present)}"
            )
        if len(missing) == len(wanted):
            raise DataError(
                f"{self.root}: no scene of the {split} split of {self._version} is in its tables. "
                f"They have: {', '.join(present[:5])}{', ...' if len(present) > 5 else ''}. Unpack "
                f"the whole version, or name the scenes to use in data.{split}_sequences."
            )
        return tuple(name for name in wanted if name in present)

    def missing(self, split: str) -> tuple[str, ...]:
        present = {frame.scene for frame in self._frames}
        return tuple(name for name in self._wanted(split) if name not in present)

    def scans(self, split: str) -> tuple[Scan, ...]:
        scenes = set(self.scenes(split))
        return tuple(
            self._scan(frame, labelled=split in ("train", "val"))
            for frame in self._frames
            if frame.scene in scenes
        )

    def all_scans(self) -> tuple[Scan, ...]:
        labelled = self._version != "v1.0-test"
        return tuple(self._scan(frame, labelled=labelled) for frame in self._frames)

    def _wanted(self, split: str) -> tuple[str, ...]:
        return self._chosen.get(split, SCENES[self._version].get(split, ()))

    def _scan(self, frame: KeyFrame, *, labelled: bool) -> Scan:
        name = frame.labels or f"lidarseg/{self._version}/{frame.token}_lidarseg.bin"
        labels = self.root / name if labelled else None
        return Scan(frame.token, self.root / frame.filename, labels)


def write_predictions(
    out: Path, scan: Scan, ids: Integer[np.ndarray, " points"], *, split: str
) -> Path:
    """Writes predicted training ids in the layout of the lidarseg challenge.

    Args:
        out: Folder of the submission.
        scan: The scan that was predicted.
        ids: Training id of each of its points, 1..16.
        split: Split that is submitted, ``val`` or ``test``.

    Returns:
        ``out/lidarseg/<split>/<token>_lidarseg.bin``.

    Raises:
        ValueError: A point is predicted as 0, which the challenge refuses.
    """
    if len(ids) and ids.min() < 1:
        raise ValueError(f"{scan.name}: predictions of nuScenes-lidarseg must be 1..16, got 0")
    path = out / "lidarseg" / split / f"{scan.name}_lidarseg.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    ids.astype(np.uint8).tofile(path)
    return path
