"""Secrets leave no trace, names lead nowhere else, and no weight file runs code."""

import ast
import base64
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow_server import Server
from small_lidar import write_root, write_sweep
from sweep_process import command_line

import kdsweep
from kdsweep.engine import load_student
from kdsweep.engine.checkpoint import load_best, load_tensors
from kdsweep.engine.place import Place
from kdsweep.engine.run import execute
from kdsweep.engine.teacher import teacher_dir
from kdsweep.errors import CheckpointError, KdsweepError, SpecError, SweepError, TrackingError
from kdsweep.models._pretrained import load_pretrained
from kdsweep.spec.load import load_sweep
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import resume
from kdsweep.tracking import connect
from kdsweep.tracking.checks import check_artifact, check_name

SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "alice",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-Pa55/word+of=alice",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEYaws",
    "RAY_AUTH_TOKEN": "5a1f0e7c9b3d4f6a8c2e1d0b7a9f8e6c5d4b3a2f1e0d9c8b7a6f5e4d3c2b1a09",
}
IN_THE_ADDRESS = "address-Pa55word-of-alice"


@dataclass(frozen=True)
class Swept:
    """A sweep by somebody with secrets, and every place that it may have written to."""

    launched: tuple[int, str]
    asked_in_vain: tuple[int, str]
    home: Path
    server: Server
    ray: Path


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    """Real runs in processes of their own, tracked by a server at an address with a password."""
    folder = tmp_path_factory.mktemp("secrets")
    home = folder / "home"
    server = Server(folder)
    server.start()
    file = write_sweep(folder, write_root(folder / "root"))
    ray = Path(tempfile.mkdtemp(prefix="kd", dir="/tmp"))  # short: Ray's sockets lie in it
    address = server.uri.replace("://", f"://alice:{IN_THE_ADDRESS}@")
    environment = {**SECRETS, "MLFLOW_TRACKING_URI": address, "RAY_TMPDIR": str(ray)}
    launched = command_line("launch", file, "--home", home, **environment)
    server.stop()
    asked = command_line("show", "small", "--home", home, **environment)
    yield Swept(launched, asked, home, server, ray)
    shutil.rmtree(ray, ignore_errors=True)


def disguises(secret: str) -> set[bytes]:
    """A secret as it is, in an address, in JSON, and as basic authentication sends it."""
    basic = base64.b64encode(f"alice:{secret}".encode()).decode()
    return {word.encode() for word in (secret, quote(secret, safe=""), json.dumps(secret), basic)}


def leaks(*places: Path) -> list[tuple[str, str]]:
    """Files that hold a secret, with its name."""
    secrets = {name: value for name, value in SECRETS.items() if value != "alice"}
    secrets["address"] = IN_THE_ADDRESS
    found = []
    for place in places:
        for path in filter(Path.is_file, place.rglob("*")):
            content = path.read_bytes()
            found += [
                (str(path), name)
                for name, secret in secrets.items()
                if any(word in content for word in disguises(secret))
            ]
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_sweep_writes_no_secret_anywhere(swept: Swept) -> None:
    code, output = swept.launched
    assert code == 0, output
    logs = list(swept.ray.rglob("*.log"))
    assert (
        logs and (swept.home / "sweeps").is_dir() and (swept.server.folder / "mlflow.db").exists()
    )
    assert leaks(swept.home, swept.server.folder, swept.ray) == []


@pytest.mark.ray
@pytest.mark.slow
def test_no_secret_is_printed_not_even_when_the_server_is_away(swept: Swept) -> None:
    code, output = swept.asked_in_vain
    assert code == 2 and f"127.0.0.1:{swept.server.port}" in output, output
    for told in (swept.launched[1], output):
        assert IN_THE_ADDRESS not in told
        assert not [name for name, value in SECRETS.items() if value in told and value != "alice"]


def test_a_password_in_a_sweep_file_is_refused_without_repeating_it(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, tmp_path)
    word = f"sweep.tracking.uri=http://alice:{IN_THE_ADDRESS}@mlflow:5000"
    with pytest.raises(SpecError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        load_sweep(file, [word])
    assert IN_THE_ADDRESS not in str(refused.value)
    assert load_sweep(file, ["sweep.tracking.uri=http://mlflow:5000"]).tracking is not None


PARTS = ["..", ".", "a", "/", "\\", "~", "\0", "\n", "%2e", ":"]
"""What names are made of that are to lead out of a folder."""

names = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "~", "\0", "\n", "%2e", ":"])).map(
        "".join
    ),
)
quick = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


def inside(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve()) and folder != folder / name


@quick
@given(name=names)
@example(name="..")
@example(name="a\n")
@example(name="../evil")
def test_a_name_of_a_trial_or_sweep_is_one_folder_or_refused(tmp_path: Path, name: str) -> None:
    try:
        check_name("trial", name)
    except TrackingError:
        return
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()


@quick
@given(name=names)
@example(name="student/../../evil")
@example(name="/etc/passwd")
@example(name="%2e%2e/evil")
def test_a_name_of_an_artifact_stays_in_its_folder_or_is_refused(tmp_path: Path, name: str) -> None:
    try:
        check_artifact(name)
    except TrackingError:
        return
    assert inside(tmp_path, name)


@quick
@given(name=names)
@example(name="small\n")
@example(name="../../evil")
def test_a_sweep_file_gives_no_name_that_leaves_the_storage_folder(
    tmp_path: Path, name: str
) -> None:
    values = load_sweep(write_sweep(tmp_path, tmp_path)).to_dict()
    try:
        spec = SweepSpec.from_dict({**values, "name": name})
    except SpecError:
        return
    assert (tmp_path / "sweeps" / spec.name).resolve().parent == (tmp_path / "sweeps").resolve()


@quick
@given(name=names)
def test_a_resume_of_any_name_writes_nothing_outside(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    with pytest.raises(SweepError):
        resume(name, home=home, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_somebody_elses_server_cannot_lead_out_of_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tracker = connect(None, home)
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    name = "../../evil"
    experiment = client.create_experiment(
        name, artifact_location=tmp_path.as_uri(), tags={"kdsweep.owner": "kdsweep"}
    )
    run = client.create_run(experiment, tags={"kdsweep.trial": ".sweep", "kdsweep.sweep": name})
    client.log_text(run.info.run_id, "{}", "sweep.json")
    with pytest.raises(TrackingError, match="cannot be the name of a sweep"):
        tracker.fetch(name, None, "sweep.json")
    assert not (tmp_path / "evil").exists()


def test_a_teacher_is_kept_within_the_home_whatever_its_run_says(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, tmp_path)
    run = load_sweep(file, ["run.data.root=../../evil", "run.seed=7"]).run
    assert re.fullmatch("[0-9a-f]+", teacher_dir(run, tmp_path).name)
    assert teacher_dir(run, tmp_path).parent == tmp_path / "teachers"


class Bomb:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def describe(folder: Path, model: str) -> None:
    """What lies beside a student's weights."""
    model_input = {"num_classes": 3, "point_features": 9, "grid": [12, 12, 4]}
    sidecar = {"model": model, "config": {"width": 0.0625}, "model_input": model_input}
    (folder / "student.json").write_text(json.dumps(sidecar))


def as_student(path: Path, folder: Path) -> None:
    shutil.copy(path, folder / "student.safetensors")
    describe(folder, "cylinder3d")
    load_student(folder)


def as_best(path: Path, folder: Path) -> None:
    shutil.copy(path, folder / "best-0001.safetensors")
    load_best(folder, 1)


def as_teacher(path: Path, folder: Path) -> None:
    file = write_sweep(folder, write_root(folder / "root"))
    text = file.read_text().replace("train: {epochs: 1}}", f"checkpoint: {path}}}")
    file.write_text(text)
    place = Place(folder / "home", folder / "run", device="cpu", threads=1)
    execute(load_sweep(file).run, place, lambda _: True)


def as_pretrained(path: Path, folder: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    named = folder / f"resnet18-{digest}.pth"
    shutil.copy(path, named)
    load_pretrained(torch.nn.Linear(1, 1), str(named), ignore="fc.")


@pytest.mark.parametrize(
    "use", [lambda path, _: load_tensors(path), as_student, as_best, as_teacher, as_pretrained]
)
def test_a_pickle_is_refused_as_weights_and_never_run(
    tmp_path: Path, use: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "teacher.pt"
    torch.save({"w": Bomb(tmp_path / "exploded")}, path)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(CheckpointError):
        use(path, folder)
    assert not (tmp_path / "exploded").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "exploded").exists()  # the bomb was a real one


def test_a_student_cannot_name_code_to_import(tmp_path: Path) -> None:
    (tmp_path / "student.safetensors").write_bytes(b"")
    for name in ("os", "../evil", "_pretrained", "kdsweep.cli"):
        describe(tmp_path, name)
        with pytest.raises(KdsweepError):
            load_student(tmp_path)


UNPICKLES = {
    ("torch", "load"): {"models/_pretrained.py"},  # with weights_only, after its digest; see below
    ("pickle", "load"): set(),
    ("pickle", "loads"): set(),
    ("joblib", "load"): set(),
    ("cloudpickle", "loads"): set(),
    ("yaml", "load"): set(),
    ("yaml", "unsafe_load"): set(),
    ("yaml", "full_load"): set(),
}


def test_nothing_in_the_package_unpickles() -> None:
    package = Path(kdsweep.__file__).parent
    found: dict[tuple[str, str], set[str]] = {}
    for path in package.rglob("*.py"):
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            keywords = {word.arg: word.value for word in call.keywords}
            assert "allow_pickle" not in keywords, path
            if not isinstance(call.func, ast.Attribute):
                continue
            name = (ast.unparse(call.func.value), call.func.attr)
            if name in UNPICKLES:
                found.setdefault(name, set()).add(str(path.relative_to(package)))
            if name == ("torch", "load"):
                assert ast.literal_eval(keywords["weights_only"]) is True
    assert all(places <= UNPICKLES[name] for name, places in found.items()), found
