import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import pvd_loops

from kdsweep.geometry.supervoxel import (
    draw_supervoxels,
    num_blocks,
    sampling_weights,
    select_rows,
    supervoxel_ids,
)

ORACLES = ["pvd_recon_supervoxel_a.npz", "pvd_recon_supervoxel_ragged.npz"]
small = st.integers(1, 6)
triples = st.tuples(small, small, small)


def counts_of(ids, minority, total):
    return torch.bincount(ids, minlength=total), torch.bincount(ids[minority], minlength=total)


@pytest.mark.parametrize("name", ORACLES)
def test_ids_match_the_reference_numbers(oracle, name):
    data = np.load(oracle(name))
    grid, size = tuple(data["grid_size"].tolist()), tuple(data["supervoxel_size"].tolist())
    assert num_blocks(grid, size) == tuple(data["n_blocks"].tolist())
    ids = supervoxel_ids(torch.tensor(data["voxel_coords"]), grid=grid, size=size)
    assert np.array_equal(ids, data["voxel_supervoxel_id"])
    assert np.array_equal(ids[data["point_voxel_row"].tolist()], data["point_supervoxel_id"])


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "sv_prob_nonempty"),
        ({"class_gain": 0.0}, "sv_prob_distance_only"),
        ({"distance_exponent": 0.0}, "sv_prob_class_only"),
    ],
)
def test_sampling_probabilities_match_the_reference_numbers(oracle, name, options, expected):
    data = np.load(oracle(name))
    num_voxels = torch.tensor(data["sv_num_voxels"])
    weights = sampling_weights(
        num_voxels,
        torch.tensor(data["sv_num_minority"]),
        grid=tuple(data["grid_size"].tolist()),
        size=tuple(data["supervoxel_size"].tolist()),
        **options,
    )
    occupied = num_voxels > 0
    wanted = torch.tensor(data[expected]) * occupied
    torch.testing.assert_close(
        weights / weights.sum(), wanted / wanted.sum(), rtol=1e-9, atol=1e-15
    )
    if not options:
        full = torch.tensor(data["sv_weight"])
        torch.testing.assert_close(weights, full * occupied, rtol=1e-9, atol=1e-15)


@settings(max_examples=60)
@given(grid=triples, size=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 999))
def test_ids_and_weights_follow_a_walk_through_the_blocks(grid, size, seed):
    rng = np.random.default_rng(seed)
    cells = rng.permutation(np.argwhere(np.ones(grid)))[: rng.integers(1, np.prod(grid) + 1)]
    labels, minority = rng.integers(0, 5, len(cells)), {2, 4}
    ids = supervoxel_ids(torch.tensor(cells), grid=grid, size=size)
    members = pvd_loops.supervoxel_members(cells, grid, size)
    assert np.prod(num_blocks(grid, size)) == len(members)
    for id_, rows in members.items():
        assert np.flatnonzero(ids == id_).tolist() == rows
    rare = torch.tensor(np.isin(labels, list(minority)))
    weights = sampling_weights(
        *counts_of(ids, rare, len(members)),
        grid=grid,
        size=size,
        class_gain=3.0,
        class_decay=0.7,
        distance_exponent=1.5,
    )
    expected = pvd_loops.sampling_probs(cells, labels, minority, grid, size, 3.0, 0.7, 1.5)
    np.testing.assert_allclose(weights / weights.sum(), expected, rtol=1e-9)


def test_a_supervoxel_larger_than_the_grid_is_the_whole_grid():
    cells = torch.tensor([[0, 0, 0], [9, 7, 3]])
    assert num_blocks((10, 8, 4), (120, 60, 8)) == (1, 1, 1)
    assert supervoxel_ids(cells, grid=(10, 8, 4), size=(120, 60, 8)).tolist() == [0, 0]
    one = torch.tensor([2])
    assert sampling_weights(one, one, grid=(10, 8, 4), size=(120, 60, 8)).item() <= 1.0


def test_one_rare_cell_makes_a_supervoxel_about_three_times_as_likely():
    weights = sampling_weights(
        torch.tensor([9, 9, 9]), torch.tensor([0, 1, 9]), grid=(4, 1, 3), size=(4, 1, 1)
    )
    assert (weights / weights[0]).tolist() == pytest.approx([1.0, 3.244, 5.0], rel=1e-3)


def test_without_gain_and_exponent_sampling_is_uniform_over_occupied_supervoxels():
    weights = sampling_weights(
        torch.tensor([5, 0, 1, 7]),
        torch.tensor([0, 0, 1, 3]),
        grid=(8, 1, 1),
        size=(2, 1, 1),
        class_gain=0.0,
        distance_exponent=0.0,
    )
    assert weights.tolist() == [0.25, 0.0, 0.25, 0.25]


def test_draws_follow_the_weights_like_successive_draws_without_replacement():
    weights = torch.tensor([1.0, 3.0, 0.0, 6.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    keys = torch.rand(6000, 4, dtype=torch.float64, generator=generator)
    drawn = pvd_loops.frequencies([draw_supervoxels(weights, key, 2) for key in keys])
    rng = np.random.default_rng(0)
    expected = pvd_loops.frequencies(
        [pvd_loops.draw_one_by_one([1.0, 3.0, 0.0, 6.0], 2, rng) for _ in range(6000)]
    )
    assert set(drawn) == set(expected)
    for pair, frequency in expected.items():
        assert drawn[pair] == pytest.approx(frequency, abs=0.03)  # 3.3 standard deviations


def test_only_occupied_supervoxels_are_drawn_and_all_of_them_where_there_are_few():
    weights, keys = torch.tensor([0.0, 0.5, 0.0, 0.1]), torch.tensor([0.0, 0.9, 0.3, 0.9])
    assert draw_supervoxels(weights, keys, 3) == [1, 3]
    assert draw_supervoxels(weights, keys, 1) == [1]
    assert draw_supervoxels(torch.zeros(4), keys, 3) == []


@pytest.mark.parametrize("kind", ["point", "voxel"])
def test_kept_rows_match_the_reference_numbers(oracle, kind):
    data = np.load(oracle("pvd_recon_affinity_a.npz"))
    ids, keys = torch.tensor(data[f"{kind}_supervoxel"]), torch.tensor(data[f"{kind}_key"])
    minority = torch.tensor(np.isin(data[f"{kind}_label"], data["minority_classes"]))
    limit = data["Np" if kind == "point" else "Nv"].item()
    for id_, padded in zip(data["sampled_supervoxels"], data[f"{kind}_selected"], strict=True):
        rows = select_rows(ids == id_.item(), minority, keys, limit)
        assert rows.tolist() == padded[padded >= 0].tolist()


@settings(max_examples=60)
@given(rows=st.integers(0, 30), limit=st.integers(1, 12), seed=st.integers(0, 999))
def test_rows_are_given_up_majority_first_and_largest_key_first(rows, limit, seed):
    rng = np.random.default_rng(seed)
    ids, labels, keys = rng.integers(0, 3, rows), rng.integers(0, 4, rows), rng.random(rows)
    minority = torch.tensor(np.isin(labels, [1, 3]))
    kept = select_rows(torch.tensor(ids == 1), minority, torch.tensor(keys), limit)
    assert kept.tolist() == pvd_loops.kept_rows(ids, 1, labels, {1, 3}, keys, limit)


def test_the_rows_kept_do_not_depend_on_their_order():
    generator = torch.Generator().manual_seed(0)
    members, minority = torch.rand(2, 200, generator=generator) < 0.5
    keys = torch.rand(200, dtype=torch.float64, generator=generator)
    order = torch.randperm(200, generator=generator)
    kept = select_rows(members[order], minority[order], keys[order], 30)
    assert sorted(order[kept].tolist()) == select_rows(members, minority, keys, 30).tolist()
