"""The strict base of every configuration, and the field types that configurations share."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError


class Config(BaseModel):
    """A frozen configuration that rejects unknown keys and documents its fields by docstring."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name:
            parts = _parts(cls.model_fields[info.field_name].annotation)
            if not parts & {bool, Any} and parts & {int, float}:
                raise PydanticKnownError("float_type" if float in parts else "int_type")
        return value


def _parts(annotation: Any) -> set[Any]:
    """The types that an annotation is made of, itself included."""
    return {annotation}.union(*(_parts(part) for part in get_args(annotation)))


class WeightMark:
    """Marks a field as the weight of the loss term that carries the field's own name."""


Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False), WeightMark()]
"""Weight of a loss term, >= 0; 0 switches the term off."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def weights(config: Config) -> dict[str, float]:
    """The loss weights of a configuration, keyed by term: the fields typed `Weight`."""
    return {
        name: getattr(config, name)
        for name, field in type(config).model_fields.items()
        if any(isinstance(mark, WeightMark) for mark in field.metadata)
    }
