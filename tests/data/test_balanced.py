from collections import Counter

import pytest
import torch

from kdsweep.data.balanced import balanced_batches
from kdsweep.errors import SpecError


def _batches(labels, batch_size, images_per_class, num_batches=50, seed=0):
    return balanced_batches(
        labels,
        batch_size=batch_size,
        images_per_class=images_per_class,
        num_batches=num_batches,
        generator=torch.Generator().manual_seed(seed),
    )


LABELS = [number % 10 for number in range(80)]


def test_a_batch_holds_m_images_of_each_of_n_classes():
    for batch in _batches(LABELS, 20, 5):
        assert len(batch) == len(set(batch)) == 20
        assert sorted(Counter(LABELS[row] for row in batch).values()) == [5] * 4


def test_the_last_class_fills_what_is_left():
    for batch in _batches(LABELS, 128 // 8, 5):
        assert sorted(Counter(LABELS[row] for row in batch).values()) == [1, 5, 5, 5]


def test_a_class_with_fewer_images_gives_all_it_has():
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    for batch in _batches(labels, 6, 5):
        assert Counter(labels[row] for row in batch).most_common()[-1][1] == 2
        assert len(set(batch)) == 6


def test_with_too_few_classes_they_are_visited_again():
    labels = [0] * 10 + [1] * 10
    for batch in _batches(labels, 16, 5):
        counts = Counter(labels[row] for row in batch)
        assert len(set(batch)) == 16 and sorted(counts.values()) == [6, 10]


def test_a_batch_may_hold_every_image():
    (batch,) = _batches(LABELS, 80, 3, num_batches=1)
    assert sorted(batch) == list(range(80))


def test_all_images_and_classes_come_up():
    batches = _batches(LABELS, 10, 2, num_batches=200)
    assert {row for batch in batches for row in batch} == set(range(80))


def test_the_seed_fixes_the_batches():
    assert _batches(LABELS, 20, 5) == _batches(LABELS, 20, 5)
    assert _batches(LABELS, 20, 5) != _batches(LABELS, 20, 5, seed=1)


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(SpecError, match=r"train.batch_size 81 .* 80 training images; valid: up to"):
        _batches(LABELS, 81, 5)
