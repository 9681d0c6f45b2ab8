import hashlib

import pytest

from kdsweep.data.nuscenes_splits import SCENES

# SHA-256 of the sorted, space-separated names in nuscenes-devkit 1.2.0, nuscenes/utils/splits.py
OFFICIAL = {
    ("v1.0-trainval", "train"): "10b2148caad20bbd1dd18f7382177a2056f337bb581d59e1fe0021a51813e4b7",
    ("v1.0-trainval", "val"): "d3693b41245bb2a39dc545161c73041afd83e30f656ffaf879892d085e74b91f",
    ("v1.0-test", "test"): "bd0a56fac042147bb2f2eb138c8ab7fca1fc3ba850189d7886dea42567517526",
}


@pytest.mark.parametrize(("version", "split"), OFFICIAL)
def test_scene_lists_are_those_of_the_devkit(version, split):
    names = " ".join(sorted(SCENES[version][split]))
    assert hashlib.sha256(names.encode()).hexdigest() == OFFICIAL[version, split]


def test_sizes_are_the_published_ones_and_splits_disjoint():
    full = {**SCENES["v1.0-trainval"], **SCENES["v1.0-test"]}
    assert {split: len(names) for split, names in full.items()} == {
        "train": 700,
        "val": 150,
        "test": 150,
    }
    assert len({name for names in full.values() for name in names}) == 1000


def test_mini_scenes_belong_to_the_same_split_or_to_train():
    mini = SCENES["v1.0-mini"]
    assert mini["val"] == ("scene-0103", "scene-0916") and len(mini["train"]) == 8
    everything = {name for names in SCENES["v1.0-trainval"].values() for name in names}
    assert set(mini["train"]) | set(mini["val"]) <= everything
