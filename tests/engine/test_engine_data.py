"""Order of samples: fixed by seed and epoch, split over workers without loss."""

from itertools import chain

import pytest
import torch

from kdsweep.engine.data import epoch_order
from kdsweep.engine.seed import derive_seed, reproducible, seed_torch


def order(rank: int = 0, world: int = 1, **overrides: int) -> list[list[int]]:
    fields = {"num_samples": 10, "batch_size": 4, "seed": 0, "epoch": 0, **overrides}
    num_samples, batch_size = fields.pop("num_samples"), fields.pop("batch_size")
    return epoch_order(num_samples, batch_size, rank=rank, world=world, **fields)


def test_an_epoch_holds_every_sample_once() -> None:
    batches = order()
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(chain(*batches)) == list(range(10))


def test_the_order_follows_from_seed_and_epoch() -> None:
    assert order() == order()
    assert len({str(order(seed=s, epoch=e)) for s in range(3) for e in range(3)}) == 9


@pytest.mark.parametrize("world", [2, 4])
def test_workers_share_the_batches_of_one_worker(world: int) -> None:
    shares = [order(rank, world) for rank in range(world)]
    for number, whole in enumerate(order()[:2]):
        assert sorted(chain(*(share[number] for share in shares))) == sorted(whole)


def test_a_short_batch_is_filled_up_so_that_no_worker_is_without() -> None:
    shares = [order(rank, 4) for rank in range(4)]
    assert [len(share[-1]) for share in shares] == [1, 1, 1, 1]
    assert set(chain(*(share[-1] for share in shares))) >= set(order()[-1])


def test_fewer_samples_than_workers_are_repeated() -> None:
    shares = [order(rank, 4, num_samples=1) for rank in range(4)]
    assert shares == [[[0]]] * 4


@pytest.mark.parametrize("world", [1, 2])
def test_batches_that_the_task_chooses_are_shared_in_their_order(world: int) -> None:
    chosen = ((7, 7, 2, 5), (1, 3, 9))
    shares = [
        epoch_order(10, 4, seed=0, epoch=0, rank=rank, world=world, chosen=chosen)
        for rank in range(world)
    ]
    assert [sorted(chain(*(s[0] for s in shares))), sorted(chain(*(s[1] for s in shares)))] == [
        [2, 5, 7, 7],
        [1, 3, 9] if world == 1 else [1, 3, 7, 9],  # filled up with the epoch's first sample
    ]


def test_seeds_of_neighbouring_steps_are_unrelated_and_fixed() -> None:
    seeds = {derive_seed(0, "step", epoch, step) for epoch in range(20) for step in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "student") == 4103486972053664701


def test_seeding_repeats_random_numbers_and_is_undone() -> None:
    before = torch.get_rng_state()
    with reproducible(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
        seed_torch(1, "step")
        first = torch.rand(3)
        seed_torch(1, "step")
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
