from types import SimpleNamespace

import pytest

from kdsweep.sweep.ledger import Ledger, Plan
from kdsweep.sweep.schedulers import EarlyStop, RungScheduler, sizes

STOP = EarlyStop("miou", "max", grace_epochs=2, reduction=2, epochs=8)


def trial(name, kind="search", tune_id="x"):
    return SimpleNamespace(trial_id=tune_id, config={"trial": name, "kind": kind})


def show(scheduler, name, values, kind="search"):
    """Feeds epochs 1, 2, ... of a trial; gives the epoch at which it was stopped, or None."""
    runner = trial(name, kind)
    scheduler.on_trial_add(None, runner)
    for epoch, value in enumerate(values, 1):
        result = {"epoch": epoch, "miou": value}
        if scheduler.on_trial_result(None, runner, result) == "STOP":
            return epoch
    scheduler.on_trial_complete(None, runner, {})
    return None


@pytest.mark.parametrize(
    ("grace", "reduction", "epochs", "rungs"),
    [(2, 2, 8, [2, 4]), (1, 3, 9, [1, 3]), (1, 3, 10, [1, 3, 9]), (3, 4, 3, [])],
)
def test_rungs_lie_between_grace_and_the_last_epoch(grace, reduction, epochs, rungs):
    assert EarlyStop("miou", "max", grace, reduction, epochs).rungs() == rungs


@pytest.mark.parametrize(
    ("every", "epochs", "rungs"),
    [(1, 40, [1, 3, 9, 27]), (5, 40, [5, 10, 30]), (4, 27, [4, 12]), (9, 9, []), (30, 40, [30])],
)
def test_rungs_lie_where_the_metric_is_known(every, epochs, rungs):
    assert EarlyStop("miou", "max", 1, 3, epochs, every).rungs() == rungs


def test_a_trial_is_ranked_once_at_each_rung_though_not_every_epoch_is_evaluated():
    """At epoch 15 no rung lies, and the first one was passed at epoch 5."""
    scheduler = RungScheduler(EarlyStop("miou", "max", 1, 3, 40, every=5))

    def evaluated(name, values):
        scheduler.on_trial_add(None, trial(name))
        for epoch in range(1, 41):
            result = {"epoch": epoch} | ({"miou": values(epoch)} if epoch % 5 == 0 else {})
            if scheduler.on_trial_result(None, trial(name), result) == "STOP":
                return epoch
        return None

    assert evaluated("t001", lambda epoch: 0.5) is None
    assert evaluated("t002", lambda epoch: 0.1 if epoch == 15 else 0.6) is None
    assert evaluated("t003", lambda epoch: 0.1 if epoch == 10 else 0.7) == 10


def test_the_worse_of_two_trials_stops_at_the_first_rung_and_not_before():
    scheduler = RungScheduler(STOP)
    assert show(scheduler, "t001", [0.5] * 8) is None
    assert show(scheduler, "t002", [0.0, 0.1] + [0.9] * 6) == 2
    assert show(scheduler, "t003", [0.0, 0.6, 0.6, 0.2]) == 4
    assert show(scheduler, "t004", [0.0, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0]) is None


def test_a_small_student_is_not_stopped_for_being_less_accurate_than_a_larger_one():
    """Sizes are (MACs, -ratio): a trial's rivals are as small as itself, or smaller, in both."""
    size = {"large": (4.0, -1.0), "small": (1.0, -4.0), "small too": (1.0, -4.0)}
    scheduler = RungScheduler(STOP, size=lambda trial: size[trial])
    assert show(scheduler, "large", [0.5] * 8) is None
    assert show(scheduler, "small", [0.3] * 8) is None
    assert show(scheduler, "small too", [0.2] * 8) == 2
    size["large and worse"] = (4.0, -1.0)
    assert show(scheduler, "large and worse", [0.25] * 8) == 2


def test_only_objectives_known_before_training_make_a_size(spec):
    sweep = spec(objectives={"miou": "max", "macs": "min", "macs_ratio": "max"})
    static = {"params": 9.0, "macs": 7.0, "macs_ratio": 3.0}
    assert sizes(sweep, static) == (7.0, -3.0)
    assert sizes(sweep, {}) == ()


def test_a_smaller_value_is_better_where_the_sweep_says_so():
    scheduler = RungScheduler(EarlyStop("loss", "min", 1, 2, 4))
    for name, value in (("t001", 0.5), ("t002", 0.9)):
        scheduler.on_trial_add(None, trial(name))
        decision = scheduler.on_trial_result(None, trial(name), {"epoch": 1, "loss": value})
    assert decision == "STOP"


@pytest.mark.parametrize("kind", ["teacher", "baseline", "confirm"])
def test_only_sampled_trials_are_stopped_or_ranked(kind):
    scheduler = RungScheduler(STOP)
    assert show(scheduler, "good", [0.9] * 8, kind) is None
    assert show(scheduler, "t001", [0.5] * 8) is None
    assert show(scheduler, "bad", [0.0] * 8, kind) is None


def test_a_trial_that_reaches_its_end_is_not_stopped_there():
    scheduler = RungScheduler(EarlyStop("miou", "max", 1, 3, 9))
    assert show(scheduler, "t001", [0.9] * 9) is None
    assert show(scheduler, "t002", [0.9] * 8 + [0.0]) is None


def test_a_trial_is_ranked_before_its_own_last_epoch_only(spec, tmp_path):
    """Where the number of epochs is searched, a short trial finishes at a rung of the long ones."""
    run = spec().run.to_dict() | {"train": {"epochs": 2}}
    space = {"train.epochs": {"choice": [4, 8]}}
    stop = EarlyStop.of(spec(run=run, space=space, early_stop={"grace_epochs": 2, "reduction": 2}))
    assert (stop.epochs, stop.rungs(4), stop.rungs(8)) == (8, [2], [2, 4])
    length = {"long": 8, "short": 4, "bad": 4, "late": 8}
    heard = []
    scheduler = RungScheduler(
        stop, lambda *decision: heard.append(decision), epochs=lambda trial: length[trial]
    )
    values = {"long": [0.5] * 8, "short": [0.6, 0.6, 0.6, 0.1], "bad": [0.1, 0.1]}
    ends = [show(scheduler, name, seen) for name, seen in values.items()]
    assert ends == [None, None, 2]
    assert heard == [("long", 2, True), ("long", 4, True), ("short", 2, True), ("bad", 2, False)]
    assert show(scheduler, "late", [0.7, 0.7, 0.7, 0.6]) is None  # beats the long one's 0.5
    with Ledger.open(tmp_path / "journal.jsonl") as ledger:
        for name, seen in {**values, "late": [0.7, 0.7, 0.7, 0.6]}.items():
            ledger.created(Plan(name, "search", {}, name))
            for epoch, value in enumerate(seen, 1):
                ledger.epoch(name, epoch, {"miou": value})
        second = RungScheduler(stop, epochs=lambda trial: length[trial])
        second.replay(ledger.record)
    assert second.debug_string().split("\n")[1:] == scheduler.debug_string().split("\n")[1:]


def test_workers_that_wait_at_a_rung_hear_every_decision():
    heard = []
    scheduler = RungScheduler(STOP, lambda *decision: heard.append(decision))
    show(scheduler, "t001", [0.5] * 8)
    show(scheduler, "t002", [0.1] * 8)
    assert heard == [("t001", 2, True), ("t001", 4, True), ("t002", 2, False)]


def test_results_without_the_metric_decide_nothing():
    scheduler = RungScheduler(STOP)
    scheduler.on_trial_add(None, trial("t001"))
    assert scheduler.on_trial_result(None, trial("t001"), {"epoch": 2}) == "CONTINUE"
    assert scheduler.on_trial_result(None, trial("t001"), {"news": 1}) == "CONTINUE"


def test_rungs_are_rebuilt_from_the_journal(tmp_path):
    """Every trial that is shown to both schedulers afterwards is decided alike."""
    first, seen = (
        RungScheduler(STOP),
        {"t001": [0.5] * 8, "t002": [0.3, 0.2], "t003": [0.7, 0.7, 0.4]},
    )
    with Ledger.open(tmp_path / "journal.jsonl") as ledger:
        for name, values in seen.items():
            show(first, name, values)
            ledger.created(Plan(name, "search", {}, name))
            for epoch, value in enumerate(values, 1):
                ledger.epoch(name, epoch, {"miou": value})
        ledger.created(Plan("undistilled", "baseline", {}, "u"))
        ledger.epoch("undistilled", 2, {"miou": 0.99})
        second = RungScheduler(STOP)
        second.replay(ledger.record)
    assert second.debug_string().split("\n")[1:] == first.debug_string().split("\n")[1:]
    assert show(second, "t004", [0.0, 0.45]) == 2
    assert show(RungScheduler(STOP), "t004", [0.0, 0.45]) is None


def test_an_unfinished_trial_that_is_issued_again_keeps_its_place_in_the_rungs(tmp_path):
    with Ledger.open(tmp_path / "journal.jsonl") as ledger:
        ledger.created(Plan("t001", "search", {}, "a"))
        for epoch in (1, 2, 3):
            ledger.epoch("t001", epoch, {"miou": 0.5})
        scheduler = RungScheduler(STOP)
        scheduler.replay(ledger.record)
    before = scheduler.debug_string()
    again = trial("t001", tune_id="another")
    scheduler.on_trial_add(None, again)
    assert scheduler.on_trial_result(None, again, {"epoch": 3, "miou": 0.1}) == "CONTINUE"
    assert scheduler.debug_string() == before
