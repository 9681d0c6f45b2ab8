import pytest
import torch
from contracts import fake_lidar_seg
from contracts import fake_metric_learning as fake
from torch.nn import functional as F

from kdsweep.errors import TapError
from kdsweep.methods.fitnet import Config, FitNet
from kdsweep.types import TapInfo

MAP = ("batch", "channels", "height", "width")


def pair(student, teacher, **options):
    """A method for two taps of given shapes, and the function of them that it computes."""
    axes = MAP if student.dim() == 4 else ("batch", "channels")
    torch.manual_seed(0)
    method = FitNet(
        Config(**options),
        student={"layer3": TapInfo(axes, student.shape[1])},
        teacher={"layer3": TapInfo(axes, teacher.shape[1])},
    )
    return method, method(student={"layer3": student}, teacher={"layer3": teacher}, batch=None)


def test_the_term_is_the_mean_square_between_regressor_and_hint():
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 4, 5)
    method, terms = pair(student, teacher)
    weight, bias = method.regressor.weight[:, :, 0, 0], method.regressor.bias
    predicted = torch.einsum("oc,bchw->bohw", weight, student) + bias[:, None, None]
    torch.testing.assert_close(terms["hint"], (predicted - teacher).square().mean())


def test_rows_of_channels_have_a_linear_regressor():
    student, teacher = torch.randn(9, 3), torch.randn(9, 6)
    method, terms = pair(student, teacher)
    torch.testing.assert_close(terms["hint"], F.mse_loss(method.regressor(student), teacher))


def test_a_regressor_that_predicts_the_hint_has_no_loss():
    student = torch.randn(2, 3, 4, 4)
    method, _ = pair(student, torch.zeros(2, 6, 4, 4))
    hint = method.regressor(student).detach()
    terms = method(student={"layer3": student}, teacher={"layer3": hint}, batch=None)
    assert terms["hint"].item() == 0.0


@pytest.mark.parametrize(
    ("ours", "theirs", "common"),
    [((8, 8), (4, 4), (4, 4)), ((4, 4), (8, 8), (4, 4)), ((6, 3), (3, 6), (3, 3))],
)
def test_the_larger_map_is_pooled_to_the_smaller(ours, theirs, common):
    student, teacher = torch.randn(2, 3, *ours), torch.randn(2, 5, *theirs)
    method, terms = pair(student, teacher)
    student, teacher = (F.adaptive_avg_pool2d(x, common) for x in (student, teacher))
    torch.testing.assert_close(terms["hint"], F.mse_loss(method.regressor(student), teacher))


def test_the_hint_may_come_from_another_layer():
    config = Config(tap="layer2", teacher_tap="layer4")
    assert FitNet.needs(config) == ({"layer2"}, {"layer4"})
    method = FitNet(config, student=fake.STUDENT, teacher=fake.TEACHER)
    assert method.regressor.weight.shape[:2] == (
        fake.TEACHER["layer4"].channels,
        fake.STUDENT["layer2"].channels,
    )


def test_lidar_points_can_be_hinted_too():
    batch = fake_lidar_seg.make_batch()
    sides = (fake_lidar_seg.STUDENT, fake_lidar_seg.TEACHER)
    student, teacher = (fake_lidar_seg.make_taps(infos, batch, seed=1) for infos in sides)
    method = FitNet(Config(tap="point_features"), student=sides[0], teacher=sides[1])
    terms = method(student=student, teacher=teacher, batch=batch)
    terms["hint"].backward()
    assert student["point_features"].grad.abs().sum() > 0


def test_without_weight_there_is_no_regressor():
    method = FitNet(Config(hint=0), student={}, teacher={})
    assert list(method.parameters()) == []


@pytest.mark.parametrize(
    ("tap", "teacher_tap"),
    [("layer3", "pooled"), ("pooled", "layer3"), ("pooled", "point_features")],
)
def test_taps_of_different_things_are_refused(tap, teacher_tap):
    teacher = {**fake.TEACHER, **fake_lidar_seg.TEACHER}
    config = Config(tap=tap, teacher_tap=teacher_tap)
    with pytest.raises(TapError, match=f"cannot pair tap '{tap}' .* with tap '{teacher_tap}'"):
        FitNet(config, student=fake.STUDENT, teacher=teacher)
