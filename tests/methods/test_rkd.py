import pytest
import torch
from contracts import fake_metric_learning as fake
from torch.nn import functional as F

from kdsweep.config import weights
from kdsweep.errors import TapError
from kdsweep.losses.divergence import kl_divergence
from kdsweep.losses.relation import rkd_angle, rkd_distance
from kdsweep.methods.rkd import RKD, Config
from kdsweep.types import TapInfo


def terms(config, *, samples=6):
    """The method's terms, and the taps that it got."""
    batch = fake.make_batch(samples=samples)
    student, teacher = (
        fake.make_taps(infos, batch, seed=seed)
        for seed, infos in ((1, fake.STUDENT), (2, fake.TEACHER))
    )
    method = RKD(config, student=fake.STUDENT, teacher=fake.TEACHER)
    return method(student=student, teacher=teacher, batch=batch), student, teacher


def test_the_defaults_are_the_setting_published_for_metric_learning():
    assert weights(Config()) == {"distance": 1.0, "angle": 2.0, "soft_targets": 0.0}
    assert (Config().tap, Config().l2_norm) == ("embedding", False)


@pytest.mark.parametrize("tap", ["embedding", "pooled", "logits", "layer4"])
def test_terms_are_the_relations_of_the_chosen_tap(tap):
    given, student, teacher = terms(Config(tap=tap))
    sides = {"student": student[tap].flatten(1), "teacher": teacher[tap].flatten(1)}
    assert set(given) == {"distance", "angle"}
    assert torch.equal(given["distance"], rkd_distance(**sides))
    assert torch.equal(given["angle"], rkd_angle(**sides))
    assert given["angle"].item() > 0


def test_unit_length_on_demand():
    given, student, teacher = terms(Config(l2_norm=True))
    sides = {
        "student": F.normalize(student["embedding"], dim=1),
        "teacher": F.normalize(teacher["embedding"], dim=1),
    }
    torch.testing.assert_close(given["distance"], rkd_distance(**sides))
    torch.testing.assert_close(given["angle"], rkd_angle(**sides))


def test_soft_targets_are_the_mean_divergence_of_the_logits():
    given, student, teacher = terms(Config(distance=0, angle=0, soft_targets=1, temperature=3))
    rows = kl_divergence(student["logits"], teacher["logits"], temperature=3.0)
    assert set(given) == {"soft_targets"}
    torch.testing.assert_close(given["soft_targets"], rows.mean())


@pytest.mark.parametrize(
    ("options", "taps"),
    [
        ({}, {"embedding"}),
        ({"tap": "pooled", "angle": 0}, {"pooled"}),
        ({"soft_targets": 1}, {"embedding", "logits"}),
        ({"distance": 0, "angle": 0, "soft_targets": 1}, {"logits"}),
        ({"distance": 0, "angle": 0}, set()),
    ],
)
def test_only_the_taps_of_active_terms_are_needed(options, taps):
    assert RKD.needs(Config(**options)) == (taps, taps)


def test_soft_targets_of_other_classes_are_refused():
    teacher = {**fake.TEACHER, "logits": TapInfo(("batch", "classes"), 9)}
    RKD(Config(), student=fake.STUDENT, teacher=teacher)  # relations may differ in width
    with pytest.raises(TapError, match="student predicts 5 classes and the teacher 9"):
        RKD(Config(soft_targets=1), student=fake.STUDENT, teacher=teacher)
