"""The cluster's nodes as a sweep sees them: where trials may run, and which nodes are gone."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state  # what Ray Train's own preemption watcher asks

from kdsweep.errors import ResourceError
from kdsweep.sweep.interrupt import Interrupt
from kdsweep.sweep.probe import Probes
from kdsweep.sweep.resources import Need, Node, count_slots, count_workers, plan_layout

_ANSWER_S = 180.0
"""A node that has not answered a probe after this time is left out."""
_AGAIN_S = 60.0
"""So long after it was refused a node is asked again: somebody may have mounted what it lacked."""


@dataclass(frozen=True)
class View:
    """The nodes at one moment, by Ray's ids.

    Attributes:
        usable: Resources of those where trials may run.
        lost: Those that trials could run on and that died.
        closed: Those that are up, but about to leave, or refused because they lack files.
    """

    usable: Mapping[str, Node]
    lost: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()


class Nodes:
    """Follows the nodes of the cluster that this process is connected to.

    Args:
        need: What one trial needs; nodes that cannot hold one worker are left alone.
        probes: Asks nodes other than this process's own before they are usable.
        note: Shows one line to the user.
    """

    def __init__(self, need: Need, probes: Probes, note: Callable[[str], None]) -> None:
        self.need = need
        self._probes = probes
        self._note = note
        self._own = ray.get_runtime_context().get_node_id()
        self._asked: dict[str, tuple[Any, float]] = {}
        self._lacks: dict[str, str] = {}
        self._answered: dict[str, float] = {}
        self._names: dict[str, str] = {}
        self._known: set[str] = set()
        self._begun = False

    def begin(self, concurrent: int | None, wait_s: float, interrupt: Interrupt) -> View:
        """The nodes to begin with, once all have answered and a trial fits somewhere.

        Args:
            concurrent: Upper limit of trials at once.
            wait_s: So long may nodes take to join a cluster where no trial fits yet.
            interrupt: Ends the wait.

        Raises:
            ResourceError: A node lacks the home folder or an input; or no trial fits.
        """
        until, told = time.monotonic() + wait_s, False
        while True:
            seen = self.look()
            refused = [f"node {self.name(n)} {why}" for n, why in self._lacks.items() if why]
            if refused:
                raise ResourceError("\n".join(refused))
            fits = count_slots(self.need, [*seen.usable.values()], concurrent)
            if interrupt.raised or (fits and not self._asked):
                self._begun = True
                return seen
            if not fits and not self._asked:
                try:
                    plan_layout(self.need, [*seen.usable.values()])
                except ResourceError as error:
                    if time.monotonic() > until:
                        raise
                    if not told:
                        self._note(f"Waiting up to {wait_s:.0f} s for nodes to join: {error}")
                    told = True
            time.sleep(0.2)

    def look(self) -> View:
        """The nodes now; sends probes to new ones and takes their answers."""
        found = {node["NodeID"]: node for node in ray.nodes()}
        alive = {name for name, node in found.items() if node["Alive"]}
        leaving = frozenset(state.get_draining_nodes()) & alive
        fit = {
            name: node["Resources"]
            for name, node in found.items()
            if name in alive and count_workers(self.need, node["Resources"])
        }
        self._names |= {n: str(node["NodeManagerHostname"]) for n, node in found.items()}
        self._probe(set(fit) - leaving)
        usable = {
            name: resources
            for name, resources in fit.items()
            if name not in leaving and (name == self._own or self._lacks.get(name) == "")
        }
        self._known |= usable.keys()
        refused = {name for name, why in self._lacks.items() if why} & alive
        return View(usable, frozenset(self._known - alive), leaving | refused)

    def name(self, node: str) -> str:
        """Host and the beginning of Ray's id, which tells nodes of one host apart."""
        return f"{self._names.get(node, '')} ({node[:8]})".lstrip()

    def _probe(self, candidates: Iterable[str]) -> None:
        now = time.monotonic()
        for node in candidates:
            if node != self._own and node not in self._asked and self._is_open(node, now):
                self._asked[node] = (self._probes.ask(node), now)
        for node, (asked, since_s) in [*self._asked.items()]:
            if ray.wait([asked], timeout=0)[0]:
                lacks = self._probes.answer(asked)
            elif now - since_s > _ANSWER_S:
                lacks = f"did not answer within {_ANSWER_S:.0f} s."
            else:
                continue
            del self._asked[node]
            before = self._lacks.get(node)
            self._answered[node] = now
            if lacks is not None:
                self._lacks[node] = lacks
            if lacks and lacks != before and self._begun:
                self._note(f"Node {self.name(node)} gets no trials: it {lacks}")

    def _is_open(self, node: str, now_s: float) -> bool:
        """Whether a node is to be asked: never yet, or it was refused some time ago."""
        if node not in self._lacks:
            return True
        return self._lacks[node] != "" and now_s - self._answered[node] > _AGAIN_S
