import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from reference.image_roots import (
    write_cars196,
    write_cub200,
    write_image_folder,
    write_online_products,
)

from kdsweep.config import weights
from kdsweep.data.digits import read_digits
from kdsweep.data.image_transforms import Augment
from kdsweep.errors import DataError, NonFiniteLossError, SpecError, TapError
from kdsweep.losses.triplet import triplet_loss
from kdsweep.tasks._images import DIGITS
from kdsweep.tasks.metric_learning import (
    MetricLearning,
    MetricLearningData,
    MetricLearningLoss,
)
from kdsweep.types import ImageBatch

ROOTS = {
    "cub200": write_cub200,
    "cars196": write_cars196,
    "online_products": write_online_products,
    "image_folder": write_image_folder,
}


def _task(loss=None, **data):
    data = MetricLearningData(**{"format": "digits", **data})
    return MetricLearning(data, loss or MetricLearningLoss(), home=Path("unused"))


def _batch(count=12, classes=3):
    labels = torch.arange(count) % classes
    ids = tuple(f"{number:03d}" for number in range(count))
    return ImageBatch(torch.zeros(count, 1, 8, 8), labels, ids)


def _taps(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"embedding": torch.randn(count, 4, generator=generator)}


@pytest.mark.parametrize("data_format", ROOTS)
def test_every_layout_gives_samples_of_both_splits(tmp_path, data_format):
    root = ROOTS[data_format](tmp_path)
    task = _task(format=data_format, root=root, resize=10, crop=8)
    task.prepare()
    train, val = task.train_set(seed=0, epoch=0, views=0), task.val_set()
    batch = task.collate([train[0], val[0], val[1]])
    assert batch.images.shape == (3, 3, 8, 8) and task.model_input().image_channels == 3
    learned = {train[row].label for row in range(len(train))}
    retrieved = {val[row].label for row in range(len(val))}
    assert learned and retrieved and not learned & retrieved


@pytest.mark.parametrize("data_format", ROOTS)
def test_a_missing_image_is_named_before_training(tmp_path, data_format):
    root = ROOTS[data_format](tmp_path)
    task = _task(format=data_format, root=root)
    missing = sorted(path for path in root.rglob("*.*") if path.suffix in (".jpg", ".JPG", ".png"))[
        1
    ]
    if data_format == "image_folder":  # the folder is its own list: the file must vanish after it
        assert task.splits
    missing.unlink()
    with pytest.raises(DataError) as caught:
        task.prepare()
    assert str(missing) in str(caught.value)


def test_photographs_are_256_of_which_the_network_sees_224(tmp_path):
    layout = _task(format="cub200", root=tmp_path).layout()
    assert (layout.resize, layout.crop, layout.padding, layout.flip) == (256, 224, 0, True)


def test_digits_are_divided_by_class_and_normalised():
    task = _task()
    task.prepare()
    train, val = task.train_set(seed=0, epoch=0, views=0), task.val_set()
    assert (len(train), len(val)) == (901, 896)
    assert {val[row].label for row in range(len(val))} == {5, 6, 7, 8, 9}
    assert task.model_input().num_classes == 0 and task.model_input().image_channels == 1
    digits = read_digits()
    pixels = np.stack([digits.read(row) for row in range(len(digits))]) / 255
    assert pixels.mean() == pytest.approx(DIGITS.mean[0], abs=1e-4)
    assert pixels.std() == pytest.approx(DIGITS.std[0], abs=1e-4)


def test_development_never_sees_the_test_classes():
    task = _task(protocol="development")
    assert set(task.splits.train.labels) == {0, 1, 2, 3}
    assert set(task.splits.val.labels) == {4}


def test_views_repeat_with_their_period_and_differ_within_it():
    task = _task(augment=Augment(padding=3))

    def images(epoch, views, seed=0):
        samples = task.train_set(seed=seed, epoch=epoch, views=views)
        return np.stack([samples[row].image for row in range(5)]), samples[0].sample_id

    first, identity = images(0, 2)
    again, same_identity = images(2, 2)
    np.testing.assert_array_equal(first, again)
    assert identity == same_identity
    for other, other_identity in (images(1, 2), images(2, 0), images(0, 2, seed=1)):
        assert not np.array_equal(first, other) and other_identity != identity


def test_sample_ids_tell_other_sizes_and_augmentation_apart():
    def identity(**data):
        return _task(**data).train_set(seed=0, epoch=0, views=1)[0].sample_id

    settings = [{}, {"resize": 9}, {"crop": 7}, {"augment": Augment(padding=2)}]
    assert len({identity(**data) for data in settings}) == 4


def test_batches_are_balanced_seeded_and_as_many_as_asked():
    task = _task(images_per_class=4, batches_per_epoch=6)
    batches = task.global_batches(seed=0, epoch=0, batch_size=16)
    assert [len(batch) for batch in batches] == [16] * 6
    for batch in batches:
        labels = [task.splits.train.labels[row] for row in batch]
        assert sorted(labels.count(label) for label in set(labels)) == [4, 4, 4, 4]
    assert batches == task.global_batches(seed=0, epoch=0, batch_size=16)
    assert batches != task.global_batches(seed=0, epoch=1, batch_size=16)
    assert batches != task.global_batches(seed=1, epoch=0, batch_size=16)


def test_an_epoch_has_the_published_number_of_batches_or_one_pass(tmp_path):
    assert len(_task().global_batches(seed=0, epoch=0, batch_size=64)) == 15  # 901 images
    task = _task(format="cub200", root=write_cub200(tmp_path))
    assert len(task.global_batches(seed=0, epoch=0, batch_size=2)) == 100


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(SpecError, match=r"train.batch_size 902 is larger than the 901"):
        _task().global_batches(seed=0, epoch=0, batch_size=902)


@pytest.mark.parametrize("mining", ["distance_weighted", "hard", "semi_hard"])
def test_the_term_is_the_triplet_loss_of_the_embeddings(mining):
    loss = MetricLearningLoss(margin=0.5, mining=mining)
    taps, batch = _taps(), _batch()
    torch.manual_seed(0)
    found = _task(loss).terms(taps, batch)
    torch.manual_seed(0)
    expected = triplet_loss(taps["embedding"], batch.labels, margin=0.5, mining=mining)
    assert set(found) == {"triplet"} and torch.equal(found["triplet"], expected)


def test_a_weight_of_0_leaves_no_term_and_needs_no_tap():
    assert _task(MetricLearningLoss(triplet=0.0)).terms({}, _batch()) == {}


def test_a_cross_entropy_asks_for_logits_of_the_training_classes(tmp_path):
    loss = MetricLearningLoss(cross_entropy=0.5)
    assert _task(loss).model_input().num_classes == 5
    assert _task(loss, protocol="development").model_input().num_classes == 4
    products = write_online_products(tmp_path)
    task = _task(loss, format="online_products", root=products)
    assert task.model_input().num_classes == len(set(task.splits.train.labels))


def test_the_columns_of_the_logits_are_the_training_classes_in_order():
    loss = MetricLearningLoss(triplet=0.0, cross_entropy=0.5)
    task, batch = _task(loss), _batch()
    task.splits.train.labels = (7, 3, 3, 9)  # labels need not be the numbers 0, 1, 2
    labels = torch.tensor([3, 7, 9] * 4)
    taps = {"logits": torch.randn(12, 3, generator=torch.Generator().manual_seed(0))}
    found = task.terms(taps, ImageBatch(batch.images, labels, batch.sample_ids))
    rows = taps["logits"].log_softmax(1)
    expected = -rows[torch.arange(12), torch.arange(12) % 3].mean()
    assert set(found) == {"cross_entropy"}
    torch.testing.assert_close(found["cross_entropy"], expected)


def test_each_weight_of_the_loss_is_a_term():
    loss = MetricLearningLoss(triplet=1.0, cross_entropy=1.0)
    taps = _taps() | {"logits": torch.zeros(12, 5)}
    assert set(_task(loss).terms(taps, _batch())) == set(weights(loss))


def test_a_missing_tap_is_named():
    with pytest.raises(TapError, match=r"'metric_learning' needs tap 'embedding'.*embeddings"):
        _task().terms({"embeddings": torch.zeros(12, 4)}, _batch())


def _evaluate(parts, **data):
    task, batch, taps = _task(**data), _batch(), _taps()
    evaluators = []
    for rows in parts:
        evaluator = task.evaluator()
        for part in torch.tensor(rows).split(5):
            ids = tuple(batch.sample_ids[row] for row in part.tolist())
            evaluator.update(
                {"embedding": taps["embedding"][part]},
                ImageBatch(batch.images[part], batch.labels[part], ids),
            )
        evaluators.append(evaluator)
    merged = task.evaluator()
    merged.merge([pickle.loads(pickle.dumps(e.state())) for e in evaluators])
    return merged.compute()


def test_metrics_do_not_depend_on_the_number_of_workers():
    alone = _evaluate([range(12)])
    assert set(alone) == {"recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8"}
    assert set(alone) <= set(MetricLearning.metrics)
    assert _evaluate([range(0, 12, 2), range(1, 12, 2)]) == alone
    assert _evaluate([range(7), range(7, 12)]) == alone


def test_ties_are_broken_alike_on_any_number_of_workers():
    batch, found = _batch(), []
    for order in (range(12), [*range(0, 12, 2), *range(1, 12, 2)]):
        evaluator = _task().evaluator()
        rows = torch.tensor(list(order))
        ids = tuple(batch.sample_ids[row] for row in rows.tolist())
        part = ImageBatch(batch.images[rows], batch.labels[rows], ids)
        evaluator.update({"embedding": torch.ones(12, 4)}, part)
        found.append(evaluator.compute())
    assert found[0] == found[1]


def test_asked_for_metrics_are_given():
    found = _evaluate([range(12)], recall_at=(1, 10), nmi=True)
    assert set(found) == {"recall_at_1", "recall_at_10", "nmi"} and 0 <= found["nmi"] <= 1


def test_products_are_judged_at_their_own_numbers_of_neighbours(tmp_path):
    data = MetricLearningData(format="online_products", root=tmp_path)
    assert data.neighbours() == (1, 10, 100, 1000)
    assert list(MetricLearning.metrics_of(data)) == [
        f"recall_at_{number}" for number in data.neighbours()
    ]
    assert "nmi" in MetricLearning.metrics_of(data.model_copy(update={"nmi": True}))


def test_retrieval_takes_embeddings_as_they_are_unless_asked():
    # along one line, but of different length: nearest by direction is nearest by class
    embedding = torch.tensor([[1.0, 0.0], [9.0, 0.0], [0.0, 1.0], [0.0, 9.0]])
    labels = torch.tensor([0, 0, 1, 1])
    batch = ImageBatch(torch.zeros(4, 1, 8, 8), labels, ("a", "b", "c", "d"))
    found = {}
    for unit_length in (False, True):
        evaluator = _task(unit_length=unit_length).evaluator()
        evaluator.update({"embedding": embedding}, batch)
        found[unit_length] = evaluator.compute()["recall_at_1"]
    assert found == {False: 0.5, True: 1.0}


def test_a_diverged_network_is_no_perfect_one():
    evaluator = _task().evaluator()
    evaluator.update({"embedding": torch.full((12, 4), torch.nan)}, _batch())
    with pytest.raises(NonFiniteLossError, match="12 of 12 embeddings"):
        evaluator.compute()


def test_without_images_there_is_no_recall():
    with pytest.raises(DataError, match="no validation image"):
        _task().evaluator().compute()


def test_the_fingerprint_follows_the_images_and_not_the_place(tmp_path):
    def fingerprint(name, **data):
        root = write_cub200(tmp_path / name)
        return _task(format="cub200", root=root, **data).fingerprint()

    assert fingerprint("here") == fingerprint("there")
    assert fingerprint("here") != fingerprint("here", protocol="development")
    assert _task().fingerprint() == _task().fingerprint()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "cub200"}, "format cub200 needs root"),
        ({"format": "digits", "root": "x"}, "format digits needs no root, got x"),
        ({"crop": 9}, "crop 9 is larger than resize 8"),
        ({"recall_at": (2, 4)}, r"must rise from 1 on, got \[2, 4\]: write \[1, 2, 4\]"),
        ({"recall_at": (4, 1)}, r"write \[1, 4\]"),
        ({"recall_at": (1, 3)}, "Input should be 1, 2, 4, 8"),
        ({"recall_at": ()}, "at least 1 item"),
        ({"train_class_share": 1.0}, "less than 1"),
        ({"images_per_class": 0}, "greater than or equal to 1"),
        ({"augment": {"padding": -1}}, "greater than or equal to 0"),
    ],
)
def test_contradictions_are_refused_before_any_file_is_touched(fields, message):
    with pytest.raises(ValidationError, match=message):
        MetricLearningData(**{"format": "digits", **fields})


@pytest.mark.parametrize(("field", "value"), [("margin", 0), ("mining", "easy"), ("triplet", -1)])
def test_losses_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        MetricLearningLoss(**{field: value})
