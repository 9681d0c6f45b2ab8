"""Properties that hold for every spec, text and override."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kdsweep.errors import SpecError
from kdsweep.spec.load import load_sweep, parse_sweep
from kdsweep.spec.run import RunSpec
from kdsweep.spec.space import Distribution, Int, LogInt, LogUniform, Quantised, Uniform
from kdsweep.spec.sweep import SweepSpec

QUICK = settings(max_examples=25)
ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "search_spaces").rglob("*.yaml"))
TEXT = (ROOT / "search_spaces" / "quickstart.yaml").read_text(encoding="utf-8")

weights = st.floats(0, 1e6)
train = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 100),
        "batch_size": st.integers(1, 64),
        "lr": st.floats(1e-9, 10),
        "schedule": st.sampled_from(["constant", "cosine", "multistep"]),
        "milestones": st.sets(st.floats(0, 1), max_size=4).map(sorted),
        "amp": st.sampled_from(["off", "bfloat16"]),
        "views": st.integers(0, 9),
    },
)
model = st.fixed_dictionaries(
    {"model": st.just("cylinder3d")},
    optional={"width": st.floats(0.01, 4), "refinement": st.booleans()},
)
runs = st.fixed_dictionaries(
    {
        "task": st.just("lidar_seg"),
        "data": st.fixed_dictionaries(
            {"synth": st.fixed_dictionaries({"scenes": st.integers(2, 99)})},
            optional={"grid": st.tuples(*[st.integers(2, 64)] * 3)},
        ),
        "teacher": st.builds(lambda own, train: {**own, "train": train}, model, train),
        "student": model,
        "method": st.fixed_dictionaries(
            {"name": st.just("pvd")},
            optional={
                "point_output": weights,
                "voxel_affinity": weights,
                "num_points": st.integers(1, 9999),
                "norm_output": st.sampled_from(["dense", "occupied", "rows"]),
                "supervoxel": st.tuples(*[st.integers(1, 99)] * 3),
            },
        ),
    },
    optional={"train": train, "seed": st.integers(0, 2**31)},
)


@QUICK
@given(values=runs)
def test_any_run_survives_json_with_its_identity(values):
    run = RunSpec.from_dict(values)
    again = RunSpec.from_dict(json.loads(json.dumps(run.to_dict())))
    assert again == run
    assert again.identity() == run.identity()


@QUICK
@given(values=runs, weight=weights, width=st.floats(0.01, 4), seed=st.integers(0, 9))
def test_overrides_that_are_taken_back_leave_the_run_as_it_was(values, weight, width, seed):
    run = RunSpec.from_dict(values)
    new = {"method.point_output": weight, "student.width": width, "seed": seed}
    changed = run.with_overrides(new)
    assert {key: changed.value(key) for key in new} == new
    assert changed.with_overrides({key: run.value(key) for key in new}) == run


def draw_value(draw: Any, distribution: Distribution) -> Any:
    match distribution:
        case Int() | LogInt():
            return draw(st.integers(distribution.low, distribution.high))
        case Quantised():
            return draw(st.sampled_from(list(distribution.values())))
        case Uniform() | LogUniform():
            return draw(st.floats(distribution.low, distribution.high))
    return draw(st.sampled_from(list(distribution.values())))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@QUICK
@given(data=st.data())
def test_every_point_of_a_shipped_space_is_a_valid_run(path, data):
    sweep = load_sweep(path)
    point: dict[str, Any] = {}
    for key in sweep.order:
        if sweep.is_active(key, point):
            point[key] = draw_value(data.draw, sweep.space[key])
            assert sweep.space[key].contains(point[key])
    run = sweep.trial_run(point)
    assert {key: run.value(key) for key in point} == point


def parses_or_explains(text: str, *overrides: str) -> None:
    try:
        sweep = parse_sweep(text, "f.yaml", overrides)
    except SpecError as error:
        assert str(error)
    else:
        assert SweepSpec.from_dict(sweep.to_dict()) == sweep


@QUICK
@given(text=st.text(max_size=200))
@example(text="\x85")
@example(text="? [a]\n: b")
@example(text="run: !!float x")
@example(text="- - - : : :")
@example(text="%YAML 3.0\n---\n")
@example(text="a: !!null x\nb: !!bool x\nc: !!int ''\nd: !!str 3\ne: !!seq 3\nf: !!map [1]")
def test_any_text_parses_or_is_explained(text):
    parses_or_explains(text)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@QUICK
@given(data=st.data(), value=plain)
def test_any_value_anywhere_parses_or_is_explained(data, value):
    tree = yaml.safe_load(TEXT)
    node, path = tree, []
    while True:
        key = data.draw(st.sampled_from(sorted(node)))
        path.append(key)
        if not isinstance(node[key], dict) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = value
    parses_or_explains(yaml.safe_dump(tree, allow_unicode=True))


@QUICK
@given(start=st.integers(0, len(TEXT)), length=st.integers(0, 60), insert=st.text(max_size=4))
def test_a_damaged_file_parses_or_is_explained(start, length, insert):
    parses_or_explains(TEXT[:start] + insert + TEXT[start + length :])


@QUICK
@given(
    section=st.sampled_from(["run", "sweep", "space", "start", "", "run.train", "space.seed", "x"]),
    rest=st.text(max_size=20),
)
def test_any_override_applies_or_is_explained(section, rest):
    parses_or_explains(TEXT, section + rest)


@QUICK
@given(name=st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9_./\\-]{1,70}", fullmatch=True))
@example(name="..")
@example(name="a/../../b")
@example(name="a\n")
@example(name="a\\b")
@example(name="C:")
def test_no_sweep_name_leaves_its_folder(name):
    values = yaml.safe_load(TEXT)
    values["sweep"]["name"] = name
    try:
        sweep = parse_sweep(yaml.safe_dump(values, allow_unicode=True), "f.yaml")
    except SpecError:
        return
    folder = Path("/home/sweeps")
    assert (folder / sweep.name).resolve().parent == folder
    assert sweep.name.isprintable()
