"""Both Omniglot sets: what is read, in which order, drawn how, kept where, and what is refused."""

import io
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
import scipy.io
import tensorflow as tf

from rebar_tf import datasets
from rebar_tf.datasets.sources import chardata, drawings

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"train": 5, "test": 3}
ZIPS = ("images_background.zip", "images_evaluation.zip")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The default folder of tensorflow-datasets, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch):
    import requests

    def head(url, **kwargs):
        raise OSError(f"no route\nto {url}")

    monkeypatch.setattr(requests, "head", head)


# chardata.mat


def grey(count, seed):
    """`[count, 28, 28]` images, none of which is its own transpose."""
    return np.random.RandomState(seed).uniform(size=(count, 28, 28))


def mat_bytes(matrices, **kwargs):
    file = io.BytesIO()
    scipy.io.savemat(file, matrices, **kwargs)
    return file.getvalue()


def columns(images):
    """Images as MATLAB has them: a column each, column by column."""
    return np.stack([image.ravel(order="F") for image in images], axis=1)


TRAIN, TEST = grey(5, 0), grey(3, 1)
MATRICES = {"data": columns(TRAIN), "testdata": columns(TEST), "target": np.eye(50, 5)}


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}], ids=["plain", "compressed", "v4"])
def test_chardata_is_read_column_by_column(tmp_path, options):
    (tmp_path / "chardata.mat").write_bytes(mat_bytes(MATRICES, **options))
    images = chardata.read_chardata(tmp_path / "chardata.mat", SMALL)
    np.testing.assert_array_equal(images["train"], TRAIN.reshape(5, 784).astype(np.float32))
    np.testing.assert_array_equal(images["test"], TEST.reshape(3, 784).astype(np.float32))
    assert images["train"].dtype == np.float32


class Bomb:
    """Fails the test that unpickles it."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


PLAIN, COMPRESSED = mat_bytes(MATRICES), mat_bytes(MATRICES, do_compression=True)


# SciPy reads outside of its tables where the type of the numbers is not one of MATLAB's: it crashes, or it raises.
CRASHING = bytearray(PLAIN)
CRASHING[177] = 103


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (bytes(CRASHING), "truncated or no MATLAB file"),
        (b"", "truncated or no MATLAB file"),
        (b"<html>not found</html>" * 20, "truncated or no MATLAB file"),
        (PLAIN[:60], "truncated or no MATLAB file"),
        (PLAIN[: len(PLAIN) // 2], "truncated or no MATLAB file"),
        (COMPRESSED[: len(COMPRESSED) // 2], "truncated or no MATLAB file"),
        (COMPRESSED[:400] + b"\xff" * 40 + COMPRESSED[440:], "truncated or no MATLAB file"),
        (pickle.dumps({"data": Bomb(), "testdata": Bomb()}), "truncated or no MATLAB file"),
        (pickle.dumps(MATRICES), "truncated or no MATLAB file"),
        (mat_bytes({}), "lacks the numeric matrix data; expected data [784, 5], testdata [784, 3]. Received: none"),
        (mat_bytes({"data": MATRICES["data"]}), "lacks the numeric matrix testdata; expected"),
        (mat_bytes(MATRICES | {"data": MATRICES["data"].T}), "Received: float64 of shape (5, 784)"),
        (mat_bytes(MATRICES | {"testdata": MATRICES["data"]}), "numbers of shape (784, 3)"),
        (mat_bytes(MATRICES | {"data": "text"}), "lacks the numeric matrix data; expected"),
        (mat_bytes(MATRICES | {"data": np.full((784, 5), "x", object)}), "Received: data (cell)"),
        (mat_bytes(MATRICES | {"data": {"a": 1}}), "Received: data (struct)"),
        (mat_bytes(MATRICES | {"data": MATRICES["data"] + 1j}), "Received: complex128"),
        (mat_bytes(MATRICES | {"data": 255 * MATRICES["data"]}), "must have values in [0, 1]"),
        (mat_bytes(MATRICES | {"data": MATRICES["data"] * np.nan}), "Received: nan in row 0"),
    ],
)
def test_bad_chardata_is_named_with_what_was_expected(tmp_path, content, complaint):
    path = tmp_path / "chardata.mat"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        chardata.read_chardata(path, SMALL)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


# omniglot_burda


def burda_like(counts):
    """Grey drawings `[n, 28, 28]` by split, and the bytes of their chardata.mat."""
    random = np.random.default_rng(0)
    scaled = {split: (random.integers(0, 9, (n, 28, 28)) / 8).astype(np.float32) for split, n in counts.items()}
    return scaled, mat_bytes({"data": columns(scaled["train"]), "testdata": columns(scaled["test"])})


@pytest.fixture
def burda(monkeypatch):
    """A small set in Burda's layout: 60 and 40 drawings, of the former 10 for validation."""
    from rebar_tf.datasets.sources import builders, omniglot

    monkeypatch.setattr(builders.OmniglotBurda, "COUNTS", {"train": 60, "test": 40})
    monkeypatch.setattr(omniglot, "_NUM_VALID", 10)
    return burda_like({"train": 60, "test": 40})


@pytest.fixture
def burda_dir(burda, tmp_path):
    folder = tmp_path / "data"
    (folder / "omniglot").mkdir(parents=True)
    (folder / "omniglot" / "chardata.mat").write_bytes(burda[1])
    return folder


def test_burda_is_drawn_shuffled_and_split_as_by_the_authors(tmp_path, cache, capsys):
    drawn, content = burda_like({"train": 24_345, "test": 8_070})
    (tmp_path / "chardata.mat").write_bytes(content)
    fixed = datasets.load("omniglot_burda", tmp_path, verify=False)
    random = np.random.RandomState(5)
    train, test = (random.uniform(size=x.shape) < x for x in (drawn["train"], drawn["test"]))
    train = train.reshape(-1, 784)[np.random.RandomState(123).permutation(24_345)]
    assert fixed.binarization_seed == 5
    assert [len(fixed.train), len(fixed.valid), len(fixed.test)] == [23_000, 1_345, 8_070]
    np.testing.assert_array_equal(fixed.train, train[:23_000])
    np.testing.assert_array_equal(fixed.valid, train[23_000:])
    np.testing.assert_array_equal(fixed.test, test.reshape(-1, 784))
    assert capsys.readouterr().out == ""


def test_burda_binarization_is_a_choice(burda, burda_dir, cache):
    dynamic = datasets.load("omniglot_burda", burda_dir / "omniglot", binarization="dynamic", verify=False)
    assert dynamic.train.dtype == np.float32
    order = np.random.RandomState(123).permutation(60)
    np.testing.assert_array_equal(dynamic.valid, burda[0]["train"].reshape(-1, 784)[order[50:]])
    drawn = [datasets.load("omniglot_burda", burda_dir, binarization_seed=seed, verify=False) for seed in (None, 5, 0)]
    np.testing.assert_array_equal(drawn[0].test, drawn[1].test)
    assert not np.array_equal(drawn[0].test, drawn[2].test)


def test_prepared_copy_is_read_again_and_made_anew_for_other_drawings(burda, burda_dir, cache, monkeypatch):
    from rebar_tf.datasets.sources import builders

    read, path = [], burda_dir / "omniglot" / "chardata.mat"

    def recorded(source, counts):
        read.append(source)
        return {split: part.reshape(-1, 784) * (0.5 ** (len(read) - 1)) for split, part in burda[0].items()}

    monkeypatch.setattr(builders.chardata, "read_chardata", recorded)
    first, again = (datasets.load("omniglot_burda", burda_dir, binarization="dynamic", verify=False) for _ in range(2))
    assert read == [path]
    np.testing.assert_array_equal(again.test, first.test)
    path.write_bytes(b"other drawings")
    other = datasets.load("omniglot_burda", burda_dir, binarization="dynamic", verify=False)
    assert read == [path, path]
    np.testing.assert_array_equal(other.test, first.test / 2)


def test_published_file_needs_no_data_dir_a_second_time(burda, burda_dir, cache, no_network, monkeypatch):
    from rebar_tf.datasets.sources import builders, raw_files

    checksum = raw_files.checksum(burda_dir / "omniglot" / "chardata.mat")
    monkeypatch.setattr(builders.OmniglotBurda, "CHECKSUM", checksum)
    given = datasets.load("omniglot_burda", burda_dir, verify=False)
    np.testing.assert_array_equal(datasets.load("omniglot_burda").test, given.test)


def test_damaged_copy_is_named(burda_dir, cache):
    datasets.load("omniglot_burda", burda_dir, verify=False)
    (records,) = cache.rglob("*test.tfrecord*")
    records.write_bytes(records.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"prepared copy in .* is damaged .*; remove the folder") as caught:
        datasets.load("omniglot_burda", burda_dir, verify=False)
    assert str(records.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cache_that_cannot_be_written_is_named(burda_dir, cache):
    cache.write_text("a file, where a folder is wanted")
    with pytest.raises(OSError, match=r"cannot write the prepared copy to .*TFDS_DATA_DIR"):
        datasets.load("omniglot_burda", burda_dir, verify=False)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content], ids=["truncated", "whole"])
def test_download_is_checked(burda, tmp_path, cache, monkeypatch, damage):
    import hashlib

    import tensorflow_datasets as tfds

    from rebar_tf.datasets.sources import builders

    def download(manager, url):
        assert url.endswith("/OMNIGLOT/chardata.mat")
        (tmp_path / "downloaded").write_bytes(damage(burda[1]))
        return tmp_path / "downloaded"

    monkeypatch.setattr(builders.OmniglotBurda, "check_reachable", lambda builder: None)
    monkeypatch.setattr(builders.OmniglotBurda, "CHECKSUM", hashlib.md5(burda[1]).hexdigest())
    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    if damage(burda[1]) == burda[1]:
        assert len(datasets.load("omniglot_burda").test) == 40
    else:
        with pytest.raises(datasets.DatasetUnavailableError, match="with the MD5"):
            datasets.load("omniglot_burda")


@pytest.mark.parametrize("name", ["omniglot", "omniglot_burda"])
@pytest.mark.parametrize("with_data_dir", [False, True])
def test_failed_download_says_what_was_tried_and_writes_nothing(tmp_path, cache, no_network, name, with_data_dir):
    data_dir = tmp_path / "empty"
    data_dir.mkdir()
    with pytest.raises(datasets.DatasetUnavailableError) as caught:
        datasets.load(name, data_dir if with_data_dir else None)
    message = str(caught.value)
    files = ZIPS if name == "omniglot" else ("chardata.mat",)
    for part in (
        f"dataset '{name}' is not",
        "OSError: no route to https://",
        *(f"DIR/omniglot/{file}" for file in files),
    ):
        assert part in message
    assert (str(data_dir) in message) == with_data_dir
    assert (str(cache) in message) != with_data_dir
    assert "\n" not in message
    assert list(data_dir.iterdir()) == []
    assert not cache.exists()


def test_burda_is_never_replaced_by_the_drawings(tmp_path, cache, no_network):
    for file in ZIPS:
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(
        datasets.DatasetUnavailableError, match=r"--dataset=omniglot, .* cannot be compared with Burda's"
    ):
        datasets.load("omniglot_burda", tmp_path, verify=False)


def test_drawings_are_never_replaced_by_burda(burda_dir, cache, no_network):
    with pytest.raises(datasets.DatasetUnavailableError, match="dataset 'omniglot' is not available"):
        datasets.load("omniglot", burda_dir)


# The drawings


def png(image):
    return tf.io.encode_png(image[..., np.newaxis]).numpy()


def sketches(count, seed=0):
    """Black on white, `[count, 105, 105]`."""
    return np.where(np.random.RandomState(seed).uniform(size=(count, 105, 105)) < 0.1, 0, 255).astype(np.uint8)


def members(images, root="images_background"):
    """PNG files of the drawings of characters with 20 each, by their name in the zip file."""
    return {
        f"{root}/Runes/character{i // 20 + 1:02d}/{i // 20:04d}_{i % 20 + 1:02d}.png": png(images[i])
        for i in range(len(images))
    }


def announcing(image, side):
    """A PNG file whose header announces a larger image."""
    return image[:16] + struct.pack(">II", side, side) + image[24:]


def zip_bytes(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def area_means(images):
    """The ink in each cell of a 28x28 grid, by the definition: 105 = 3.75 * 28, so a quarter of a pixel is the unit."""
    ink = (255.0 - images) / 255.0
    fine = ink.repeat(4, axis=1).repeat(4, axis=2).reshape(len(images), 28, 15, 28, 15)
    return fine.mean(axis=(2, 4)).reshape(len(images), 784)


def test_drawings_are_sorted_and_shrunk_by_area(tmp_path):
    images = sketches(23)
    files = members(images)
    others = {"images_background/": b"", "__MACOSX/images_background/Runes/character01/._0709_01.png": b"junk"}
    (tmp_path / "images.zip").write_bytes(zip_bytes(others | dict(reversed(files.items()))))
    small = drawings.read_drawings(tmp_path / "images.zip", 23)
    assert small.dtype == np.uint8
    # Half a grey level of rounding, and float32.
    np.testing.assert_allclose(small / 255, area_means(images), atol=0.5 / 255 + 1e-6)


FILES = members(sketches(3))
FIRST = next(iter(FILES))
WHOLE = zip_bytes(FILES)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "truncated, damaged or no zip file"),
        (b"<html>not found</html>", "truncated, damaged or no zip file"),
        (WHOLE[: len(WHOLE) // 2], "truncated, damaged or no zip file"),
        (WHOLE[:-30], "truncated, damaged or no zip file"),
        (WHOLE[:200] + b"\xff" * 40 + WHOLE[240:], "truncated, damaged or no zip file"),
        (zip_bytes({}), "has 0 drawings"),
        (zip_bytes(members(sketches(2))), "has 2 drawings"),
        (zip_bytes(members(sketches(4))), "has 4 drawings"),
        (zip_bytes(FILES | {FIRST: b"GIF89a"}), f"{FIRST} is no PNG image"),
        (zip_bytes(FILES | {FIRST: FILES[FIRST][:100]}), f"{FIRST} is no PNG image"),
        (zip_bytes(FILES | {FIRST: png(sketches(1)[0, :104])}), f"{FIRST} has 104x105 pixels"),
        (zip_bytes(FILES | {FIRST: bytes(10_000_000)}), f"{FIRST} unpacks to more than 100000 bytes"),
        (zip_bytes(FILES | {FIRST: announcing(FILES[FIRST], 60_000)}), f"{FIRST} has 60000x60000 pixels"),
    ],
)
def test_bad_zip_file_is_named_with_what_was_expected(tmp_path, content, complaint):
    path = tmp_path / "images_background.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        drawings.read_drawings(path, 3)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)
    assert "expected a zip file of 3 PNG images of 105x105" in str(caught.value)
    assert "\n" not in str(caught.value)


# omniglot


@pytest.fixture
def few_drawings(monkeypatch):
    """The counts of a small Omniglot."""
    from rebar_tf.datasets.sources import builders, omniglot

    monkeypatch.setattr(builders.Omniglot28x28, "COUNTS", {"train": 60, "test": 40})
    monkeypatch.setattr(omniglot, "_NUM_VALID", 10)
    return sketches(60, seed=1), sketches(40, seed=2)


def check_splits(dataset, background, evaluation):
    """Holds the splits of a dynamic dataset to the documented shuffle."""
    order = np.random.RandomState(123).permutation(60)
    train = area_means(background)[order]
    for got, expected in (
        (dataset.train, train[:50]),
        (dataset.valid, train[50:]),
        (dataset.test, area_means(evaluation)),
    ):
        np.testing.assert_allclose(got, expected, atol=0.5 / 255 + 1e-6)


def test_background_is_for_training_and_evaluation_for_testing(tmp_path, cache, few_drawings):
    for file, images in zip(ZIPS, few_drawings, strict=True):
        (tmp_path / file).write_bytes(zip_bytes(members(images, root=file[:-4])))
    dynamic = datasets.load("omniglot", tmp_path, binarization="dynamic", verify=False)
    check_splits(dynamic, *few_drawings)
    fixed = datasets.load("omniglot", tmp_path, verify=False)
    for split, stream in (("train", 0), ("valid", [0, 1]), ("test", [0, 2])):
        x = getattr(dynamic, split)
        np.testing.assert_array_equal(getattr(fixed, split), np.random.RandomState(stream).uniform(size=x.shape) < x)


def test_one_zip_file_without_the_other_is_an_error(tmp_path, cache):
    (tmp_path / ZIPS[1]).write_bytes(WHOLE)
    with pytest.raises(ValueError, match=f"lacks {ZIPS[0]}"):
        datasets.load("omniglot", tmp_path, verify=False)


class FakeOmniglot:
    """tensorflow-datasets' builder of drawings, prepared: three channels, sorted by the hash of its keys."""

    def __init__(self, images, data_path="prepared"):
        self.images, self.data_path = images, data_path
        import tensorflow_datasets as tfds

        alphabet = tfds.features.ClassLabel(names=["Angelic", "Runes"])
        self.info = type("Info", (), {"features": {"alphabet": alphabet}})

    def is_prepared(self):
        return True

    def download_and_prepare(self):
        pass

    def as_dataset(self, split, shuffle_files):
        from tensorflow_datasets.core import hashing

        assert not shuffle_files
        images = self.images[split]
        hasher = hashing.Hasher(split)
        keys = [f"Runes_{i // 20}_{i // 20:04d}_{i % 20 + 1:02d}.png" for i in range(len(images))]
        order = np.array(sorted(range(len(images)), key=lambda i: hasher.hash_key(keys[i])))
        return tf.data.Dataset.from_tensor_slices(
            {
                "image": images[order][..., np.newaxis].repeat(3, axis=-1),
                "alphabet": np.ones_like(order),
                "alphabet_char_id": order // 20,
                "label": order // 20 - 1,
            }
        )


def test_tensorflow_datasets_gives_the_order_of_the_zip_files(tmp_path, cache, no_network, few_drawings, monkeypatch):
    from rebar_tf.datasets.sources import tfds_omniglot

    fake = FakeOmniglot(dict(zip(("train", "test"), few_drawings, strict=True)))
    monkeypatch.setattr(tfds_omniglot, "builder", lambda data_dir: fake)
    check_splits(datasets.load("omniglot", binarization="dynamic"), *few_drawings)
    monkeypatch.delattr(tfds_omniglot, "builder")  # what was prepared is read from now on
    check_splits(datasets.load("omniglot", binarization="dynamic"), *few_drawings)


@pytest.fixture(scope="module")
def raw_omniglot():
    """The folder with the original drawings, where there is one."""
    folder = pathlib.Path(os.environ.get("REBAR_TF_DATA_DIR", ROOT.parent / "shared" / "data")) / "omniglot"
    if not all((folder / file).is_file() for file in ZIPS):
        pytest.skip(f"no {' and '.join(ZIPS)} in {folder}; set REBAR_TF_DATA_DIR to the folder that has omniglot/")
    return folder


@pytest.mark.slow
def test_published_drawings_are_all_read(raw_omniglot, cache):
    dataset = datasets.load("omniglot", raw_omniglot, binarization="dynamic")
    assert [len(dataset.train), len(dataset.valid), len(dataset.test)] == [17_935, 1_345, 13_180]
    # The ink is a small part of the paper, and whole numbers of ink pixels survive the filter on average.
    with zipfile.ZipFile(raw_omniglot / ZIPS[1]) as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".png")][:500]
        images = np.stack([tf.io.decode_png(archive.read(name)).numpy()[..., 0] for name in names])
    np.testing.assert_allclose(dataset.test[:500], area_means(images), atol=0.5 / 255 + 1e-6)
    assert 0.05 < dataset.mean.mean() < 0.1


@pytest.mark.slow
def test_tensorflow_datasets_itself_agrees_with_the_zip_files(raw_omniglot, tmp_path, cache, monkeypatch):
    import tensorflow_datasets as tfds

    from rebar_tf.datasets.sources import builders

    def local_files(manager, urls):
        folders = {}
        for part, file in (("train", ZIPS[0]), ("eval", ZIPS[1])):
            folders[part] = tmp_path / part
            with zipfile.ZipFile(raw_omniglot / file) as archive:
                archive.extractall(folders[part])
        return folders | {"small1": folders["eval"], "small2": folders["eval"]}

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", local_files)
    monkeypatch.setattr(builders.Omniglot28x28, "check_reachable", lambda builder: None)
    stored, raw = datasets.load("omniglot"), datasets.load("omniglot", raw_omniglot)
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(stored, split), getattr(raw, split))
