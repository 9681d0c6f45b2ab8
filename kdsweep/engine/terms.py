"""The weighted sum of all loss terms of one batch, and what is known of each term."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdsweep.engine.ranks import Ranks
from kdsweep.errors import NonFiniteLossError, SpecError
from kdsweep.methods.base import Method
from kdsweep.tasks.base import Task
from kdsweep.types import Batch, Taps


class Objective(nn.Module):
    """Student and method as one module, so that the gradients of both are reduced over workers.

    Attributes:
        student: The network that stays.
        method: The distillation method with its adapters, or None.
        names: Terms in the order of the values; known after the first batch.
        terms: The terms of the last batch, with their graph, until the next one.
        weights: The factor of each term in the last batch, in the order of `names`.
    """

    def __init__(
        self,
        student: nn.Module,
        method: Method | None,
        task: Task,
        *,
        task_weights: Mapping[str, float],
        method_weights: Mapping[str, float],
    ) -> None:
        """Keeps the parts.

        Args:
            student: The network that stays.
            method: The distillation method, or None without distillation.
            task: Gives the supervised terms.
            task_weights: Weight of each supervised term.
            method_weights: Weight of each of the method's terms at full strength.

        Raises:
            SpecError: Task and method use the same name for different terms.
        """
        super().__init__()
        self.student = student
        self.method = method
        self._task = task
        self._task_weights = task_weights
        self._method_weights = method_weights if method is not None else {}
        if both := set(task_weights) & set(self._method_weights):
            raise SpecError(f"task and method both have terms named {', '.join(sorted(both))}")
        self.names: tuple[str, ...] = ()
        self.terms: tuple[Tensor, ...] = ()
        self.weights = torch.empty(0)
        self._scale = -1.0

    def forward(
        self, batch: Batch, teacher: Taps, scale: float, autocast: bool
    ) -> tuple[Tensor, Tensor]:
        """Runs the student and computes the terms.

        Only the student runs in autocast: losses and adapters get float32 taps.

        Args:
            batch: On the student's device.
            teacher: The teacher's taps; empty without distillation.
            scale: Factor of the method's weights (their warm-up).
            autocast: Whether the student computes in bfloat16.

        Returns:
            The weighted sum (scalar) and the unweighted terms (detached, in the order of `names`).
        """
        device_type = next(self.student.parameters()).device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=autocast):
            taps = self.student(batch)
        if autocast:
            taps = {k: v.float() if v.is_floating_point() else v for k, v in taps.items()}
        terms = self._task.terms(taps, batch)
        if self.method is not None:
            terms = {**terms, **self.method(student=taps, teacher=teacher, batch=batch)}
        if not self.names:
            self.names = tuple(terms)
        assert self.names == tuple(terms), f"terms changed from {self.names} to {tuple(terms)}"
        self.terms = tuple(terms.values())
        values = torch.stack([term.float() for term in self.terms])
        if scale != self._scale or self.weights.device != values.device:
            self.weights = torch.tensor([self._weight(n, scale) for n in self.names]).to(values)
            self._scale = scale
        return torch.dot(values, self.weights), values.detach()

    def _weight(self, name: str, scale: float) -> float:
        if name in self._method_weights:
            return self._method_weights[name] * scale
        return self._task_weights[name]


class TermWatch:
    """Means of the terms over an epoch, and an end to the run when one is not finite.

    On CUDA the values travel to the host while the step goes on and are looked at one step later,
    so that the device never waits for the look; the CPU looks at once.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._sums: Tensor | None = None
        self._count = 0
        self._pending: tuple[Tensor, torch.cuda.Event | None, tuple[str, ...], int, int] | None
        self._pending = None

    def add(
        self, values: Tensor, weighted: Tensor, names: tuple[str, ...], at: tuple[int, int]
    ) -> None:
        """Adds a batch: the terms and their weighted sum; `at` = (epoch, step), both from 1.

        Raises:
            NonFiniteLossError: A term of this or (CUDA) the previous batch is NaN or infinite, on
                any worker; raised on every worker.
        """
        row = torch.cat([values, weighted.detach().reshape(1).to(values)])
        if self._ranks.world > 1:
            row = self._ranks.mean_(row.clone())
        self._sums = row.double() if self._sums is None else self._sums.add_(row)
        self._count += 1
        self.look()
        if row.device.type == "cuda":
            host = torch.empty(row.shape, dtype=row.dtype, pin_memory=True)
            host.copy_(row, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._pending = (host, event, names, *at)
        else:
            self._pending = (row, None, names, *at)
            self.look()

    def look(self) -> None:
        """Checks the values that wait to be checked.

        Raises:
            NonFiniteLossError: One is not finite.
        """
        if self._pending is None:
            return
        row, event, names, epoch, step = self._pending
        self._pending = None
        if event is not None:
            event.synchronize()
        values = row.tolist()
        if all(map(math.isfinite, values)):
            return
        seen = dict(zip((*names, "total"), values, strict=True))
        bad = [name for name in names if not math.isfinite(seen[name])]
        raise NonFiniteLossError(
            f"loss term {', '.join(map(repr, bad)) or 'total'} is not finite in epoch {epoch}, "
            f"step {step}: "
            + ", ".join(f"{name} = {value:.4g}" for name, value in seen.items())
            + ". A lower train.lr, train.clip_norm, or train.warmup_steps usually helps; a single "
            "bad term points to its weight or its inputs."
        )

    def means(self, names: tuple[str, ...]) -> dict[str, float]:
        """``loss/<term>`` (unweighted) and ``loss/total`` (weighted), means over the epoch.

        Raises:
            NonFiniteLossError: The last batch's values are not finite.
        """
        self.look()
        assert self._sums is not None
        means = (self._sums / self._count).tolist()
        return {f"loss/{n}": v for n, v in zip((*names, "total"), means, strict=True)}


def gradient_shares(objective: Objective) -> dict[str, float]:
    """Each term's share of the gradient that reaches the student through its last shared weights.

    With theta = the weight tensor (two or more axes) of the student that is nearest to the losses
    among those that every term depends on, and g_t = |d(w_t L_t)/d(theta)|_2, the share of term t
    is g_t / sum of all g. If no weight is shared by all terms, theta is all of the student's
    weights. Opposite gradients do not cancel in it: it tells who pulls, not where to.

    Called between forward and backward. Autograd runs only the part of the graph between the
    losses and theta, once per term, so the cost is that of the student's last layers.

    Returns:
        ``grad_share/<term>``, adding up to 1 (all 0 where every gradient is 0).
    """
    own = [p for p in objective.student.parameters() if p.requires_grad and p.ndim > 1]
    theta = _last_shared(objective.terms, own) or own
    norms = []
    for term, weight in zip(objective.terms, objective.weights, strict=True):
        if not term.requires_grad:
            norms.append(torch.zeros((), device=term.device))
            continue
        gradients = torch.autograd.grad(term, theta, retain_graph=True, allow_unused=True)
        squares = [g.float().square().sum() for g in gradients if g is not None]
        norms.append(weight * torch.stack(squares).sum().sqrt() if squares else weight * 0)
    stacked = torch.stack(norms)
    shares = (stacked / stacked.sum().clamp_min(torch.finfo(stacked.dtype).tiny)).tolist()
    return {f"grad_share/{n}": v for n, v in zip(objective.names, shares, strict=True)}


def _last_shared(terms: tuple[Tensor, ...], weights: list[nn.Parameter]) -> list[nn.Parameter]:
    """The weight tensor nearest to the losses that all terms with a graph depend on, or none."""
    wanted = {id(weight): weight for weight in weights}
    farthest: dict[int, int] | None = None
    for term in terms:
        if term.grad_fn is None:
            continue
        found: dict[int, int] = {}
        seen, layer, depth = {term.grad_fn}, [term.grad_fn], 0
        while layer:
            below = []
            for node in layer:
                variable = getattr(node, "variable", None)
                if variable is not None and id(variable) in wanted:
                    found.setdefault(id(variable), depth)
                for child, _ in node.next_functions:
                    if child is not None and child not in seen:
                        seen.add(child)
                        below.append(child)
            layer, depth = below, depth + 1
        if farthest is None:
            farthest = found
        else:
            farthest = {k: max(d, found[k]) for k, d in farthest.items() if k in found}
    if not farthest:
        return []
    return [wanted[min(farthest, key=lambda key: farthest[key])]]
