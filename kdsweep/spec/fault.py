"""One fault of a configuration, and the error of pydantic's that carries such faults."""

from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: Keys from the root of the configuration to the culprit.
        text: What is wrong with it, to be read after the dotted key.
        hint: What would be right.
    """

    path: Path
    text: str
    hint: str = ""

    def __str__(self) -> str:
        """The dotted key, the fault, and on a second line the hint."""
        key = ".".join(str(part) for part in self.path)
        space = "" if self.text.startswith(":") or not key else " "
        words = f"{key}{space}{self.text}"
        return f"{words}\n  {self.hint}" if self.hint else words


def failure(*faults: Fault) -> ValidationError:
    """The error to raise in a validator: pydantic puts the location of the validated field before
    each fault's own path and joins it with what else is wrong."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("kdsweep", "{text}", {"text": fault.text, "hint": fault.hint}),
            loc=fault.path,
            input=None,
        )
        for fault in faults
    ]
    return ValidationError.from_exception_data("kdsweep", details)
