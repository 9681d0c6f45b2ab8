import pytest

from kdsweep.errors import ResourceError
from kdsweep.sweep.resources import Need, count_slots, plan_layout


@pytest.mark.parametrize(
    ("need", "nodes", "slots"),
    [
        (Need(1, 1), [{"CPU": 2}], 2),
        (Need(1, 2), [{"CPU": 2}], 1),
        (Need(1, 0.5), [{"CPU": 2}], 4),
        (Need(2, 1), [{"CPU": 5}, {"CPU": 3}], 3),
        (Need(1, 2, 0.5), [{"CPU": 16, "GPU": 2}], 4),
        (Need(1, 8, 0.5), [{"CPU": 16, "GPU": 2}], 2),
        (Need(1, 1, 0.4), [{"CPU": 16, "GPU": 1}], 2),
        (Need(4, 1, 1), [{"CPU": 8, "GPU": 8}, {"CPU": 64}], 2),
    ],
)
def test_as_many_trials_run_at_once_as_fit_without_oversubscription(need, nodes, slots):
    assert plan_layout(need, nodes).slots == slots


@pytest.mark.parametrize(
    ("workers", "nodes", "packed", "spread"),
    [
        (2, [{"CPU": 3}, {"CPU": 3}], 2, 3),
        (2, [{"CPU": 3}, {"CPU": 1}], 1, 2),
        (4, [{"CPU": 2}, {"CPU": 2}], 0, 1),
    ],
)
def test_spread_workers_use_what_packed_ones_leave(workers, nodes, packed, spread):
    assert count_slots(Need(workers), nodes) == packed
    assert count_slots(Need(workers, packed=False), nodes) == spread


def test_a_trial_too_big_for_one_node_is_refused_with_the_option_that_spreads_it():
    nodes = [{"CPU": 2, "GPU": 2}, {"CPU": 2, "GPU": 2}]
    with pytest.raises(ResourceError) as caught:
        plan_layout(Need(4, 1, 1), nodes)
    assert str(caught.value) == (
        "a trial needs 4 workers with 1 CPU and 1 GPU each, which fits on no single node. There is "
        "node 1: 2 CPU, 2 GPU; node 2: 2 CPU, 2 GPU. Let them sit on several nodes with "
        "sweep.resources.placement=spread, or lower sweep.resources.workers."
    )
    assert plan_layout(Need(4, 1, 1, packed=False), nodes).slots == 1


def test_threads_follow_the_cores_of_a_worker():
    layout = plan_layout(Need(1, 1), [{"CPU": 2}])
    assert layout.threads == 1


def test_the_user_can_ask_for_fewer_trials_at_once_but_not_for_more():
    assert plan_layout(Need(), [{"CPU": 4}], concurrent=1).slots == 1
    assert plan_layout(Need(), [{"CPU": 4}], concurrent=9).slots == 4


def test_a_gpu_where_there_is_none_is_refused_with_what_is_there():
    with pytest.raises(ResourceError) as caught:
        plan_layout(Need(1, 1, 1), [{"CPU": 2}, {"CPU": 8}])
    assert str(caught.value) == (
        "a trial needs 1 CPU and 1 GPU, which fits nowhere. There is node 1: 2 CPU, 0 GPU; node 2: "
        "8 CPU, 0 GPU. There is no GPU here: set sweep.resources.gpus_per_worker=0 to train on "
        "CPUs, or launch on a cluster that has some."
    )


def test_a_trial_that_fits_on_no_node_is_refused():
    with pytest.raises(ResourceError, match=r"3 workers with 2 CPU each.*Lower sweep.resources"):
        plan_layout(Need(3, 2), [{"CPU": 2}, {"CPU": 3}])
