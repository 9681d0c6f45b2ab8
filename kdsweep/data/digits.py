"""Scanned digits that come with scikit-learn: a real data set that needs no download.

Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI 1998, its test part of
1,797 images of 8 x 8 pixels, by 13 writers, as in `sklearn.datasets.load_digits`.
"""

import numpy as np

from kdsweep.data.images import ImageArray

NUM_CLASSES = 10
SIDE = 8


def read_digits() -> ImageArray:
    """All digits in their order, which is by writer; 16 grey levels, spread over 0..255."""
    from sklearn.datasets import load_digits  # half a second: only for those who need it

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    names = [f"digits/{number:04d}" for number in range(len(pixels))]
    return ImageArray(pixels[..., None], bunch.target.tolist(), names)
