import os
import pickle

import numpy as np
import pytest
from reference.image_roots import cifar100_bytes, write_cifar100

from kdsweep.data.cifar100 import read_cifar100
from kdsweep.errors import DataError


def test_bytes_of_python_2_are_read(tmp_path):
    splits = read_cifar100(write_cifar100(tmp_path))
    assert splits.train.labels == (0, 99, 7) and splits.val.labels == (7, 1)
    assert splits.train.names[0] == "train/00000" and splits.num_classes == 100
    pixels = splits.train.read(2)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    assert (pixels[..., 0] == 2).all() and (pixels[..., 1] == 52).all()
    np.testing.assert_array_equal(pixels[4, :, 2], np.arange(32))


def test_the_hand_made_bytes_are_those_of_a_pickle(tmp_path):
    held = pickle.loads(cifar100_bytes(bytes(3072), [5], shape=(1, 3072)), encoding="bytes")
    assert held[b"data"].shape == (1, 3072) and held[b"fine_labels"] == [5]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_of_python_3_are_read(tmp_path, protocol):
    write_cifar100(tmp_path)
    data = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    held = {b"data": data, b"fine_labels": [3, 4], b"filenames": [b"a", b"b"]}
    (tmp_path / "train").write_bytes(pickle.dumps(held, protocol=protocol))
    train = read_cifar100(tmp_path).train
    assert train.labels == (3, 4)
    np.testing.assert_array_equal(train.read(1).transpose(2, 0, 1).reshape(-1), data[1])


def test_the_folder_that_the_archive_unpacks_to_is_found(tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    assert len(read_cifar100(tmp_path).train) == 3


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_malicious_pickle_runs_nothing_and_is_named(tmp_path):
    write_cifar100(tmp_path)
    trace = tmp_path / "pwned"
    evil = pickle.dumps({b"data": Evil(trace), b"fine_labels": []}, protocol=2)
    (tmp_path / "train").write_bytes(evil)
    with pytest.raises(DataError, match=rf"{tmp_path / 'train'}: .*asks for posix.mkdir"):
        read_cifar100(tmp_path)
    assert not trace.exists()
    pickle.loads(evil)  # the bytes do what they are meant to
    assert trace.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cbuiltins\neval\n(T\x05\x00\x00\x001 + 1tR.",
        b"(ios\nsystem\n.",  # INST
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"c_codecs\nencode\n(U\x01xU\x03hextR.",  # arguments that the stand-in refuses
        b"U\x03abcQ.",  # a persistent id
        b"\x82\x01.",  # an extension
    ],
)
def test_nothing_but_the_inert_stand_ins_can_be_asked_for(tmp_path, opcodes):
    (write_cifar100(tmp_path) / "test").write_bytes(b"\x80\x02" + opcodes)
    with pytest.raises(DataError, match="test: damaged file, or not CIFAR-100's"):
        read_cifar100(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, share):
    path = write_cifar100(tmp_path) / "train"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=rf"{path}: damaged file"):
        read_cifar100(tmp_path)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([], "expected a dictionary, found list"),
        ({}, "found keys none"),
        ({b"data": 1, b"labels": [1]}, "found keys b'data', b'labels'"),
        ({b"data": b"x", b"fine_labels": [1]}, "expected an array"),
    ],
)
def test_other_pickles_are_named(tmp_path, held, message):
    (write_cifar100(tmp_path) / "train").write_bytes(pickle.dumps(held, protocol=2))
    with pytest.raises(DataError, match=message):
        read_cifar100(tmp_path)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (bytes(3072), (2, 3072)),
        (bytes(6144), (2, 3071)),
        (bytes(6144), (6144, 1)),
        (bytes(6144), (-2, 3072)),
    ],
)
def test_an_array_of_another_shape_is_named(tmp_path, data, shape):
    (write_cifar100(tmp_path) / "train").write_bytes(cifar100_bytes(data, [0, 1], shape=shape))
    with pytest.raises(DataError, match=r"train: its array has shape \(-?\d+, \d+\), type b'u1'"):
        read_cifar100(tmp_path)


def test_numbers_of_another_type_are_named(tmp_path):
    held = {b"data": np.zeros((1, 3072), dtype=np.float32), b"fine_labels": [0]}
    (write_cifar100(tmp_path) / "train").write_bytes(pickle.dumps(held, protocol=2))
    with pytest.raises(DataError, match=r"type b?'f4'"):
        read_cifar100(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0], "1 labels for 2 images"), ([0, 100], "label 100 is none"), ([-1, 0], "label -1 is")],
)
def test_labels_that_do_not_fit_are_named(tmp_path, labels, message):
    content = cifar100_bytes(bytes(6144), labels, shape=(2, 3072))
    (write_cifar100(tmp_path) / "train").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_cifar100(tmp_path)


def test_a_missing_root_or_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no CIFAR-100 here"):
        read_cifar100(tmp_path)
    (write_cifar100(tmp_path) / "test").unlink()
    with pytest.raises(DataError, match=rf"{tmp_path / 'test'}: no such file"):
        read_cifar100(tmp_path)
