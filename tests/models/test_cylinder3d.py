"""Cylinder3D as a whole: sizes, taps, MACs, and starting from a teacher's channels."""

import pytest
import torch
from contracts import fake_lidar_seg as fake
from pydantic import ValidationError
from torch import nn

from kdsweep.errors import CheckpointError, SpecError
from kdsweep.models._sparse import Convolution
from kdsweep.models.base import Model
from kdsweep.models.cylinder3d import Config, build, slice_from
from kdsweep.types import ModelInput

PUBLISHED = ModelInput(num_classes=20, point_features=9, grid=(480, 360, 32))


def small(seed=0, **options):
    torch.manual_seed(seed)
    return build(Config(**({"width": 0.125, "slim_encoder": True} | options)), fake.MODEL_INPUT)


def size(**options):
    with torch.device("meta"):
        return sum(p.numel() for p in build(Config(**options), PUBLISHED).parameters())


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 55_740_564 + 112_802),
        ({"width": 0.5}, 13_958_740 + 112_802),
        ({"width": 0.5, "point_channels": 128}, 13_958_740 + 77_858),
        ({"width": 0.25}, 3_500_340 + 110_746),
    ],
)
def test_parameters_are_counted_as_published(options, count):
    assert size(**options) == count


def test_slim_encoder_scales_the_encoder_and_nothing_else():
    options = {"width": 0.25, "in_channels": 8}
    with torch.device("meta"):
        whole = build(Config(**options), PUBLISHED)
        slim = build(Config(**options, slim_encoder=True), PUBLISHED)
    assert [layer.linear.out_features for layer in slim.encoder.mlp] == [16, 32, 64]
    assert slim.encoder.project.out_features == 64
    assert [p.shape for p in slim.unet.parameters()] == [p.shape for p in whole.unet.parameters()]


def test_slim_encoder_is_the_published_one_at_full_width():
    assert size(slim_encoder=True) == size()


@pytest.mark.parametrize(
    ("width", "init_size", "in_channels"), [(1, 32, 16), (1.5, 48, 16), (0.25, 8, 8), (0.01, 2, 2)]
)
def test_width_sets_the_channels_of_the_sparse_network(width, init_size, in_channels):
    with torch.device("meta"):
        net = build(Config(width=width), PUBLISHED)
    assert net.unet.out_channels == 4 * init_size
    assert net.encoder.compress.out_features == in_channels


@pytest.mark.parametrize("wrong", [{"width": 0.0}, {"in_channels": -1}, {"point_channels": 0}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValidationError):
        Config(**wrong)


def test_a_task_without_points_is_refused():
    with pytest.raises(SpecError, match="takes LiDAR points"):
        build(Config(), ModelInput(num_classes=4))


def test_points_take_the_logits_of_their_cell_without_refinement():
    batch = fake.make_batch()
    taps = small().eval()(batch)
    for tap in ("logits", "features"):
        assert torch.equal(taps[f"point_{tap}"], taps[f"voxel_{tap}"][batch.point_to_voxel])


def test_refined_point_logits_come_from_the_point_features():
    model = small(refinement=True).eval()
    taps = model(fake.make_batch())
    assert torch.equal(taps["point_logits"], model.refinement.head(taps["point_features"]))


def test_voxel_logits_come_from_the_voxel_features():
    model, batch = small().eval(), fake.make_batch()
    seen = []
    model.unet.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].features))
    assert torch.equal(model(batch)["voxel_features"], seen[0])


@pytest.mark.parametrize("options", [{}, {"refinement": True}, {"slim_encoder": False}])
def test_macs_are_the_products_of_the_layers_that_ran(options):
    model, batch = small(**options), fake.make_batch()
    total = 0

    def linear(layer, inputs, _):
        nonlocal total
        total += len(inputs[0]) * layer.weight.numel()

    def convolution(layer, inputs, _):
        nonlocal total
        pairs = inputs[0].indice_dict[layer.indice_key]
        count = int(pairs.indice_pair_num.sum())
        count = 2 * count + len(pairs.indices) if pairs.is_subm else count
        total += count * layer.in_channels * layer.out_channels

    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(linear)
        elif isinstance(layer, Convolution):
            layer.register_forward_hook(convolution)
    model(batch)
    assert model.macs(batch) == total > 0


def silence_upper_channels(state):
    """Makes the upper half of the channels of every layer but the heads give zeros."""
    for name, tensor in state.items():
        heads = ("unet.head", "refinement.head")
        if tensor.dim() > 0 and not name.startswith((*heads, "encoder.bn.")):
            unused = slice(tensor.shape[0] // 2, None)
            tensor[unused] = 1 if name.endswith("running_var") else 0


@pytest.mark.parametrize("options", [{}, {"refinement": True}, {"slim_encoder": False}])
def test_the_slice_of_a_teacher_whose_other_channels_are_silent_answers_alike(options):
    options = {"slim_encoder": True, "refinement": False} | options
    narrow_encoder = {} if options["slim_encoder"] else {"in_channels": 4}
    teacher = small(1, width=0.25, **options).eval()
    student = small(2, width=0.125, **options, **narrow_encoder).eval()
    batch = fake.make_batch()
    teacher.train()(batch)  # running statistics of its own
    teacher.eval()
    state = teacher.state_dict()
    if options["slim_encoder"]:
        silence_upper_channels(state)
    else:
        silence_upper_channels(
            {k: v for k, v in state.items() if k.startswith(("unet", "encoder.compress"))}
        )
    copied = slice_from(student, teacher)
    assert copied == list(student.state_dict())
    expected, given = teacher(batch), student(batch)
    for tap in ("voxel_logits", "point_logits"):
        torch.testing.assert_close(given[tap], expected[tap])


def test_the_slice_at_equal_width_is_a_copy():
    teacher, student = small(1), small(2)
    slice_from(student, teacher)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, teacher.state_dict()[name])


@pytest.mark.parametrize("width", [0.2, 0.07])
def test_the_head_takes_the_leading_channels_of_both_its_inputs(width):
    teacher, student = small(1, width=0.25), small(2, width=width)
    slice_from(student, teacher)
    wide, narrow = teacher.unet.head.weight, student.unet.head.weight
    half = narrow.shape[-1] // 2
    assert torch.equal(narrow[..., :half], wide[..., :half])
    assert torch.equal(narrow[..., half:], wide[..., 16 : 16 + half])


def test_a_refinement_that_the_teacher_lacks_keeps_its_own_start():
    teacher, student = small(1), small(2, refinement=True)
    before = student.refinement.head.weight.clone()
    assert not any(name.startswith("refinement") for name in slice_from(student, teacher))
    assert torch.equal(student.refinement.head.weight, before)


def test_slicing_another_kind_of_network_is_refused():
    with pytest.raises(CheckpointError, match=r"cylinder3d teacher only, not from Model"):
        slice_from(small(), Model())


def test_teacher_and_student_share_the_index_pairs_of_a_batch_and_stay_exact():
    batch = fake.make_batch()
    alone = fake.make_batch()
    teacher, student = small(1, width=0.25).eval(), small(2).eval()
    teacher(batch)
    given, expected = student(batch), student(alone)
    for tap in expected:
        assert torch.equal(given[tap], expected[tap])
