"""The house: a package imports only those below it, and heavy libraries stay in their rooms."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdsweep"
FLOORS = (
    ("__main__",),
    ("cli",),
    ("sweep", "cluster"),
    ("results",),
    ("tracking",),
    ("engine",),
    ("spec",),
    ("tasks",),
    ("methods",),
    ("models",),
    ("data",),
    ("losses", "geometry", "metrics"),
    ("types", "config", "discover", "environment", "errors", "home"),
)
"""From the roof to the ground; rooms of one floor do not import each other, but for the ground."""

ROOMS = {
    "ray": {"sweep", "cluster"},
    "optuna": {"sweep", "results"},
    "mlflow": {"tracking"},
    "spconv": {"models"},
    "trimesh": {"data"},
    "embreex": {"data"},
    "plotly": {"results"},
}
"""Which packages may import a heavy library."""


def floor(name: str) -> int:
    return next(height for height, names in enumerate(reversed(FLOORS)) if name in names)


def imports(text: str, package: str) -> Iterator[tuple[int, str]]:
    """Every module that a source text imports, inside functions too, with the line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: package.count(".") + 2 - node.level]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            if base == "kdsweep":  # from kdsweep import errors
                yield from ((node.lineno, f"kdsweep.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    package = ".".join(path.relative_to(PACKAGE.parent).parts[:-1])
    return imports(path.read_text(encoding="utf-8"), package)


def sources() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield path, parts[0]


def test_every_package_has_its_floor():
    assert {name for _, name in sources()} <= {name for names in FLOORS for name in names}


def test_a_package_imports_only_those_below_it():
    known = {name for names in FLOORS for name in names}
    wrong = []
    for path, name in sources():
        for line, module in imports_of(path):
            parts = module.split(".")
            if parts[0] != "kdsweep" or len(parts) == 1 or parts[1] == name:
                continue
            if parts[1] in known and floor(parts[1]) >= floor(name) > 0:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {name} imports {module}")
    assert wrong == []


def test_heavy_libraries_stay_in_their_rooms():
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {module}"
        for path, name in sources()
        for line, module in imports_of(path)
        if name not in ROOMS.get(module.split(".")[0], {name})
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import ray.tune as t, os", ["ray.tune", "os"]),
        ("def f():\n    from ray import tune", ["ray"]),
        ("from kdsweep import sweep, errors", ["kdsweep.sweep", "kdsweep.errors"]),
        ("from kdsweep.sweep.run import x", ["kdsweep.sweep.run"]),
        ("from .run import x", ["kdsweep.engine.run"]),
        ("from . import run", ["kdsweep.engine"]),
        ("from .. import sweep", ["kdsweep.sweep"]),
        ("from ..sweep import x", ["kdsweep.sweep"]),
    ],
)
def test_imports_are_found_however_they_are_written(text, found):
    assert [module for _, module in imports(text, "kdsweep.engine")] == found


HEAVY = ("torch", "ray", "mlflow", "optuna", "pandas", "spconv", "pydantic")


def loaded_by(code: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in told.stdout.split()}


def test_importing_kdsweep_loads_nothing_heavy():
    assert not loaded_by("import kdsweep") & set(HEAVY)


@pytest.mark.skipif(not [*PACKAGE.glob("cli*")], reason="there is no command line yet")
def test_help_loads_neither_torch_nor_ray_nor_mlflow():
    code = """\
import contextlib, io, sys
sys.argv = ["kdsweep", "--help"]
from kdsweep.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""
    assert not loaded_by(code) & {"torch", "ray", "mlflow", "optuna", "pandas", "spconv"}


def test_reading_a_sweep_file_loads_neither_ray_nor_mlflow():
    space = PACKAGE.parent / "search_spaces" / "quickstart.yaml"
    code = f"from kdsweep.spec.load import load_sweep\nload_sweep({str(space)!r})"
    assert not loaded_by(code) & {"ray", "mlflow", "optuna"}


@pytest.mark.parametrize("command", [["check"], ["launch", "--home", "home"]])
def test_without_spconv_a_sweep_that_needs_it_is_refused_in_one_message(command, tmp_path):
    space = PACKAGE.parent / "search_spaces" / "quickstart.yaml"
    code = f"""\
import sys
sys.modules["spconv"] = None  # as if it were not installed
sys.argv = ["kdsweep", *{command!r}, {str(space)!r}]
from kdsweep.cli import main
main()
"""
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert told.stderr.startswith("kdsweep: this model needs spconv")
    assert "Traceback" not in told.stderr
    assert not [*tmp_path.iterdir()]


def test_without_spconv_sweeps_of_images_are_read():
    space = PACKAGE.parent / "search_spaces" / "digits.yaml"
    code = f"""\
import sys
sys.modules["spconv"] = None
from kdsweep.spec.load import load_sweep
load_sweep({str(space)!r})
"""
    assert "torch" in loaded_by(code)
