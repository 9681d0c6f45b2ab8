"""What a sweep may spend. When a budget is used up no new trial starts; running ones finish."""

from dataclasses import dataclass

from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.ledger import Entry, Record


@dataclass(frozen=True)
class Budget:
    """Limits of a sweep, summed over all its processes; None = no limit.

    Attributes:
        hours: Wall-clock hours.
        gpu_hours: Hours x GPUs that trials held.
        money: Price of those GPU-hours.
        price_per_gpu_hour: In the currency of `money`.
        gpus_per_trial: GPUs that a trial holds while it has a slot.
    """

    hours: float | None = None
    gpu_hours: float | None = None
    money: float | None = None
    price_per_gpu_hour: float = 0.0
    gpus_per_trial: float = 0.0

    @classmethod
    def of(cls, spec: SweepSpec) -> "Budget":
        """The limits of a sweep file."""
        limits, resources = spec.budget, spec.resources
        return cls(
            hours=limits.hours,
            gpu_hours=limits.gpu_hours,
            money=limits.money,
            price_per_gpu_hour=limits.price_per_gpu_hour or 0.0,
            gpus_per_trial=resources.workers * resources.gpus_per_worker,
        )

    def spent(self, record: Record, now_s: float) -> str:
        """Says which budget is used up, with figures; empty while none is.

        Args:
            record: What ran so far.
            now_s: Seconds since 1970.
        """
        hours = hours_used(record, now_s)
        gpu_hours = self.gpu_hours_used(record, now_s)
        money = gpu_hours * self.price_per_gpu_hour
        for name, used, limit in (
            ("hours", hours, self.hours),
            ("gpu_hours", gpu_hours, self.gpu_hours),
            ("money", money, self.money),
        ):
            if limit is not None and used >= limit:
                return f"the budget of {limit:g} {name} is spent ({used:.4g} used)"
        return ""

    def gpu_hours_used(self, record: Record, now_s: float) -> float:
        """GPU-hours that all trials held so far, those that run now included."""
        seconds = sum(
            entry.leased_s + (max(0.0, now_s - entry.leases[-1][1]) if _running(entry) else 0.0)
            for entry in record.trials.values()
        )
        return seconds * self.gpus_per_trial / 3600


def _running(entry: Entry) -> bool:
    return entry.state == "running" and bool(entry.leases)


def hours_used(record: Record, now_s: float) -> float:
    """Wall-clock hours over all processes that ran the sweep, this one up to now."""
    if not record.sessions:
        return 0.0
    return (record.wall_s + max(0.0, now_s - record.sessions[-1][1])) / 3600
