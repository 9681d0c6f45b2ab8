"""What a trial hands on to Tune."""

import asyncio

import pytest
import ray

from kdsweep.sweep.jobs import Group, Job, Outcome
from kdsweep.sweep.pool import JobPool
from kdsweep.sweep.trial import TrialDriver


class Here:
    """A pool in this process that is asked as if it were a Ray actor."""

    def __init__(self, pool: JobPool) -> None:
        self.submit, self.follow = (_Method(call) for call in (pool.submit, pool.follow))


class _Method:
    def __init__(self, call):
        self._call = call

    def remote(self, *arguments):
        return asyncio.run(self._call(*arguments))


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    pool = JobPool(clock=lambda: 0.0, rung_wait_s=0.0)  # the worker waits for nobody
    made = TrialDriver.__new__(TrialDriver)
    job = Job("t001", {}, "home", "run", rungs=(1, 3))
    made.setup({"trial": "t001", "kind": "search", "job": job, "pool": Here(pool)})
    asyncio.run(pool.submit(job))
    taken, _ = asyncio.run(pool.take(Group("slot-0", "g"), 1.0))
    return pool, taken, made


def run_ahead(pool, job, *epochs):
    for epoch in epochs:
        metrics = {"miou": epoch / 10}
        asyncio.run(pool.report("t001", job.attempt, "train", epoch, 4, metrics))


def test_a_scheduler_sees_every_rung_of_a_worker_that_ran_ahead(driver):
    pool, job, trial = driver
    run_ahead(pool, job, 1, 2, 3, 4)
    asyncio.run(pool.finish("t001", job.attempt, Outcome("finished", epoch=4)))
    results = [trial.step() for _ in range(3)]
    assert [(result["epoch"], result["miou"]) for result in results] == [
        (1, 0.1),
        (3, 0.3),
        (4, 0.4),
    ]
    assert [result.get("done", False) for result in results] == [False, False, True]
    *updates, outcome = [news for result in results for news in result["news"]]
    assert outcome.state == "finished"
    assert [update.epoch for update in updates if update.stage == "train"] == [1, 2, 3, 4]


def test_the_last_words_of_a_pool_that_has_closed_come_at_once(driver):
    pool, job, trial = driver
    run_ahead(pool, job, 1, 2)
    asyncio.run(pool.close())
    result = trial.step()
    assert result["epoch"] == 2 and result["done"]
    assert result["news"][-1].state == "lost"
