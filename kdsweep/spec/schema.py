"""JSON Schema of sweep files, for completion and checks while one types.

Save it (``kdsweep schema > sweep.schema.json``) and open a sweep file with the line
``# yaml-language-server: $schema=sweep.schema.json``. Draft 7, which every editor knows.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from kdsweep import discover
from kdsweep.config import Config
from kdsweep.spec.choices import (
    Choice,
    MethodChoice,
    ModelChoice,
    TeacherChoice,
    config_class,
)
from kdsweep.spec.fields import dotted
from kdsweep.spec.metrics import known_metrics
from kdsweep.spec.run import HOW, RunSpec, task_of
from kdsweep.spec.space import KINDS
from kdsweep.spec.sweep import SweepSection, SweepSpec
from kdsweep.spec.train import TrainConfig

Json = dict[str, Any]


def schema() -> Json:
    """The schema of a sweep file: all tasks, methods and models, and the search-space language."""
    definitions: Json = {}
    keys = _dotted_keys()
    definitions["distribution"] = _distribution(list(keys))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "kdsweep sweep file",
        "description": "What a sweep runs. Flags and the cluster file say where.",
        "type": "object",
        "required": ["run", "sweep"],
        "additionalProperties": False,
        "properties": {
            "run": _run(definitions),
            "sweep": _sweep(definitions),
            "space": {
                "description": _about(SweepSpec, "space"),
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    key: {"description": about, "allOf": [_ref("distribution")]}
                    for key, about in keys.items()
                },
            },
            "start": {
                "description": _about(SweepSpec, "start"),
                "type": "array",
                "items": {"type": "object", "propertyNames": {"enum": list(keys)}},
            },
        },
        "definitions": definitions,
    }


def _run(definitions: Json) -> Json:
    tasks = discover.names("tasks")
    properties: Json = {
        name: {"description": _about(RunSpec, name)} for name in RunSpec.model_fields
    }
    properties["task"]["enum"] = tasks
    properties["seed"]["type"] = "integer"
    properties["train"]["allOf"] = [_add(definitions, "train", TrainConfig)]
    properties["student"] |= _choice(definitions, ModelChoice, "student")
    properties["teacher"] |= _choice(definitions, TeacherChoice, "teacher")
    properties["method"] |= _choice(definitions, MethodChoice, "method")
    return {
        "description": _about(SweepSpec, "run"),
        "type": "object",
        "required": ["task", "student"],
        "additionalProperties": False,
        "properties": properties,
        "allOf": [
            _if_named("task", task, {
                "properties": {
                    "data": _add(definitions, f"data of {task}", task_of(task).Data),
                    "loss": _add(definitions, f"loss of {task}", task_of(task).Loss),
                }
            })
            for task in tasks
        ],
    }  # fmt: skip


def _choice(definitions: Json, kind: type[Choice], part: str) -> Json:
    """A section chosen by name: the named file's fields, flat beside the section's own."""
    names = discover.names(kind.kind)
    own = _add(definitions, part, kind)
    body = definitions.pop(part)
    own = {name: field for name, field in body["properties"].items() if name != "config"}
    own[kind.key]["enum"] = names
    alternatives = []
    for name in names:
        title = f"{part} {name}"
        _add(definitions, title, config_class(kind.kind, name))
        fields = definitions[title]["properties"]
        definitions[title]["properties"] = {**own, **fields}
        alternatives.append(_if_named(kind.key, name, _ref(title)))
    optional = part != "student"
    return {
        "type": ["object", "null"] if optional else "object",
        "required": [kind.key],
        "properties": {kind.key: own[kind.key]},
        "allOf": alternatives,
    }


def _sweep(definitions: Json) -> Json:
    _add(definitions, "sweep", SweepSection)
    fields = definitions["sweep"]["properties"]
    metrics: dict[str, str] = {}
    for task in discover.names("tasks"):
        metrics |= known_metrics(task)
    for part in ("objectives", "constraints"):
        fields[part]["propertyNames"] = {"enum": list(metrics)}
    fields["constraints"]["additionalProperties"]["pattern"] = r"^\s*(<=|>=|<|>)\s*[-+0-9.eE]+\s*$"
    return _ref("sweep")


def _distribution(keys: list[str]) -> Json:
    pair = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}
    whole = {**pair, "items": {"type": "integer"}}
    forms: Json = {
        "uniform": pair,
        "log_uniform": pair,
        "int": whole,
        "log_int": whole,
        "quantised": {**pair, "minItems": 3, "maxItems": 3},
        "choice": {"type": "array", "minItems": 1},
    }
    described = {
        name: {"description": (kind.__doc__ or "").split("\n")[0], **forms[name]}
        for name, kind in KINDS.items()
    }
    when = {
        "description": "Searched only while these keys have one of these values.",
        "type": "object",
        "propertyNames": {"enum": ["task", *keys]},
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**described, "when": when},
        "oneOf": [{"required": [name]} for name in KINDS],
    }


def _dotted_keys() -> dict[str, str]:
    """Every key that can be searched with some task, method and model, with its description."""
    keys: dict[str, str] = {}
    models, methods = discover.names("models"), discover.names("methods")
    for task in discover.names("tasks"):
        for index in range(max(len(models), len(methods), 1)):
            model = models[index % len(models)] if models else ""
            method = methods[index % len(methods)] if methods else ""
            named = {
                "task": task,
                "student": {"model": model},
                "teacher": {"model": model},
                "method": {"name": method},
            }
            for key, field in dotted(RunSpec, named):
                keys.setdefault(key, field.description or "")
    return {key: about for key, about in keys.items() if key != "task" and key not in HOW}


def _add(definitions: Json, title: str, kind: type[Config]) -> Json:
    """Puts a class, and what it refers to, among the definitions; gives a reference to it."""
    made = kind.model_json_schema(ref_template="#/definitions/" + title + ": {model}")
    for name, part in made.pop("$defs", {}).items():
        definitions[f"{title}: {name}"] = _draft7(part)
    definitions[title] = _draft7(made)
    return _ref(title)


def _draft7(node: Any) -> Any:
    """Rewrites what draft 7 lacks: tuples by `prefixItems`, and words beside a reference."""
    if isinstance(node, list):
        return [_draft7(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: _draft7(value) for key, value in node.items()}
    if isinstance(made.get("title"), str):
        del made["title"]  # pydantic's titles only repeat the names
    if "prefixItems" in made:
        made["items"] = made.pop("prefixItems")
        made["additionalItems"] = False
    if "$ref" in made and len(made) > 1:
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made


def _if_named(key: str, name: str, then: Json) -> Json:
    return {"if": {"required": [key], "properties": {key: {"const": name}}}, "then": then}


def _ref(title: str) -> Json:
    return {"$ref": f"#/definitions/{title}"}


def _about(kind: type[BaseModel], field: str) -> str:
    return kind.model_fields[field].description or ""
