import pytest
import torch

from kdsweep.errors import NonFiniteLossError
from kdsweep.metrics.clustering import clustering_nmi
from kdsweep.metrics.recall import NO_MATCH, nearest_match_ranks, recall_at
from kdsweep.metrics.top_k import top_k_hits

BLOCKS = [1, 100, 333, 1 << 20]


def ranks_by_sorting(embeddings, labels):
    """The plain way: the whole N x N x D table, and every row sorted by (distance, number)."""
    points = embeddings.double()
    distances = (points[:, None] - points[None]).square().sum(dim=2)
    ranks = []
    for i, row in enumerate(distances.tolist()):
        others = sorted((value, j) for j, value in enumerate(row) if j != i)
        right = [rank for rank, (_, j) in enumerate(others) if labels[j] == labels[i]]
        ranks.append(right[0] if right else NO_MATCH)
    return ranks


def _random(images=80, channels=6, classes=15, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(images, channels, generator=generator)
    return embeddings, torch.randint(0, classes, (images,), generator=generator)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("seed", range(3))
def test_ranks_equal_those_of_sorting_the_whole_table(seed, block):
    embeddings, labels = _random(seed=seed)
    found = nearest_match_ranks(embeddings, labels, block_elements=block)
    assert found.tolist() == ranks_by_sorting(embeddings, labels)


@pytest.mark.parametrize("block", BLOCKS)
def test_of_equal_distances_the_smaller_number_is_nearer(block):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randint(0, 3, (80, 3), generator=generator).float()
    _, labels = _random()
    found = nearest_match_ranks(embeddings, labels, block_elements=block)
    assert found.tolist() == ranks_by_sorting(embeddings, labels)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_a_collapsed_network_is_judged_by_numbers_alone(value):
    embeddings, labels = torch.full((40, 7), value), _random()[1][:40]
    found = nearest_match_ranks(embeddings, labels)
    assert found.tolist() == ranks_by_sorting(embeddings, labels)


def test_copies_of_an_image_are_equally_near_whatever_the_rounding():
    embeddings, labels = _random(images=200, channels=97, classes=400)
    copies = embeddings.repeat(3, 1) * 3.7
    labels = torch.cat([labels, labels + 1000, labels])
    found = nearest_match_ranks(copies, labels, block_elements=5000)
    # the nearest others are both copies: of the first image the wrong one comes first
    assert found[:200].tolist() == [1] * 200
    assert found[400:].tolist() == [0] * 200


def test_a_common_offset_changes_nothing():
    embeddings, labels = _random()
    embeddings = (embeddings * 1024).round() / 1024  # so that the sum is exact in float32
    moved = nearest_match_ranks(embeddings + 1000.0, labels)
    assert torch.equal(moved, nearest_match_ranks(embeddings, labels))


def test_one_far_image_does_not_blur_the_others():
    embeddings, labels = _random()
    far = torch.cat([embeddings, torch.full((1, 6), 1e5)])
    far_labels = torch.cat([labels, torch.tensor([99])])
    expected = ranks_by_sorting(far, far_labels)
    assert nearest_match_ranks(far, far_labels).tolist() == expected


def test_recall_by_hand():
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0]])
    labels = torch.tensor([0, 1, 0, 1, 2])
    # nearest first: 0: 1 2 | 1: 0 2 3 | 2: 1 0 | 3: 2 1 | 4 has no other of its class
    assert recall_at(embeddings, labels, ks=(1, 2, 3, 100)) == {1: 0.0, 2: 0.6, 3: 0.8, 100: 0.8}


def test_images_in_pairs_are_all_found():
    embeddings = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    labels = torch.arange(30).repeat(2)
    assert recall_at(embeddings, labels, ks=(1,)) == {1: 1.0}


def test_without_images_there_is_no_recall():
    found = recall_at(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), ks=(1,))
    assert found[1] != found[1]


def test_half_precision_embeddings_are_taken_as_they_are():
    embeddings, labels = _random()
    half = embeddings.bfloat16()
    assert nearest_match_ranks(half, labels).tolist() == ranks_by_sorting(half, labels)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_embeddings_that_are_not_finite_are_refused(value):
    embeddings, labels = _random()
    embeddings[3, 0] = embeddings[5, 1] = value
    with pytest.raises(NonFiniteLossError, match="2 of 80 embeddings hold NaN or infinity"):
        recall_at(embeddings, labels, ks=(1,))


def test_top_k_by_hand():
    logits = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1], [1.0, 2.0, 3.0]])
    assert top_k_hits(logits, torch.tensor([1, 1, 0]), ks=(1, 2, 3, 5)).tolist() == [1, 2, 3, 3]


def test_equal_logits_go_to_the_smaller_class():
    logits = torch.zeros(4, 4)
    assert top_k_hits(logits, torch.arange(4), ks=(1, 2)).tolist() == [1, 2]


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(NonFiniteLossError, match="logits hold NaN"):
        top_k_hits(torch.tensor([[torch.nan, 0.0]]), torch.tensor([0]), ks=(1,))


def _clusters(spread):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat_interleave(20)
    centres = 10 * torch.eye(5)
    return centres[labels] + spread * torch.randn(100, 5, generator=generator), labels


def test_nmi_is_1_for_clusters_that_are_the_classes_and_near_0_for_noise():
    assert clustering_nmi(*_clusters(0.1)) == pytest.approx(1.0)
    assert clustering_nmi(*_clusters(1000.0)) < 0.4


def test_nmi_of_a_collapsed_network_is_0():
    _, labels = _clusters(0.1)
    assert clustering_nmi(torch.ones(100, 3), labels) == pytest.approx(0.0)


@pytest.mark.gpu
def test_ranks_on_the_gpu_equal_those_on_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    embeddings, labels = _random(images=300)
    found = nearest_match_ranks(embeddings.cuda(), labels.cuda(), block_elements=9000)
    assert found.tolist() == nearest_match_ranks(embeddings, labels).tolist()
