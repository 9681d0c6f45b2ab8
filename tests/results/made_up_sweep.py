"""A made-up sweep whose best trial, front and gain are known, recorded in any tracker."""

import math

from kdsweep.tracking import SweepInfo, TrialInfo

CLASSES = ("car", "bicycle", "person", "road", "building", "vegetation", "trunk", "pole")
TEACHER = {"params": 56e6, "macs": 90e9}
SPEC = {
    "name": "pvd",
    "objectives": {"miou": "max", "macs": "min"},
    "constraints": {"latency_ms": "<= 50"},
    "trials": 8,
    "sampler": "tpe",
    "baselines": ["undistilled", "published"],
    "confirm": {"top": 1, "seeds": 3},
    "run": {
        "task": "lidar_seg",
        "method": {"name": "pvd"},
        "teacher": {"model": "cylinder3d", "width": 1.0},
        "student": {"model": "cylinder3d", "width": 0.5},
    },
    "space": {"method.point_output": {"log_uniform": [0.01, 10.0]}},
}

# id: width, weight of the term, final mIoU. t002 is the lucky one: best seed, worse mean than t001.
SEARCH = {
    "t000": (0.5, 0.02, 0.520),
    "t001": (0.5, 0.60, 0.556),
    "t002": (0.5, 1.00, 0.560),
    "t003": (0.25, 0.30, 0.470),
    "t004": (0.25, 1.10, 0.478),
    "t005": (0.25, 8.00, 0.440),
}
CONFIRM = {
    "undistilled": {1: 0.512, 2: 0.520, 3: 0.514},
    "t001": {1: 0.552, 2: 0.556, 3: 0.554},
    "t002": {1: 0.540, 2: 0.538, 3: 0.545},
}


def final(width, miou):
    """Final metrics of a made-up student."""
    params, macs = TEACHER["params"] * width**2, TEACHER["macs"] * width**2
    per_class = {
        f"iou/{name}": min(1.0, max(0.0, miou + 0.3 * math.sin(3 * index)))
        for index, name in enumerate(CLASSES)
    }
    return {
        "miou": miou,
        "params": params,
        "macs": macs,
        "params_ratio": TEACHER["params"] / params,
        "macs_ratio": TEACHER["macs"] / macs,
        "latency_ms": 60 * width,
        "peak_memory_mb": 900 * width,
        "file_mb": params * 4e-6,
        "train_seconds": 30.0,
        "gpu_seconds": 30.0,
        "step_seconds": 25.0,
        **per_class,
    }


def run_trial(tracker, trial, width, miou, *, kind="search", sweep="pvd", epochs=4, **given):
    """Records a whole trial with a plausible learning curve."""
    state = given.pop("state", "finished")
    reason = given.pop("reason", "")
    artifacts = given.pop("artifacts", {})
    given.setdefault("spec", {"task": "lidar_seg", "student": {"width": width}})
    tracker.open_trial(TrialInfo(sweep, trial, kind, identity=f"hash-{trial}", **given))
    for epoch in range(1, epochs + 1):
        share = 1 - math.exp(-2.0 * epoch / epochs)
        tracker.log_epoch(
            sweep, trial, epoch, {"miou": miou * share, "loss/total": 2.0 - share, "lr": 1e-3}
        )
    metrics = final(width, miou) if state == "finished" else {}
    tracker.end_trial(sweep, trial, state, reason, metrics, artifacts)


def fill(tracker, sweep="pvd", artifacts=None):
    """Records the whole sweep."""
    info = SweepInfo(sweep, {**SPEC, "name": sweep}, "sweep: {name: pvd}\n", {"git_commit": "abc"})
    tracker.open_sweep(info)
    run_trial(tracker, "teacher", 1.0, 0.61, kind="teacher", sweep=sweep)
    for label, miou in (("undistilled", 0.510), ("published", 0.530)):
        run_trial(tracker, label, 0.5, miou, kind="baseline", label=label, sweep=sweep)
    for trial, (width, weight, miou) in SEARCH.items():
        run_trial(
            tracker,
            trial,
            width,
            miou,
            sweep=sweep,
            params={"student.width": width, "method.point_output": weight},
            artifacts=artifacts if trial == "t001" and artifacts else {},
        )
    run_trial(
        tracker,
        "t006",
        0.5,
        0.30,
        sweep=sweep,
        epochs=2,
        state="stopped",
        reason="stopped by asha at epoch 2",
        params={"student.width": 0.5, "method.point_output": 5.0},
    )
    run_trial(
        tracker,
        "t007",
        1.0,
        0.0,
        sweep=sweep,
        epochs=0,
        state="rejected",
        reason="latency_ms",
        params={"student.width": 1.0, "method.point_output": 0.1},
    )
    for parent, seeds in CONFIRM.items():
        for seed, miou in seeds.items():
            width = 0.5
            run_trial(
                tracker,
                f"{parent}-s{seed}",
                width,
                miou,
                kind="confirm",
                parent=parent,
                seed=seed,
                sweep=sweep,
            )
    return tracker
