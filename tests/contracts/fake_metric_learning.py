"""Random batches and taps of images, for contract tests of methods and models.

Serves the tasks metric_learning and image_classification: images have labels, and their networks
give embeddings and, because MODEL_INPUT has classes, logits.
"""

from collections.abc import Mapping
from zlib import crc32

import torch

from kdsweep.types import ImageBatch, ModelInput, TapInfo, Taps

_CLASSES, _IMAGE_CHANNELS, _SIDE, _MAP_SIDE = 5, 3, 64, 3
_MAP = ("batch", "channels", "height", "width")

MODEL_INPUT = ModelInput(num_classes=_CLASSES, image_channels=_IMAGE_CHANNELS)
"""What models are built for, so that they can run on `make_batch`."""


def _infos(channels: int) -> dict[str, TapInfo]:
    return {
        **{f"layer{n}": TapInfo(_MAP, channels * n) for n in range(1, 5)},
        "pooled": TapInfo(("batch", "channels"), channels * 4),
        "embedding": TapInfo(("batch", "channels"), channels),
        "logits": TapInfo(("batch", "classes"), _CLASSES),
    }


STUDENT: Mapping[str, TapInfo] = _infos(3)
"""Taps that students of this task give; narrower than the teacher's."""

TEACHER: Mapping[str, TapInfo] = _infos(7)


def make_batch(
    *, samples: int = 5, labelled: bool = True, empty: bool = False, seed: int = 0
) -> ImageBatch:
    """A batch of random images; `empty` leaves the last one out: no image is without pixels.

    Five by default: two embeddings alone have no relations to learn.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(samples, _IMAGE_CHANNELS, _SIDE, _SIDE, generator=generator)
    labels = torch.randint(0, _CLASSES, (samples,), generator=generator)
    kept = samples - 1 if empty else samples
    return ImageBatch(
        images=images[:kept],
        labels=(labels if labelled else torch.zeros_like(labels))[:kept],
        sample_ids=tuple(f"image{n}/0" for n in range(kept)),
    )


def make_taps(infos: Mapping[str, TapInfo], batch: ImageBatch, *, seed: int) -> Taps:
    """Random float32 taps, leaves that ask for a gradient; each depends on its name and `seed`."""
    taps = {}
    for name, info in infos.items():
        generator = torch.Generator().manual_seed(seed + crc32(name.encode()))
        sides = (_MAP_SIDE,) * (len(info.axes) - 2)
        shape = (sum(batch.row_counts(info.axes[0])), info.channels, *sides)
        taps[name] = torch.randn(shape, generator=generator).requires_grad_()
    return taps
