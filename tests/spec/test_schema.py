"""The JSON Schema of sweep files: what editors accept, complete and mark."""

import jsonschema
import pytest

from kdsweep.spec.load import parse_sweep
from kdsweep.spec.schema import schema
from kdsweep.spec.yaml_lines import read_yaml


@pytest.fixture(scope="module")
def validator():
    made = schema()
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def test_a_valid_file_fits_the_schema(validator, file):
    assert list(validator.iter_errors(read_yaml(file).values)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("space:", "spaces:"),
        ("epochs: 4", "epohs: 4"),
        ("epochs: 4", "epochs: 0"),
        ("epochs: 2", "epohs: 2"),
        ("task: lidar_seg", "task: lidar"),
        ("synth: {scenes: 4}", "synth: {scene: 4}"),
        ("grid: [32, 32, 8]", "grid: [32, 32]"),
        ("grid: [32, 32, 8]", "gird: [32, 32, 8]"),
        ("width: 0.25}", "widht: 0.25}"),
        ("name: pvd", "name: pdv"),
        ("name: pvd", "name: pvd, point_output: -1"),
        ("name: small", "name: ../up"),
        ("macs: min", "mac: min"),
        ("trials: 4", "trails: 4"),
        ('">= 2"', '"at least 2"'),
        ("log_uniform", "log_unifrom"),
        ("method.point_output", "method.point_outputs"),
        ("[0.01, 10]", "[0.01]"),
        ("10]}", "10], when: {method.nme: pvd}}"),
    ],
)
def test_what_the_loader_refuses_the_editor_marks(validator, file, old, new):
    assert old in file
    wrong = file.replace(old, new, 1)
    with pytest.raises(ValueError, match=r"f\.yaml"):
        parse_sweep(wrong, "f.yaml")
    assert list(validator.iter_errors(read_yaml(wrong).values)) != []


def test_fields_carry_their_docstrings_and_published_defaults(validator):
    method = validator.schema["definitions"]["method pvd"]["properties"]
    assert method["point_output"]["description"].startswith("Weight of the KL divergence")
    assert method["point_output"]["default"] == 0.1
    searched = validator.schema["properties"]["space"]["properties"]
    assert searched["method.point_output"]["description"].startswith("Weight of the KL divergence")
    assert "data.root" not in searched


def test_a_new_method_file_is_in_the_schema_by_itself(toys):
    made = schema()
    assert "method.hard" in made["properties"]["space"]["properties"]
    assert made["definitions"]["method other"]["properties"]["hard"]["default"] == 2.0
