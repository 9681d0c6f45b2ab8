"""Zero-shot splits: the classes that are retrieved are none of those that are learned.

Source: Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016,
sec. 6. The held-out classes for development are those of lenscloth/RKD, dataset/cub200.py (the last
20 of 100 training classes).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kdsweep.data.images import LabelledImages, Splits
from kdsweep.errors import DataError

Protocol: TypeAlias = Literal["official", "development"]

_HELD_OUT = 5
"""One in so many training classes is held out for development."""


@dataclass(frozen=True)
class ZeroShot:
    """A data set whose classes are divided.

    Attributes:
        images: All of its images.
        train_classes: The classes to learn from; the others are retrieved.
        source: What to name in messages.
    """

    images: LabelledImages
    train_classes: frozenset[int]
    source: str

    def splits(self, protocol: Protocol) -> Splits:
        """Divides the images by class.

        Args:
            protocol: ``official``: validate on the test classes. ``development``: train without
                the last fifth of the training classes and validate on these.

        Raises:
            DataError: One of the two sides has no image.
        """
        present = sorted(set(self.images.labels))
        train = [label for label in present if label in self.train_classes]
        val = [label for label in present if label not in self.train_classes]
        if protocol == "development":
            kept = len(train) - max(1, len(train) // _HELD_OUT)
            train, val = train[:kept], train[kept:]
        for side, classes in (("training", train), ("validation", val)):
            if not classes:
                raise DataError(
                    f"{self.source}: no image of a {side} class ({protocol} split); "
                    f"{len(present)} classes have images. The data set is incomplete."
                )
        return Splits(
            self.images.only(_rows(self.images, set(train))),
            self.images.only(_rows(self.images, set(val))),
            num_classes=len(present),
        )


def by_share(images: LabelledImages, share: float, *, source: str) -> ZeroShot:
    """Divides a data set without an official split.

    Args:
        images: All images.
        share: Share of the classes, the first ones, to learn from; at least one on each side.
        source: What to name in messages.

    Raises:
        DataError: There are fewer than two classes.
    """
    present = sorted(set(images.labels))
    if len(present) < 2:
        raise DataError(
            f"{source}: {len(present)} classes have images, at least 2 are needed: one to learn "
            "from and one to retrieve"
        )
    number = min(max(1, round(share * len(present))), len(present) - 1)
    return ZeroShot(images, frozenset(present[:number]), source)


def _rows(images: LabelledImages, classes: Collection[int]) -> list[int]:
    return [row for row, label in enumerate(images.labels) if label in classes]
