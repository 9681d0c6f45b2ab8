import pickle

import numpy as np
import torch

from kdsweep.data.image_set import ImageSet, View, collate_images
from kdsweep.data.image_transforms import Augment, Layout
from kdsweep.data.images import ImageArray

LAYOUT = Layout(resize=8, crop=6, mean=(0.0,) * 3, std=(1.0,) * 3)


def _array(count=5, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return ImageArray(pixels, list(range(count)), [f"im{n}" for n in range(count)])


def test_samples_repeat_with_seed_name_and_view_and_else_differ():
    def images(seed=0, number=0):
        view = View(Augment(padding=2), seed, number)
        return ImageSet(_array(), LAYOUT, identity="x", view=view)

    first = images()[0]
    np.testing.assert_array_equal(images()[0].image, first.image)
    differing = [images(number=n)[0].image for n in range(1, 6)] + [images(seed=1)[0].image]
    assert sum(np.array_equal(image, first.image) for image in differing) <= 1
    # only the name counts, not the place in the split
    view = View(Augment(padding=2), 0, 0)
    moved = ImageSet(_array().only([4, 0]), LAYOUT, identity="x", view=view)
    np.testing.assert_array_equal(moved[1].image, first.image)


def test_sample_ids_tell_image_view_and_identity():
    view = View(Augment(), 0, 3)
    assert ImageSet(_array(), LAYOUT, identity="abc", view=view)[1].sample_id == "im1#3@abc"
    assert ImageSet(_array(), LAYOUT, identity="abc")[1].sample_id == "im1@abc"


def test_samples_are_kept_up_to_the_limit():
    size = 3 * 6 * 6 * 4
    kept = ImageSet(_array(), LAYOUT, identity="x", cache_bytes=2 * size + 1)
    assert [kept[n] is kept[n] for n in range(4)] == [True, True, False, False]


def test_a_batch_holds_images_labels_and_ids_in_order():
    images = ImageSet(_array(), LAYOUT, identity="x")
    batch = collate_images([images[2], images[0]])
    assert batch.images.shape == (2, 3, 6, 6) and batch.images.dtype == torch.float32
    assert batch.labels.tolist() == [2, 0] and batch.labels.dtype == torch.int64
    assert batch.sample_ids == ("im2@x", "im0@x") and batch.row_counts("batch") == (1, 1)
    assert torch.equal(batch.images[1], torch.from_numpy(images[0].image))


def test_a_set_crosses_processes():
    images = ImageSet(_array(), LAYOUT, identity="x", view=View(Augment(), 0, 0))
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy[3].image, images[3].image)
