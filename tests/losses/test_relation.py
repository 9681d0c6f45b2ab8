import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import relation_loops

from kdsweep.losses import relation
from kdsweep.losses.relation import rkd_angle, rkd_distance

TERMS = {"distance": rkd_distance, "angle": rkd_angle}
FILES = ["basic_n5", "basic_n8", "basic_n32", "l2teacher_n16", "huber_n6", "offset_n8"]
FILES += ["dup_both_n6", "dup_student_n6"]
PREFIX = {"distance": "dist", "angle": "angle"}

both_terms = pytest.mark.parametrize("term", TERMS)
all_files = pytest.mark.parametrize("file", FILES)


def embeddings(num=7, seed=0, dims=(4, 6), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(num, d, generator=generator, dtype=dtype) for d in dims)
    return student.requires_grad_(), teacher


def value_and_gradient(term, student, teacher):
    student = student.detach().requires_grad_()
    value = TERMS[term](student=student, teacher=teacher)
    value.backward()
    return value.detach(), student.grad


def load(oracle, file):
    return {name: torch.tensor(array) for name, array in np.load(oracle(f"rkd_{file}.npz")).items()}


def expected_gradient(data, term):
    """That of the authors' code, but for edges of length zero (see `kdsweep.losses.relation`)."""
    return data["dist_grad" if term == "distance" else "angle_grad_safe"]


def assert_close_to(found, expected, tolerance):
    """Relative to the largest element, since gradients have elements that cancel to about 0."""
    scale = expected.double().abs().max().item()
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=tolerance, atol=tolerance * scale
    )


@both_terms
@all_files
def test_float64_equals_the_authors_code(oracle, term, file):
    data = load(oracle, file)
    value, gradient = value_and_gradient(term, data["student"], data["teacher"])
    assert_close_to(value, data[f"{PREFIX[term]}_loss"], 1e-13)
    # The authors' Gram form of the distance loses digits far from the origin in float64, too.
    assert_close_to(gradient, expected_gradient(data, term), 1e-9 if "offset" in file else 1e-12)


@both_terms
@pytest.mark.parametrize("file", [file for file in FILES if file != "dup_student_n6"])
def test_safe_edges_change_no_gradient_that_the_authors_code_can_compute(oracle, term, file):
    data = load(oracle, file)
    _, gradient = value_and_gradient(term, data["student"], data["teacher"])
    assert_close_to(gradient, data[f"{PREFIX[term]}_grad"], 1e-9)


@pytest.mark.parametrize(("distance", "angle"), [(1, 2), (25, 50)])
@all_files
def test_weighted_sums_equal_the_authors_code(oracle, file, distance, angle):
    data = load(oracle, file)
    student = data["student"].requires_grad_()
    sides = {"student": student, "teacher": data["teacher"]}
    total = distance * rkd_distance(**sides) + angle * rkd_angle(**sides)
    total.backward()
    name = f"da_{distance}_{angle}"
    assert_close_to(total.detach(), data[f"{name}_loss"], 1e-13)
    if file == "dup_student_n6":  # their gradient is 1e9 there
        expected = distance * data["dist_grad"] + angle * data["angle_grad_safe"]
    else:
        expected = data[f"{name}_grad"]
    assert_close_to(student.grad, expected, 1e-9)


@both_terms
@all_files
def test_float32_is_as_close_to_float64_as_its_input_allows(oracle, term, file):
    data = load(oracle, file)
    value, gradient = value_and_gradient(term, data["student_f32"], data["teacher_f32"])
    assert value.dtype == gradient.dtype == torch.float32
    assert_close_to(value, data[f"{PREFIX[term]}_loss"], 1e-5)
    assert_close_to(gradient, expected_gradient(data, term), 1e-4)


@both_terms
@all_files
def test_float32_agrees_with_the_authors_code_in_float32(oracle, term, file):
    data = load(oracle, file)
    value, _ = value_and_gradient(term, data["student_f32"], data["teacher_f32"])
    rough = file.startswith(("offset", "dup"))  # their Gram form cancels
    assert_close_to(value, data[f"{PREFIX[term]}_loss_f32"], 2e-3 if rough else 1e-4)


@both_terms
@settings(max_examples=25)
@given(
    num=st.integers(2, 7),
    dims=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    spread=st.sampled_from([0.01, 1.0, 100.0]),
    coincide=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_value_is_the_mean_over_all_pairs_or_triplets(term, num, dims, spread, coincide, seed):
    student, teacher = embeddings(num, seed, dims)
    student = student.detach() * spread
    if coincide:
        student[-1] = student[0]
    loop = {"distance": relation_loops.distance_loss, "angle": relation_loops.angle_loss}[term]
    value = TERMS[term](student=student, teacher=teacher).item()
    assert value == pytest.approx(loop(student.tolist(), teacher.tolist()), rel=1e-11, abs=1e-14)


def test_three_points_by_hand():
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 90, 45, 45 degrees
    teacher = torch.tensor([[0.0], [1.0], [2.0]])  # a line: cosines 1, -1, 1
    cosine, mean = 0.5**0.5, (2 + 2**0.5) / 3
    # At points 0 and 2 the gap is 1 and 1 - cos 45, at the middle one cos 45 + 1; each twice.
    angle = 2 * (0.5 + (cosine + 1 - 0.5) + 0.5 * (1 - cosine) ** 2) / 27
    value = rkd_angle(student=student, teacher=teacher)
    assert value.item() == pytest.approx(angle, rel=1e-6)
    gaps = [1 / mean - 0.75, 1 / mean - 1.5, 2**0.5 / mean - 0.75]  # their mean distance is 4/3
    distance = 2 * sum(0.5 * gap**2 for gap in gaps) / 9
    value = rkd_distance(student=student, teacher=teacher)
    assert value.item() == pytest.approx(distance, rel=1e-6)


@both_terms
@settings(max_examples=25)
@given(
    num=st.integers(3, 12),
    shift=st.floats(-100, 100),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**16),
)
def test_shift_scale_rotation_and_order_of_either_side_do_not_matter(term, num, shift, scale, seed):
    student, teacher = embeddings(num, seed)
    expected = TERMS[term](student=student, teacher=teacher)
    generator = torch.Generator().manual_seed(seed)

    def moved(points):
        dim = points.shape[1]
        random = torch.randn(dim, dim, generator=generator, dtype=points.dtype)
        return scale * points @ torch.linalg.qr(random).Q + shift

    order = torch.randperm(num, generator=generator)
    for sides in (
        {"student": moved(student), "teacher": teacher},
        {"student": student, "teacher": moved(teacher)},
        {"student": student[order], "teacher": teacher[order]},
    ):
        torch.testing.assert_close(TERMS[term](**sides), expected, rtol=1e-7, atol=1e-10)


@both_terms
@settings(max_examples=25)
@given(num=st.integers(3, 12), seed=st.integers(0, 2**16))
def test_the_gradient_neither_shifts_nor_scales_the_student(term, num, seed):
    student, teacher = embeddings(num, seed)
    _, gradient = value_and_gradient(term, student, teacher)
    size = gradient.abs().sum().item()
    assert size > 0
    assert gradient.sum(dim=0).abs().max().item() <= 1e-12 * size
    assert abs((gradient * student).sum().item()) <= 1e-12 * size


@both_terms
@settings(max_examples=10)
@given(num=st.integers(2, 6), seed=st.integers(0, 2**16))
def test_the_gradient_is_that_of_the_value(term, num, seed):
    student, teacher = embeddings(num, seed)
    assert torch.autograd.gradcheck(lambda s: TERMS[term](student=s, teacher=teacher), (student,))


@both_terms
def test_a_student_with_the_teachers_relations_has_no_loss_and_no_gradient(term):
    student, _ = embeddings(dims=(4, 6))
    value, gradient = value_and_gradient(term, student, 3.0 * student.detach() + 1.0)
    assert value.item() < 1e-28
    assert gradient.abs().max().item() < 1e-15


@pytest.mark.parametrize("block", [1, 300, 1 << 21])
@pytest.mark.parametrize("dims", [(4, 6), (40, 3), (3, 40)])
def test_blocks_of_any_size_give_the_same_angle_term(monkeypatch, block, dims):
    student, teacher = embeddings(13, dims=dims)
    expected = value_and_gradient("angle", student, teacher)
    monkeypatch.setattr(relation, "BLOCK_ELEMENTS", block)
    for found, wanted in zip(value_and_gradient("angle", student, teacher), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


@both_terms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("student_rows", "teacher_rows"),
    [([0, 0, 1, 2], [0, 1, 2, 3]), ([0, 1, 2, 3], [0, 0, 1, 2]), ([0, 0, 1, 2], [0, 0, 2, 3])],
    ids=["student", "teacher", "both"],
)
def test_coinciding_points_give_moderate_gradients(term, dtype, student_rows, teacher_rows):
    student, teacher = embeddings(dtype=dtype)
    value, gradient = value_and_gradient(term, student[student_rows], teacher[teacher_rows])
    assert value.isfinite() and gradient.isfinite().all()
    assert 0 < gradient.abs().max() < 1


@both_terms
def test_a_full_collapse_has_a_finite_loss_and_no_gradient(term):
    student, teacher = embeddings()
    value, gradient = value_and_gradient(term, student[:1].expand(7, -1), teacher)
    assert value.isfinite() and value > 0
    assert gradient.abs().max() == 0
    value, gradient = value_and_gradient(term, student, teacher[:1].expand(7, -1))
    assert value.isfinite() and gradient.isfinite().all()


@both_terms
@pytest.mark.parametrize("num", [0, 1, 2])
def test_fewer_than_three_points_have_no_relations_to_learn(term, num):
    student, teacher = embeddings(num)
    value, gradient = value_and_gradient(term, student, teacher)
    assert value.item() == pytest.approx(0.0, abs=1e-30)
    assert gradient.shape == (num, 4)
    assert gradient.abs().sum().item() < 1e-15


@both_terms
def test_the_teacher_gets_no_gradient_and_the_student_may_want_none(term):
    student, teacher = embeddings()
    TERMS[term](student=student, teacher=teacher.requires_grad_()).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    value = TERMS[term](student=student.detach(), teacher=teacher.detach())
    assert not value.requires_grad
    assert torch.equal(value, TERMS[term](student=student, teacher=teacher).detach())


@both_terms
def test_the_gradient_is_scaled_by_what_follows_and_survives_a_second_backward(term):
    student, teacher = embeddings()
    _, once = value_and_gradient(term, student, teacher)
    value = TERMS[term](student=student, teacher=teacher)
    for _ in range(2):  # as when each term's share of the gradient is asked for before the step
        (scaled,) = torch.autograd.grad(3.0 * value, student, retain_graph=True)
        torch.testing.assert_close(scaled, 3.0 * once)


@both_terms
def test_bfloat16_embeddings_under_autocast_are_related_in_float32(term):
    student, teacher = (x.detach().bfloat16() for x in embeddings(20, dtype=torch.float32))
    student.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = TERMS[term](student=student, teacher=teacher)
    value.backward()
    exact, gradient = value_and_gradient(term, student.float(), teacher.float())
    assert value.dtype == torch.float32
    assert torch.equal(value.detach(), exact)
    assert torch.equal(student.grad, gradient.bfloat16())


@both_terms
def test_a_far_offset_costs_float32_little(term):
    student, teacher = embeddings(16)
    exact, _ = value_and_gradient(term, student, teacher)
    far = (student.detach() + 1000.0).float()
    # Rounding alone moves points by up to 3e-5; the Gram form would be off by more than half.
    value, _ = value_and_gradient(term, far, teacher.float())
    assert value.item() == pytest.approx(exact.item(), rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@both_terms
def test_cuda_gives_the_value_of_the_cpu(term):
    student, teacher = embeddings(200, dims=(64, 128), dtype=torch.float32)
    value, gradient = value_and_gradient(term, student, teacher)
    on_cuda = value_and_gradient(term, student.detach().cuda(), teacher.cuda())
    assert_close_to(on_cuda[0].cpu(), value, 1e-5)
    assert_close_to(on_cuda[1].cpu(), gradient, 1e-4)
