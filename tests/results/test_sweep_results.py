"""What a sweep answers, on a made-up sweep whose answers are known."""

import math
import statistics

import pytest
from made_up_sweep import SPEC, fill, run_trial

from kdsweep.errors import SweepError, TrackingError
from kdsweep.results import Sweep
from kdsweep.results.opening import listing
from kdsweep.tracking import SweepInfo, TrialInfo


def test_the_best_is_the_best_over_fresh_seeds_not_the_luckiest_seed(sweep):
    lucky = sweep.trials().query("kind == 'search'").nlargest(1, "miou").iloc[0]
    best = sweep.best("miou")
    assert lucky["id"] == "t002"
    assert best.id == "t001"
    assert best.value("miou").mean == pytest.approx(0.554)
    assert best.value("miou").seeds == {1: 0.552, 2: 0.556, 3: 0.554}
    assert best.value("miou").confirmed


def test_single_seeds_compete_where_no_confirmed_trial_keeps_the_bounds(sweep):
    best = sweep.best("miou", where={"params_ratio": ">= 8"})
    assert (best.id, best.value("miou").n, best.value("miou").confirmed) == ("t004", 1, False)


@pytest.mark.parametrize(("mode", "sign"), [("max", 1.0), ("min", -1.0)])
def test_a_single_seed_that_lost_to_a_confirmed_student_is_not_best(tracker, mode, sign):
    tracker.open_sweep(SweepInfo("s", {**SPEC, "objectives": {"score": mode}}))

    def add(trial, score, seed=0, parent=None):
        kind = "confirm" if parent else "search"
        tracker.open_trial(TrialInfo("s", trial, kind, parent=parent, seed=seed))
        metrics = {"score": sign * score, "latency_ms": 9.0}
        tracker.end_trial("s", trial, "finished", metrics=metrics)

    add("t000", 0.60)  # the lucky seed for which it was confirmed
    add("t000-s1", 0.50, seed=1, parent="t000")
    add("t001", 0.55)
    assert Sweep("s", tracker).best().id == "t000"
    add("t002", 0.61)
    assert Sweep("s", tracker).best().id == "t002"


def test_a_confirmed_baseline_does_not_shut_out_unconfirmed_trials(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    run_trial(tracker, "undistilled", 0.5, 0.50, kind="baseline", label="undistilled", sweep="s")
    run_trial(tracker, "undistilled-s1", 0.5, 0.51, kind="confirm", parent="undistilled", sweep="s")
    run_trial(tracker, "t000", 0.5, 0.55, sweep="s")
    assert Sweep("s", tracker).best().id == "t000"


def test_all_seeds_of_the_undistilled_baseline_count_because_nobody_chose_it(sweep):
    value = sweep["undistilled"].value("miou")
    assert value.seeds == {0: 0.510, 1: 0.512, 2: 0.520, 3: 0.514}


def test_the_direction_of_a_metric_is_known(sweep):
    assert sweep.best("macs").params["student.width"] == 0.25  # no seed changes MACs
    assert sweep.best("latency_ms", where={"student.width": 0.25}).id in ("t003", "t004", "t005")
    assert sweep.best("iou/car").id == "t001"
    with pytest.raises(SweepError, match="which way 'lr' gets better is not known"):
        sweep.best("lr")
    assert sweep.best("lr", direction="max").state == "finished"


def test_only_finished_students_can_be_best(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    run_trial(tracker, "teacher", 1.0, 0.9, kind="teacher", sweep="s")
    run_trial(tracker, "t000", 0.5, 0.8, sweep="s", state="stopped")
    run_trial(tracker, "t001", 0.5, 0.8, sweep="s", state="failed", reason="NaN")
    with pytest.raises(SweepError, match=r"no finished student yet \(1 failed, 1 finished, 1 st"):
        Sweep("s", tracker).best()
    run_trial(tracker, "t002", 0.5, 0.3, sweep="s")
    assert Sweep("s", tracker).best().id == "t002"


def test_the_sweeps_own_constraints_hold_unless_told_otherwise(tracker):
    tracker.open_sweep(SweepInfo("s", {**SPEC, "constraints": {"latency_ms": "<= 20"}}))
    run_trial(tracker, "t000", 0.5, 0.55, sweep="s")  # 30 ms
    run_trial(tracker, "t001", 0.25, 0.45, sweep="s")  # 15 ms
    sweep = Sweep("s", tracker)
    assert sweep.best().id == "t001"
    assert sweep.best(constrained=False).id == "t000"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (
            {"params_ratio": ">= 100"},
            r"none of the 8 finished students .* params_ratio >= 100\. There, .*from 4 to 16\.",
        ),
        ({"student.width": 3}, r"student.width == 3\. There, .*student.width is 0.25, 0.5\."),
        ({"param_ratio": ">= 4"}, "neither a metric nor a parameter.*Did you mean params_ratio"),
        ({"params_ratio": "=> 4"}, "write a sign"),
        ({"params_ratio": ">= four"}, "is no bound: '>= four'"),
    ],
)
def test_bounds_that_cannot_be_kept_or_read_are_explained(sweep, where, text):
    with pytest.raises(SweepError, match=text):
        sweep.best("miou", where=where)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([8, 8, 2], [(8, 8, 2), [8, 8, 2], "[8,8,2]", "== [8, 8, 2]"]),
        (True, [True, "true", "== true", "True"]),
        (None, [None, "null"]),
        ("rows", ["rows", "== rows"]),
        ("1", ["1"]),
    ],
)
def test_a_value_is_asked_for_as_python_or_a_sweep_file_writes_it(tracker, value, wanted):
    tracker.open_sweep(SweepInfo("s", SPEC))
    run_trial(tracker, "t000", 0.5, 0.5, sweep="s", params={"method.x": value})
    run_trial(tracker, "t001", 0.5, 0.6, sweep="s", params={"method.x": "other"})
    sweep = Sweep("s", tracker)
    for given in wanted:
        assert sweep.best(where={"method.x": given}).id == "t000"
    for given in ([8, 8], False, "false", "nul", 2):
        with pytest.raises(SweepError, match="none of the 2 finished students"):
            sweep.best(where={"method.x": given})


def test_an_unknown_metric_is_answered_with_the_nearest(sweep):
    with pytest.raises(SweepError, match=r"has no metric 'miuo'\. Did you mean miou\?"):
        sweep.best("miuo")
    with pytest.raises(SweepError, match=r"has no trial 't01'\. Did you mean"):
        sweep["t01"]


def test_an_unknown_sweep_is_answered_with_the_nearest(sweep):
    with pytest.raises(TrackingError, match=r"no sweep 'pdv'\. Did you mean pvd\?"):
        Sweep("pdv", sweep.tracker)


def test_trials_are_one_row_each_whatever_became_of_them(sweep):
    frame = sweep.trials().set_index("id")
    assert len(frame) == 1 + 2 + 8 + 9
    assert list(frame.columns[:7]) == [
        "kind",
        "label",
        "parent",
        "state",
        "reason",
        "seed",
        "epoch",
    ]
    assert frame.loc["t001", "params_ratio"] == 4.0
    assert frame.loc["t001", "miou"] == 0.556  # of its own seed
    assert frame.loc["t001-s2", ["kind", "parent", "seed"]].tolist() == ["confirm", "t001", 2]
    assert frame.loc["t006", ["state", "epoch"]].tolist() == ["stopped", 2]
    assert frame.loc["t007", "state"] == "rejected" and math.isnan(frame.loc["t007", "miou"])
    assert "iou/car" not in frame and "iou/car" in sweep.trials(all_metrics=True)


def test_the_front_holds_exactly_the_students_that_no_other_beats(sweep):
    front = sweep.pareto()
    assert front["id"].tolist() == ["t001", "t004"]
    assert front["miou"].tolist() == [pytest.approx(0.554), 0.478]
    assert front["seeds"].tolist() == [3, 1]
    assert front["miou_sd"][0] == pytest.approx(statistics.stdev([0.552, 0.556, 0.554]))
    assert front["params_ratio"].tolist() == [4, 16]
    assert sweep.pareto({"miou": "max"})["id"].tolist() == ["t001"]


def test_a_direction_that_is_none_is_refused_and_never_read_as_the_other_one(sweep):
    with pytest.raises(SweepError, match=r"direction of 'miou' is 'maximize'; valid: 'max', 'min'"):
        sweep.best("miou", direction="maximize")
    with pytest.raises(SweepError, match=r"direction of 'macs' is 'low'; valid: 'max', 'min'"):
        sweep.pareto({"miou": "max", "macs": "low"})
    with pytest.raises(SweepError, match="valid: metrics with their better direction"):
        sweep.pareto(["miou", "macs"])


def test_an_objective_that_nobody_measured_leaves_an_empty_front(tracker):
    tracker.open_sweep(SweepInfo("s", {"objectives": {"miou": "max", "energy": "min"}}))
    run_trial(tracker, "t000", 0.5, 0.5, sweep="s")
    front = Sweep("s", tracker).pareto()
    assert front.empty and {"id", "miou", "energy"} <= set(front.columns)


def test_the_gain_is_the_mean_difference_over_seeds_that_both_had(sweep):
    gain = sweep.gain()
    expected = [0.552 - 0.512, 0.556 - 0.520, 0.554 - 0.514]
    assert (gain.trial, gain.baseline, gain.n) == ("t001", "undistilled", 3)
    assert gain.differences == {
        seed: pytest.approx(value) for seed, value in zip((1, 2, 3), expected, strict=True)
    }
    assert gain.mean == pytest.approx(statistics.fmean(expected))
    assert gain.sd == pytest.approx(statistics.stdev(expected))
    assert str(gain) == "+0.0387 ± 0.0023 (paired, 3 seeds)"


def test_a_gain_in_a_metric_that_shall_be_small_is_positive_when_it_got_smaller(tracker):
    tracker.open_sweep(SweepInfo("s", {**SPEC, "objectives": {"loss/total": "min"}}))
    run_trial(tracker, "undistilled", 0.5, 0.5, kind="baseline", label="undistilled", sweep="s")
    run_trial(tracker, "t000", 0.5, 0.5, sweep="s", epochs=8)
    tracker.open_sweep(SweepInfo("s", {**SPEC, "objectives": {"step_seconds": "min"}}))
    assert Sweep("s", tracker).gain("t000", "step_seconds").mean == 0.0
    assert Sweep("s", tracker).gain("t000", "loss/total").differences == {0: pytest.approx(0.0)}


def test_a_gain_needs_a_baseline_of_the_same_size(sweep):
    with pytest.raises(SweepError, match=r"of the size of trial t004 \(3,500,000 parameters"):
        sweep.gain("t004")
    with pytest.raises(SweepError, match="t006 is no finished student: it is stopped"):
        sweep.gain("t006")


def test_importance_finds_the_parameter_that_matters(sweep):
    found = sweep.importance("params")
    assert found["parameter"][0] == "student.width"
    assert found["importance"].sum() == pytest.approx(1.0)
    assert found.attrs["trials"] == 6
    assert sweep.importance("params", method="ped_anova")["parameter"][0] == "student.width"
    with pytest.raises(SweepError, match=r"Valid: fanova, ped_anova\."):
        sweep.importance(method="magic")


def test_importance_counts_only_trials_that_have_the_metric(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    for index in range(9):
        miou = float("nan") if index < 2 else 0.4 + index / 100
        run_trial(tracker, f"t{index:03}", 0.5, miou, sweep="s", params={"a.b": float(index)})
    assert Sweep("s", tracker).importance("miou").attrs["trials"] == 7


def test_importance_takes_lists_and_leaves_conditional_parameters_out(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    for index in range(8):
        params = {"method.supervoxel": [[60, 30], [120, 60]][index % 2], "method.k": index}
        if index == 3:
            params["method.extra"] = 1
        run_trial(tracker, f"t{index:03}", 0.5, 0.4 + 0.1 * (index % 2), sweep="s", params=params)
    found = Sweep("s", tracker).importance()
    assert set(found["parameter"]) == {"method.supervoxel", "method.k"}
    assert found["parameter"][0] == "method.supervoxel"


def test_importance_needs_enough_trials_that_differ(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    for index in range(5):
        run_trial(tracker, f"t{index:03}", 0.5, 0.4, sweep="s", params={"a.b": 1.0})
    with pytest.raises(SweepError, match=r"at least 6 .* there are 5\.") as few:
        Sweep("s", tracker).importance()
    assert str(few.value).endswith("Add at least 1: kdsweep resume s --more 1")
    run_trial(tracker, "t005", 0.5, 0.4, sweep="s", params={"a.b": 1.0})
    with pytest.raises(SweepError, match="needs trials that differ"):
        Sweep("s", tracker).importance()


def test_a_running_sweep_is_read_again_on_request(tracker):
    fill(tracker)
    sweep = Sweep("pvd", tracker)
    run_trial(tracker, "t008", 0.5, 0.9)
    assert "t008" not in set(sweep.trials()["id"])
    assert "t008" in set(sweep.refresh().trials()["id"])


def test_sweeps_are_listed_the_latest_first(sweep):
    fill(sweep.tracker, "second")
    sweep.tracker.end_sweep("pvd", "finished")
    frame = listing(sweep.tracker)
    assert frame["name"].tolist() == ["second", "pvd"]
    assert frame["state"].tolist() == ["running", "finished"]
    assert frame["hours"].isna().tolist() == [True, False]
    assert frame.loc[0, ["task", "method", "trials"]].tolist() == ["lidar_seg", "pvd", 8]


def test_a_seed_that_lost_to_a_confirmed_student_is_not_on_the_front(tracker):
    tracker.open_sweep(SweepInfo("s", SPEC))
    run_trial(tracker, "t000", 0.5, 0.60, sweep="s")
    run_trial(tracker, "t000-s1", 0.5, 0.50, kind="confirm", parent="t000", sweep="s")
    run_trial(tracker, "t001", 0.5, 0.55, sweep="s")
    run_trial(tracker, "t002", 0.25, 0.40, sweep="s")
    assert set(Sweep("s", tracker).pareto()["id"]) == {"t000", "t002"}
