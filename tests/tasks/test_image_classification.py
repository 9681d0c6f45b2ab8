from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from reference.image_roots import write_cifar100, write_image_folder

from kdsweep.errors import DataError, TapError
from kdsweep.tasks.image_classification import (
    ImageClassification,
    ImageClassificationData,
    ImageClassificationLoss,
)
from kdsweep.types import ImageBatch


def _task(loss=None, **data):
    data = ImageClassificationData(**{"format": "digits", **data})
    return ImageClassification(data, loss or ImageClassificationLoss(), home=Path("unused"))


def _batch(labels):
    ids = tuple(map(str, range(len(labels))))
    return ImageBatch(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels), ids)


def test_cifar_keeps_its_own_splits_and_is_padded_and_mirrored(tmp_path):
    task = _task(format="cifar100", root=write_cifar100(tmp_path))
    task.prepare()
    train, val = task.train_set(seed=0, epoch=0, views=0), task.val_set()
    assert [train[row].label for row in range(3)] == [0, 99, 7]
    batch = task.collate([val[0], val[1]])
    assert batch.images.shape == (2, 3, 32, 32) and batch.labels.tolist() == [7, 1]
    assert (task.layout().padding, task.layout().flip) == (4, True)
    assert task.model_input().num_classes == 100 and task.model_input().image_channels == 3
    red = (0 / 255 - 0.5071) / 0.2673  # image 0 of the test split
    assert batch.images[0, 0, 0, 0].item() == pytest.approx(red)


def test_the_last_images_of_each_class_are_for_validation(tmp_path):
    root = write_image_folder(tmp_path, {"ant": 5, "bee": 10, "cow": 2})
    splits = _task(format="image_folder", root=root).splits
    assert Counter(splits.train.labels) == {0: 4, 1: 8, 2: 1}
    assert Counter(splits.val.labels) == {0: 1, 1: 2, 2: 1}
    assert not set(splits.train.names) & set(splits.val.names)
    assert _task(format="image_folder", root=root).model_input().num_classes == 3


def test_a_folder_that_is_split_keeps_its_splits(tmp_path):
    write_image_folder(tmp_path / "train", {"ant": 3, "bee": 1})
    write_image_folder(tmp_path / "val", {"ant": 1, "bee": 2})
    splits = _task(format="image_folder", root=tmp_path, val_share=0.9).splits
    assert splits.train.labels == (0, 0, 0, 1) and splits.val.labels == (0, 1, 1)


def test_a_class_of_one_image_cannot_be_divided(tmp_path):
    root = write_image_folder(tmp_path, {"ant": 5, "bee": 1})
    with pytest.raises(DataError, match=r"bee/more/0.png is the only image of its class"):
        _task(format="image_folder", root=root).prepare()


def test_the_last_digits_are_for_validation():
    splits = _task(val_share=0.25).splits
    assert len(splits.train) + len(splits.val) == 1797
    assert set(splits.val.labels) == set(range(10))
    assert min(splits.val.names) > sorted(splits.train.names)[1200]


def test_limits_take_images_evenly_spaced():
    whole, thinned = _task().splits, _task(train_images=100, val_images=7).splits
    assert len(thinned.train) == 100 and len(thinned.val) == 7
    assert set(thinned.train.names) < set(whole.train.names)
    assert thinned.train.names[50] == whole.train.names[len(whole.train) // 2]
    assert len(_task(val_images=10**6).splits.val) == len(whole.val)


def test_samples_are_shuffled_by_the_engine():
    assert _task().global_batches(seed=0, epoch=0, batch_size=8) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_term_is_the_cross_entropy_of_the_logits(smoothing):
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    batch = _batch([0, 1, 2, 3, 4, 9])
    terms = _task(ImageClassificationLoss(label_smoothing=smoothing)).terms(
        {"logits": logits}, batch
    )
    log_p = logits.log_softmax(dim=1)
    wanted = (1 - smoothing) * F.one_hot(batch.labels, 10) + smoothing / 10
    torch.testing.assert_close(terms["cross_entropy"], -(wanted * log_p).sum(dim=1).mean())
    terms["cross_entropy"].backward()
    assert logits.grad.abs().sum() > 0


def test_a_weight_of_0_leaves_no_term_and_needs_no_tap():
    assert _task(ImageClassificationLoss(cross_entropy=0.0)).terms({}, _batch([0])) == {}


def test_a_missing_tap_is_named():
    with pytest.raises(TapError, match=r"'image_classification' needs tap 'logits' .*embedding"):
        _task().terms({"embedding": torch.zeros(1, 4)}, _batch([0]))


def test_accuracy_by_hand_over_batches_and_workers():
    # the class with the largest logit is 0, then 1, 2, ...
    logits = -torch.arange(10.0).repeat(4, 1)
    task = _task()
    workers = []
    for labels in ([0, 4, 5, 9], [0, 0, 1, 2]):
        evaluator = task.evaluator()
        evaluator.update({"logits": logits[:2]}, _batch(labels[:2]))
        evaluator.update({"logits": logits[2:]}, _batch(labels[2:]))
        workers.append(evaluator)
    assert workers[0].compute() == {"top1": 0.25, "top5": 0.5}
    merged = task.evaluator()
    merged.merge([worker.state() for worker in workers])
    assert merged.compute() == {"top1": 3 / 8, "top5": 6 / 8}
    assert list(merged.compute()) == list(ImageClassification.metrics)


def test_without_images_there_is_no_accuracy():
    with pytest.raises(DataError, match="no validation image"):
        _task().evaluator().compute()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "cifar100"}, "format cifar100 needs root"),
        ({"root": "x"}, "format digits needs no root"),
        ({"resize": 4}, "crop 8 is larger than resize 4"),
        ({"val_share": 0.0}, "greater than 0"),
        ({"train_images": -1}, "greater than or equal to 0"),
    ],
)
def test_contradictions_are_refused_before_any_file_is_touched(fields, message):
    with pytest.raises(ValidationError, match=message):
        ImageClassificationData(**{"format": "digits", **fields})
