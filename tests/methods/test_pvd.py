from dataclasses import replace

import numpy as np
import pytest
import torch
from contracts import fake_lidar_seg as fake
from pydantic import ValidationError
from reference import pvd_loops

from kdsweep.config import weights
from kdsweep.errors import TapError
from kdsweep.methods.pvd import (
    PVD,
    Config,
    Keys,
    affinity_loss,
    minority_classes,
    output_loss,
    sample_supervoxels,
)
from kdsweep.types import LidarSegBatch, TapInfo

SIZES = {"supervoxel": (8, 6, 4), "num_points": 7, "num_voxels": 9}


def pvd(**options):
    return PVD(Config(**options), student=fake.STUDENT, teacher=fake.TEACHER)


def inputs(**options):
    batch = fake.make_batch(**options)
    student = fake.make_taps(fake.STUDENT, batch, seed=1)
    return {
        "batch": batch,
        "student": student,
        "teacher": fake.make_taps(fake.TEACHER, batch, seed=2),
    }


def evaluate(method, seed=0, **given):
    torch.manual_seed(seed)
    return method(**given)


def permuted(given, keys, seed=5):
    """The same scans with their points and their cells in another order, and the keys with them."""
    batch, generator = given["batch"], torch.Generator().manual_seed(seed)

    def shuffle(counts):
        starts = np.cumsum((0, *counts[:-1])).tolist()
        pieces = zip(starts, counts, strict=True)
        return torch.cat([s + torch.randperm(n, generator=generator) for s, n in pieces])

    points, voxels = shuffle(batch.point_counts), shuffle(batch.voxel_counts)
    moved = replace(
        batch,
        points=batch.points[points],
        point_labels=batch.point_labels[points],
        point_to_voxel=voxels.argsort()[batch.point_to_voxel][points],
        voxel_coords=batch.voxel_coords[voxels],
        voxel_labels=batch.voxel_labels[voxels],
    )
    order = {"point": points, "voxel": voxels}
    taps = {
        side: {name: tap[order[name[:5]]] for name, tap in given[side].items()}
        for side in ("student", "teacher")
    }
    return {"batch": moved, **taps}, Keys(
        keys.points[points], keys.voxels[voxels], keys.supervoxels
    )


def test_the_defaults_are_the_published_setting():
    config = Config()
    assert weights(config) == {
        "point_output": 0.1,
        "voxel_output": 0.15,
        "point_affinity": 0.15,
        "voxel_affinity": 0.25,
    }
    assert (config.supervoxel, config.num_supervoxels) == ((120, 60, 8), 4)
    assert (config.num_points, config.num_voxels) == (6000, 4000)
    assert (config.class_gain, config.class_decay, config.distance_exponent) == (4.0, 2.0, 1.0)
    assert config.minority_threshold == 0.01
    assert (config.norm_output, config.norm_affinity) == ("occupied", "literal")
    assert (config.temperature, config.kl_direction) == (1.0, "forward")


@pytest.mark.parametrize(
    "wrong", [{"supervoxel": [0, 60, 8]}, {"num_points": 0}, {"temperature": 0}, {"alpha1": 0.1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Config(**wrong)


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        ("point", {}, "loss_mean_elements"),
        ("voxel", {}, "loss_mean_elements"),
        ("point", {"norm_output": "rows"}, "loss_mean_rows"),
        ("voxel", {"norm_output": "rows"}, "loss_mean_rows"),
        ("point", {"norm_output": "dense"}, "loss_mean_elements"),
        ("voxel", {"norm_output": "dense"}, "loss_dense_mean_elements"),
        ("point", {"kl_direction": "reverse"}, "loss_rev_mean_elements"),
        ("voxel", {"kl_direction": "reverse"}, "loss_rev_mean_elements"),
        ("point", {"norm_output": "rows", "temperature": 4.0}, "loss_T4_hinton_mean_rows"),
        ("voxel", {"norm_output": "rows", "temperature": 4.0}, "loss_T4_hinton_mean_rows"),
    ],
)
def test_output_terms_match_the_reference_numbers(oracle, kind, options, name):
    data = np.load(oracle("pvd_recon_output_a.npz"))
    student = torch.tensor(data[f"{kind}_logits_student"], requires_grad=True)
    teacher = torch.tensor(data[f"{kind}_logits_teacher"])
    empty = fake.make_batch(samples=data["batch_size"].item())
    batch = replace(empty, grid=tuple(data["grid_size"].tolist()))
    loss = output_loss(f"{kind}_output", student, teacher, batch, Config(**options))
    loss.backward()
    assert loss.item() == pytest.approx(data[f"{kind}_{name}"].item(), rel=1e-9)
    if not options:
        expected = torch.tensor(data[f"{kind}_grad_mean_elements"])
        torch.testing.assert_close(student.grad, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", ["point", "voxel"])
def test_affinity_terms_match_the_reference_numbers(oracle, kind):
    data = np.load(oracle("pvd_recon_affinity_a.npz"))
    student = torch.tensor(data[f"{kind}_feat_student"], requires_grad=True)
    teacher = torch.tensor(data[f"{kind}_feat_teacher"])
    sets = [[torch.tensor(rows[rows >= 0]) for rows in data[f"{kind}_selected"]]]
    pad_to = data["Np" if kind == "point" else "Nv"].item()
    loss = affinity_loss(student, teacher, sets, pad_to=pad_to)
    loss.backward()
    assert loss.item() == pytest.approx(data[f"{kind}_aff_loss"].item(), rel=1e-9)
    expected = torch.tensor(data[f"{kind}_grad_feat_student"])
    torch.testing.assert_close(student.grad, expected, rtol=1e-9, atol=1e-13)
    valid = affinity_loss(student, teacher, sets, pad_to=None).item()
    assert valid == pytest.approx(data[f"{kind}_aff_loss_valid_pairs"].item(), rel=1e-9)
    single = affinity_loss(student.float(), teacher.float(), sets, pad_to=pad_to).item()
    assert single == pytest.approx(data[f"{kind}_aff_loss"].item(), rel=1e-4)


def test_the_published_weights_give_the_reference_total(oracle):
    data = {
        name: value.item()
        for name, value in np.load(oracle("pvd_recon_affinity_a.npz")).items()
        if value.ndim == 0
    }
    terms = {
        "point_output": data["total_in_out_p"],
        "voxel_output": data["total_in_out_v"],
        "point_affinity": data["point_aff_loss"],
        "voxel_affinity": data["voxel_aff_loss"],
    }
    supervised = data["total_in_wce_p"] + data["total_in_wce_v"] + data["total_in_lovasz"]
    distilled = sum(weight * terms[term] for term, weight in weights(Config()).items())
    assert supervised + distilled == pytest.approx(data["total"], rel=1e-12)


@pytest.mark.parametrize("norm_affinity", ["literal", "valid_pairs"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(
    ("sampling", "minority"),  # the shares of classes 4 and 5 are 0.6 % and 0.4 %
    [
        ({}, {4, 5}),
        ({"distance_exponent": 9.0}, {4, 5}),
        ({"class_gain": 90.0, "minority_threshold": 0.005}, {5}),
        ({"class_gain": 90.0, "class_decay": 0.1, "distance_exponent": 0.0}, {4, 5}),
    ],
    ids=["published", "distance", "class", "slow decay"],
)
def test_all_four_terms_match_slow_loops_over_scans_supervoxels_and_pairs(
    norm_affinity, mask, sampling, minority
):
    config = Config(
        **SIZES,
        **sampling,
        norm_affinity=norm_affinity,
        mask_unlabelled=mask,
        norm_output="rows",
    )
    given = inputs()
    batch = given["batch"]
    terms = evaluate(pvd(**config.model_dump()), **given)
    torch.manual_seed(0)
    keys = Keys.draw(batch, config)

    sides = {
        "point": (batch.point_labels, batch.point_to_voxel, keys.points, config.num_points),
        "voxel": (
            batch.voxel_labels,
            range(len(batch.voxel_labels)),
            keys.voxels,
            config.num_voxels,
        ),
    }
    expected = dict.fromkeys(terms, 0.0)
    for kind, (labels, _, _, _) in sides.items():
        counted = [row for row, label in enumerate(labels) if label != 0 or not mask]
        rows = pvd_loops.kl_rows(
            *(given[s][f"{kind}_logits"][counted].tolist() for s in ("student", "teacher"))
        )
        expected[f"{kind}_output"] = sum(rows) / len(rows)
    for scan in range(2):
        cells = (batch.voxel_coords[:, 0] == scan).numpy()
        if mask:
            cells &= (batch.voxel_labels != 0).numpy()
        coords, rows = batch.voxel_coords[:, 1:].numpy()[cells], np.flatnonzero(cells)
        probs = pvd_loops.sampling_probs(
            coords,
            batch.voxel_labels[rows],
            minority,
            batch.grid,
            config.supervoxel,
            config.class_gain,
            config.class_decay,
            config.distance_exponent,
        )
        waiting = -np.log1p(-keys.supervoxels[scan].numpy()) / np.maximum(probs, 1e-300)
        drawn = np.argsort(waiting)[: config.num_supervoxels].tolist()
        members = pvd_loops.supervoxel_members(
            batch.voxel_coords[:, 1:].numpy(), batch.grid, config.supervoxel
        )
        of_voxel = {row: id_ for id_, inside in members.items() for row in inside}
        for kind, (labels, voxel_of, row_keys, limit) in sides.items():
            ids = [
                of_voxel[int(voxel)]
                if batch.voxel_coords[int(voxel), 0] == scan and (label != 0 or not mask)
                else -1
                for voxel, label in zip(voxel_of, labels, strict=True)
            ]
            for id_ in drawn:
                kept = pvd_loops.kept_rows(ids, id_, labels, minority, row_keys, limit)
                pair = (given[s][f"{kind}_features"][kept].tolist() for s in ("student", "teacher"))
                count = limit if norm_affinity == "literal" else max(len(kept), 1)
                distance = pvd_loops.affinity_distance(*pair) / count**2
                expected[f"{kind}_affinity"] += distance / len(drawn) / 2
    for term, value in terms.items():
        assert value.item() == pytest.approx(expected[term], rel=1e-5), term


def test_identical_networks_have_no_loss():
    given = inputs()
    given["teacher"] = {name: tap.detach().clone() for name, tap in given["student"].items()}
    method = PVD(Config(**SIZES), student=fake.STUDENT, teacher=fake.STUDENT)
    for term, value in evaluate(method, **given).items():
        assert abs(value.item()) < 1e-12, term


def test_the_order_of_points_and_cells_does_not_matter_for_fixed_keys():
    config, given = Config(**SIZES), inputs()
    torch.manual_seed(0)
    keys = Keys.draw(given["batch"], config)
    moved, moved_keys = permuted(given, keys)
    for kind in ("points", "voxels"):
        losses = []
        for case, case_keys in ((given, keys), (moved, moved_keys)):
            sampled = sample_supervoxels(case["batch"], case_keys, config)
            sets = [[getattr(rows, kind) for rows in scan] for scan in sampled]
            assert sum(len(rows) for scan in sets for rows in scan) > 20
            features = (case[side][f"{kind[:5]}_features"] for side in ("student", "teacher"))
            losses.append(affinity_loss(*features, sets, pad_to=None))
        torch.testing.assert_close(*losses)


def test_sampled_rows_lie_in_one_supervoxel_of_one_scan_and_respect_the_limits():
    config, batch = Config(**SIZES), fake.make_batch()
    sampled = sample_supervoxels(batch, Keys.draw(batch, config), config)
    assert [len(scan) for scan in sampled] == [4, 4]
    size = torch.tensor([1, *config.supervoxel])
    for scan, sets in enumerate(sampled):
        blocks = set()
        for rows in sets:
            assert 1 <= len(rows.points) <= 7
            assert 1 <= len(rows.voxels) <= 9
            cells = torch.cat([rows.voxels, batch.point_to_voxel[rows.points]])
            (block,) = torch.unique(batch.voxel_coords[cells] // size, dim=0).tolist()
            assert block[0] == scan
            blocks.add(tuple(block))
        assert len(blocks) == 4


def test_fewer_occupied_supervoxels_than_wanted_are_all_taken():
    config, batch = Config(num_supervoxels=5), fake.make_batch()  # one supervoxel holds the grid
    sampled = sample_supervoxels(batch, Keys.draw(batch, config), config)
    assert [[len(rows.voxels) for rows in scan] for scan in sampled] == [
        [count] for count in batch.voxel_counts
    ]


def test_points_and_cells_draw_the_same_random_numbers_whatever_the_supervoxel_size():
    batch, keys = fake.make_batch(), []
    for size in ((8, 6, 4), (4, 3, 2)):
        torch.manual_seed(3)
        keys.append(Keys.draw(batch, Config(supervoxel=size)))
    assert torch.equal(keys[0].points, keys[1].points)
    assert torch.equal(keys[0].voxels, keys[1].voxels)
    assert keys[0].supervoxels.shape == (2, 18)


def test_every_call_draws_anew_and_a_seed_repeats_it():
    method, given = pvd(**SIZES), inputs()
    first, again, other = (evaluate(method, seed, **given) for seed in (0, 0, 1))
    assert first["voxel_affinity"] == again["voxel_affinity"]
    assert first["voxel_affinity"] != other["voxel_affinity"]
    assert first["voxel_output"] == other["voxel_output"]


def test_masking_leaves_rows_of_label_0_without_gradient():
    given = inputs()
    terms = evaluate(pvd(**SIZES, mask_unlabelled=True), **given)
    sum(terms.values()).backward()
    for name, tap in given["student"].items():
        labels = getattr(given["batch"], f"{name[:5]}_labels")
        assert tap.grad[labels == 0].abs().sum() == 0, name
        assert tap.grad[labels != 0].abs().sum() > 0, name


def test_masking_a_batch_without_labels_gives_zeros_that_back_propagate():
    given = inputs(labelled=False)
    terms = evaluate(pvd(mask_unlabelled=True, norm_affinity="valid_pairs"), **given)
    sum(terms.values()).backward()
    assert [value.item() for value in terms.values()] == [0.0] * 4
    assert all(tap.grad.abs().sum() == 0 for tap in given["student"].values())


def test_a_scan_without_points_adds_nothing_to_the_affinities_but_counts_as_a_scan():
    alone, both = inputs(samples=1), inputs(samples=2, empty=True)
    method = pvd(supervoxel=(24, 18, 8))  # one supervoxel, so nothing is drawn at random
    single, padded = evaluate(method, **alone), evaluate(method, **both)
    for term in ("point_affinity", "voxel_affinity"):
        assert padded[term].item() == pytest.approx(single[term].item() / 2, rel=1e-5)


@pytest.mark.parametrize(("dataset", "table"), [("kitti", "content"), ("nusc", "counts")])
def test_minority_classes_of_the_official_tables(oracle, dataset, table):
    data = np.load(oracle("pvd_labels_and_poses.npz"))
    counts = data[f"{dataset}_{table}"].copy()
    counts[0] = 0.0
    batch = replace(fake.make_batch(), class_shares=tuple((counts / counts.sum()).tolist()))
    rare = minority_classes(batch, Config().minority_threshold)
    assert rare.nonzero().squeeze(1).tolist() == data[f"{dataset}_minority"].tolist()


def test_minority_classes_are_counted_in_the_batch_where_it_has_no_table():
    labels = torch.tensor([0] * 500 + [1] * 150 + [2] * 49 + [3])
    batch = LidarSegBatch(
        points=torch.zeros(700, 9),
        voxel_coords=torch.zeros(1, 4).int(),
        point_to_voxel=torch.zeros_like(labels),
        point_labels=labels,
        voxel_labels=torch.tensor([0]),
        grid=(1, 1, 1),
        point_counts=(700,),
        voxel_counts=(1,),
        sample_ids=("scan/0",),
    )
    assert minority_classes(batch, 0.01).tolist() == [False, False, False, True]
    assert minority_classes(batch, 0.25).tolist() == [False, False, True, True]


def test_terms_that_are_off_need_no_tap():
    needed = frozenset({"voxel_logits"})
    config = Config(point_output=0, point_affinity=0, voxel_affinity=0)
    assert PVD.needs(config) == (needed, needed)


def test_networks_of_different_classes_are_refused_before_training():
    other = {**fake.TEACHER, "voxel_logits": TapInfo(("voxels", "classes"), 17)}
    with pytest.raises(TapError, match=r"'voxel_logits'.*student predicts 6.*teacher 17"):
        PVD(Config(), student=fake.STUDENT, teacher=other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_chooses_the_same_rows():
    config, batch = Config(**SIZES), fake.make_batch()
    keys = Keys.draw(batch, config)
    expected = sample_supervoxels(batch, keys, config)
    sampled = sample_supervoxels(batch.to(torch.device("cuda")), keys, config)
    for scan, expected_scan in zip(sampled, expected, strict=True):
        for rows, expected_rows in zip(scan, expected_scan, strict=True):
            assert torch.equal(rows.points.cpu(), expected_rows.points)
            assert torch.equal(rows.voxels.cpu(), expected_rows.voxels)
