"""Writes the tables of docs/estimators.md: what each estimator says of itself, and what is measured.

  python -m benchmarks.estimator_tables           prints them
  python -m benchmarks.estimator_tables --write   puts them between the markers of docs/estimators.md, too

Takes some minutes.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from trainers.common.tensorflow_import import import_tensorflow

GUIDE = pathlib.Path(__file__).parents[1] / "docs" / "estimators.md"
LAYERS = (1, 2)  # of the networks that all estimators are measured on
OPTION_LAYERS = 3  # of the one for REBAR's options
OPTIONS = (
    {"group_size": 1},
    {"group_size": None},
    {"group_size": 2},
    {"eta": "shared"},
    {"eta": "unit"},
    {"temperature_per_layer": True},
    {"temperature": 0.1, "learn_temperature": False},
    {"relaxation": "concrete"},
)
_TIMED_STEPS = 500
_TIMINGS = 60  # of which the fastest counts: short and many, as the machine does other things too

flags.DEFINE_boolean("write", False, "Whether to replace the tables of docs/estimators.md.")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One estimator on one network.

    Attributes:
        z: the largest |z| of the mean estimate against enumeration, over all coordinates of the inference network.
        threshold: what an unbiased estimator passes with probability 1e-4 only.
        variance: of the estimate, summed over the entries of the inference network's variables.
        microseconds: of a training step.
    """

    z: float
    threshold: float
    variance: float
    microseconds: float


def registry_table() -> str:
    """Table 1: what the classes say."""
    from rebar_tf import estimators

    rows = []
    for name in estimators.names():
        kind = type(estimators.get(name))
        families = " and ".join(kind.families)
        unbiased, derivative = ("yes" if value else "no" for value in (kind.unbiased, kind.needs_derivative))
        rows.append([f"`{name}`", unbiased, kind.evaluations, derivative, families, reference(kind)])
    return _table(["name", "unbiased", "evaluations of f", "needs df/db", "families", "source"], rows)


def reference(kind: type) -> str:
    """The reference of a docstring, on one line; a dash where there is none."""
    found = re.search(r"^\s*Reference: (.+?)(?:\n\s*\n|\Z)", kind.__doc__, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()).rstrip(".") if found else "-"


def measured_table() -> str:
    """Table 2: every estimator on a network of one and of two layers."""
    from rebar_tf import estimators

    plain = {n: measure("reinforce", n) for n in LAYERS}
    rows = []
    for name in estimators.names():
        cells = [f"`{name}`"]
        for n in LAYERS:
            cells += _cells(name, plain[n] if name == "reinforce" else measure(name, n), plain[n])
        rows.append(cells)
        print("|", " | ".join(cells), "|", flush=True)
    layers = [f"{n} layer{'s' * (n > 1)}" for n in LAYERS]
    columns = [f"{layer}: {title}" for layer in layers for title in ("bias, max \\|z\\|", "variance", "us a step")]
    bounds = ", ".join(f"{plain[n].threshold:.2f} with {layer}" for n, layer in zip(LAYERS, layers, strict=True))
    return f"{_table(['name', *columns], rows)}\n\nAn unbiased estimator stays below |z| = {bounds}; {_conditions()}"


def options_table() -> str:
    """Table 3: the options of REBAR on a network of three layers."""
    from rebar_tf import estimators

    plain = measure("reinforce", OPTION_LAYERS)
    rows = []
    for options in OPTIONS:
        cells = _cells("rebar", measure(estimators.Rebar(**options), OPTION_LAYERS), plain)
        rows.append([f"`{option_label(options)}`", *cells])
        print("|", " | ".join(rows[-1]), "|", flush=True)
    table = _table(["`rt.estimators.Rebar(...)`", "bias, max \\|z\\|", "variance", "us a step"], rows)
    return f"{table}\n\nAn unbiased estimator stays below |z| = {plain.threshold:.2f}; {_conditions()}"


def option_label(options: dict) -> str:
    """Arguments as they are written in a call."""
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


def _cells(name: str, measured: Measurement, plain: Measurement) -> list[str]:
    from rebar_tf.estimators import get

    # Another objective has another gradient, and its variance is no ratio of anything.
    comparable = get(name).objective == "expectation"
    ratio = f"{measured.variance / plain.variance:.2g}" if comparable else "-"
    return [f"{measured.z:.1f}", ratio, f"{measured.microseconds:.0f}"]


def _conditions() -> str:
    return f"times are of one machine, on {os.cpu_count()} cores."


def measure(
    estimator, num_layers: int, num_estimates: int = 4000, repeats: int = 32, control_steps: int = 5000
) -> Measurement:
    """Measures an estimator at fixed weights, its own variables trained.

    Args:
        estimator: a name or an `Estimator`.
        num_layers: of a sigmoid belief network with 3 units a layer and 5 visible ones, with standard normal weights.
        num_estimates: of the gradient, for bias and variance.
        repeats: samples of each of 4 inputs in an estimate.
        control_steps: in which the estimator's own variables are trained, at least.
    """
    import rebar_tf as rt

    model, x = belief_network(estimator, num_layers)
    seconds = train_control(model, np.repeat(x, 6, axis=0), control_steps)
    if model.estimator.enumerates:
        num_estimates, repeats = 5, 1  # all the same
    report = inference_network(rt.diagnostics.check_unbiased(model, x, num_estimates=num_estimates, repeats=repeats))
    variance = report.num_estimates * repeats * sum(float(np.square(error).sum()) for error in report.standard_error)
    return Measurement(report.max_abs_z, report.threshold, variance, 1e6 * seconds)


def inference_network(report):
    """The report of those variables whose gradient is estimated; the generative network's is the same for most."""
    chosen = [i for i, name in enumerate(report.names) if name.startswith("encoder")]
    parts = {part: [getattr(report, part)[i] for i in chosen] for part in ("names", "exact", "mean", "standard_error")}
    return dataclasses.replace(report, **parts)


def belief_network(estimator, num_layers: int):
    """A small network with random weights, and 4 inputs."""
    import rebar_tf as rt

    model = rt.models.SigmoidBeliefNetwork(
        num_layers=num_layers, hidden_units=3, visible_units=5, seed=0, estimator=estimator
    )
    rng = np.random.default_rng(0)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model, rng.integers(0, 2, (4, 5)).astype(np.float32)


def train_control(model, x: np.ndarray, num_steps: int) -> float:
    """Trains the estimator's own variables at fixed weights; the seconds that a step takes.

    The step is a whole training step, estimate and Adam over all variables; those of the model have a rate of 0.
    """
    import tensorflow as tf

    import rebar_tf as rt
    from rebar_tf.optimizers.groups import CONTROL_GROUP

    optimizer = rt.optimizers.Adam(3e-4, groups={CONTROL_GROUP: 10.0, "": 0.0})
    optimizer.build(model.trainable_variables)
    x = tf.convert_to_tensor(x)

    def one_step(i):
        gradients = model.estimate_gradients(x)[1]
        pairs = zip(gradients, model.trainable_variables, strict=True)
        optimizer.apply_gradients([(g, variable) for g, variable in pairs if g is not None])
        return (i + 1,)

    @tf.function(autograph=False, jit_compile=True)
    def advance(count):
        tf.while_loop(lambda i: i < count, one_step, [tf.constant(0)])
        return optimizer.iterations.value + 0

    advance(tf.constant(num_steps)).numpy()
    seconds = []
    for _ in range(_TIMINGS):
        start = time.perf_counter()
        advance(tf.constant(_TIMED_STEPS)).numpy()
        seconds.append((time.perf_counter() - start) / _TIMED_STEPS)
    return min(seconds)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def between_markers(text: str, name: str) -> str:
    """What the guide holds as the table of that name."""
    return _section(name).search(text)[2]


def replace_table(text: str, name: str, table: str) -> str:
    """The guide with another table of that name."""
    return _section(name).sub(lambda found: f"{found[1]}{table}{found[3]}", text)


def _section(name: str) -> re.Pattern:
    return re.compile(rf"(<!-- begin {name}[^>]*-->\n\n)(.*?)(\n\n<!-- end {name} -->)", re.DOTALL)


def main(argv: Sequence[str]) -> None:
    logging.set_verbosity(logging.ERROR)
    import_tensorflow()
    tables = {"registry": registry_table(), "measured": measured_table(), "options": options_table()}
    print("\n\n".join(tables.values()))
    if flags.FLAGS.write:
        text = GUIDE.read_text()
        for name, table in tables.items():
            text = replace_table(text, name, table)
        GUIDE.write_text(text)


if __name__ == "__main__":
    app.run(main)
