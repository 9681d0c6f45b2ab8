import pytest
import torch
from contracts import fake_lidar_seg, fake_metric_learning

from kdsweep.errors import TapError
from kdsweep.losses.divergence import mean_kl_divergence
from kdsweep.methods.kd import KD, Config
from kdsweep.types import TapInfo

FAKES = {
    "logits": fake_metric_learning,
    "point_logits": fake_lidar_seg,
    "voxel_logits": fake_lidar_seg,
}


def run(config, student, teacher):
    infos = {"logits": TapInfo(("batch", "classes"), student.shape[1])}
    method = KD(config, student=infos, teacher=infos)
    return method(student={"logits": student}, teacher={"logits": teacher}, batch=None)


def test_two_classes_by_hand():
    student = torch.tensor([[0.0, 0.0]], dtype=torch.float64)  # 1/2, 1/2
    teacher = torch.tensor([[0.0, 2.0]], dtype=torch.float64).log_softmax(dim=1)
    p = torch.tensor([1.0, torch.e], dtype=torch.float64) / (1 + torch.e)  # at temperature 2
    expected = 4 * (p * (2 * p).log()).sum()
    given = run(Config(temperature=2), student, teacher)["soft_targets"]
    torch.testing.assert_close(given, expected)


def test_the_gradient_is_that_of_the_cross_entropy_with_soft_targets():
    torch.manual_seed(0)
    student = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 4, dtype=torch.float64)
    (ours,) = torch.autograd.grad(run(Config(), student, teacher)["soft_targets"], student)
    soft = torch.nn.functional.cross_entropy(student / 4, (teacher / 4).softmax(dim=1))
    (expected,) = torch.autograd.grad(16 * soft, student)
    torch.testing.assert_close(ours, expected)


def test_at_high_temperature_logits_are_matched():
    # Hinton et al., eq. 4: for zero-mean logits the gradient tends to (z - v) / (N classes)
    torch.manual_seed(0)
    student, teacher = (x - x.mean(dim=1, keepdim=True) for x in torch.randn(2, 3, 4).double())
    student.requires_grad_()
    term = run(Config(temperature=1e4), student, teacher)["soft_targets"]
    (gradient,) = torch.autograd.grad(term, student)
    torch.testing.assert_close(gradient, (student - teacher) / (3 * 4), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("tap", FAKES)
def test_any_logits_can_be_taught(tap):
    fake = FAKES[tap]
    batch = fake.make_batch()
    student, teacher = (fake.make_taps(fake.STUDENT, batch, seed=seed) for seed in (1, 2))
    method = KD(Config(tap=tap), student=fake.STUDENT, teacher=fake.TEACHER)
    given = method(student=student, teacher=teacher, batch=batch)
    assert method.needs(method.config) == ({tap}, {tap})
    expected = mean_kl_divergence(student[tap], teacher[tap], temperature=4.0)
    assert torch.equal(given["soft_targets"], expected)


@pytest.mark.parametrize(
    ("tap", "axes", "channels", "message"),
    [
        ("logits", ("batch", "classes"), 9, "student predicts 5 classes and the teacher 9"),
        (
            "embedding",
            ("batch", "channels"),
            7,
            "'embedding' of the student has the axes batch, ch",
        ),
        (
            "logits",
            ("batch", "channels"),
            5,
            "'logits' of the teacher has the axes batch, channels",
        ),
    ],
)
def test_taps_that_are_no_logits_of_the_same_classes_are_refused(tap, axes, channels, message):
    student = fake_metric_learning.STUDENT
    teacher = {**fake_metric_learning.TEACHER, tap: TapInfo(axes, channels)}
    with pytest.raises(TapError, match=message):
        KD(Config(tap=tap), student=student, teacher=teacher)
