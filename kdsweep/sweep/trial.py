"""A Tune trial: submits its job to the pool and relays the news. It trains nothing itself.

This module imports no torch, so that the trial's process stays small.
"""

from collections.abc import Collection
from typing import Any

import ray
import ray.exceptions
from ray import tune
from ray.tune.execution import class_cache

from kdsweep.sweep.jobs import Job, Outcome, Update

NODE_ID = "ray.io/node-id"
"""Ray's label of every node."""

_POLL_S = 30.0


class TrialDriver(tune.Trainable):
    """Follows one job at a time; `reuse_actors` gives the same process many trials in turn.

    Its configuration holds ``trial``, ``kind``, ``job`` and ``pool``. Every result holds ``news``:
    the updates since the last result and, in the last one, the outcome. Results of epochs also hold
    ``epoch`` and the metrics of the last epoch among them. A scheduler misses none that matters,
    because a result ends at a rung, also where a worker has not waited there for this process.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._pool = config["pool"]
        self._job: Job = config["job"]
        self._seen = 0
        self._submitted = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial into the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Waits for news."""
        try:
            if not self._submitted:
                ray.get(self._pool.submit.remote(self._job))
                self._submitted = True
            return self._next()
        except ray.exceptions.RayActorError:
            return _result([], Outcome("lost", "the pool of jobs is gone"))

    def _next(self) -> dict[str, Any]:
        while True:
            updates, outcome, closed = ray.get(
                self._pool.follow.remote(self._job.trial, self._seen, _POLL_S)
            )
            if not closed:  # else nobody may ask again
                handed = _up_to_rung(updates, self._job.rungs)
                outcome = outcome if len(handed) == len(updates) else None
                updates = handed
            elif outcome is None:
                outcome = Outcome("lost", "the sweep ends")
            self._seen += len(updates)
            if outcome is not None and self._job.storage:
                from kdsweep.sweep.copies import fetch_results  # brings torch

                outcome = fetch_results(self._job, outcome)
            if updates or outcome is not None:
                return _result(updates, outcome)


def withhold_keys() -> None:
    """Keeps Tune from copying the user's cloud keys into the environment that it asks Ray for.

    Ray writes those environments to its logs and shows them on its dashboard. These actors read no
    storage, and what a machine has in its own environment they inherit anyway.
    """
    keys = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(keys)


def beside_the_driver() -> tune.PlacementGroupFactory:
    """What a `TrialDriver` reserves: nothing that counts, on the node of this process.

    Anywhere else, the loss of a node would also lose trials that run on other nodes.
    """
    here = {NODE_ID: ray.get_runtime_context().get_node_id()}
    return tune.PlacementGroupFactory([{"memory": 1}], bundle_label_selector=[here])


def _up_to_rung(updates: list[Update], rungs: Collection[int]) -> list[Update]:
    """The updates up to the first epoch at which a scheduler decides."""
    for index, update in enumerate(updates):
        if update.stage == "train" and update.epoch in rungs:
            return updates[: index + 1]
    return updates


def _result(updates: list[Update], outcome: Outcome | None) -> dict[str, Any]:
    result: dict[str, Any] = {"news": updates}
    epochs = [update for update in updates if update.stage == "train"]
    if epochs:
        result |= {**epochs[-1].metrics, "epoch": epochs[-1].epoch}
    if outcome is not None:
        result |= {"news": [*updates, outcome], "done": True}
    return result
