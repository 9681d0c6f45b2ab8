from types import SimpleNamespace

import pytest

from kdsweep.sweep.jobs import Job
from kdsweep.sweep.relay import Relay, Withdrawn


class Pool:
    """Answers like the pool's actor, without Ray; stops at a given epoch."""

    def __init__(self, stop_at=None):
        self.heard = []
        self.report = SimpleNamespace(remote=self._report)
        self._stop_at = stop_at

    def _report(self, trial, attempt, stage, epoch, epochs, metrics):
        assert (trial, attempt) == ("t001", 3)
        self.heard.append((stage, epoch, metrics.get("miou")))
        return epoch != self._stop_at


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    monkeypatch.setattr("kdsweep.sweep.relay.ray", SimpleNamespace(get=lambda answer: answer))


def relay(tmp_path, pool, first=True):
    job = Job("t001", {}, str(tmp_path), str(tmp_path / "run"), attempt=3)
    return Relay(job, pool, first=first, share=lambda value: value)


def epoch(number, stage="train"):
    return SimpleNamespace(stage=stage, epoch=number, epochs=4, metrics={"miou": number / 10})


def test_what_was_told_before_a_crash_is_told_again(tmp_path):
    before = relay(tmp_path, Pool())
    assert before.replay()
    for number in (1, 2):
        assert before(epoch(number))
    pool = Pool()
    after = relay(tmp_path, pool)
    assert after.replay()
    after(epoch(3))
    assert pool.heard == [("train", 1, 0.1), ("train", 2, 0.2), ("train", 3, 0.3)]


def test_a_run_that_was_to_stop_stops_when_it_is_told_again(tmp_path):
    relay(tmp_path, Pool())(epoch(1))
    relay(tmp_path, Pool())(epoch(2))
    pool = Pool(stop_at=1)
    assert not relay(tmp_path, pool).replay()
    assert pool.heard == [("train", 1, 0.1)]


def test_only_epochs_of_the_run_itself_are_kept(tmp_path):
    first = relay(tmp_path, Pool())
    first(epoch(1, "teacher"))
    first(epoch(4, "profile"))
    pool = Pool()
    relay(tmp_path, pool).replay()
    assert pool.heard == []
    assert first.epoch == 0


def test_other_workers_neither_write_nor_talk(tmp_path):
    pool = Pool()
    other = relay(tmp_path, pool, first=False)
    assert other.replay()
    assert other(epoch(1))
    assert pool.heard == []
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_told_to_stop_after_its_training_is_not_exported(tmp_path):
    told = relay(tmp_path, Pool(stop_at=4))
    assert not told(epoch(4))
    with pytest.raises(Withdrawn):
        told(epoch(4, "profile"))
