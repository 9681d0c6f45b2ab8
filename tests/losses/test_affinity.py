import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import pvd_loops

from kdsweep.losses.affinity import affinity_distance, cosine_affinity, unit_rows

FEW, MANY = 6, 60  # rows below and above the number of channels: the two ways to compute


def random_features(rows, seed=0, channels=(4, 7), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        torch.randn(rows, width, generator=generator, dtype=dtype) for width in channels
    )
    return student.requires_grad_(), teacher.requires_grad_()


def plain_distance(student, teacher):
    return (cosine_affinity(student) - cosine_affinity(teacher.detach())).square().sum()


@pytest.mark.parametrize("kind", ["point", "voxel"])
def test_affinities_and_their_distance_match_the_reference_numbers(oracle, kind):
    data = np.load(oracle("pvd_recon_affinity_a.npz"))
    features = {s: torch.tensor(data[f"{kind}_feat_{s}"]) for s in ("student", "teacher")}
    selected = torch.tensor(data[f"{kind}_selected"])
    for index, padded in enumerate(selected):
        rows = padded[padded >= 0]
        count = len(rows)
        for side, values in features.items():
            expected = torch.tensor(data[f"{kind}_affinity_{side}"][index])
            matrix = cosine_affinity(values[rows])
            torch.testing.assert_close(matrix, expected[:count, :count], rtol=1e-9, atol=1e-12)
            assert expected[count:].abs().sum() == 0
        student, teacher = (
            torch.tensor(data[f"{kind}_affinity_{side}"][index]) for side in features
        )
        value = affinity_distance(features["student"][rows], features["teacher"][rows])
        assert value.item() == pytest.approx((student - teacher).square().sum().item(), rel=1e-9)


@settings(max_examples=30)
@given(rows=st.integers(0, 16), seed=st.integers(0, 2**16), zero=st.booleans())
def test_distance_is_the_sum_over_all_pairs(rows, seed, zero):
    student, teacher = random_features(rows, seed, channels=(2, 3))
    if zero and rows:
        teacher = teacher.detach().index_fill(0, torch.tensor([rows - 1]), 0.0)
    expected = pvd_loops.affinity_distance(student.tolist(), teacher.tolist())
    value = affinity_distance(student, teacher).item()
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_distance_of_opposite_directions_by_hand():
    student = torch.tensor([[1.0, 0.0], [2.0, 0.0]])  # cosine 1
    teacher = torch.tensor([[1.0], [-3.0]])  # cosine -1, both ways round
    assert affinity_distance(student, teacher).item() == pytest.approx(8.0)


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_gradient_equals_that_of_the_plain_matrices(rows):
    student, teacher = random_features(rows)
    (fast,) = torch.autograd.grad(affinity_distance(student, teacher), student)
    (plain,) = torch.autograd.grad(plain_distance(student, teacher), student)
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rows", [FEW, MANY])
@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-4])
def test_float32_features_that_nearly_agree_keep_their_small_distance(rows, gap):
    exact, noise = random_features(rows, channels=(4, 4))
    student, teacher = (exact + gap * noise).detach().float(), exact.detach().float()
    expected = plain_distance(student.double(), teacher.double()).item()
    assert affinity_distance(student, teacher).item() == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("rows", [FEW, MANY, 3000])
def test_identical_features_are_at_no_distance(rows):
    student, _ = random_features(rows, dtype=torch.float32)
    value = affinity_distance(student, student.detach().clone())
    value.backward()
    assert abs(value.item()) <= 1e-15 * rows**2
    assert student.grad.abs().max() <= 1e-8 * rows


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_length_rotation_and_order_of_rows_do_not_matter(rows):
    student, teacher = random_features(rows)
    expected = affinity_distance(student, teacher)
    lengths = torch.rand(rows, 1, dtype=torch.float64) * 9 + 0.1
    torch.testing.assert_close(affinity_distance(student * lengths, teacher), expected)
    rotation = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64)).Q
    torch.testing.assert_close(affinity_distance(student, teacher @ rotation), expected)
    order = torch.randperm(rows)
    torch.testing.assert_close(affinity_distance(student[order], teacher[order]), expected)


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_zero_rows_appended_to_both_change_nothing(rows):
    student, teacher = random_features(rows)
    padded = (torch.cat([x, torch.zeros(50, x.shape[1])]) for x in (student, teacher))
    torch.testing.assert_close(affinity_distance(*padded), affinity_distance(student, teacher))


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_a_row_that_is_exactly_zero_gets_no_gradient(rows):
    student, teacher = random_features(rows, dtype=torch.float32)
    student = student.detach().index_fill(0, torch.tensor([2]), 0.0).requires_grad_()
    affinity_distance(student, teacher).backward()
    assert student.grad.isfinite().all()
    assert student.grad[2].abs().sum() == 0
    assert student.grad[0].abs().sum() > 0


def test_unit_rows_have_length_one_and_tiny_rows_do_not_blow_up():
    rows = unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-12, 0.0]]))
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1e-4, 0.0]]))


def test_no_rows_give_a_zero_that_back_propagates():
    student, teacher = random_features(0)
    value = affinity_distance(student, teacher)
    value.backward()
    assert value.item() == 0.0
    assert student.grad.shape == (0, 4)


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_the_teacher_gets_no_gradient(rows):
    student, teacher = random_features(rows)
    affinity_distance(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_bfloat16_features_under_autocast_are_computed_in_float32(rows):
    student, teacher = (x.detach().bfloat16() for x in random_features(rows, dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        value = affinity_distance(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, affinity_distance(student.float(), teacher.float()))
