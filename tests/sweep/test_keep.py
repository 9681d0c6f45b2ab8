from kdsweep.sweep.keep import kept, prune
from kdsweep.sweep.ledger import Entry, Plan, Record


def record_of(values, state="finished"):
    """Sampled trials with the first objective rising and the second one as given."""
    record = Record()
    for number, (miou, macs) in enumerate(values):
        name = f"t{number:03d}"
        entry = Entry(Plan(name, "search", {}, name), state=state, slot="slot-0")
        entry.metrics, entry.leases = {"miou": miou, "macs": macs}, [[number, number + 1.0]]
        record.trials[name] = entry
    return record


def write(folder, names):
    for name in names:
        (folder / name / "checkpoint").mkdir(parents=True)
        (folder / name / "student.safetensors").write_text("w")
        (folder / name / "metrics.json").write_text("{}")


def test_the_front_and_the_best_few_keep_their_weights(spec, tmp_path):
    record = record_of([(0.1, 1.0), (0.2, 9.0), (0.3, 9.0), (0.4, 9.0), (0.5, 9.0), (0.6, 9.0)])
    sweep = spec(objectives={"miou": "max", "macs": "min"})
    assert kept(sweep, record) == {"t000", "t005", "t004"}
    write(tmp_path, record.trials)
    prune(sweep, record, tmp_path)
    there = {path.parent.name for path in tmp_path.glob("*/student.safetensors")}
    assert there == {"t000", "t005", "t004"}
    assert len(list(tmp_path.glob("*/metrics.json"))) == 6
    assert not list(tmp_path.glob("*/checkpoint"))


def test_baselines_and_confirmations_keep_their_weights(spec):
    record = record_of([(0.9, 1.0)] * 5)
    for kind in ("teacher", "baseline", "confirm"):
        record.trials[kind] = Entry(Plan(kind, kind, {}, kind), state="finished")
    assert {"teacher", "baseline", "confirm"} <= kept(spec(), record)


def test_what_breaks_a_constraint_is_not_kept(spec):
    record = record_of([(0.9, 9.0), (0.5, 1.0)])
    assert kept(spec(constraints={"macs": "<= 2"}), record) == {"t001"}


def test_a_failed_or_running_trial_keeps_its_checkpoint(spec, tmp_path):
    for state in ("failed", "running", "interrupted"):
        record = record_of([(0.1, 1.0)], state)
        write(tmp_path / state, record.trials)
        prune(spec(), record, tmp_path / state)
        assert (tmp_path / state / "t000" / "checkpoint").is_dir()


def test_a_stopped_trial_is_tidied_only_when_its_slot_has_gone_on(spec, tmp_path):
    record = record_of([(0.1, 1.0), (0.2, 1.0)], "stopped")
    write(tmp_path, record.trials)
    prune(spec(), record, tmp_path)
    assert not (tmp_path / "t000" / "checkpoint").exists()
    assert (tmp_path / "t001" / "checkpoint").exists()
