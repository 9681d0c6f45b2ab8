import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsweep.data.labels import NUSCENES, SEMANTICKITTI, SEMANTICKITTI_MULTISCAN

ALL = [SEMANTICKITTI, SEMANTICKITTI_MULTISCAN, NUSCENES]


def test_maps_equal_the_official_ones(oracle):
    data = np.load(oracle("pvd_labels_and_poses.npz"))
    raw = data["kitti_raw_label"] & 0xFFFF
    ids = SEMANTICKITTI.to_training(raw)
    np.testing.assert_array_equal(ids, data["kitti_train_label"])
    np.testing.assert_array_equal(SEMANTICKITTI.to_raw(ids), data["kitti_inverse_label"])
    moving = SEMANTICKITTI_MULTISCAN.to_training(raw)
    np.testing.assert_array_equal(moving, data["kitti_train_label_multiscan"])
    found = NUSCENES.to_training(data["nusc_raw_label"])
    np.testing.assert_array_equal(found, data["nusc_train_label"])


def test_weights_and_minorities_equal_the_reference(oracle):
    data = np.load(oracle("pvd_labels_and_poses.npz"))
    np.testing.assert_allclose(SEMANTICKITTI.shares, data["kitti_content"], rtol=1e-15)
    np.testing.assert_allclose(NUSCENES.counts, data["nusc_counts"], rtol=1e-15)
    for label_set, weighting, name in (
        (SEMANTICKITTI, "cbrt", "kitti_w_cbrt_counts"),
        (SEMANTICKITTI, "inv_content", "kitti_w_inv_content_eps1e3"),
        (NUSCENES, "cbrt", "nusc_w_cbrt_counts"),
    ):
        np.testing.assert_allclose(label_set.class_weights(weighting), data[name], rtol=1e-9)
    assert SEMANTICKITTI.minority() == tuple(data["kitti_minority"])
    assert NUSCENES.minority() == tuple(data["nusc_minority"])


@pytest.mark.parametrize("label_set", [SEMANTICKITTI, NUSCENES], ids=lambda found: found.name)
def test_labelled_shares_leave_the_ignored_class_out(label_set):
    shares = label_set.labelled_shares()
    assert shares[0] == 0.0 and sum(shares) == pytest.approx(1.0)
    assert shares[1] / shares[2] == pytest.approx(label_set.shares[1] / label_set.shares[2])
    assert label_set.class_weights("none") is None


def test_a_higher_threshold_makes_more_classes_rare():
    assert set(SEMANTICKITTI.minority(0.003)) < set(SEMANTICKITTI.minority(0.02))
    assert SEMANTICKITTI.minority(0.0) == ()


@pytest.mark.parametrize("label_set", ALL, ids=lambda found: found.name)
def test_every_table_has_one_entry_per_class(label_set):
    sizes = {len(label_set.classes), len(label_set.raw_ids), len(label_set.inverse)}
    assert sizes == {label_set.num_classes} == {len(set(label_set.classes))}
    raw = [raw_id for ids in label_set.raw_ids for raw_id in ids]
    assert len(raw) == len(set(raw))  # no raw id belongs to two classes


@given(ids=st.lists(st.integers(0, 19), max_size=50), multiscan=st.booleans())
def test_training_ids_survive_the_way_to_raw_ids_and_back(ids, multiscan):
    label_set = SEMANTICKITTI_MULTISCAN if multiscan else SEMANTICKITTI
    ids = np.array(ids, dtype=np.uint8)
    np.testing.assert_array_equal(label_set.to_training(label_set.to_raw(ids)), ids)


def test_unknown_raw_ids_are_listed():
    with pytest.raises(ValueError, match=r"label ids that SemanticKITTI does not have: 2, 65535$"):
        SEMANTICKITTI.to_training(np.array([10, 65535, 2, 2], dtype=np.uint16))
    with pytest.raises(ValueError, match=r"nuScenes-lidarseg .*: 32, 33, 34, 35, 36, \.\.\.$"):
        NUSCENES.to_training(np.arange(60, dtype=np.uint8))
