"""The task, the networks and the method of a run, built, and what does not fit together in them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kdsweep import discover
from kdsweep.config import weights
from kdsweep.engine.load import build_model
from kdsweep.engine.seed import seed_torch
from kdsweep.engine.teacher import restore_teacher, teacher_weights
from kdsweep.errors import CheckpointError, DataError, SpecError, TapError
from kdsweep.methods.base import Method, method_class
from kdsweep.models.base import Model
from kdsweep.spec.run import RunSpec, task_of
from kdsweep.tasks.base import Task


@dataclass
class Parts:
    """What a run is made of.

    Attributes:
        task: Its data is not read yet.
        student: With the weights it starts from, unless those are the teacher's.
        teacher: With random weights; None where none is used.
        method: None where no term of it has a weight.
        digest: Of the teacher's weights, once they are loaded; empty where none is used.
    """

    task: Task
    student: Model
    teacher: Model | None
    method: Method | None
    digest: str = ""


def build_parts(spec: RunSpec, home: Path) -> Parts:
    """Builds everything that needs no data, and so finds what does not fit together.

    Raises:
        TapError: The method cannot pair student and teacher.
        SpecError: The run contradicts itself.
        CheckpointError: Weights to start from are missing or of another shape.
        DataError: The classes cannot be counted, because the data is missing or damaged.
    """
    task = task_of(spec.task)(spec.data, spec.loss, home=home)
    model_input = task.model_input()
    seed_torch(spec.seed, "student")
    student = build_model(spec.student.model, spec.student.config, model_input)
    student.load_pretrained()
    distilled = spec.method is not None and any(weights(spec.method.config).values())
    if not distilled and not any(weights(spec.loss).values()):
        terms = [f"loss.{name}" for name in weights(spec.loss)]
        if spec.method is not None:
            terms += [f"method.{name}" for name in weights(spec.method.config)]
        raise SpecError(
            f"nothing to learn: no term has a weight above 0. Give one of {', '.join(terms)}"
        )
    sliced = spec.train.init == "sliced_teacher"
    if spec.teacher is None or not (distilled or sliced):
        return Parts(task, student, None, None)
    if sliced and not hasattr(discover.load("models", spec.student.model), "slice_from"):
        raise SpecError(
            f"train.init is sliced_teacher, but model {spec.student.model!r} has no function "
            "slice_from(student, teacher). Use train.init: random."
        )
    seed_torch(spec.seed, "teacher")
    teacher = build_model(spec.teacher.model, spec.teacher.config, model_input)
    method = None
    if spec.method is not None and distilled:
        make = method_class(discover.load("methods", spec.method.name))
        seed_torch(spec.seed, "method")
        method = make(spec.method.config, student=student.taps(), teacher=teacher.taps())
    return Parts(task, student, teacher, method)


def check_fits(runs: Iterable[tuple[str, RunSpec]], home: Path, *, data_ready: bool = True) -> None:
    """Checks of several runs what does not fit together in them, without training.

    Args:
        runs: The runs, with a label each.
        home: Folder of everything that kdsweep writes.
        data_ready: Whether their data is prepared; what takes data to know is left out otherwise.

    Raises:
        SpecError: Some are contradictory: the method cannot pair the networks, weights to start
            from are missing or of another shape, a batch is larger than the data. Lists all.
        DataError: The data is damaged.
    """
    faults: dict[str, str] = {}
    for label, spec in runs:
        try:
            check_fit(spec, home, data_ready=data_ready)
        except (TapError, SpecError, CheckpointError) as error:
            faults.setdefault(str(error), label)
        except DataError:
            if data_ready:
                raise
    if faults:
        raise SpecError("\n".join(f"{label}: {text}" for text, label in faults.items()))


def check_fit(spec: RunSpec, home: Path, *, data_ready: bool = True) -> None:
    """Checks that data, method, student and teacher of a run fit each other, without training.

    Args:
        spec: The run.
        home: Folder of everything that kdsweep writes.
        data_ready: Whether its data is prepared; neither its batches nor a teacher's file are
            looked at otherwise.

    Raises:
        TapError: The method cannot pair student and teacher.
        SpecError: The run contradicts itself, or its batch is larger than the data.
        CheckpointError: Weights to start from, or those of the teacher, are missing or of another
            shape.
        DataError: The classes cannot be counted, because the data is missing or damaged.
    """
    parts = build_parts(spec, home)
    if not data_ready:
        return
    if parts.teacher is not None and spec.teacher is not None and spec.teacher.checkpoint:
        restore_teacher(parts.teacher, spec.teacher, teacher_weights(spec, home))
    parts.task.global_batches(seed=spec.seed, epoch=0, batch_size=spec.train.batch_size)
