"""Registers a sweep's best student in MLflow's model registry, as code over safetensors."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import kdsweep
from kdsweep.errors import TrackingError
from kdsweep.tracking._store import found_already

_CODE = Path(__file__).with_name("model.py")
_ALIAS = "best"
_OWNER, _TRIAL = "kdsweep.owner", "kdsweep.trial"


def register(client: Any, *, sweep: str, trial: str, run_id: str, student: Path) -> str:
    """Makes the student of a trial the version that the alias ``best`` of the sweep names.

    Args:
        client: An MLflow client.
        sweep: Name of the sweep, and so of the registered model.
        trial: Id of the trial.
        run_id: The trial's run.
        student: Folder with ``student.safetensors`` and ``student.json``.

    Returns:
        The URI of the model, ``models:/<sweep>@best``.

    Raises:
        TrackingError: Somebody else's model has the name.
    """
    _own_model(client, sweep)
    found = [
        version
        for version in client.search_model_versions(f"name = '{sweep}'")
        if version.run_id == run_id
    ]
    if found:
        version = found[0].version
    else:
        if "model" not in {file.path for file in client.list_artifacts(run_id)}:
            _upload_model(client, run_id, student)
        created = client.create_model_version(
            sweep,
            source=f"runs:/{run_id}/model",
            run_id=run_id,
            tags={_TRIAL: trial},
            description=f"Best student of sweep {sweep}: trial {trial}.",
        )
        version = created.version
    client.set_registered_model_alias(sweep, _ALIAS, version)
    return f"models:/{sweep}@{_ALIAS}"


def _own_model(client: Any, sweep: str) -> None:
    models = client.search_registered_models(f"name = '{sweep}'")
    if not models:
        with found_already():
            client.create_registered_model(
                sweep,
                tags={_OWNER: "kdsweep"},
                description=f"Students found by the kdsweep sweep {sweep}; the alias names the "
                "best.",
            )
        models = client.search_registered_models(f"name = '{sweep}'")
    if models[0].tags.get(_OWNER) != "kdsweep":
        raise TrackingError(
            f"the registry holds a model {sweep!r} that is not kdsweep's, so the best student of "
            "the sweep was not registered. Rename that model; the student is kept with its trial."
        )


def _upload_model(client: Any, run_id: str, student: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="kdsweep-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MLflow on type hints, its own included
        from mlflow import pyfunc

        path = Path(folder) / "model"
        pyfunc.save_model(
            str(path),
            python_model=str(_CODE),
            artifacts={"student": str(student)},
            pip_requirements=[f"kdsweep=={kdsweep.__version__}"],  # else MLflow guesses, slowly
        )
        client.log_artifacts(run_id, str(path), "model")
