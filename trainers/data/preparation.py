"""Prepares a dataset, and prints, writes and draws what it holds."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from trainers.common import build
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import Experiment
from trainers.data import report

_SPLITS = ("train", "valid", "test")

Images = dict[str, np.ndarray]


def run(dataset: str, preview: bool, workdir: str | None, **given: Any) -> None:
    """Prints the statistics, and writes them and the preview; the arguments are the flags.

    Raises:
        BadInput: for a dataset that is not there, or a folder that cannot be written to.
    """
    build.check_name("dataset", dataset)
    folder = pathlib.Path("runs", f"data-{dataset}") if workdir is None else pathlib.Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        experiment = Experiment(dataset=dataset, **given)
        _report(experiment, folder, preview)
    except OSError as error:
        raise BadInput(
            f"flag --workdir={folder}: {one_line(error)}; expected a folder that can be written to"
        ) from error


def _report(experiment: Experiment, folder: pathlib.Path, preview: bool) -> None:
    pixels, binary = _load(experiment)
    content: dict[str, Any] = {"dataset": experiment.dataset, "splits": {}}
    print(report.HEADER, flush=True)
    for split in _SPLITS:
        content["splits"][split] = report.statistics(pixels[split], binary[split])
        print(report.line(split, content["splits"][split]), flush=True)
    (folder / "statistics.json").write_text(json.dumps(content, indent=2) + "\n")
    if preview:
        report.write_preview(folder / "preview.png", experiment.dataset, pixels, binary)
    print(json.dumps(content), flush=True)


def _load(experiment: Experiment) -> tuple[Images, Images]:
    """Pixel probabilities and fixed binarization of each split; the same for images that are binary by themselves."""
    binary = pixels = build.load_images(experiment, "binarization_seed")
    if binary.binarization_seed is not None:
        pixels = build.load_images(dataclasses.replace(experiment, binarization="dynamic"), "binarization_seed")
    return {split: getattr(pixels, split) for split in _SPLITS}, {split: getattr(binary, split) for split in _SPLITS}
