"""Every shipped search space parses, fits the schema, and holds the published setting."""

from pathlib import Path

import jsonschema
import pytest

from kdsweep import discover
from kdsweep.methods.base import method_class
from kdsweep.spec.check import check
from kdsweep.spec.load import load_sweep
from kdsweep.spec.schema import schema
from kdsweep.spec.yaml_lines import read_yaml

FOLDER = Path(__file__).parents[1] / "search_spaces"
FILES = sorted(FOLDER.rglob("*.yaml"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft7Validator(schema())


def test_there_are_search_spaces():
    assert FOLDER / "quickstart.yaml" in FILES


@every_file
def test_a_shipped_file_parses(path):
    report = check(load_sweep(path))
    assert report.rows
    assert not [note for note in report.notes if "never searched" in note]


@every_file
def test_a_shipped_file_fits_the_schema(path, validator):
    values = read_yaml(path.read_text(encoding="utf-8")).values
    assert [error.message for error in validator.iter_errors(values)] == []


@every_file
def test_a_shipped_file_says_what_it_is_for(path):
    assert path.read_text(encoding="utf-8").startswith("# ")


@every_file
def test_the_published_baseline_is_the_methods_class_defaults(path):
    sweep = load_sweep(path)
    published = sweep.baseline_runs()["published"].method
    defaults = method_class(discover.load("methods", published.name)).Config()
    assert published.config == defaults


@every_file
def test_the_published_value_of_every_searched_method_key_can_be_sampled(path):
    sweep = load_sweep(path)
    for row in check(sweep).rows:
        if row.key.startswith("method."):
            assert sweep.space[row.key].contains(row.published), row.key


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != FOLDER], ids=lambda p: p.stem)
def test_a_methods_file_starts_from_the_published_setting(path):
    # search_spaces/<task>/<method>.yaml: both names say what is in it
    sweep = load_sweep(path)
    assert (sweep.run.task, sweep.run.method.name) == (path.parent.name, path.stem)
    assert sweep.run == sweep.run.published()
