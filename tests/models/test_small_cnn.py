import pytest
import torch

from kdsweep.errors import SpecError
from kdsweep.models.small_cnn import Config, build
from kdsweep.types import ImageBatch, ModelInput

GREY = ModelInput(num_classes=0, image_channels=1)


def images(count=3, height=8, width=8):
    generator = torch.Generator().manual_seed(0)
    return ImageBatch(
        images=torch.randn(count, 1, height, width, generator=generator),
        labels=torch.zeros(count, dtype=torch.long),
        sample_ids=tuple(f"{n}/0" for n in range(count)),
    )


def network(**options):
    torch.manual_seed(0)
    return build(Config(**options), GREY).eval()


@pytest.mark.parametrize(
    ("side", "sides"), [(8, (8, 4, 2)), (32, (32, 16, 8)), (9, (9, 5, 3)), (1, (1, 1, 1))]
)
def test_each_stage_halves_the_image_rounded_up(side, sides):
    given = network(width=0.25)(images(height=side, width=side))
    assert [given[f"layer{n}"].shape[2] for n in (1, 2, 3)] == list(sides)


def test_images_need_not_be_square():
    given = network(width=0.25)(images(height=8, width=20))
    assert given["layer2"].shape == (3, 16, 4, 10)
    assert given["embedding"].shape == (3, 64)


def test_macs_of_one_image_by_hand():
    model = network(convs_per_stage=1, embedding_dim=10)
    convolutions = 9 * (64 * 1 * 32 + 16 * 32 * 64 + 4 * 64 * 128)
    assert model.macs(images(1)) == convolutions + 128 * 10
    assert model.macs(images(3)) == 3 * model.macs(images(1))


def test_counting_macs_changes_nothing():
    model, batch = network(width=0.25).train(), images()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.macs(batch)
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
    assert model.training and not any(layer._forward_hooks for layer in model.modules())


def test_embeddings_of_unit_length():
    lengths = network(l2_norm=True, width=0.25)(images())["embedding"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(3))


def test_classes_add_logits():
    model = build(Config(width=0.25), ModelInput(num_classes=10, image_channels=1)).eval()
    assert model(images())["logits"].shape == (3, 10)


def test_a_task_without_images_is_refused():
    with pytest.raises(SpecError, match="'small_cnn' takes images"):
        build(Config(), ModelInput(num_classes=20, point_features=9))
