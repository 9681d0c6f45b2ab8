"""The training loop: it sees named loss terms, never the method or the task behind them."""

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdsweep.engine import checkpoint
from kdsweep.engine.clock import STAGES, StageClock, memory_named
from kdsweep.engine.data import batches, check_share, epoch_order
from kdsweep.engine.evaluate import evaluate
from kdsweep.engine.knowledge import Knowledge, TeacherBatch
from kdsweep.engine.ranks import Ranks
from kdsweep.engine.report import Progress, Report
from kdsweep.engine.schedule import distillation_scale, learning_rate
from kdsweep.engine.seed import seed_torch
from kdsweep.engine.terms import Objective, TermWatch, gradient_shares
from kdsweep.errors import CheckpointError, SpecError
from kdsweep.methods.base import Method
from kdsweep.spec.train import TrainConfig
from kdsweep.tasks.base import Task


@dataclass(frozen=True)
class Job:
    """Everything a training needs, built.

    Attributes:
        task: Gives data, supervised terms and the metric; its data is prepared.
        student: The network to train, on any device.
        train: Optimiser, schedule and length.
        task_weights: Weight of each supervised term.
        method: The distillation method with at least one active term, or None.
        method_weights: Weight of each of the method's terms; those of weight 0 are not computed.
        knowledge: The teacher's taps, where there is a method.
        seed: Of shuffling, augmentation and every random choice of a step.
        folder: The checkpoint folder.
        identity: Of spec, data and teacher: only a checkpoint of the same one is resumed.
        ranks: The workers.
        desk: Of the first worker, see `claim`.
    """

    task: Task
    student: nn.Module
    train: TrainConfig
    task_weights: Mapping[str, float]
    folder: Path
    ranks: Ranks
    desk: Path | None = None
    method: Method | None = None
    method_weights: Mapping[str, float] = field(default_factory=dict)
    knowledge: Knowledge | None = None
    seed: int = 0
    identity: str = ""


@dataclass
class Trained:
    """Where a training stands; all of it but the weights is in every checkpoint.

    Attributes:
        epoch: Epochs done.
        best_epoch: The epoch after which the official metric was best, the earlier of equals.
        best_metrics: The task's metrics after that epoch.
        last_metrics: What was reported after the last epoch.
        seconds: Wall seconds of each stage and, as ``total``, of the whole loop.
        stopped: Whether a report asked to stop before the last epoch.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    last_metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys((*STAGES, "total"), 0.0)
    )
    stopped: bool = False


def train_loop(job: Job, report: Report) -> Trained:
    """Trains to the last epoch or until a report asks to stop, from the checkpoint if there is one.

    A resumed training has, bit for bit, the weights of one that was never interrupted: the state
    at the end of an epoch is complete, and all random numbers of a step follow from (seed, epoch,
    step, worker). The last epoch's report is given again on resuming, since whoever stopped may
    not have received it; receivers must not mind.

    Each report holds the task's metrics (in evaluated epochs), ``loss/<term>`` and ``loss/total``
    (`TermWatch.means`), ``grad_share/<term>`` (`gradient_shares`, first batch), ``lr`` (of the last
    step), ``epoch`` and ``seconds/<stage>`` of the epoch.

    The *best epoch* by the task's official metric is the result, as is customary for these networks
    (Cylinder3D's released training keeps its best validation checkpoint). The choice is made on the
    validation split, by the same rule for every trial of a sweep, baselines included; figures on it
    are therefore slightly optimistic for all of them alike.

    Raises:
        NonFiniteLossError: A term became NaN or infinite; names it.
        ResourceError: Memory or disk ran out; names stage or file.
        CheckpointError: The checkpoint is damaged or belongs to another run.
        SpecError: The batch cannot be split over the workers, or leaves one too few samples, or
            the training split is empty.
        SupersededError: A later attempt has taken the run over.
    """
    check_share(job.task, job.train.batch_size, job.ranks.world)
    return _Loop(job).run(report)


class _Loop:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.ranks = job.ranks
        self.local_batch = job.train.batch_size // job.ranks.world
        self.clock = StageClock(job.ranks.device)
        self.objective = Objective(
            job.student,
            job.method,
            job.task,
            task_weights=job.task_weights,
            method_weights=job.method_weights,
        ).to(job.ranks.device)
        self.parameters = [p for p in self.objective.parameters() if p.requires_grad]
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[job.train.optimizer]
        self.optimizer = make(
            self.parameters, lr=job.train.lr, weight_decay=job.train.weight_decay, fused=True
        )
        self.state = self._resume()
        # Unused parameters are found anew in every step: a term may leave an adapter out.
        self.forward = (
            DistributedDataParallel(
                self.objective, find_unused_parameters=True, gradient_as_bucket_view=True
            )
            if self.ranks.world > 1
            else self.objective
        )

    def run(self, report: Report) -> Trained:
        state, epochs = self.state, self.job.train.epochs
        if state.epoch and self._asked_to_stop(report):
            return state
        while state.epoch < epochs:
            began = time.perf_counter()
            with memory_named(self.clock, self.local_batch):
                metrics = self._train_epoch(state.epoch)
                state.epoch += 1
                improved = self._evaluate(metrics)
            with self.clock("checkpoint"):
                self._save(improved, metrics, time.perf_counter() - began)
            self._count_checkpoint(metrics)
            if self._asked_to_stop(report):
                break
        return state

    def _asked_to_stop(self, report: Report) -> bool:
        state, epochs = self.state, self.job.train.epochs
        go_on = report(Progress("train", state.epoch, epochs, dict(state.last_metrics)))
        state.stopped = self.ranks.any(not go_on) and state.epoch < epochs
        return state.stopped

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        job, train, ranks = self.job, self.job.train, self.ranks
        with self.clock("data"):
            dataset = job.task.train_set(seed=job.seed, epoch=epoch, views=train.views)
            order = epoch_order(
                len(dataset),  # type: ignore[arg-type]
                train.batch_size,
                seed=job.seed,
                epoch=epoch,
                rank=ranks.rank,
                world=ranks.world,
                chosen=job.task.global_batches(
                    seed=job.seed, epoch=epoch, batch_size=train.batch_size
                ),
            )
            if not order:
                raise SpecError("the training split is empty: there is nothing to learn from")
            collate = job.knowledge.collate(job.task.collate) if job.knowledge else job.task.collate
            items = batches(dataset, order, collate, num_workers=train.data_workers)
        self.objective.train()
        watch, shares, lr = TermWatch(ranks), {}, train.lr
        steps_per_epoch = math.ceil(len(order) / train.accumulate)
        for i in range(len(order)):
            with self.clock("data"):
                item = next(items)
            group = i // train.accumulate
            in_group = min(train.accumulate, len(order) - group * train.accumulate)
            ends_group = (i + 1) % train.accumulate == 0 or i + 1 == len(order)
            scale = distillation_scale(epoch + (i + 1) / len(order), train.kd_warmup_epochs)
            alone = contextlib.nullcontext() if ends_group else self._no_reduction()
            with alone:
                total, values = self._forward(item, epoch, i, scale)
                watch.add(values, total, self.objective.names, (epoch + 1, i + 1))
                with self.clock("backward"):
                    if i == 0:
                        shares = gradient_shares(self.objective)
                    (total / in_group).backward()
                self.objective.terms = ()
            if ends_group:
                with self.clock("optimiser"):
                    lr = self._step(epoch * steps_per_epoch + group, train.epochs * steps_per_epoch)
        means = watch.means(self.objective.names)
        return {**means, **self._over_workers(shares), "lr": lr, "epoch": float(epoch + 1)}

    def _no_reduction(self) -> contextlib.AbstractContextManager[Any]:
        if isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return contextlib.nullcontext()

    def _forward(self, item: Any, epoch: int, step: int, scale: float) -> tuple[Tensor, Tensor]:
        with self.clock("data"):
            batch = item.batch if isinstance(item, TeacherBatch) else item
            batch = batch.to(self.ranks.device)
        with self.clock("teacher"):
            knowledge = self.job.knowledge
            stored = isinstance(item, TeacherBatch)
            taps = knowledge(item if stored else batch) if knowledge is not None else {}
        with self.clock("forward"):
            seed_torch(self.job.seed, "step", epoch, step, self.ranks.rank)
            total, values = self.forward(batch, taps, scale, self.job.train.amp == "bfloat16")
        return total, values

    def _step(self, step: int, num_steps: int) -> float:
        train = self.job.train
        lr = learning_rate(train, step, num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if train.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.parameters, train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return lr

    def _over_workers(self, metrics: dict[str, float]) -> dict[str, float]:
        if self.ranks.world == 1:
            return metrics
        values = torch.tensor(list(metrics.values()), device=self.ranks.device)
        return dict(zip(metrics, self.ranks.mean_(values).tolist(), strict=True))

    def _evaluate(self, metrics: dict[str, float]) -> bool:
        """Adds the task's metrics where the epoch is evaluated; tells whether it is the best."""
        state, job = self.state, self.job
        if state.epoch % job.train.val_every and state.epoch < job.train.epochs:
            return False
        with self.clock("evaluate"):
            self.ranks.broadcast_(list(job.student.buffers()))
            figures = evaluate(
                job.student,
                job.task,
                batch_size=self.local_batch,
                ranks=self.ranks,
                num_workers=job.train.data_workers,
            )
        metrics.update(figures)
        if state.best_epoch and not _better(figures, state.best_metrics, job.task):
            return False
        state.best_epoch, state.best_metrics = state.epoch, figures
        return True

    def _save(self, improved: bool, metrics: dict[str, float], wall: float) -> None:
        state, job = self.state, self.job
        for stage, seconds in self.clock.take().items():
            state.seconds[stage] += seconds
            metrics[f"seconds/{stage}"] = seconds
        state.seconds["total"] += wall
        metrics["seconds/total"] = wall
        state.last_metrics = metrics

        def write() -> None:
            adapters = job.method.state_dict() if job.method is not None else {}
            weights = {
                **checkpoint.prefixed("student", job.student.state_dict()),
                **checkpoint.prefixed("method", adapters),
            }
            tensors = {
                **weights,
                **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            }
            facts = {
                "identity": job.identity,
                "best_metrics": state.best_metrics,
                "last_metrics": state.last_metrics,
                "seconds": state.seconds,
            }
            checkpoint.save(
                job.folder,
                state.epoch,
                tensors,
                facts,
                best_epoch=state.best_epoch,
                best=weights if improved else None,
                desk=job.desk,
            )

        self.ranks.from_first(write)

    def _count_checkpoint(self, metrics: dict[str, float]) -> None:
        """Counts the time of writing a checkpoint, which could not be in the checkpoint itself."""
        seconds = self.clock.take()["checkpoint"]
        metrics["seconds/checkpoint"] += seconds
        metrics["seconds/total"] += seconds
        self.state.seconds["checkpoint"] += seconds
        self.state.seconds["total"] += seconds

    def _resume(self) -> Trained:
        job = self.job
        loaded = self.ranks.from_first(lambda: checkpoint.load(job.folder))
        if loaded is None:
            return Trained()
        tensors, facts = loaded
        if facts["identity"] != job.identity:
            raise CheckpointError(
                f"{job.folder} holds a checkpoint of run {facts['identity']}, this is run "
                f"{job.identity}: spec, data or teacher differ. Use another folder or remove it."
            )
        checkpoint.restore(
            job.student, checkpoint.without_prefix("student", tensors), source=job.folder
        )
        if job.method is not None:
            own = checkpoint.without_prefix("method", tensors)
            checkpoint.restore(job.method, own, source=job.folder)
        checkpoint.restore_optimizer(
            self.optimizer, checkpoint.without_prefix("optimizer", tensors)
        )
        return Trained(
            epoch=facts["epoch"],
            best_epoch=facts["best_epoch"],
            best_metrics=facts["best_metrics"],
            last_metrics=facts["last_metrics"],
            seconds=facts["seconds"],
        )


def _better(figures: Mapping[str, float], best: Mapping[str, float], task: Task) -> bool:
    name, direction = next(iter(task.metrics.items()))
    new, old = figures[name], best[name]
    if math.isnan(old) or math.isnan(new):
        return math.isnan(old) and not math.isnan(new)
    return new > old if direction == "max" else new < old
