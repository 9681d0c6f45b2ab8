"""The searcher between Tune and the planner, called as Tune calls it."""

import errno
import os

import pytest

from kdsweep.errors import ResourceError, SweepError
from kdsweep.sweep.interrupt import Interrupt
from kdsweep.sweep.jobs import Job, Outcome, Update
from kdsweep.sweep.search import SweepSearcher, make_config

FINISHED = SweepSearcher.FINISHED


class Tune:
    """Asks a searcher for trials and hands it results under ids of its own."""

    def __init__(self, simulation, **settings):
        self.dropped, self.interrupt = [], Interrupt()
        self.searcher = SweepSearcher(
            simulation.planner,
            simulation.ledger,
            configure=lambda plan: make_config(
                plan, Job(plan.trial, plan.spec, "home", f"runs/{plan.trial}"), "pool"
            ),
            dropped=self.dropped.append,
            interrupt=self.interrupt,
            **{"slots": lambda: 2, **settings},
        )
        self.ids = {}

    def ask(self):
        number = len(self.ids)
        config = self.searcher.suggest(f"tune{number}")
        if isinstance(config, dict):
            self.ids[config["trial"]] = f"tune{number}"
            return config["trial"]
        return config

    def news(self, trial, *news):
        self.searcher.on_trial_result(self.ids[trial], {"news": list(news)})

    def end(self, trial, *news, error=False):
        result = {"news": list(news), "done": True} if news else None
        self.searcher.on_trial_complete(self.ids[trial], result=result, error=error)


def finished(miou=0.5, time_s=20.0):
    return Outcome("finished", epoch=4, metrics={"miou": miou}, time_s=time_s)


def epoch(number):
    return Update("train", number, 4, {"miou": number / 10}, "slot-0", "n", 10.0 + number)


STARTED = Update("started", slot="slot-0", node="n", time_s=10.0)


@pytest.fixture
def tune(spec, simulate):
    return Tune(simulate(spec(trials=2), teacher=None))


def entries(tune):
    return tune.searcher._ledger.record.trials


def test_as_many_trials_are_handed_out_as_there_are_slots(tune):
    assert [tune.ask() for _ in range(3)] == ["undistilled", "published", None]
    tune.end("undistilled", STARTED, epoch(1), finished(time_s=10.0 + 3600))
    assert [tune.ask() for _ in range(2)] == ["t001", None]


def test_no_trial_is_made_ready_before_a_slot_is_free(tune):
    tune.ask()
    tune.end("undistilled", STARTED, finished())
    assert [tune.ask() for _ in range(3)] == ["published", "t001", None]


def test_what_a_trial_waits_for_is_shown(spec, simulate):
    shown = []
    tune = Tune(simulate(spec(trials=2), teacher=None), note=shown.append)
    tune.ask()
    tune.news("undistilled", STARTED, Update("waits", words="waits for b.t1 to leave runs/a"))
    assert shown == ["undistilled waits for b.t1 to leave runs/a."]


def test_news_is_written_once_even_if_it_is_told_again(tune):
    tune.ask()
    tune.news("undistilled", STARTED, epoch(1))
    tune.news("undistilled", STARTED, epoch(1), epoch(2))
    entry = entries(tune)["undistilled"]
    assert entry.leases == [[10.0, pytest.approx(entry.leases[0][1])]]
    assert sorted(entry.history) == [1, 2]


def test_a_rebuilt_slot_opens_a_second_lease(tune):
    tune.ask()
    tune.news("undistilled", STARTED)
    tune.news("undistilled", Update("started", slot="slot-0", node="m", time_s=50.0))
    tune.end("undistilled", epoch(1), finished(time_s=70.0))
    entry = entries(tune)["undistilled"]
    assert entry.leases[1] == [50.0, 70.0]
    assert (entry.node, entry.run_dir) == ("m", "runs/undistilled")


def test_a_trial_that_tune_ends_without_outcome_was_stopped_early(tune):
    tune.ask()
    tune.news("undistilled", STARTED, epoch(1))
    tune.end("undistilled", epoch(2))
    entry = entries(tune)["undistilled"]
    assert (entry.state, entry.epoch) == ("stopped", 2)
    assert entry.reason == "stopped early after 2 of 4 epochs"
    assert tune.dropped == ["undistilled"]


def test_a_trial_whose_driver_broke_failed(tune):
    tune.ask()
    tune.end("undistilled", error=True)
    assert entries(tune)["undistilled"].state == "failed"


def test_an_interrupted_sweep_hands_out_nothing_and_keeps_trials_open(tune):
    tune.ask()
    tune.news("undistilled", STARTED, epoch(1))
    tune.interrupt.raise_("stopped by SIGTERM")
    assert tune.ask() is None
    tune.end("undistilled", Outcome("lost", "the sweep ends"))
    assert entries(tune)["undistilled"].state == "interrupted"
    assert tune.ask() == FINISHED


def test_a_trial_that_finishes_while_the_sweep_is_interrupted_counts(tune):
    tune.ask()
    tune.news("undistilled", STARTED)
    tune.interrupt.raise_("stopped by SIGTERM")
    tune.end("undistilled", finished())
    assert entries(tune)["undistilled"].state == "finished"


def test_a_lost_pool_interrupts_the_sweep_instead_of_losing_trial_after_trial(tune):
    tune.ask()
    tune.news("undistilled", STARTED)
    tune.end("undistilled", Outcome("lost", "the pool of jobs is gone"))
    assert tune.interrupt.reason == "the pool of jobs is gone"
    assert tune.ask() == FINISHED


def test_slots_that_are_gone_for_good_interrupt_the_sweep_with_the_error(spec, simulate):
    def broken():
        raise ResourceError("no slot is left to train in")

    tune = Tune(simulate(spec(), teacher=None), health=broken)
    assert tune.ask() == FINISHED
    assert isinstance(tune.searcher.error, ResourceError)


def test_a_full_disk_interrupts_the_sweep_with_the_error(tune, monkeypatch):
    def full(*_, **__):
        raise SweepError("cannot write journal.jsonl: No space left on device")

    tune.ask()
    monkeypatch.setattr(tune.searcher._ledger, "write", full)
    tune.news("undistilled", STARTED)
    assert "No space left" in str(tune.searcher.error)
    assert tune.interrupt.raised


def test_an_error_of_the_disk_interrupts_the_sweep_instead_of_passing_through_tune(spec, simulate):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/teachers/profiles")

    tune = Tune(simulate(spec(), teacher=None), health=full)
    assert tune.ask() == FINISHED
    assert isinstance(tune.searcher.error, SweepError)
    assert "No space left on device: '/home/teachers/profiles'" in tune.interrupt.reason


def test_tune_s_own_files_hold_nothing_of_the_search(tune):
    assert tune.searcher.__getstate__() == {}
