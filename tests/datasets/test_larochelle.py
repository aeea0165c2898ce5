"""Larochelle's binarized MNIST: what is read and what is refused."""

import gzip
import hashlib
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.training import ROOT
from tensorflow_datasets.core import hashing

from rebar_tf import datasets
from rebar_tf.datasets.sources import larochelle, raw_files

DIGITS = np.random.RandomState(0).uniform(size=(4, 784)) < 0.5


def amat_bytes(images, end=" \n"):
    return "".join(" ".join(str(int(pixel)) for pixel in image) + end for image in images).encode()


@pytest.fixture
def few_digits(monkeypatch):
    monkeypatch.setattr(larochelle, "_COUNTS", {"train": 4, "valid": 3, "test": 2})


def write(folder, compressed=()):
    folder.mkdir(exist_ok=True)
    for split, images in (("train", DIGITS), ("valid", DIGITS[:3]), ("test", DIGITS[2:])):
        content, path = amat_bytes(images), folder / f"binarized_mnist_{split}.amat"
        if split in compressed:
            path.with_suffix(".amat.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)


@pytest.mark.parametrize("compressed", [(), ("train", "valid", "test"), ("valid",)], ids=["text", "gzip", "mixed"])
@pytest.mark.parametrize("folder", ["mnist", "."])
def test_splits_are_those_of_the_files(tmp_path, few_digits, folder, compressed):
    write(tmp_path / folder, compressed)
    dataset = datasets.load("mnist_larochelle", tmp_path, verify=False)
    for got, expected in ((dataset.train, DIGITS), (dataset.valid, DIGITS[:3]), (dataset.test, DIGITS[2:])):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == bool
    assert dataset.binarization_seed is None


@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_lines_may_end_in_any_white_space(tmp_path, end):
    (tmp_path / "digits.amat").write_bytes(amat_bytes(DIGITS, end))
    np.testing.assert_array_equal(larochelle.read_amat(tmp_path / "digits.amat", 4), DIGITS)


WHOLE = amat_bytes(DIGITS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has 0 lines"),
        (amat_bytes(DIGITS[:3]), "has 3 lines"),
        (WHOLE + WHOLE, "has more than 4 lines"),
        (WHOLE[:-10], "line 4 does not hold 784 digits"),
        (WHOLE.replace(b"\n", b"", 1), "line 1 does not hold"),
        (WHOLE.replace(b"1", b"2", 1), "line 1 does not hold"),
        (WHOLE.replace(b"0 ", b"0.", 1), "line 1 does not hold"),
        (b"\x80\x04pickle\n" + WHOLE, "line 1 does not hold"),
        (WHOLE[: len(WHOLE) // 2] + b"\n" + WHOLE[len(WHOLE) // 2 :], "line 3 does not hold"),
    ],
)
def test_damaged_file_is_named_with_what_was_expected(tmp_path, content, complaint):
    path = tmp_path / "digits.amat"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        larochelle.read_amat(path, 4)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)
    assert "expected 4 lines of 784 digits 0 or 1" in str(caught.value)


@pytest.mark.parametrize(
    "content", [gzip.compress(WHOLE)[:-5], gzip.compress(WHOLE)[:200], b"", WHOLE, b"\x1f\x8b\x08"]
)
def test_a_damaged_gzip_file_is_named(tmp_path, content):
    path = tmp_path / "digits.amat.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"digits\.amat\.gz (is cut short or damaged|has 0 lines)"):
        larochelle.read_amat(path, 4)


def test_the_sum_is_that_of_the_text(tmp_path):
    path = tmp_path / "digits.amat.gz"
    path.write_bytes(gzip.compress(WHOLE))
    assert larochelle.read_amat(path, 4, hashlib.sha256(WHOLE).hexdigest()).shape == (4, 784)
    with pytest.raises(ValueError, match=r"does not hold the published data: its SHA-256 is"):
        larochelle.read_amat(path, 4, hashlib.sha256(path.read_bytes()).hexdigest())


def test_the_published_files_have_their_sums():
    folder = pathlib.Path(os.environ.get("REBAR_TF_DATA_DIR", ROOT.parent / "shared" / "data"))
    if larochelle.find_files(folder) is None:
        pytest.skip(f"no {larochelle.FILES['train']} in {folder}; set REBAR_TF_DATA_DIR to the folder that has it")
    dataset = datasets.load("mnist_larochelle", folder)
    assert [len(split) for split in (dataset.train, dataset.valid, dataset.test)] == [50_000, 10_000, 10_000]


def test_tensorflow_datasets_gives_the_order_of_the_files(tmp_path, few_digits, monkeypatch):
    asked = []

    class Builder:
        """Keeps its records sorted by a hash of their place, as tensorflow-datasets does."""

        def is_prepared(self):
            return False

        def download_and_prepare(self):
            asked.append("download")

        def as_dataset(self, split, shuffle_files):
            images = {"train": DIGITS, "validation": DIGITS[:3], "test": DIGITS[2:]}[split]
            order = sorted(range(len(images)), key=hashing.Hasher(split).hash_key)
            return tf.data.Dataset.from_tensor_slices({"image": images[order].astype(np.uint8).reshape(-1, 28, 28, 1)})

    monkeypatch.setattr(raw_files, "probe", asked.append)
    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: asked.append((name, data_dir)) or Builder())
    dataset = datasets.load("mnist_larochelle", tmp_path)
    for got, expected in ((dataset.train, DIGITS), (dataset.valid, DIGITS[:3]), (dataset.test, DIGITS[2:])):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == bool
    (name, folder), url, download = asked
    assert (name, folder, download) == ("binarized_mnist:1.*.*", tmp_path, "download")
    assert url.endswith("/binarized_mnist_train.amat")


def test_some_files_without_the_others_are_an_error(tmp_path):
    (tmp_path / "binarized_mnist_valid.amat").write_bytes(WHOLE)
    with pytest.raises(ValueError, match=r"lacks binarized_mnist_train.amat and binarized_mnist_test.amat"):
        datasets.load("mnist_larochelle", tmp_path)


@pytest.mark.parametrize("with_data_dir", [False, True])
def test_missing_files_are_said_with_the_ways_out(tmp_path, with_data_dir, monkeypatch):
    def unreachable(url):
        raise OSError("no route to host")

    monkeypatch.setattr(raw_files, "probe", unreachable)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    with pytest.raises(datasets.DatasetUnavailableError) as caught:
        datasets.load("mnist_larochelle", tmp_path if with_data_dir else None)
    for part in (
        "'mnist_larochelle'",
        "OSError: no route to host",
        "--data_dir=DIR",
        "DIR/mnist/binarized_mnist_{train,valid,test}.amat",
        "http://",
    ):
        assert part in str(caught.value)
    assert (str(tmp_path) in str(caught.value)) == with_data_dir


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"binarization": "dynamic"}, "binarization must be 'fixed' for 'mnist_larochelle'"),
        ({"binarization_seed": 0}, "binarization_seed must be None for 'mnist_larochelle'"),
    ],
)
def test_binary_images_are_not_drawn(tmp_path, few_digits, arguments, complaint):
    write(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        datasets.load("mnist_larochelle", tmp_path, **arguments)
