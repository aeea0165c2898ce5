"""A separate inference network, trained on the test images with the generator frozen (figure App.5).

It starts from the network of the training, so that what it gains is what that one misses on these images.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import keras

from rebar_tf.callbacks import Logs, ReportTable, Row, global_step, read_table
from rebar_tf.callbacks.event_file import EventFile
from rebar_tf.datasets import Dataset
from rebar_tf.models import SigmoidBeliefNetwork
from trainers.common import build, plot
from trainers.common.errors import BadInput, RateTooHigh, one_line
from trainers.common.experiment import Experiment
from trainers.common.files import write_csv
from trainers.common.statistics import mean_and_error
from trainers.run import loop, resume
from trainers.run.workdir import Workdir

SAMPLES = 100
COLUMNS = ("step", "own_bound", "separate_bound")
TABLE = "inference.csv"  # in the folder of the run: a row for each checkpoint that a network was fitted for
TABLE_COLUMNS = (*COLUMNS, "gain", "gain_standard_error", "fit_steps")
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

    def copy_networks(self, model: SigmoidBeliefNetwork) -> None:
        """Copies both networks, prior and data mean of a trained model; the estimator stays new."""
        pairs = zip([*self.encoder, *self.generator], [*model.encoder, *model.generator], strict=True)
        for own, other in pairs:
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

    Raises:
        BadInput: for fewer steps than before, and a network that diverges.
    """
    key = [digest, experiment.report_every, "from the training's"]  # what it starts from
    name = f"{FOLDER}{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:6]}"
    folder = Workdir(workdir.path / name)
    _check_steps(folder, experiment.num_steps)
    table = BoundCurve(folder.path, experiment.report_every, model, dataset.test[:_CURVE_IMAGES])
    with _fitting(), resume.training(folder, experiment.flags(), lambda: _new(experiment, model)) as network:
        if global_step(network) < experiment.num_steps:
            print(f"a separate inference network in {folder.path}, from step {global_step(network)}", flush=True)
            batches_from = functools.partial(build.training_batches, experiment, dataset)
            loop.train(experiment, folder, network, batches_from, (dataset.test,), [table])
    _draw(folder.path, read_rows(table.path), f"{experiment.dataset}, {experiment.estimator}")
    own, separate = (m.bound(dataset.test, num_samples=SAMPLES) for m in (model, network))
    result: dict[str, Any] = {"folder": folder.path.name, "steps": global_step(network)}
    result |= {"samples": SAMPLES, "images": len(own)}
    for name, values in (("own_bound", own), ("separate_bound", separate), ("gain", separate - own)):
        result[name], result[f"{name}_standard_error"] = mean_and_error(values)
    _record(workdir.path / TABLE, {**result, "step": global_step(model), "fit_steps": result["steps"]})
    return result


def _check_steps(folder: Workdir, steps: int) -> None:
    """Raises `BadInput` where the network was fitted for more steps before."""
    before = folder.stored_flags()["num_steps"] if folder.flags.exists() else 0
    if steps < before:
        raise BadInput(f"flag --fit_steps={steps}: expected {before} or more, as {folder.path} was begun for that many")


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Names what has diverged: the learning rate is the run's, and no flag here."""
    try:
        yield
    except RateTooHigh as error:
        raise RateTooHigh(f"flag --fit_inference_network: with the run's {one_line(error)}") from error


def _record(path: pathlib.Path, row: dict[str, Any]) -> None:
    """Puts the row of a checkpoint in its place by the steps of the run, which may have had others before."""
    others = [
        {**other, "fit_steps": int(other["fit_steps"])}
        for other in read_table(path, TABLE_COLUMNS)
        if other["step"] != row["step"]
    ]
    write_csv(path, TABLE_COLUMNS, sorted([*others, row], key=lambda each: each["step"]))


def _new(experiment: Experiment, model: SigmoidBeliefNetwork) -> SeparateInference:
    network = SeparateInference.from_config(model.get_config())
    network.copy_networks(model)
    build.compile_model(experiment, network)
    return network


class BoundCurve(ReportTable):
    """Prints both bounds at each report, and writes them to bounds.csv and TensorBoard.

    Args:
        folder: of bounds.csv and tensorboard/.
        every: steps of a whole report.
        own: the model with its own inference network, whose bound does not change.
        images: `[n, 784]`.
    """

    def __init__(self, folder: pathlib.Path, every: int, own: SigmoidBeliefNetwork, images: Any):
        super().__init__(folder / "bounds.csv", COLUMNS, every)
        self.log_dir, self.own, self.images = folder / "tensorboard", own, images
        self._own_bound = math.nan
        self._events: EventFile | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        if math.isnan(self._own_bound):
            self._own_bound = self._bound(self.own)
        if global_step(self.model) == 0:
            self.on_epoch_end(0)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        bounds = {"own_bound": self._own_bound, "separate_bound": self._bound(self.model)}
        print(f"    test bound  own {bounds['own_bound']:.2f}  separate {bounds['separate_bound']:.2f}", flush=True)
        self.append([{"step": global_step(self.model), **bounds}])
        if self._events is None:
            self._events = EventFile(self.log_dir)
        points = {f"test_{name}_{SAMPLES}": value for name, value in bounds.items()}
        self._events.add(global_step(self.model), points)

    def _bound(self, model: SigmoidBeliefNetwork) -> float:
        return float(model.bound(self.images, num_samples=SAMPLES).mean(dtype="float64"))


def read_rows(path: pathlib.Path) -> list[Row]:
    """The rows of bounds.csv; see `rebar_tf.callbacks.read_table`."""
    return read_table(path, COLUMNS)


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
