"""One RunSpec -> one RunResult: training, evaluation, teacher knowledge, checkpoints, profiles."""

from kdsweep.engine.load import load_student

__all__ = ["load_student"]
