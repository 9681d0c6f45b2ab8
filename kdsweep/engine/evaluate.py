"""The task's metrics of a student on the validation split, whatever the number of workers."""

import torch
from torch import nn

from kdsweep.engine.data import batches
from kdsweep.engine.ranks import Ranks
from kdsweep.errors import NonFiniteLossError
from kdsweep.tasks.base import Task


@torch.no_grad()
def evaluate(
    student: nn.Module, task: Task, *, batch_size: int, ranks: Ranks, num_workers: int = 0
) -> dict[str, float]:
    """Evaluates in float32 and eval mode, each sample once; leaves the student in eval mode.

    Never in autocast, so that the exported weights give the logged metric again wherever they are
    loaded. Each worker takes every world-th sample and the evaluators merge.

    Args:
        student: The model, on the workers' device, equal on every worker.
        task: Gives validation samples and the evaluator.
        batch_size: Samples of one worker's batch.
        ranks: The workers.
        num_workers: Processes that read data.

    Returns:
        The metrics by name, equal on every worker.

    Raises:
        NonFiniteLossError: What the student gives holds NaN or infinity.
    """
    student.eval()
    dataset = task.val_set()
    own = list(range(len(dataset)))[ranks.rank :: ranks.world]  # type: ignore[arg-type]
    order = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    evaluator = task.evaluator()
    for batch in batches(dataset, order, task.collate, num_workers=num_workers):
        on_device = batch.to(ranks.device)
        try:
            evaluator.update(student(on_device), on_device)
        except NonFiniteLossError as error:
            raise NonFiniteLossError(f"in the evaluation: {error}") from error
    if ranks.world > 1:
        evaluator.merge(ranks.gather(evaluator.state()))
    return {name: float(value) for name, value in evaluator.compute().items()}
