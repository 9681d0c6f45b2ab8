"""What a person sees while a sweep runs and when it ends: one live table, or plain lines."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kdsweep.results import tables, wording
from kdsweep.spec.bounds import Bound
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep.confirm import asked_beside
from kdsweep.sweep.ledger import Entry, Record
from kdsweep.sweep.overhead import overhead
from kdsweep.sweep.progress import Row, View, view
from kdsweep.sweep.summary import results_of
from kdsweep.tracking import Where


class Display:
    """Shows a sweep on a terminal as a live table, elsewhere as one line for each trial that ends.

    Args:
        console: Where to; None shows nothing.
        objectives: Metrics with their better direction.
        trials: Sampled trials that are asked for.
        others: Baselines and confirmations that come on top.
        bounds: The constraints.
    """

    def __init__(
        self,
        console: Console | None,
        objectives: dict[str, str],
        trials: int,
        others: int = 0,
        bounds: Mapping[str, Bound] = MappingProxyType({}),
    ) -> None:
        self._console = console
        self._objectives = objectives
        self._trials = trials
        self._others = others
        self._bounds = bounds
        self._view = View()
        self._told: dict[str, str] = {}
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the live table; what is printed afterwards stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """Prints one line above the table."""
        if self._console is not None:
            self._console.print(Text(text))

    def update(self, record: Record) -> None:
        """Shows the state of a sweep; called in the thread that changes the record."""
        self._view = view(record, self._objectives, self._trials, time.time(), others=self._others)
        if self._console is None or self._live is not None:
            return
        for entry in record.trials.values():
            if entry.state != self._told.get(entry.plan.trial) and _worth_a_line(entry):
                self._console.print(Text(line(entry, self._objectives)), soft_wrap=True)
            self._told[entry.plan.trial] = entry.state

    def _render(self) -> RenderableType:
        return render(self._view, time.time())

    def summary(
        self, name: str, folder: Path, record: Record, state: str, reason: str, where: Where
    ) -> None:
        """Prints how the sweep ended, the trade-off, the overhead, and where to look next."""
        if self._console is None:
            return
        with results_of(name, folder / "journal.jsonl", where) as sweep:
            self._console.print(tables.sweep_view(sweep))
            best = wording.best_or_none(sweep) is not None
        measured = overhead(record)
        lines = [f"Overhead: {measured}."] if measured else []
        lines.append(
            f"{state.capitalize()} after {wording.duration(record.wall_s)}. {reason}".rstrip()
        )
        lines += next_steps(name, folder, state, where, best=best)
        self._console.print(Text("\n".join(lines)), soft_wrap=True)


def make_display(spec: SweepSpec, trials: int, *, quiet: bool) -> Display:
    """The display of a process: on its terminal, on its plain output, or none."""
    console = None if quiet else Console(file=sys.stdout, highlight=False)
    return Display(console, dict(spec.objectives), trials, asked_beside(spec), spec.bounds())


def next_steps(
    name: str, folder: Path, state: str, where: Where, *, best: bool = True
) -> list[str]:
    """Commands for what one does next; without a best student, those that ask for none."""
    if state != "finished":
        return [f"Go on:   {where.command('resume', name)}"]
    students, call = ("pareto", "best().load_student()") if best else ("trials", "trials()")
    look = [where.command(*words) for words in (["ui"], ["show", name], [students, name])]
    report = folder / "summary" / "report.html"
    return [
        f"Look:    {'    '.join(look)}",
        *([f"Report:  {report}"] if report.is_file() else []),
        f"Python:  {where.call(name)}.{call}",
    ]


def line(entry: Entry, objectives: dict[str, str]) -> str:
    """One line about a trial that began or ended: ``t003 finished: miou 0.412 (7 s)``."""
    if entry.state == "running":
        return f"{entry.plan.trial} starts in {entry.slot} on {entry.node}"
    values = ", ".join(
        f"{name} {wording.number(name, entry.metrics[name])}"
        for name in objectives
        if name in entry.metrics
    )
    words = [part for part in (values, entry.reason.partition("\n")[0]) if part]
    took = f" ({wording.duration(entry.leased_s)})" if entry.leases else ""
    return f"{entry.plan.trial} {entry.state}: {'; '.join(words)}{took}"


def render(shown: View, now_s: float) -> RenderableType:
    """The live table."""
    grid = Table.grid(padding=(0, 2))
    for _ in range(5):
        grid.add_column(no_wrap=True)
    for row in shown.running:
        grid.add_row(*_cells(row, now_s))
    elapsed = wording.duration(max(0.0, now_s - shown.began_s)) if shown.began_s else "0 s"
    left = ""
    if shown.left_s is not None:
        left = f", about {wording.duration(max(0.0, shown.left_s - (now_s - shown.now_s)))} left"
    counts = ", ".join(f"{count} {state}" for state, count in shown.counts.items())
    head = Text.assemble((f"{shown.stage}  ", "bold"), counts, ("  " + elapsed + left, "dim"))
    best = Text("Best so far: " + ", ".join(shown.best), style="green") if shown.best else Text()
    return Group(head, best, grid) if shown.best else Group(head, grid)


def _cells(row: Row, now_s: float) -> list[Text]:
    bar = "█" * round(20 * row.done) + "░" * (20 - round(20 * row.done))
    return [
        Text(row.trial, style="bold"),
        Text(bar, style="cyan"),
        Text(f"epoch {row.epoch}/{row.epochs}"),
        Text(row.value),
        Text(wording.duration(max(0.0, now_s - row.began_s)), style="dim"),
    ]


def _worth_a_line(entry: Entry) -> bool:
    return entry.ended or entry.state == "running"
