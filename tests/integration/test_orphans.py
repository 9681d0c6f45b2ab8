"""What a sweep reserved is given back, also where its controllers die in the middle of it."""

import threading

import pytest
import ray
from ray.util import placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray_state import patiently

from kdsweep.sweep.orphans import Orphans, _reserved

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class TrainController:
    """Reserves what it is told to, as Ray Train's class of this name does."""

    def reserve(self) -> PlacementGroup:
        return placement_group([{"CPU": 1}])


def test_what_a_controller_reserves_while_it_ends_is_given_back(ray_cluster):
    others = ray.get(ray.remote(TrainController).remote().reserve.remote())
    orphans = Orphans(others=True)
    controller = ray.remote(TrainController).options(num_cpus=0).remote()
    ray.get(controller.reserve.remote())
    given_back = threading.Thread(target=orphans.release_own)
    given_back.start()
    late = ray.get(controller.reserve.remote())
    assert given_back.is_alive()  # as long as the controller may reserve more
    assert late.id.hex() in patiently(_reserved)
    ray.kill(controller)
    given_back.join()
    assert patiently(_reserved) == {others.id.hex()}  # Ray keeps both until the job has ended
    remove_placement_group(others)
