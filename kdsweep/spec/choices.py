"""Sections of a run that name a file: student, teacher and method.

Their settings stand flat beside the name and are validated by the named file's own configuration
class; nothing but the named file is imported.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import SerializeAsAny, model_serializer, model_validator

from kdsweep import discover
from kdsweep.config import Config
from kdsweep.errors import SpecError
from kdsweep.methods.base import MethodConfig, method_class
from kdsweep.models.base import ModelConfig
from kdsweep.spec.fault import Fault, failure
from kdsweep.spec.train import TrainConfig


def config_class(kind: discover.Kind, name: str) -> type[Config]:
    """The configuration class of a method or model file.

    Raises:
        SpecError: There is no such file.
    """
    module = discover.load(kind, name)
    return method_class(module).Config if kind == "methods" else module.Config


class Choice(Config):
    """A file chosen by name, with its configuration written flat beside the name."""

    kind: ClassVar[discover.Kind]
    key: ClassVar[str]

    config: SerializeAsAny[Config]
    """Configuration, an instance of the chosen file's `Config`."""

    @model_validator(mode="before")
    @classmethod
    def _read_flat(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        name = raw.get(cls.key)
        if not isinstance(name, str):
            text = "is missing" if name is None else "must be a name (text)"
            valid = ", ".join(discover.names(cls.kind))
            raise failure(Fault((cls.key,), text, f"Valid: {valid}."))
        try:
            of_file = config_class(cls.kind, name)
        except SpecError as error:
            raise failure(Fault((cls.key,), f"names an {error}")) from None
        if isinstance(raw.get("config"), Config):
            if type(raw["config"]) is not of_file:
                text = f"is not the configuration of {cls.kind[:-1]} {name!r}"
                raise failure(Fault(("config",), text))
            return raw
        own = set(cls.model_fields) - {"config"}
        settings = {key: value for key, value in raw.items() if key not in own}
        chosen = {key: value for key, value in raw.items() if key in own}
        return {**chosen, "config": of_file.model_validate(settings)}

    @model_serializer(mode="wrap")
    def _write_flat(self, handler: Any) -> dict[str, Any]:
        written = handler(self)
        config = written.pop("config")
        return {**written, **config}


class ModelChoice(Choice):
    """A student: a file of `models/` and its configuration, flat: ``{model: NAME, width: 0.5}``."""

    kind: ClassVar[discover.Kind] = "models"
    key: ClassVar[str] = "model"

    model: str
    """Which network: the name of a file in `models/`."""

    config: SerializeAsAny[ModelConfig]
    """Configuration of the network."""


class TeacherChoice(ModelChoice):
    """A teacher: a network whose weights are given, or trained once by the sweep."""

    checkpoint: str | None = None
    """File with the trained weights (safetensors, as kdsweep writes them)."""

    train: TrainConfig | None = None
    """Instead of a checkpoint: how to train the teacher, once for all trials. It learns the run's
    data with the task's default loss, so that searching `loss` does not train one per trial."""

    seed: int = 0
    """Seed of the teacher's own training, the same for all trials whatever their seed."""

    @model_validator(mode="after")
    def _has_weights(self) -> "TeacherChoice":
        if (self.checkpoint is None) == (self.train is None):
            given = "neither" if self.train is None else "both"
            text = (
                "needs either checkpoint (a file with weights) or train (settings to train it "
                f"once), got {given}"
            )
            raise failure(Fault((), text))
        return self


class MethodChoice(Choice):
    """A distillation method and its configuration, flat: ``{name: pvd, point_output: 0.1}``."""

    kind: ClassVar[discover.Kind] = "methods"
    key: ClassVar[str] = "name"

    name: str
    """Which method: the name of a file in `methods/`."""

    config: SerializeAsAny[MethodConfig]
    """Configuration of the method; its defaults are the published setting."""
