"""Prepares a dataset, and reports its statistics; with --preview it draws some of the images.

  python -m trainers.data --dataset=omniglot --data_dir=data --preview
      Reads the raw files below data once; from then on the trainers read a prepared copy in a second.

The table shows for each split the number of images; the least, largest and mean pixel; the ink, which is the fraction
of pixels that are 1 after the fixed binarization; and the start of the SHA-256 of these binary pixels, a byte each, by
which two machines can tell that they have the same images. WORKDIR gets statistics.json and, with --preview,
preview.png. The last line of the output is statistics.json.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from trainers import flags, quiet
from trainers.checked_flags import Parser, define, parse_own
from trainers.errors import BadInput, one_line

if TYPE_CHECKING:  # TensorFlow takes seconds: the functions import it when they need it
    import numpy as np

    import rebar_tf as rt

    Images = dict[str, np.ndarray]

FLAGS = absl_flags.FlagValues()  # of its own: the trainers have others of the same names

absl_flags.DEFINE_string("dataset", "mnist_5k", "Images to prepare. Accepted: {datasets}.", flag_values=FLAGS)
absl_flags.DEFINE_string("data_dir", None, flags.DATA_DIR_TEXT, flag_values=FLAGS)
define(
    "binarization_seed",
    None,
    flags.BINARIZATION_SEED_TEXT,
    Parser(int, lambda seed: 0 <= seed < 2**32, "an integer from 0 to 4294967295"),
    FLAGS,
)
absl_flags.DEFINE_boolean("preview", False, "Whether to draw some images of each split.", flag_values=FLAGS)
absl_flags.DEFINE_string(
    "workdir",
    None,
    "Folder of statistics.json and preview.png, which are replaced. Unset: runs/data-DATASET.",
    flag_values=FLAGS,
)

_SPLITS = ("train", "valid", "test")


@flags.reports_bad_input
def main(argv: Sequence[str]) -> int | None:
    """Prepares the dataset of the flags."""
    try:
        settings = _parse(argv)
        folder = _made(settings)
        quiet.import_tensorflow()
        _run(settings, folder)
    except KeyboardInterrupt:
        print("stopped by SIGINT; the same command starts anew", file=sys.stderr, flush=True)
        return 130
    return None


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    """The settings by name.

    Raises:
        BadInput: for a flag or a value that is not accepted.
    """
    settings = parse_own(FLAGS, argv, __doc__, "--dataset=mnist", lambda: {"datasets": _datasets()})
    if settings["dataset"] not in _datasets():
        raise BadInput(f"flag --dataset={settings['dataset']}: accepted is one of {', '.join(_datasets())}")
    return settings


def _datasets() -> list[str]:
    quiet.import_tensorflow()
    import rebar_tf as rt

    return rt.datasets.names()


def _made(settings: dict[str, Any]) -> pathlib.Path:
    """The folder of the flags, made."""
    workdir = settings["workdir"]
    folder = pathlib.Path("runs", f"data-{settings['dataset']}") if workdir is None else pathlib.Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _bad_workdir(folder, error) from error
    return folder


def _bad_workdir(folder: pathlib.Path, error: OSError) -> BadInput:
    return BadInput(f"flag --workdir={folder}: {one_line(error)}; accepted is a folder that can be written to")


def _run(settings: dict[str, Any], folder: pathlib.Path) -> None:
    """Prints the statistics, and writes them and the preview."""
    from trainers import data_report  # it imports NumPy

    quiet.quiet_logs()
    pixels, binary = _load(settings)
    report = {"dataset": settings["dataset"], "splits": {}}
    print(data_report.header(), flush=True)
    for split in _SPLITS:
        report["splits"][split] = data_report.statistics(pixels[split], binary[split])
        print(data_report.line(split, report["splits"][split]), flush=True)
    try:
        (folder / "statistics.json").write_text(json.dumps(report, indent=2) + "\n")
        if settings["preview"]:
            data_report.write_preview(folder / "preview.png", settings["dataset"], pixels, binary)
    except OSError as error:
        raise _bad_workdir(folder, error) from error
    print(json.dumps(report), flush=True)


def _load(settings: dict[str, Any]) -> tuple[Images, Images]:
    """Pixel probabilities and fixed binarization of each split; the same for images that are binary by themselves."""
    binary = _loaded(settings, "fixed")
    pixels = binary if binary.binarization_seed is None else _loaded(settings, "dynamic")
    return {split: getattr(pixels, split) for split in _SPLITS}, {split: getattr(binary, split) for split in _SPLITS}


def _loaded(settings: dict[str, Any], binarization: str) -> rt.datasets.Dataset:
    """The dataset of the flags.

    Raises:
        BadInput: if it is not there, or damaged.
    """
    import rebar_tf as rt

    names = ("dataset", "data_dir", "binarization_seed")
    try:
        return rt.datasets.load(
            settings["dataset"], settings["data_dir"], binarization, binarization_seed=settings["binarization_seed"]
        )
    except (ValueError, OSError, rt.datasets.DatasetUnavailableError) as error:
        given = " ".join(f"--{name}={settings[name]}" for name in names if settings[name] is not None)
        raise BadInput(f"{given}: {one_line(error)}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv))
