"""One process that runs a sweep: from the open journal to the recorded end."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdsweep.engine import files
from kdsweep.engine.parts import check_fits
from kdsweep.engine.teacher import teacher_dir
from kdsweep.errors import SweepError
from kdsweep.spec.check import kinds
from kdsweep.spec.inputs import inputs_of
from kdsweep.spec.run import RunSpec, task_of
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import connection
from kdsweep.sweep.admission import Admission
from kdsweep.sweep.background import Background
from kdsweep.sweep.budget import Budget
from kdsweep.sweep.copies import SweepCopies
from kdsweep.sweep.interrupt import Interrupt
from kdsweep.sweep.jobs import Job
from kdsweep.sweep.keep import prune
from kdsweep.sweep.ledger import Ledger, Plan, Record
from kdsweep.sweep.planner import TEACHER, Planner
from kdsweep.sweep.resources import Layout, Need, plan_layout
from kdsweep.sweep.settings import Settings

_JOIN_S = 300.0
"""So long may nodes take to join a cluster on which no trial fits yet: it may just be starting."""


@dataclass(frozen=True)
class End:
    """How a session ended.

    Attributes:
        state: ``finished``, ``interrupted`` or ``failed``.
        reason: Why, where it did not run as asked for.
        over_budget: Whether a limit of the sweep kept it from doing more.
    """

    state: str
    reason: str = ""
    over_budget: bool = False


Changed = Callable[[Record], None]
Note = Callable[[str], None]


class Session:
    """Runs the trials of a sweep on Ray.

    Args:
        spec: The sweep.
        settings: How this process runs it.
        ledger: Its open record.
        changed: Called in the driver's thread after every change.
        note: Shows one line to the user.
        copies: Copies of the sweep in remote storage, where its home is there.
    """

    def __init__(
        self,
        spec: SweepSpec,
        settings: Settings,
        ledger: Ledger,
        changed: Changed,
        note: Note,
        copies: SweepCopies | None = None,
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._ledger = ledger
        self._changed = changed
        self._note = note
        self._copies = copies

    def run(self, interrupt: Interrupt) -> End:
        """Runs until nothing is left to do, or until it is interrupted.

        Raises:
            KdsweepError: Data, resources or the record make it impossible to go on.
        """
        spent = Budget.of(self._spec).spent(self._ledger.record, time.time())
        if spent:  # by earlier processes: nothing could start
            return self._end(spent, over_budget=True)
        connection.set_environment()
        need = _need(self._spec)
        stays = connection.is_connected()
        joins = stays or self._settings.address is not None
        node = None if joins else connection.local_node()
        if node is not None:  # what fits nowhere is refused before Ray takes its time to start
            plan_layout(need, [node])
        data = Background(self._prepare_data)
        imports = Background(_import_ray_libraries)
        from ray.exceptions import RayError

        log = self._settings.folder / "ray.log"
        with connection.connected(self._settings.address, node, log):
            try:
                with self._nodes(need) as nodes:
                    imports.result()
                    wait_s = 0.0 if self._settings.address is None else _JOIN_S
                    view = nodes.begin(self._concurrent, wait_s, interrupt)
                    if interrupt.raised:
                        return End("interrupted", interrupt.reason)
                    with self._slots(nodes, view, interrupt, stays=stays) as (pool, slots):
                        data.result()
                        end = self._search(pool, slots, interrupt)
            except RayError as error:
                what = f"Ray went down: {type(error).__name__}: {error}"
                raise self._continued(what) from error
            except OSError as error:  # Tune keeps files of its own, and stops for want of them
                if not files.is_disk_full(error):
                    raise
                raise self._continued(f"the disk is full: {error}") from error
        shutil.rmtree(self._settings.folder / "ray", ignore_errors=True)
        return end

    def _continued(self, what: str) -> SweepError:
        """An error that ends this process, and not the sweep."""
        again = self._settings.where.command("resume", self._spec.name)
        return SweepError(f"{what}. Everything recorded is whole: continue with `{again}`.")

    @contextlib.contextmanager
    def _nodes(self, need: Need) -> Iterator[Any]:
        from kdsweep.sweep.nodes import Nodes
        from kdsweep.sweep.probe import Probes

        inputs = inputs_of(self._spec.run) if self._settings.trains else {}
        with Probes(self._settings.home, inputs, storage=self._settings.storage) as probes:
            yield Nodes(need, probes, self._note)

    @contextlib.contextmanager
    def _slots(
        self, nodes: Any, view: Any, interrupt: Interrupt, *, stays: bool
    ) -> Iterator[tuple[Any, Any]]:
        import ray

        from kdsweep.sweep.pool import JobPool
        from kdsweep.sweep.slots import Slots, on_this_node

        pool = (
            ray.remote(JobPool)
            .options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=on_this_node())
            .remote()
        )
        slots = Slots(
            plan_layout(nodes.need, [*view.usable.values()], self._concurrent),
            view,
            pool,
            nodes,
            self._ray_storage,
            concurrent=self._concurrent,
            isolated=self._spec.resources.isolation == "trial",
            stays=stays,
            note=self._note,
        )
        slots.start()

        def close_pool() -> None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(pool.close.remote())

        whole = False
        try:
            with interrupt.calling(close_pool):
                yield pool, slots
            whole = not interrupt.raised
        finally:  # also where the data turned out to be damaged: others may share this Ray
            close_pool()
            # Interrupted workers would only finish an epoch that a resume repeats anyway.
            slots.close(timeout_s=3.0 if whole else 0.0)

    def _search(self, pool: Any, slots: Any, interrupt: Interrupt) -> End:
        from ray import tune

        from kdsweep.sweep.schedulers import EarlyStop, RungScheduler, sizes
        from kdsweep.sweep.search import SweepSearcher, make_config
        from kdsweep.sweep.trial import TrialDriver, beside_the_driver, withhold_keys

        layout: Layout = slots.layout
        planner = self._planner()
        stop = EarlyStop.of(self._spec)
        scheduler = None
        if stop:
            scheduler = RungScheduler(
                stop,
                lambda trial, *decision: pool.decide.remote(trial, *decision),
                lambda trial: sizes(self._spec, planner.static(trial)),
                lambda trial: _epochs(self._ledger.record.trials[trial].plan),
            )
            scheduler.replay(self._ledger.record)

        def configure(plan: Plan) -> dict[str, Any]:
            return make_config(plan, self._job(plan, layout, stop), pool)

        searcher = SweepSearcher(
            planner,
            self._ledger,
            slots=lambda: slots.count,
            configure=configure,
            dropped=lambda trial: pool.drop.remote(trial),
            changed=self._after_change,
            health=slots.check,
            interrupt=interrupt,
            note=self._note,
        )
        withhold_keys()
        storage = self._settings.folder / "ray"
        tune.Tuner(
            tune.with_resources(TrialDriver, beside_the_driver()),
            tune_config=tune.TuneConfig(
                search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(storage),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=3),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
        if searcher.error is not None:
            raise searcher.error
        if interrupt.raised:
            return End("interrupted", interrupt.reason)
        return self._end(planner.closing, over_budget=planner.over_budget)

    def _end(self, closing: str, *, over_budget: bool) -> End:
        trials = self._ledger.record.trials
        if over_budget:
            again = self._settings.where.command("resume", self._spec.name)
            closing += f". To go on with a higher one: {again} --budget NAME=LIMIT"
        unfinished = [entry.plan.trial for entry in trials.values() if not entry.ended]
        if unfinished:
            text = f"{', '.join(unfinished)} did not run to the end"
            return End("interrupted", f"{text}: {closing}" if closing else text, over_budget)
        failed = TEACHER in trials and trials[TEACHER].state == "failed"
        return End("failed" if failed else "finished", closing, over_budget)

    def _planner(self) -> Planner:
        spec, home = self._spec, self._settings.home

        def static(run: RunSpec) -> dict[str, float]:
            from kdsweep.engine.place import Place
            from kdsweep.engine.profile import static_profile

            return static_profile(run, Place(home, self._settings.folder, device="cpu"))

        return Planner(
            spec,
            self._ledger,
            budget=Budget.of(spec),
            trials=self._settings.trials,
            admission=Admission(spec, static if self._settings.trains else None),
            teacher=spec.run.teacher_run() if self._trains_teacher else None,
            retry_failed=self._settings.retry_failed,
        )

    def _job(self, plan: Plan, layout: Layout, stop: Any) -> Job:
        home, teacher = self._settings.home, plan.kind == "teacher"
        teachers = teacher_dir(self._spec.run, home) if self._trains_teacher else None
        return Job(
            trial=plan.trial,
            spec=plan.spec,
            home=str(home),
            run_dir=str(teachers if teacher else self._runs / plan.trial),
            device="cuda" if layout.need.gpus else "cpu",
            threads=layout.threads,
            execute=self._settings.execute,
            rungs=tuple(stop.rungs(_epochs(plan))) if stop and plan.kind == "search" else (),
            storage=self._settings.storage,
            session=len(self._ledger.record.starts),
            sweep=self._spec.name,
            needs=(str(teachers),) if teachers is not None and not teacher else (),
        )

    def _after_change(self, plan: Plan) -> None:
        if self._ledger.record.trials[plan.trial].ended:
            prune(self._spec, self._ledger.record, self._runs)
            if self._copies is not None:
                self._copies.thin(self._spec, self._ledger.record)
        self._changed(self._ledger.record)

    @property
    def _trains_teacher(self) -> bool:
        teacher = self._spec.run.teacher
        return teacher is not None and teacher.train is not None

    @property
    def _concurrent(self) -> int | None:
        return self._spec.resources.concurrent

    @property
    def _ray_storage(self) -> str:
        """Where Ray Train keeps its own few files, seen by all nodes."""
        if self._settings.storage:
            return f"{self._settings.storage}/sweeps/{self._spec.name}/ray"
        return str(self._settings.folder / "ray")

    @property
    def _runs(self) -> Path:
        return self._settings.folder / "runs"

    def _prepare_data(self) -> None:
        if not self._settings.trains:
            return
        run, home = self._spec.run, self._settings.home
        task = task_of(run.task)(run.data, run.loss, home=home)
        with files.locked(home / "data.lock"):
            task.prepare()
        check_fits(kinds(self._spec), home)  # what does not fit is told before any trial


def _import_ray_libraries() -> None:
    """Takes some seconds, which pass while Ray starts."""
    import kdsweep.sweep.slot_host
    import kdsweep.sweep.trial  # noqa: F401


def _epochs(plan: Plan) -> int:
    return int(plan.spec["train"]["epochs"])


def _need(spec: SweepSpec) -> Need:
    resources = spec.resources
    return Need(
        resources.workers,
        resources.cpus_per_worker,
        resources.gpus_per_worker,
        packed=resources.placement == "pack",
    )
