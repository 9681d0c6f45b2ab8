import pytest
import torch

from kdsweep.losses.triplet import triplet_loss

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
MARGIN = 0.2
MININGS = ["distance_weighted", "hard", "semi_hard"]


def _embeddings(seed=0, channels=5, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(len(LABELS), channels, generator=generator, dtype=dtype)


def _distances(embeddings):
    return (embeddings[:, None] - embeddings[None]).square().sum(dim=2).sqrt()


def _pairs():
    return [
        (a, p)
        for a in range(len(LABELS))
        for p in range(len(LABELS))
        if a != p and LABELS[a] == LABELS[p]
    ]


def _negatives(a):
    return [n for n in range(len(LABELS)) if LABELS[n] != LABELS[a]]


@pytest.mark.parametrize("seed", range(3))
def test_hard_takes_the_nearest_negative_of_every_pair(seed):
    embeddings = _embeddings(seed)
    d = _distances(embeddings)
    losses = [
        max(0.0, float(d[a, p] - min(d[a, n] for n in _negatives(a)) + MARGIN)) for a, p in _pairs()
    ]
    found = triplet_loss(embeddings, LABELS, margin=MARGIN, mining="hard")
    assert found.item() == pytest.approx(sum(losses) / len(losses))


@pytest.mark.parametrize("seed", range(3))
def test_semi_hard_takes_negatives_beyond_the_positive_but_within_the_margin(seed):
    embeddings = _embeddings(seed)
    d = _distances(embeddings)
    losses = [
        float(d[a, p] - d[a, n] + MARGIN)
        for a, p in _pairs()
        for n in _negatives(a)
        if d[a, p] < d[a, n] <= d[a, p] + MARGIN
    ]
    assert losses  # the seeds have some
    found = triplet_loss(embeddings, LABELS, margin=MARGIN, mining="semi_hard")
    assert found.item() == pytest.approx(sum(losses) / len(losses))


def test_distance_weighted_never_takes_a_negative_beyond_the_cutoff():
    # on the unit circle: class 0 near angle 0, class 1 near it, class 2 on the other side
    angles = torch.tensor([0.0, 0.1, 0.2, 0.5, 0.6, 0.7, 3.0, 3.1], dtype=torch.float64)
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1).requires_grad_()
    for seed in range(20):
        torch.manual_seed(seed)
        loss = triplet_loss(embeddings, LABELS, margin=10.0, mining="distance_weighted")
        (gradient,) = torch.autograd.grad(loss, embeddings)
        assert gradient[:6].abs().sum() > 0
        assert (gradient[6:] == 0).all()


def test_distance_weighted_prefers_near_negatives_in_many_channels():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    embeddings = torch.randn(6, 512, generator=generator, dtype=torch.float64)
    embeddings[2:4] = embeddings[0] + 0.8 * embeddings[2:4]  # class 1 is nearer to class 0
    embeddings = torch.nn.functional.normalize(embeddings, dim=1)
    embeddings[1] = embeddings[0]
    embeddings.requires_grad_()
    near = far = 0
    for seed in range(20):
        torch.manual_seed(seed)
        loss = triplet_loss(embeddings, labels, margin=10.0, mining="distance_weighted")
        (gradient,) = torch.autograd.grad(loss, embeddings)
        near += int(gradient[2:4].abs().sum() > 0)
        far += int(gradient[4:].abs().sum() > 0)
    assert near == 20 and far < 20


@pytest.mark.parametrize("mining", MININGS)
def test_the_seed_fixes_the_loss_and_torch_is_its_only_source(mining):
    def value(seed):
        torch.manual_seed(seed)
        embeddings = _embeddings(scale=0.5)
        return triplet_loss(embeddings, LABELS, margin=1.0, mining=mining).item()

    assert value(0) == value(0)
    if mining == "distance_weighted":
        assert len({value(seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("mining", MININGS)
def test_one_class_or_one_image_each_gives_a_zero_that_back_propagates(mining):
    for labels in (torch.zeros(8, dtype=torch.int64), torch.arange(8)):
        embeddings = _embeddings().requires_grad_()
        loss = triplet_loss(embeddings, labels, margin=MARGIN, mining=mining)
        assert loss.item() == 0.0 and loss.shape == ()
        loss.backward()
        assert (embeddings.grad == 0).all()


@pytest.mark.parametrize("mining", MININGS)
def test_a_batch_of_one_gives_zero(mining):
    loss = triplet_loss(_embeddings()[:1], LABELS[:1], margin=MARGIN, mining=mining)
    assert loss.item() == 0.0


@pytest.mark.parametrize("mining", ["hard", "semi_hard"])
def test_moving_and_turning_all_embeddings_changes_nothing(mining):
    embeddings = _embeddings()
    turn, _ = torch.linalg.qr(_embeddings(1)[:5])
    loss = triplet_loss(embeddings, LABELS, margin=MARGIN, mining=mining)
    moved = triplet_loss(embeddings @ turn + 3.0, LABELS, margin=MARGIN, mining=mining)
    torch.testing.assert_close(moved, loss)


@pytest.mark.parametrize("mining", MININGS)
def test_gradients_stay_finite_where_points_coincide(mining):
    embeddings = torch.ones(8, 5).requires_grad_()
    loss = triplet_loss(embeddings, LABELS, margin=MARGIN, mining=mining)
    loss.backward()
    assert loss.isfinite() and embeddings.grad.isfinite().all()


def test_the_gradient_is_that_of_the_loss():
    embeddings = _embeddings().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda points: triplet_loss(points, LABELS, margin=1.0, mining="hard"), embeddings
    )


@pytest.mark.parametrize("mining", MININGS)
def test_half_precision_is_computed_in_float32(mining):
    embeddings = _embeddings(dtype=torch.float32).bfloat16().requires_grad_()

    def value(points):
        torch.manual_seed(0)
        return triplet_loss(points, LABELS, margin=MARGIN, mining=mining)

    loss = value(embeddings)
    assert loss.dtype == torch.float32
    assert loss.item() == value(embeddings.float()).item()
    loss.backward()
    assert embeddings.grad.dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.parametrize("mining", MININGS)
def test_the_same_triplets_are_drawn_on_the_gpu(mining):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    values = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        embeddings = _embeddings(dtype=torch.float32).to(device)
        labels = LABELS.to(device)
        values.append(triplet_loss(embeddings, labels, margin=MARGIN, mining=mining).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
