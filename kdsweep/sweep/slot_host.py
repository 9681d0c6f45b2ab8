"""The process in which the slots' trainers live: each slot is one long-lived `TorchTrainer`.

`TorchTrainer.fit()` only waits for Ray Train's controller, so all of them share one process, each
in a thread of it. It is not the driver's: what a cluster's end interrupts must not end the driver.
"""

from typing import Any

import ray
import ray.train
import ray.train.torch

from kdsweep.sweep.resources import Layout
from kdsweep.sweep.trial import NODE_ID
from kdsweep.sweep.worker import serve


class _Deaths(ray.train.UserCallback):
    """Tells the pool that a slot's workers died, so that their job can go on elsewhere at once.

    Ray Train calls it in the slot's controller.
    """

    def __init__(self, slot: str, pool: Any) -> None:
        self._slot = slot
        self._pool = pool

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self._pool.slot_lost.remote(self._slot)


class SlotHost:
    """An actor without CPU that runs slots.

    Args:
        layout: What each slot needs.
        pool: Handle of the pool's actor.
        storage: Folder or URI for Ray Train's own files.
        isolated: Give every job processes of its own, a new `TorchTrainer` each time.
    """

    def __init__(self, layout: Layout, pool: Any, storage: str, isolated: bool) -> None:
        self._layout = layout
        self._pool = pool
        self._storage = storage
        self._isolated = isolated

    def keep(self, name: str) -> None:
        """Runs one slot until the pool closes.

        Raises:
            TrainingFailedError: Ray Train gave the slot up.
            RayError: The slot's controller died.
        """
        while not ray.get(self._pool.is_closed.remote()):
            self._trainer(name, ray.get(self._pool.closed_nodes.remote())).fit()

    def _trainer(self, name: str, closed_nodes: frozenset[str]) -> ray.train.torch.TorchTrainer:
        need = self._layout.need
        elsewhere = {NODE_ID: f"!in({','.join(sorted(closed_nodes))})"} if closed_nodes else None
        return ray.train.torch.TorchTrainer(
            serve,
            train_loop_config={
                "slot": name,
                "pool": self._pool,
                "gpu_share": need.gpus if 0 < need.gpus < 1 else 1.0,
                "one_job": self._isolated,
            },
            # NCCL refuses two ranks on one GPU, so shared GPUs talk through gloo.
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if need.gpus >= 1 else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=need.workers,
                use_gpu=need.gpus > 0,
                resources_per_worker=need.per_worker,
                # Spread workers still sit on as few nodes as hold them: they exchange gradients.
                placement_strategy="STRICT_PACK" if need.packed else "PACK",
                label_selector=elsewhere,
            ),
            run_config=ray.train.RunConfig(
                name=name,
                storage_path=self._storage,
                callbacks=[_Deaths(name, self._pool)],
                # The pool bounds how often one job may kill its worker; the slot itself lives on.
                failure_config=ray.train.FailureConfig(max_failures=-1),
            ),
        )
