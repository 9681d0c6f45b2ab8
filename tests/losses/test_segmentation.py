import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import segmentation_loops

from kdsweep.losses.segmentation import lovasz_softmax, weighted_cross_entropy

LOSSES = [weighted_cross_entropy, lovasz_softmax]


def random_rows(rows, classes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=dtype) * 2
    return logits.requires_grad_(), torch.randint(0, classes, (rows,), generator=generator)


def dense_rows(logits):
    """[B, C, R, A, H] as rows of classes, and back for gradients."""
    return torch.tensor(logits, dtype=torch.float64).movedim(1, -1).flatten(0, -2)


@pytest.mark.parametrize("name", ["pvd_lovasz_a.npz", "pvd_lovasz_b.npz"])
@pytest.mark.parametrize("labelled_only", [False, True])
def test_both_match_the_published_code_on_the_dense_grid_and_on_labelled_cells(
    oracle, name, labelled_only
):
    data = np.load(oracle(name))
    logits = dense_rows(data["logits"]).requires_grad_()
    labels = torch.tensor(data["labels"]).flatten()
    rows = labels != 0 if labelled_only else torch.ones_like(labels, dtype=torch.bool)
    lovasz = lovasz_softmax(logits[rows], labels[rows])
    lovasz.backward()
    assert lovasz.item() == pytest.approx(data["lovasz_f64"].item(), rel=1e-9)
    expected = dense_rows(data["grad_logits_f64"])
    torch.testing.assert_close(logits.grad, expected, rtol=1e-7, atol=1e-12)
    assert weighted_cross_entropy(logits[rows], labels[rows]).item() == pytest.approx(
        data["ce_f64"].item(), rel=1e-9
    )
    single = lovasz_softmax(logits[rows].float(), labels[rows])
    assert single.item() == pytest.approx(data["lovasz_f64"].item(), rel=1e-5)


@pytest.mark.parametrize("classes", ["present", "all"])
def test_lovasz_over_present_or_all_classes_matches_the_published_code(oracle, classes):
    data = np.load(oracle(f"pvd_lovasz_flat_{classes}.npz"))
    logits = torch.tensor(data["logits"], requires_grad=True)
    loss = lovasz_softmax(logits, torch.tensor(data["labels"]), ignore=None, classes=classes)
    loss.backward()
    assert loss.item() == pytest.approx(data["lovasz_f64"].item(), rel=1e-9)
    torch.testing.assert_close(
        logits.grad, torch.tensor(data["grad_logits_f64"]), rtol=1e-7, atol=1e-12
    )


@settings(max_examples=40)
@given(
    rows=st.integers(1, 12),
    num_classes=st.integers(2, 5),
    seed=st.integers(0, 2**16),
    ignore=st.sampled_from([0, 1, None]),
    classes=st.sampled_from(["present", "all"]),
)
def test_lovasz_is_the_lovasz_extension_of_the_jaccard_loss(
    rows, num_classes, seed, ignore, classes
):
    logits, labels = random_rows(rows, num_classes, seed)
    loss = lovasz_softmax(logits, labels, ignore=ignore, classes=classes).item()
    expected = segmentation_loops.lovasz_softmax(logits.tolist(), labels.tolist(), ignore, classes)
    assert loss == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 0.0 <= loss <= 1.0


@settings(max_examples=30)
@given(rows=st.integers(1, 12), seed=st.integers(0, 2**16), weighted=st.booleans())
def test_cross_entropy_is_the_weighted_mean_of_labelled_rows(rows, seed, weighted):
    logits, labels = random_rows(rows, 4, seed)
    weights = torch.tensor([0.0, 0.5, 3.0, 1.5]) if weighted else None
    expected = segmentation_loops.cross_entropy(
        logits.tolist(), labels.tolist(), None if weights is None else weights.tolist()
    )
    loss = weighted_cross_entropy(logits, labels, weights)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_cross_entropy_of_even_odds_is_the_logarithm_of_the_number_of_classes():
    loss = weighted_cross_entropy(torch.zeros(3, 8), torch.tensor([1, 0, 7]))
    assert loss.item() == pytest.approx(np.log(8))


def test_lovasz_by_hand_for_one_cell():
    logits = torch.tensor([[0.0, np.log(3.0), 0.0]])  # probability 0.6 of its own class
    assert lovasz_softmax(logits, torch.tensor([1])).item() == pytest.approx(0.4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_sure_and_right_prediction_costs_nothing(loss):
    labels = torch.tensor([1, 2, 2, 0])
    logits = 100.0 * torch.nn.functional.one_hot(labels, 3).float()
    assert loss(logits, labels).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_labelled_gives_a_zero_that_back_propagates(loss, rows):
    logits = torch.randn(rows, 4, requires_grad=True)
    value = loss(logits, torch.zeros(rows, dtype=torch.long))
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(rows, 4))


def test_labelled_rows_of_weight_zero_count_as_none():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.tensor([1, 1]), torch.tensor([1.0, 0.0, 1.0]))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_one_labelled_row_is_enough(loss):
    logits = torch.randn(5, 4, requires_grad=True)
    value = loss(logits, torch.tensor([0, 0, 3, 0, 0]))
    value.backward()
    assert value.item() > 0
    assert logits.grad[2].abs().sum() > 0
    assert logits.grad[[0, 1, 3, 4]].abs().sum() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_the_order_of_rows_does_not_matter(loss):
    logits, labels = random_rows(40, 5, seed=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(logits[order], labels[order]), loss(logits, labels))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("label_dtype", [torch.int16, torch.int32])
def test_bfloat16_logits_under_autocast_are_computed_in_float32(loss, label_dtype):
    logits, labels = random_rows(40, 5, seed=3, dtype=torch.float32)
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, labels.to(label_dtype))
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(half.float(), labels))


def test_lovasz_gradient_is_right():
    logits, labels = random_rows(7, 4, seed=11)
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x, labels), logits)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("loss", LOSSES)
def test_cuda_agrees_with_the_cpu(loss):
    logits, labels = random_rows(500, 20, seed=2, dtype=torch.float32)
    on_gpu = logits.detach().cuda().requires_grad_()
    value, expected = loss(on_gpu, labels.cuda()), loss(logits, labels)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.cpu(), expected)
    torch.testing.assert_close(on_gpu.grad.cpu(), logits.grad, rtol=1e-4, atol=1e-7)
