"""What a run starts from and learns from: pretrained weights, supervised loss of the baseline."""

import pytest

from kdsweep.config import weights
from kdsweep.errors import SpecError
from kdsweep.spec.run import RunSpec


@pytest.fixture
def from_file(run_values):
    """A run whose student starts from a file of weights."""

    def make(path, side="student"):
        section = {**run_values[side], "model": "resnet", "width": 1.0, "pretrained": path}
        return RunSpec.from_dict({**run_values, side: section})

    return make


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_of_pretrained_weights_only_the_name_is_part_of_the_identity(from_file, side):
    here, there, other = (
        from_file(path, side).identity()
        for path in ("/a/net-0676ba61.pth", "b/net-0676ba61.pth", "/a/net-11ad3fa6.pth")
    )
    assert here == there != other
    assert from_file("", side).identity() not in (here, other)


def test_a_teacher_that_is_trained_starts_from_its_own_file(from_file):
    spec = from_file("/a/net-0676ba61.pth", "teacher")
    assert spec.teacher_run().student.config.pretrained == "/a/net-0676ba61.pth"


def test_weights_without_a_digest_in_their_name_are_refused(from_file):
    with pytest.raises(SpecError, match=r"student\.pretrained.*8 or more digits of its SHA-256"):
        from_file("/a/net.pth")


def test_undistilled_without_a_supervised_loss_gets_the_default_weights(run_values):
    loss = {"voxel_ce": 0, "voxel_lovasz": 0, "point_ce": 0, "class_weights": "none"}
    spec = RunSpec.from_dict({**run_values, "loss": loss}).undistilled()
    assert not any(weights(spec.method.config).values())
    assert set(weights(spec.loss).values()) == {1.0}
    assert spec.loss.class_weights == "none"


def test_undistilled_with_a_supervised_loss_keeps_it(run_values):
    loss = {"voxel_ce": 0.5, "voxel_lovasz": 0, "point_ce": 0}
    spec = RunSpec.from_dict({**run_values, "loss": loss}).undistilled()
    assert weights(spec.loss) == {"voxel_ce": 0.5, "voxel_lovasz": 0.0, "point_ce": 0.0}
