"""A Ray cluster of several nodes on this machine, and a sweep to which something is done there."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from closed_form import EXECUTE, begun, sweep

from kdsweep.environment import RAY
from kdsweep.spec.sweep import SweepSpec
from kdsweep.sweep import connection, journal, launch
from kdsweep.sweep.tuner import Finished

TIMEOUT_S = 200.0

_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
"""A node that was killed is noticed after three seconds instead of fifteen."""


@contextmanager
def node_cluster(gate: Path, **environment: str) -> Iterator["NodeCluster"]:
    """A cluster, and this process as its driver.

    Args:
        gate: See `NodeCluster`.
        **environment: Of Ray's processes.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setitem(RAY, name, value)
        for name, value in RAY.items():
            patch.setenv(name, os.environ.get(name, value))
        patch.setenv("CLOSED_FORM_EPOCH_S", "0.2")
        patch.setenv("CLOSED_FORM_GATE", str(gate))
        nodes = NodeCluster(gate)
        yield nodes
        nodes.stop()


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < until, "it did not become true"
        time.sleep(0.05)  # other processes are waited for


class NodeCluster:
    """A head without CPUs, which this process is connected to, and what is added to it.

    Args:
        gate: File for which the runs of `closed_form` wait in their second epoch.
    """

    def __init__(self, gate: Path) -> None:
        self.gate = gate
        self.start()

    def start(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": True,
                "dashboard_port": 0,  # any that is free
                "_system_config": _HEALTH,
            },
        )
        self.address = self._cluster.address
        connection.connect(self.address, None)

    def stop(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()

    def have(self, *cpus: int) -> list[Any]:
        """Has exactly these worker nodes; those that are there and fit stay."""
        wanted, nodes = [*cpus], []
        for node in [*self._cluster.worker_nodes]:
            there = node._ray_params.num_cpus
            if there in wanted:
                wanted.remove(there)
                nodes.append(node)
            else:
                self.kill(node)
        return nodes + [self.add(num) for num in wanted]

    def add(self, cpus: int) -> Any:
        return self._cluster.add_node(num_cpus=cpus)

    def add_blind(self, cpus: int, folder: Path) -> subprocess.Popen[bytes]:
        """Adds a node that has an empty folder of its own where others have `folder`."""
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        start += [f"--address={self.address}", f"--num-cpus={cpus}", "--disable-usage-stats"]
        start += ["--dashboard-agent-listen-port=0"]
        script = 'mount -t tmpfs none "$0" && exec "$@"'
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, str(folder), *start],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def show(self, blind: "subprocess.Popen[bytes]", folder: Path) -> None:
        """Lets a node that was added blind see the folder that the others have."""
        inside = ["nsenter", "--mount", f"--target={blind.pid}"]
        subprocess.run([*inside, "umount", "--lazy", str(folder)], check=True)

    def kill(self, node: Any, *, wait: bool = True) -> None:
        """Ends a node without a chance to tidy up; waits until the cluster knows, or does not."""
        import ray

        self._cluster.remove_node(node, allow_graceful=False)
        if not wait:
            return
        wait_until(lambda: not any(n["Alive"] for n in ray.nodes() if n["NodeID"] == node.node_id))

    def drain(self, node: Any, deadline_s: float) -> None:
        """What a cloud does before it takes a machine away."""
        from ray._raylet import GcsClient

        preemption, deadline_ms = 2, int((time.time() + deadline_s) * 1000)
        accepted, why = GcsClient(address=self.address).drain_node(
            node.node_id, preemption, "taken away", deadline_ms
        )
        assert accepted, why

    def num_alive(self) -> int:
        """Nodes that are up, the head among them."""
        import ray

        return sum(node["Alive"] for node in ray.nodes())


def raylet(node: Any) -> int:
    """The process of a node that starts its workers."""
    return int(node.all_processes["raylet"][0].process.pid)


class Sweep:
    """A sweep that runs in a thread, while the test does something to the cluster.

    Args:
        home: Its home folder.
        cluster: Where it runs; its gate is closed.
        run: `launch` of the sweep, unless it is another call.
        **changes: Of the sweep.
    """

    CHANGES: ClassVar[dict[str, Any]] = {
        "trials": 6,
        "baselines": [],
        "early_stop": {"grace_epochs": 1, "reduction": 2},
    }

    def __init__(
        self,
        home: Path,
        cluster: NodeCluster,
        *,
        run: Callable[..., Finished] | None = None,
        **changes: Any,
    ) -> None:
        self.home = home
        self.folder = home / "sweeps" / "formula"
        self.spec = self.spec_of(**changes)
        self._call = run or partial(launch, self.spec)
        self._cluster = cluster
        self._finished: Finished | None = None
        self._error: BaseException | None = None
        cluster.gate.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @classmethod
    def spec_of(cls, **changes: Any) -> SweepSpec:
        return sweep(**{**cls.CHANGES, **changes})

    def wait_at_gate(self, count: int) -> None:
        """Waits until so many trials are in the middle of their second epoch."""
        wait_until(lambda: len(self.at_gate()) == count or not self._thread.is_alive())
        assert len(self.at_gate()) == count, self._error

    def at_gate(self) -> list[str]:
        runs = (self.folder / "runs").glob("t*")
        return sorted(run.name for run in runs if begun(run / "epochs-0")[-1:] == [2])

    def end(self) -> Finished:
        """Opens the gate and waits for the end."""
        self._cluster.gate.touch()
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._finished is not None
        return self._finished

    def starts(self, slot: str) -> int:
        """How many trials a slot has taken."""
        events = journal.events(self.folder / "journal.jsonl")
        return sum(e["event"] == "trial_started" and e["slot"] == slot for e in events)

    def moved(self) -> list[str]:
        """Trials that were taken up more than once."""
        record = self.end().record
        return [e.plan.trial for e in record.trials.values() if len(e.leases) > 1]

    def _run(self) -> None:
        try:
            self._finished = self._call(home=self.home, execute=EXECUTE)
        except BaseException as error:  # raised again in the test's thread
            self._error = error
