"""What users ask of a sweep afterwards: trials, the best, the front, importance, a report."""

from kdsweep.results.gain import Gain
from kdsweep.results.opening import list_sweeps, open_sweep
from kdsweep.results.report import write_report
from kdsweep.results.summary import summarise
from kdsweep.results.sweep import Sweep
from kdsweep.results.trial import Trial

__all__ = [
    "Gain",
    "Sweep",
    "Trial",
    "list_sweeps",
    "open_sweep",
    "summarise",
    "write_report",
]
