from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.native_roots import write_kitti

from kdsweep.data.mixing import mixed_batches
from kdsweep.engine.data import epoch_order
from kdsweep.errors import DataError, SpecError
from kdsweep.tasks.lidar_seg import LidarSeg, LidarSegData, LidarSegLoss


@pytest.fixture
def task(tmp_path):
    def make(**data):
        root = write_kitti(tmp_path / "kitti", {"00": 5, "01": 3, "08": 2})
        config = LidarSegData(root=root, grid=(24, 18, 8), **data)
        return LidarSeg(config, LidarSegLoss(), home=Path("unused"))

    return make


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 9), st.integers(0, 9))
def test_an_epoch_visits_each_labelled_sample_once_beside_unlabelled_ones(
    labelled, unlabelled, batch_size, seed
):
    batches = mixed_batches(
        labelled, unlabelled, batch_size=batch_size, generator=np.random.default_rng(seed)
    )
    seen = [sample for batch in batches for sample in batch if sample < labelled]
    assert sorted(seen) == list(range(labelled))
    for batch in batches:
        kinds = [sample < labelled for sample in batch]
        assert kinds == sorted(kinds, reverse=True)
        assert kinds.count(False) == batch_size // 2
        assert max(batch) < labelled + unlabelled
    visits = np.bincount([s - labelled for batch in batches for s in batch if s >= labelled])
    assert visits.max() - (visits.min() if len(visits) == unlabelled else 0) <= 1


def test_unlabelled_scans_come_without_the_labels_that_lie_beside_them(task):
    chosen = task(train_sequences=("00",), unlabelled_sequences=("01",))
    samples = chosen.train_set(seed=0, epoch=0, views=1)
    assert len(samples) == 8
    assert [bool(samples[i].point_labels.any()) for i in range(8)] == [True] * 5 + [False] * 3
    batches = chosen.global_batches(seed=0, epoch=0, batch_size=2)
    assert [(first < 5, second >= 5) for first, second in batches] == [(True, True)] * 5
    assert batches != chosen.global_batches(seed=0, epoch=1, batch_size=2)
    assert batches == chosen.global_batches(seed=0, epoch=0, batch_size=2)


@given(st.integers(1, 4), st.integers(2, 5), st.integers(4, 40), st.integers(1, 40))
def test_workers_with_two_samples_or_more_of_a_batch_get_both_kinds(world, share, labelled, more):
    data = LidarSegData(root=Path("unused"), unlabelled_sequences=("01",))
    assert LidarSeg.share_fault(data, share=share) == ""
    chosen = mixed_batches(
        labelled, more, batch_size=share * world, generator=np.random.default_rng(0)
    )
    for rank in range(world):
        order = epoch_order(
            labelled + more, share * world, seed=0, epoch=0, rank=rank, world=world, chosen=chosen
        )
        for batch in order[: labelled // (share * world)]:  # the last one may be smaller
            assert {sample < labelled for sample in batch} == {True, False}


def test_a_worker_with_one_sample_of_a_batch_is_refused(task):
    data = task(train_sequences=("00",), unlabelled_sequences=("01",)).data
    assert "needs a labelled and an unlabelled scan" in LidarSeg.share_fault(data, share=1)
    assert LidarSeg.share_fault(task().data, share=1) == ""


def test_without_unlabelled_scans_the_batches_are_the_engines(task):
    assert task().global_batches(seed=0, epoch=0, batch_size=2) is None


def test_a_scan_cannot_be_labelled_and_unlabelled(task):
    with pytest.raises(DataError, match="train split both hold 3 scans, 01/000000 first"):
        task(unlabelled_sequences=("01",)).prepare()
    with pytest.raises(DataError, match="'02', which is not here"):
        task(train_sequences=("00",), unlabelled_sequences=("02",)).prepare()


def test_a_batch_of_one_has_no_room_for_both_kinds(task):
    chosen = task(train_sequences=("00",), unlabelled_sequences=("01",))
    with pytest.raises(SpecError, match=r"run\.train\.batch_size is 1"):
        chosen.global_batches(seed=0, epoch=0, batch_size=1)


def test_a_teacher_is_trained_on_labelled_scans_only(task):
    data = task(train_sequences=("00",), unlabelled_sequences=("01",)).data
    assert LidarSeg.teacher_data(data).unlabelled_sequences == ()
    assert LidarSeg.teacher_data(data).train_sequences == ("00",)
