"""Whether an undistilled student was trained as a distilled one was, but for the method."""

from collections.abc import Mapping
from typing import Any

from kdsweep.errors import SpecError, TrackingError
from kdsweep.tracking import TrackingUnavailable, TrialRecord


def trained_alike(student: TrialRecord, undistilled: TrialRecord) -> bool:
    """Whether one is the other's run with the method off; their seeds may differ.

    Reads both runs from the store: ask it of few, such as the baselines of the student's size.

    Args:
        student: A distilled student.
        undistilled: An undistilled one.

    Returns:
        False also where the store does not say what one of them was.

    Raises:
        TrackingUnavailable: The store does not answer.
    """
    own, other = _run(student), _run(undistilled)
    if not own or not other or _rest(own) != _rest(other):
        return False
    if own.get("loss") == other.get("loss"):
        return True
    from kdsweep.spec.run import RunSpec  # loads the task, and torch with it

    try:  # a student that learnt from the teacher alone got a supervised loss to learn without it
        return RunSpec.from_dict(own).undistilled().loss == RunSpec.from_dict(other).loss
    except SpecError:  # written by another version, or with a network that is not installed here
        return False


def _run(record: TrialRecord) -> Mapping[str, Any]:
    try:
        return record.spec()
    except TrackingUnavailable:
        raise
    except TrackingError:
        return {}


def _rest(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ("method", "loss", "seed")}
