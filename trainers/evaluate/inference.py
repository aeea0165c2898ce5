"""A separate inference network, trained on the test images with the generator frozen (figure App.5)."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import pathlib
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.callbacks import Logs, global_step
from rebar_tf.datasets import Dataset
from rebar_tf.models import SigmoidBeliefNetwork
from trainers.common import build, plot
from trainers.common.experiment import Experiment
from trainers.common.files import replacing
from trainers.evaluate.results import mean_and_error
from trainers.run import loop, resume
from trainers.run.workdir import Workdir

SAMPLES = 100
COLUMNS = ("step", "own_bound", "separate_bound")
FOLDER = "inference_network-"  # in that of the run; a digest of the checkpoint follows
_CURVE_IMAGES = 1000  # of the test split, at each point of the curve; the numbers at the end are of all


@keras.saving.register_keras_serializable("trainers")
class SeparateInference(SigmoidBeliefNetwork):
    """A sigmoid belief network of which only the inference network is trained.

    The generator is frozen before the estimator counts its variables, which has scales and moments for trained
    variables only.
    """

    def build_estimator(self, *args: Any, **kwargs: Any) -> None:
        for segment in self.generator:
            segment.trainable = False
        self.prior_logits.trainable = False
        super().build_estimator(*args, **kwargs)

    def copy_generator(self, model: SigmoidBeliefNetwork) -> None:
        """Copies generator, prior and data mean of a trained model; the inference network stays new."""
        for own, other in zip(self.generator, model.generator, strict=True):
            own.set_weights(other.get_weights())
        self.prior_logits.assign(model.prior_logits)
        self.data_mean.assign(model.data_mean)


def fit(
    experiment: Experiment, workdir: Workdir, model: SigmoidBeliefNetwork, dataset: Dataset, digest: str
) -> dict[str, Any]:
    """Trains, or continues to train, the network, and draws both bounds.

    Args:
        experiment: the run's, with `num_steps` and `report_every` of this training.
        workdir: of the run; the training has a folder below, named after its flags and the checkpoint.
        model: the trained model.
        dataset: with the test images as training split.
        digest: of the run's checkpoint.

    Returns:
        `folder`, `steps`, `samples`, `images`; `own_bound` and `separate_bound` of all test images, in nats, with
        their standard errors, and `gain`, the mean of their difference, with its own.
    """
    key = [digest, experiment.report_every]
    name = f"{FOLDER}{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:6]}"
    folder = Workdir(workdir.path / name)
    network = folder.load_model() if folder.checkpoint.exists() else _new(experiment, model)
    folder.claim(experiment.flags())
    table = BoundCurve(folder.path, experiment.report_every, model, dataset.test[:_CURVE_IMAGES])
    if global_step(network) < experiment.num_steps:
        print(f"a separate inference network in {folder.path}, from step {global_step(network)}", flush=True)
        batches_from = functools.partial(build.training_batches, experiment, dataset)
        with resume.exits_resumably(folder, network):
            loop.train(experiment, folder, network, batches_from, (dataset.test,), [table])
    _draw(folder.path, read_rows(table.path), f"{experiment.dataset}, {experiment.estimator}")
    own, separate = (m.bound(dataset.test, num_samples=SAMPLES) for m in (model, network))
    result: dict[str, Any] = {"folder": folder.path.name, "steps": global_step(network)}
    result |= {"samples": SAMPLES, "images": len(own)}
    for name, values in (("own_bound", own), ("separate_bound", separate), ("gain", separate - own)):
        result[name], result[f"{name}_standard_error"] = mean_and_error(values)
    return result


def _new(experiment: Experiment, model: SigmoidBeliefNetwork) -> SeparateInference:
    network = SeparateInference.from_config(model.get_config())
    network.copy_generator(model)
    build.compile_model(experiment, network)
    return network


class BoundCurve(keras.callbacks.Callback):
    """Prints both bounds at each report, and writes them to bounds.csv and TensorBoard.

    Args:
        folder: of bounds.csv and tensorboard/.
        every: steps of a whole report.
        own: the model with its own inference network, whose bound does not change.
        images: `[n, 784]`.
    """

    def __init__(self, folder: pathlib.Path, every: int, own: SigmoidBeliefNetwork, images: Any):
        super().__init__()
        self.path, self.every, self.images = folder / "bounds.csv", every, images
        self.log_dir, self.own = str(folder / "tensorboard"), own
        self._own_bound: float | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        if self._own_bound is None:
            self._own_bound = self._bound(self.own)
        step = global_step(self.model)
        rows = [row for row in read_rows(self.path) if row["step"] <= step and row["step"] % self.every == 0]
        with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        if step == 0:
            self._report(0)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._report(global_step(self.model))

    def _report(self, step: int) -> None:
        row = {"step": step, "own_bound": self._own_bound, "separate_bound": self._bound(self.model)}
        print(f"    test bound  own {row['own_bound']:.2f}  separate {row['separate_bound']:.2f}", flush=True)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        writer = tf.summary.create_file_writer(self.log_dir, filename_suffix=".bounds")
        with writer.as_default(step=step):
            for name in COLUMNS[1:]:
                tf.summary.scalar(f"test_{name}_{SAMPLES}", row[name])
        writer.close()

    def _bound(self, model: SigmoidBeliefNetwork) -> float:
        return float(model.bound(self.images, num_samples=SAMPLES).mean(dtype="float64"))


def read_rows(path: pathlib.Path) -> list[dict[str, float]]:
    """The rows of bounds.csv; none where there is no file. A last line that was cut off is left out."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader([line for line in file if line.endswith("\n")]))
    return [{name: int(row[name]) if name == "step" else float(row[name]) for name in COLUMNS} for row in rows]


def _draw(folder: pathlib.Path, rows: list[dict[str, float]], title: str) -> None:
    """Draws both bounds over the steps, as bounds.png and bounds.svg."""
    figure = plot.new_figure(6.4, 4.6)
    axis = figure.subplots()
    axis.set_title(title, fontsize=11)
    labels = ("the model's own inference network", "a separate one, trained on the test images")
    for name, label, colour, style in zip(COLUMNS[1:], labels, plot.COLOURS, ("-.", "-"), strict=False):
        axis.plot([row["step"] for row in rows], [row[name] for row in rows], style, label=label, color=colour)
    axis.grid(color="0.9", linewidth=0.6)
    axis.set(xlabel="steps of the separate network", ylabel=f"test {SAMPLES}-sample bound (nats)")
    axis.legend()
    plot.save(figure, folder, "bounds", "evaluate")
