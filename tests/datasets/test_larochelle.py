"""Larochelle's binarized MNIST: what is read and what is refused."""

import numpy as np
import pytest

from rebar_tf import datasets
from rebar_tf.datasets.sources import larochelle

DIGITS = np.random.RandomState(0).uniform(size=(4, 784)) < 0.5


def amat_bytes(images, end=" \n"):
    return "".join(" ".join(str(int(pixel)) for pixel in image) + end for image in images).encode()


@pytest.fixture
def few_digits(monkeypatch):
    monkeypatch.setattr(larochelle, "_COUNTS", {"train": 4, "valid": 3, "test": 2})


def write(folder):
    folder.mkdir(exist_ok=True)
    for split, images in (("train", DIGITS), ("valid", DIGITS[:3]), ("test", DIGITS[2:])):
        (folder / f"binarized_mnist_{split}.amat").write_bytes(amat_bytes(images))


@pytest.mark.parametrize("folder", ["mnist", "."])
def test_splits_are_those_of_the_files(tmp_path, few_digits, folder):
    write(tmp_path / folder)
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


def test_some_files_without_the_others_are_an_error(tmp_path):
    (tmp_path / "binarized_mnist_valid.amat").write_bytes(WHOLE)
    with pytest.raises(ValueError, match=r"lacks binarized_mnist_train.amat and binarized_mnist_test.amat"):
        datasets.load("mnist_larochelle", tmp_path)


@pytest.mark.parametrize("with_data_dir", [False, True])
def test_missing_files_are_said_with_the_ways_out(tmp_path, with_data_dir):
    with pytest.raises(datasets.DatasetUnavailableError) as caught:
        datasets.load("mnist_larochelle", tmp_path if with_data_dir else None)
    for part in (
        "'mnist_larochelle'",
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
