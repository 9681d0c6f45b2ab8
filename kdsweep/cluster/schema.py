"""A JSON Schema's verdict on a cluster file, in kdsweep's words and with the line of each fault."""

from collections.abc import Mapping
from typing import Any

from kdsweep.cluster.files import Faults, Part
from kdsweep.spec.fault import Path

_TYPES = {
    "array": "a list",
    "object": "a mapping (key: value)",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "nothing",
}


def check_schema(part: Part, schema: Mapping[str, Any], faults: Faults, values: Any) -> None:
    """Notes every fault that a schema finds.

    Args:
        part: The document, for its lines.
        schema: JSON Schema, draft 7.
        faults: Takes the faults.
        values: What is judged: the document's values, or what is made of them.
    """
    import jsonschema  # type: ignore[import-untyped]

    missed: set[Path] = set()
    for error in jsonschema.Draft7Validator(schema).iter_errors(values):
        path = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            valid = sorted(error.schema.get("properties", ()))
            for key in sorted(set(error.instance) - set(valid)):
                faults.unknown(part, (*path, key), valid)
        elif error.validator == "required":
            # One error for each missing key, none of which says which it is.
            missing = [(*path, key) for key in error.validator_value if key not in error.instance]
            missed.add(now := next(key for key in missing if key not in missed))
            faults.add(part, now, "is missing")
        elif error.validator == "enum":
            faults.unknown_value(part, path, error.instance, error.validator_value)
        elif error.validator == "type":
            kinds = error.validator_value
            words = [_TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]
            faults.add(part, path, f"must be {' or '.join(words)}, not {error.instance!r}")
        else:
            faults.add(part, path, error.message)
