import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import pvd_loops

from kdsweep.losses.divergence import kl_divergence, mean_kl_divergence


def random_logits(rows, classes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, rows, classes, generator=generator, dtype=dtype) * 3
    return student.requires_grad_(), teacher.requires_grad_()


@pytest.mark.parametrize("kind", ["point", "voxel"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_kl_matches_the_reference_numbers(oracle, kind, direction):
    data = np.load(oracle("pvd_recon_output_a.npz"))
    student, teacher = (torch.tensor(data[f"{kind}_logits_{s}"]) for s in ("student", "teacher"))
    names = {"forward": "teacher_student", "reverse": "student_teacher"}
    rows = kl_divergence(student, teacher, direction=direction)
    expected = torch.tensor(data[f"{kind}_kl_{names[direction]}"])
    torch.testing.assert_close(rows, expected, rtol=1e-9, atol=1e-12)
    single = kl_divergence(student.float(), teacher.float(), direction=direction)
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["point", "voxel"])
def test_kl_with_temperature_matches_the_reference_numbers(oracle, kind):
    data = np.load(oracle("pvd_recon_output_a.npz"))
    student, teacher = (torch.tensor(data[f"{kind}_logits_{s}"]) for s in ("student", "teacher"))
    loss = kl_divergence(student, teacher, temperature=4.0).mean()
    expected = data[f"{kind}_loss_T4_hinton_mean_rows"].item()
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_kl_and_the_teachers_entropy_make_the_public_soft_target_loss(oracle):
    data = np.load(oracle("pvd_vanilla_kd_softtarget.npz"))
    student = torch.tensor(data["student_logits"], requires_grad=True)
    teacher = torch.tensor(data["teacher_logits"])
    weight, temperature = data["weight"].item(), float(data["temperature"])
    loss = weight * kl_divergence(student, teacher, temperature=temperature).mean()
    loss.backward()
    probs = (teacher / temperature).softmax(dim=1)
    entropy = temperature**2 * torch.special.entr(probs).sum(dim=1).mean().item()
    assert loss.item() + weight * entropy == pytest.approx(data["loss"].item(), rel=1e-9)
    expected = torch.tensor(data["grad_student"])
    torch.testing.assert_close(student.grad, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=40)
@given(
    rows=st.integers(0, 6),
    seed=st.integers(0, 2**16),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    reverse=st.booleans(),
)
def test_kl_is_the_sum_over_classes_and_not_negative(rows, seed, temperature, reverse):
    student, teacher = random_logits(rows, 4, seed)
    direction = "reverse" if reverse else "forward"
    values = kl_divergence(student, teacher, temperature=temperature, direction=direction).tolist()
    expected = pvd_loops.kl_rows(student.tolist(), teacher.tolist(), temperature, reverse)
    assert values == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert all(value >= -1e-12 for value in values)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_identical_networks_diverge_by_exactly_zero(direction):
    student, _ = random_logits(20, 8, seed=0, dtype=torch.float32)
    rows = kl_divergence(student, student.detach(), temperature=2.0, direction=direction)
    rows.sum().backward()
    assert rows.abs().max() == 0.0
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_gradient_is_right(direction):
    student, teacher = random_logits(3, 4, seed=5)

    def rows(logits):
        return kl_divergence(logits, teacher, temperature=2.0, direction=direction)

    assert torch.autograd.gradcheck(rows, student)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_adding_a_constant_to_all_logits_of_a_row_changes_nothing(direction):
    student, teacher = random_logits(9, 5, seed=4)
    moved = kl_divergence(student + 7.0, teacher - 2.0, direction=direction)
    torch.testing.assert_close(moved, kl_divergence(student, teacher, direction=direction))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_very_sure_networks_that_disagree_stay_finite(direction):
    student = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    rows = kl_divergence(student, student.detach().flip(1), direction=direction)
    rows.sum().backward()
    assert rows.item() == pytest.approx(2e4)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_teacher_gets_no_gradient(direction):
    student, teacher = random_logits(9, 5, seed=4)
    kl_divergence(student, teacher, direction=direction).sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_bfloat16_logits_are_computed_in_float32(direction):
    student, teacher = (x.detach().bfloat16() for x in random_logits(9, 5, 1, torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        rows = kl_divergence(student, teacher, direction=direction)
    assert rows.dtype == torch.float32
    expected = kl_divergence(student.float(), teacher.float(), direction=direction)
    assert torch.equal(rows, expected)


def test_the_mean_of_rows_is_zero_and_back_propagates_without_rows():
    student, teacher = random_logits(4, 3, seed=0)
    rows = kl_divergence(student, teacher, temperature=2.0, direction="reverse")
    mean = mean_kl_divergence(student, teacher, temperature=2.0, direction="reverse")
    torch.testing.assert_close(mean, rows.mean())
    nothing = student[:0].detach().requires_grad_()
    value = mean_kl_divergence(nothing, teacher[:0])
    value.backward()
    assert value.item() == 0.0
    assert nothing.grad.shape == (0, 3)
