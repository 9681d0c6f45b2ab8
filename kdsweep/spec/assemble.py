"""The values of a sweep file to a `SweepSpec`, or to all of its faults at once.

Each section is validated by itself. Where one has faults, the rest of the file is still checked
against what of it can be used, so that a user mends a file in one go.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from kdsweep.config import Config
from kdsweep.errors import did_you_mean
from kdsweep.spec.fault import Fault, Path
from kdsweep.spec.faults import shown, translate
from kdsweep.spec.rules import sweep_faults, teacher_faults
from kdsweep.spec.rules_space import space_faults, start_faults
from kdsweep.spec.run import RunSpec
from kdsweep.spec.space import Distribution, read_distribution
from kdsweep.spec.sweep import SweepSection, SweepSpec

SECTIONS = ("run", "sweep", "space", "start")
ConfigT = TypeVar("ConfigT", bound=Config)


def assemble(values: Mapping[str, Any]) -> tuple[SweepSpec | None, list[Fault]]:
    """Validates the values of a sweep file.

    Args:
        values: The file's mapping, with the sections run, sweep, space and start.

    Returns:
        The sweep and no faults, or None and the faults; their paths are those of the file.
    """
    faults = [
        Fault((key,), "is not a section of a sweep file", did_you_mean(key, SECTIONS))
        for key in values
        if key not in SECTIONS
    ]
    run, run_faults = _read_section(RunSpec, values, "run")
    sweep, section_faults = _read_section(SweepSection, values, "sweep")
    space, space_read_faults = _read_space(values.get("space"))
    start, start_read_faults = _read_start(values.get("start"))
    faults += [*run_faults, *section_faults, *space_read_faults, *start_read_faults]

    # With a run that had faults, only what surely does not depend on them is reported.
    unread = [str(fault.path[1]) for fault in space_read_faults if len(fault.path) > 1]
    if sweep is not None:
        checked = sweep_faults(sweep, run, space, mended=bool(run_faults))
        faults += [Fault(("sweep", *fault.path), fault.text, fault.hint) for fault in checked]
        if run is not None and not run_faults:
            faults += teacher_faults(sweep, run)
    if run is not None:
        faults += space_faults(run, space, unread=unread, mended=bool(run_faults))
        if not run_faults:
            faults += start_faults(run, space, start, unread=unread)
    if faults or run is None or sweep is None:
        return None, faults
    own = {name: getattr(sweep, name) for name in SweepSection.model_fields}
    return SweepSpec(**own, run=run, space=space, start=tuple(start)), []


def _read_section(
    kind: type[ConfigT], values: Mapping[str, Any], name: str
) -> tuple[ConfigT | None, list[Fault]]:
    """One section, and its faults; a section with faults is mended by leaving out the culprits."""
    given = values.get(name)
    if not isinstance(given, Mapping):
        text = (
            "is missing" if given is None else f"must be a mapping (key: value), got {shown(given)}"
        )
        return None, [Fault((name,), text)]
    try:
        return kind.model_validate(given), []
    except ValidationError as error:
        faults = translate(error, kind, given, prefix=(name,))
    try:
        return kind.model_validate(_without(given, [fault.path[1:] for fault in faults])), faults
    except ValidationError:
        return None, faults


def _without(values: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    mended = copy.deepcopy(dict(values))
    for path in paths:
        node: Any = mended
        for part, below in zip(path, [*path[1:], None], strict=True):
            if not isinstance(node, dict) or part not in node:
                break
            if below is None or not isinstance(node[part], dict):
                del node[part]
                break
            node = node[part]
    return mended


def _read_space(given: Any) -> tuple[dict[str, Distribution], list[Fault]]:
    if given is None:
        return {}, []
    if not isinstance(given, Mapping):
        text = f"must be a mapping of dotted keys to distributions, got {shown(given)}"
        return {}, [Fault(("space",), text)]
    space: dict[str, Distribution] = {}
    faults: list[Fault] = []
    for key, raw in given.items():
        try:
            space[key] = read_distribution(raw)
        except ValidationError as error:
            faults += translate(error, Distribution, raw, prefix=("space", key))
    return space, faults


def _read_start(given: Any) -> tuple[list[dict[str, Any]], list[Fault]]:
    if given is None:
        return [], []
    if not isinstance(given, list):
        return [], [Fault(("start",), f"must be a list of points, got {shown(given)}")]
    faults = [
        Fault(("start", index), f"must be a mapping of searched keys to values, got {shown(point)}")
        for index, point in enumerate(given)
        if not isinstance(point, Mapping)
    ]
    return [dict(point) for point in given if isinstance(point, Mapping)], faults
