"""What one run trains: `RunSpec`, its sections chosen by name, and its identity.

The sections `data`, `loss`, `student`, `teacher` and `method` are validated by the class that the
named task, model or method file defines; nothing but the named files is imported.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kdsweep import discover
from kdsweep.config import Config, weights
from kdsweep.errors import SpecError
from kdsweep.spec.choices import Choice, MethodChoice, ModelChoice, TeacherChoice, config_class
from kdsweep.spec.fault import Fault, failure
from kdsweep.spec.train import TrainConfig
from kdsweep.tasks.base import Task, task_class

__all__ = ["Choice", "MethodChoice", "ModelChoice", "RunSpec", "TeacherChoice", "TrainConfig"]

HOW = ("data.root", "train.data_workers", "teacher.checkpoint", "teacher.train.data_workers")
"""Fields that say where or how, not what: they are no part of a run's identity."""

BY_NAME = ("student.pretrained", "teacher.pretrained")
"""Paths of which only the file's name counts in a run's identity: it holds the file's digest."""


class RunSpec(Config):
    """Everything that decides what one run trains. Frozen; equal content has an equal identity."""

    task: str
    """Which task: the name of a file in `tasks/`. It fixes batch, supervised loss and metric."""

    data: SerializeAsAny[Config] = Field(default_factory=dict)  # type: ignore[assignment]
    """Data set and augmentation: the fields of the task's `Data`."""

    loss: SerializeAsAny[Config] = Field(default_factory=dict)  # type: ignore[assignment]
    """Supervised loss: the fields of the task's `Loss`."""

    teacher: TeacherChoice | None = None
    """The network that knows: model and either checkpoint or training. Needed by every method."""

    student: ModelChoice
    """The network that learns."""

    method: MethodChoice | None = None
    """How the student learns from the teacher; without it the run is not distilled."""

    train: TrainConfig = TrainConfig()
    """Optimiser, schedule and length."""

    seed: int = 0
    """Seed of weights, sample order, augmentation and every random choice."""

    @field_validator("task")
    @classmethod
    def _known_task(cls, name: str) -> str:
        try:
            discover.load("tasks", name)
        except SpecError as error:
            raise failure(Fault((), f"names an {error}")) from None
        return name

    @field_validator("data", "loss", mode="before")
    @classmethod
    def _by_task(cls, raw: Any, info: Any) -> Config:
        if "task" not in info.data:
            raise PydanticCustomError("unchecked", "cannot be checked before the task is known")
        task = task_of(info.data["task"])
        return (task.Data if info.field_name == "data" else task.Loss).model_validate(raw)

    @model_validator(mode="after")
    def _has_teacher(self) -> "RunSpec":
        if self.teacher is None and self.method is not None:
            text = f"is missing: method {self.method.name!r} needs a teacher"
            raise failure(Fault(("teacher",), text))
        if self.teacher is None and self.train.init == "sliced_teacher":
            text = "is 'sliced_teacher', but the run has no teacher"
            raise failure(Fault(("train", "init"), text))
        return self

    def to_dict(self) -> dict[str, Any]:
        """The whole run as JSON-able values, sections flat as in a sweep file."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunSpec":
        """Validates the form that `to_dict` gives; missing fields take their defaults.

        Raises:
            SpecError: Something is wrong; the message lists every fault by its dotted key.
        """
        from kdsweep.spec.faults import explain

        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SpecError(explain(error, cls, values)) from None

    def with_overrides(self, values: Mapping[str, Any]) -> "RunSpec":
        """The same run with some fields replaced, by dotted key (``method.point_output``).

        Where a value names another model or method, that section starts from the new one's
        defaults; settings that differed from the old one's defaults stay if the new one has them.

        Raises:
            SpecError: A key is no field, or the resulting run is not valid.
        """
        return RunSpec.from_dict(self.overridden(values))

    def overridden(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What `with_overrides` validates."""
        raw = self.to_dict()
        # Names first: they decide which fields the other keys may set.
        for key in sorted(values, key=lambda key: (key.count("."), key not in NAME_KEYS, key)):
            value = copy.deepcopy(values[key])
            section = key.rpartition(".")[0]
            if key in NAME_KEYS and raw.get(section) and raw[section][NAME_KEYS[key][1]] != value:
                raw[section] = self._renamed(section, value)
            else:
                put(raw, key.split("."), value)
        return raw

    def value(self, key: str) -> Any:
        """The value of a field by dotted key, as JSON-able values.

        Raises:
            LookupError: The run has no such field.
        """
        found: Any = self.to_dict()
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                raise LookupError(key)
            found = found[part]
        return found

    def _renamed(self, section: str, name: Any) -> dict[str, Any]:
        choice: Choice = getattr(self, section)
        try:
            known = set(config_class(choice.kind, name).model_fields)
        except (SpecError, TypeError):
            known = set()
        known |= set(type(choice).model_fields) - {choice.key, "config"}
        changed = choice.model_dump(mode="json", exclude_defaults=True)
        kept = {key: value for key, value in changed.items() if key in known}
        return {**kept, choice.key: name}

    def identity(self, extra: str = "") -> str:
        """Hash of what the run computes: equal runs share it, in every process and on any machine.

        Fields that say where or how (data root, data workers, path of the teacher's checkpoint,
        folder of pretrained weights) do not count.

        Args:
            extra: Digest of the data and of the teacher's weights, where they are known.

        Returns:
            16 hexadecimal digits.
        """
        values = self.to_dict()
        for key in (*HOW, *BY_NAME):
            *parents, leaf = key.split(".")
            node: Any = values
            for parent in parents:
                node = node.get(parent) if isinstance(node, dict) else None
            if isinstance(node, dict) and leaf in node:
                value = node.pop(leaf)
                if key in BY_NAME:
                    node[leaf] = PurePath(value).name if isinstance(value, str) else value
        text = json.dumps(
            [_canonical(values), extra], sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def undistilled(self) -> "RunSpec":
        """The same run with every weight of the method 0: what the student learns by itself.

        Where the run has no supervised loss, because the teacher is all that it learns from, the
        student gets the task's default weights: it must learn from something.
        """
        alone = self._with_method_at(weight=0.0)
        if any(weights(self.loss).values()):
            return alone
        supervised = weights(task_of(self.task).Loss())
        return alone.model_copy(update={"loss": self.loss.model_copy(update=supervised)})

    def published(self) -> "RunSpec":
        """The same run with the method as its authors set it: the defaults of its class."""
        return self._with_method_at(weight=None)

    def _with_method_at(self, *, weight: float | None) -> "RunSpec":
        if self.method is None:
            return self
        settings = type(self.method.config)()
        if weight is not None:
            settings = settings.model_copy(update=dict.fromkeys(weights(settings), weight))
        method = MethodChoice(name=self.method.name, config=settings)
        return self.model_copy(update={"method": method})

    def teacher_run(self) -> "RunSpec":
        """The run that trains the teacher, with the task's loss for teachers and their own seed.

        Raises:
            SpecError: The run has no teacher, or a teacher that needs no training.
        """
        if self.teacher is None or self.teacher.train is None:
            raise SpecError("run.teacher.train is not set: there is no teacher to train")
        task = task_of(self.task)
        return RunSpec(
            task=self.task,
            data=task.teacher_data(self.data),
            loss=task.teacher_loss(self.loss),
            student=ModelChoice(model=self.teacher.model, config=self.teacher.config),
            train=self.teacher.train,
            seed=self.teacher.seed,
        )


NAME_KEYS: dict[str, tuple[discover.Kind, str]] = {
    "student.model": ("models", "model"),
    "teacher.model": ("models", "model"),
    "method.name": ("methods", "name"),
}


def task_of(name: str) -> type[Task]:
    """The task class that a run names."""
    return task_class(discover.load("tasks", name))


def put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    """Sets a value in nested mappings, making the mappings on the way."""
    *parents, leaf = path
    for parent in parents:
        if not isinstance(tree.get(parent), dict):
            tree[parent] = {}
        tree = tree[parent]
    tree[leaf] = value


def _canonical(value: Any) -> Any:
    """-0.0 and 0.0 are equal, so they must be written alike."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value
