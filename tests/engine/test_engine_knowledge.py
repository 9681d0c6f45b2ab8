"""The teacher's taps: computed once, and the same whoever stored them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kdsweep.engine.knowledge import Knowledge, TeacherBatch, open_store
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.engine.store import TapStore, clear, pack, unpack

CPU = torch.device("cpu")
TAPS = frozenset({"logits", "features"})


def make(store: TapStore | None, taps: frozenset[str] = TAPS) -> tuple[Knowledge, Any]:
    torch.manual_seed(0)
    config, task = tiny_world.TinyModelConfig(), tiny_task()
    teacher = tiny_world.TinyNet(config, task.model_input())
    return Knowledge(teacher, taps, device=CPU, store=store), teacher


def tiny_task() -> tiny_world.TinyTask:
    return tiny_world.TinyTask(tiny_world.TinyData(), tiny_world.TinyLoss(), home=Path("unused"))


def ask(knowledge: Knowledge, *indices: int, epoch: int = 0) -> Any:
    task = tiny_task()
    dataset = task.train_set(seed=0, epoch=epoch, views=2)
    return knowledge(knowledge.collate(task.collate)([dataset[i] for i in indices]))


@pytest.fixture
def store(tmp_path: Path) -> TapStore:
    found = open_store(tmp_path, cap_gb=1.0, teacher_digest="t")
    assert found is not None
    return found


def assert_equal_taps(a: Any, b: Any) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), max_size=40),
    st.sampled_from([1e-9, 1.0, 1e4]),
)
def test_storage_keeps_eleven_bits_at_any_magnitude(values: list[float], factor: float) -> None:
    tensor = torch.tensor(values, dtype=torch.float32) * factor
    packed, scale = pack(tensor)
    error = (unpack(packed, scale).double() - tensor.double()).abs()
    assert (error <= torch.clamp(tensor.abs().double() * 2**-11, min=scale * 2.0**-25)).all()


def test_storage_keeps_what_is_not_finite() -> None:
    packed, scale = pack(torch.tensor([float("inf"), -float("inf"), float("nan"), 2.0**20]))
    restored = unpack(packed, scale)
    assert restored[:2].tolist() == [float("inf"), -float("inf")]
    assert restored[2].isnan() and restored[3].item() == 2.0**20


def test_stored_taps_are_the_live_ones_to_the_stored_precision(store: TapStore) -> None:
    live = ask(make(None)[0], 1, 2, 3)
    kept = ask(make(store)[0], 1, 2, 3)
    for name, tap in live.items():
        assert not torch.equal(tap, kept[name])
        torch.testing.assert_close(kept[name], tap, rtol=2**-11 + 1e-6, atol=1e-6)
        assert kept[name].dtype == torch.float32 and not kept[name].requires_grad


def test_a_sample_is_computed_once_and_alone(store: TapStore) -> None:
    knowledge, teacher = make(store)
    first = ask(knowledge, 1, 2, 3)
    assert teacher.calls == [1, 1, 1]
    assert_equal_taps(ask(knowledge, 1, 2, 3), first)
    ask(knowledge, 3, 4)
    assert teacher.calls == [1, 1, 1, 1]
    assert knowledge.computed == 4


def test_another_view_is_another_sample(store: TapStore) -> None:
    knowledge, _ = make(store)
    first, second = ask(knowledge, 1, epoch=0), ask(knowledge, 1, epoch=1)
    assert not torch.equal(first["logits"], second["logits"])
    assert_equal_taps(ask(knowledge, 1, epoch=2), first)
    assert knowledge.computed == 2


def test_another_process_finds_what_is_stored(store: TapStore) -> None:
    first = ask(make(store)[0], 1, 2)
    again, teacher = make(TapStore(store.folder, counted=store.folder, cap_bytes=10**9))
    assert_equal_taps(ask(again, 2, 1), {n: ask(make(store)[0], 2, 1)[n] for n in first})
    assert teacher.calls == []


def test_what_is_used_does_not_depend_on_batch_store_or_cap(store: TapStore) -> None:
    full = TapStore(store.folder.parent / "full", counted=store.folder, cap_bytes=0)
    assert full.full
    filled_by_others = make(store)[0]
    ask(filled_by_others, 2)
    ask(filled_by_others, 5, 1)
    assert_equal_taps(ask(make(store)[0], 1, 2, 5), ask(make(full)[0], 1, 2, 5))


def test_only_the_needed_taps_are_stored_and_more_can_be_added(store: TapStore) -> None:
    ask(make(store, frozenset({"logits"}))[0], 1)
    assert sorted(p.name for p in store.folder.iterdir()) == ["about.json", "logits"]
    knowledge, _ = make(store)
    ask(knowledge, 1)
    assert knowledge.computed == 1
    assert (store.folder / "features").is_dir()


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "other sample"])
def test_a_damaged_entry_is_computed_anew(store: TapStore, damage: str) -> None:
    first = ask(make(store)[0], 1, 2)
    path = store.path("logits", "train/1/s0v0")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(
        {
            "bit": bytes(content),
            "cut": path.read_bytes()[:-5],
            "empty": b"",
            "other sample": store.path("logits", "train/2/s0v0").read_bytes(),
        }[damage]
    )
    fresh_eyes = TapStore(store.folder, counted=store.folder, cap_bytes=10**9)
    knowledge, _ = make(fresh_eyes)
    assert_equal_taps(ask(knowledge, 1, 2), first)
    assert knowledge.computed == 1
    assert_equal_taps(ask(knowledge, 1, 2), first)
    assert knowledge.computed == 1  # and it is whole again


def test_an_entry_of_another_sample_of_equal_shape_counts_as_missing(store: TapStore) -> None:
    ask(make(store)[0], 1, 6)
    own, other = (store.path("logits", f"train/{number}/s0v0") for number in (1, 6))
    assert len(own.read_bytes()) == len(other.read_bytes())
    own.write_bytes(other.read_bytes())
    fresh_eyes = TapStore(store.folder, counted=store.folder, cap_bytes=10**9)
    assert fresh_eyes.read("logits", "train/1/s0v0") is None
    assert fresh_eyes.read("logits", "train/6/s0v0") is not None


def test_an_entry_with_other_rows_than_the_batch_is_computed_anew(store: TapStore) -> None:
    store.write("logits", "train/1/s0v0", torch.zeros(2, 3, dtype=torch.float16), 1.0)
    knowledge, _ = make(store, frozenset({"logits"}))
    assert len(ask(knowledge, 1)["logits"]) == 6
    assert knowledge.computed == 1


def test_the_cap_ends_storing_and_the_teacher_answers_live(tmp_path: Path) -> None:
    folder = tmp_path / "knowledge"
    folder.mkdir()
    store = TapStore(folder, counted=folder, cap_bytes=700)
    knowledge, _ = make(store)
    for _ in range(2):
        ask(knowledge, 0, 1, 2, 3, 4)
    assert store.full
    stored = [path for path in folder.rglob("*.safetensors")]
    assert 0 < len(stored) < 10
    assert knowledge.computed > 5


def test_a_full_disk_ends_storing_without_an_error(
    store: TapStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from kdsweep.engine import store as module

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", no_space)
    knowledge, _ = make(store)
    assert_equal_taps(ask(knowledge, 1), ask(knowledge, 1))
    assert store.full and knowledge.computed == 2


def test_several_writers_fill_one_store(store: TapStore) -> None:
    expected = ask(make(store)[0], *range(10))
    clear(store.folder.parents[1])
    results: list[Any] = []
    start = threading.Barrier(4)

    def fill(knowledge: Knowledge) -> None:
        start.wait()
        results.extend([ask(knowledge, *range(10)), ask(knowledge, *range(10))])

    own = [TapStore(store.folder, counted=store.folder, cap_bytes=10**9) for _ in range(4)]
    threads = [threading.Thread(target=fill, args=(make(each)[0],)) for each in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for taps in results:
        assert_equal_taps(taps, expected)
    assert not list(store.folder.rglob("*.tmp"))


def test_other_teachers_and_data_have_other_stores(tmp_path: Path) -> None:
    facts = [{"teacher_digest": d, "data": x} for d in "ab" for x in ({"grid": 1}, {"grid": 2})]
    stores = [open_store(tmp_path, cap_gb=1.0, **fact) for fact in facts]
    assert len({store.folder for store in stores if store}) == 4
    assert open_store(tmp_path, cap_gb=0.0, teacher_digest="a") is None


def test_runs_share_what_the_teacher_said_and_get_equal_losses(
    run_spec: Callable[..., Any], place: Callable[..., Place]
) -> None:
    losses: dict[str, list[float]] = {"live": [], "stored": [], "again": []}
    for name, size in (("live", 0.0), ("stored", 1.0), ("again", 1.0)):

        def keep(progress: Any, name: str = name) -> bool:
            if progress.stage == "train":
                losses[name].append(progress.metrics["loss/kl"])
            return True

        spec = run_spec(train__views=2, method__hint=0.3)
        execute(spec, place(name, knowledge_gb=size), keep)
    assert losses["stored"] == losses["again"]
    assert losses["stored"] != losses["live"]
    assert losses["stored"] == pytest.approx(losses["live"], rel=2e-3)
    students = [place(name).run_dir / "student.safetensors" for name in ("stored", "again")]
    stored, again = map(load_file, students)
    assert all(torch.equal(stored[key], again[key]) for key in stored)


@pytest.mark.parametrize(
    ("key", "values"),
    [("teacher__unit", (False, True)), ("train__amp", ("off", "bfloat16"))],
)
def test_a_teacher_that_computes_something_else_is_asked_anew(
    run_spec: Callable[..., Any],
    place: Callable[..., Place],
    tmp_path: Path,
    key: str,
    values: tuple[Any, Any],
) -> None:
    _, teacher = make(None)
    path = tmp_path / "teacher.safetensors"  # nothing beside it tells what it is of
    save_file(teacher.state_dict(), path)

    def losses(value: Any, name: str, home: str) -> list[float]:
        seen: list[float] = []

        def keep(progress: Any) -> bool:
            if progress.stage == "train":
                seen.append(progress.metrics["loss/hint"])
            return True

        fixed = {"teacher__train": None, "teacher__checkpoint": str(path)}
        spec = run_spec(**fixed, train__views=2, method__hint=0.3, **{key: value})
        execute(spec, replace(place(name), home=tmp_path / home), keep)
        return seen

    first, second = values
    assert losses(first, "first", "shared") != losses(second, "second", "shared")
    assert losses(second, "again", "shared") == losses(second, "alone", "own")


def test_without_repeating_views_nothing_is_stored(
    run_spec: Callable[..., Any], place: Callable[..., Place]
) -> None:
    execute(run_spec(), place(), lambda _: True)
    assert not (place().home / "knowledge").exists()


def test_the_batch_of_one_goes_with_the_batch(store: TapStore) -> None:
    task = tiny_task()
    knowledge, _ = make(store)
    dataset = task.train_set(seed=0, epoch=0, views=2)
    item = knowledge.collate(task.collate)([dataset[0], dataset[1]])
    assert isinstance(item, TeacherBatch)
    assert [batch.sample_ids for batch in item.alone] == [("train/0/s0v0",), ("train/1/s0v0",)]
