"""Every error that kdsweep raises on purpose.

Each message says where, what was given, what is valid (nearest first) and what to do. All of them
survive pickling, because they cross processes: give the whole message as the only argument.
"""

import difflib
from collections.abc import Iterable


class KdsweepError(Exception):
    """Base of all errors that kdsweep raises on purpose."""


class SpecError(KdsweepError, ValueError):
    """A sweep file, override or configuration is wrong. The message lists every fault found."""


class DataError(KdsweepError, ValueError):
    """A data root or data file is missing, damaged or inconsistent. The message names the file."""


class TapError(KdsweepError, ValueError):
    """A method needs a tap that a model does not give, or two taps do not fit each other."""


class CheckpointError(KdsweepError, ValueError):
    """A checkpoint is missing, damaged, or belongs to another model."""


class ResourceError(KdsweepError, RuntimeError):
    """What was asked for (a GPU, memory, workers) is not there."""


class StorageError(ResourceError):
    """The storage that keeps a sweep's files does not answer, or holds damaged ones."""


class SupersededError(KdsweepError, RuntimeError):
    """A later attempt has taken a run over: this one may write nothing more."""


class NonFiniteLossError(KdsweepError, ArithmeticError):
    """A loss term became NaN or infinite. The message names the term, epoch and step."""


class TrackingError(KdsweepError, RuntimeError):
    """The tracking store cannot be reached or does not hold what was asked for."""


class SweepError(KdsweepError, RuntimeError):
    """A sweep cannot be started, resumed or found."""


def nearest(given: str, valid: Iterable[str]) -> list[str]:
    """Orders valid names by likeness to the given one, nearest first."""
    names = sorted(valid)
    return sorted(
        names, key=lambda name: -difflib.SequenceMatcher(None, given.lower(), name.lower()).ratio()
    )


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """Builds the closing words of a message about an unknown name.

    Returns:
        ``"Did you mean X? Valid: X, Y, Z."`` with the nearest name first, or only the list of
        valid names when none is alike.
    """
    names = nearest(given, valid)
    if not names:
        return "There are none."
    likeness = difflib.SequenceMatcher(None, given.lower(), names[0].lower()).ratio()
    hint = f"Did you mean {names[0]}? " if likeness >= 0.6 else ""
    return f"{hint}Valid: {', '.join(names)}."
