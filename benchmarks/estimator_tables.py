"""Writes the tables of docs/estimators.md: what each estimator says of itself, and what is measured.

  python -m benchmarks.estimator_tables           prints them
  python -m benchmarks.estimator_tables --write   puts them between the markers of docs/estimators.md, too

Takes some minutes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from trainers.common import markdown
from trainers.common.tensorflow_import import import_tensorflow

GUIDE = pathlib.Path(__file__).parents[1] / "docs" / "estimators.md"
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
        bias: the size of the mean's error as a part of the gradient's, less what its noise explains.
        variance: of the estimate, summed over the entries of the inference network's variables.
        microseconds: of a training step.
    """

    z: float
    threshold: float
    bias: float
    variance: float
    microseconds: float


def registry_table() -> str:
    """Table 1: what the classes say."""
    from rebar_tf import estimators

    rows = []
    for name in estimators.names():
        kind = type(estimators.get(name))
        scope = "layer" if kind.local else "model"
        unbiased, derivative = ("yes" if value else "no" for value in (kind.unbiased, kind.needs_derivative))
        families = ", ".join(kind.families)
        row = [f"`{name}`", scope, unbiased, kind.evaluations, derivative, families, trained(name), reference(kind)]
        rows.append(row)
    titles = ["name", "trains a", "unbiased", "evaluations of f", "needs df/db", "families", "own parameters", "source"]
    return markdown.table(titles, rows)


_PARTS = {"scale": "scales", "raw_s0": "scales", "raw_s1": "scales", "alpha": "scales", "beta": "scales"}


def trained(name: str) -> str:
    """What an estimator trains of its own; a dash for nothing."""
    from rebar_tf import distributions, estimators

    estimator = estimators.get(name)
    spec = estimators.ControlSpec(((2,),), ((2,),), (distributions.Bernoulli,), ("units",), context_size=2)
    estimator.build_control(spec)
    parts = [variable.path.split("/")[1] for variable in estimator.trainable_variables]
    return ", ".join(dict.fromkeys(_PARTS.get(part, re.sub(r"^[rqh]_0$", "network", part)) for part in parts)) or "-"


def reference(kind: type) -> str:
    """The reference of a docstring, on one line; a dash where there is none."""
    found = re.search(r"^\s*Reference: (.+?)(?:\n\s*\n|\Z)", kind.__doc__, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()).rstrip(".") if found else "-"


def measured_table() -> str:
    """Table 2: every estimator on the networks."""
    from rebar_tf import estimators

    plain = {network: measure("reinforce", network) for network in NETWORKS}
    rows = []
    for name in estimators.names():
        cells = [f"`{name}`"]
        for network in NETWORKS:
            if FAMILIES[network] in estimators.get(name).families:
                measured = plain[network] if name == "reinforce" else measure(name, network)
                cells += _cells(name, measured, plain[network])
            else:
                cells += ["-"] * 3
        rows.append(cells)
        print("|", " | ".join(cells), "|", flush=True)
    columns = [f"{network}: {title}" for network in NETWORKS for title in ("bias", "variance", "us a step")]
    return f"{markdown.table(['name', *columns], rows)}\n\n{_conditions(plain)}"


def options_table() -> str:
    """Table 3: the options of REBAR on a network of three layers."""
    from rebar_tf import estimators

    plain = measure("reinforce", OPTIONS_NETWORK)
    rows = []
    for options in OPTIONS:
        cells = _cells("rebar", measure(estimators.Rebar(**options), OPTIONS_NETWORK), plain)
        rows.append([f"`{option_label(options)}`", *cells])
        print("|", " | ".join(rows[-1]), "|", flush=True)
    table = markdown.table(["`rt.estimators.Rebar(...)`", "bias", "variance", "us a step"], rows)
    return f"{table}\n\n{_conditions({OPTIONS_NETWORK: plain})}"


def option_label(options: dict) -> str:
    """Arguments as they are written in a call."""
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


def _cells(name: str, measured: Measurement, plain: Measurement) -> list[str]:
    from rebar_tf.estimators import get

    # Another objective has another gradient, and its variance is no ratio of anything.
    comparable = get(name).objective == "expectation"
    ratio = f"{measured.variance / plain.variance:.2g}" if comparable else "-"
    seen = f"{100 * measured.bias:.2g} %" if measured.z > measured.threshold else "none"
    return [seen, ratio, f"{measured.microseconds:.0f}"]


def _conditions(plain: dict[str, Measurement]) -> str:
    thresholds = ", ".join(f"{measured.threshold:.2f} ({network})" for network, measured in plain.items())
    return (
        f"No bias is seen where all |z| stay below {thresholds}; times are of one machine, on {os.cpu_count()} cores."
    )


def measure(
    estimator, network: str, num_estimates: int = 4000, repeats: int = 32, control_steps: int = 5000
) -> Measurement:
    """Measures an estimator at fixed weights, its own variables trained.

    Args:
        estimator: a name or an `Estimator`.
        network: one of `NETWORKS`, or that of the options.
        num_estimates: of the gradient, for bias and variance.
        repeats: samples of each of 4 inputs in an estimate.
        control_steps: in which the estimator's own variables are trained, at least.
    """
    import rebar_tf as rt

    model, data = build(estimator, network)
    seconds = train_control(model, [np.repeat(part, 6, axis=0) for part in data], control_steps)
    if isinstance(model.estimator, rt.estimators.Exact):
        num_estimates, repeats = 5, 1  # all the same
    report = inference_network(
        rt.diagnostics.check_unbiased(model, *data, num_estimates=num_estimates, repeats=repeats)
    )
    errors, noise, exact = (
        sum(float(np.square(part).sum()) for part in parts)
        for parts in (
            [mean - exact for mean, exact in zip(report.mean, report.exact, strict=True)],
            report.standard_error,
            report.exact,
        )
    )
    bias = (max(errors - noise, 0.0) / exact) ** 0.5
    variance = report.num_estimates * repeats * noise
    return Measurement(report.max_abs_z, report.threshold, bias, variance, 1e6 * seconds)


def inference_network(report):
    """The report of those variables whose gradient is estimated; the generative network's is the same for most."""
    chosen = [i for i, name in enumerate(report.names) if name.startswith("encoder")]
    parts = {part: [getattr(report, part)[i] for i in chosen] for part in ("names", "exact", "mean", "standard_error")}
    return dataclasses.replace(report, **parts)


def build(estimator, network: str):
    """A small network with standard normal weights, and 4 examples: inputs, and targets where the network has some."""
    model, num_parts = BUILDERS[network](estimator)
    rng = np.random.default_rng(0)
    for variable in model.model_variables:
        variable.assign(rng.normal(size=variable.shape))
    return model, [rng.integers(0, 2, (4, 5)).astype(np.float32)] * num_parts


def belief_network(num_layers: int, estimator):
    """A sigmoid belief network of 3 units a layer and 5 visible ones."""
    import rebar_tf as rt

    settings = {"hidden_units": 3, "visible_units": 5, "seed": 0, "estimator": estimator}
    return rt.models.SigmoidBeliefNetwork(num_layers, **settings), 1


def categorical_autoencoder(estimator):
    """An autoencoder of 5 pixels, whose code is 3 variables of 3 classes."""
    import keras

    import rebar_tf as rt

    x = keras.Input((5,))
    code = rt.layers.StochasticCategorical(3, estimator, seed=0)(keras.layers.Dense(9, name="encoder")(x))
    model = rt.StochasticModel(x, keras.layers.Dense(5)(code))
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return model, 2


BUILDERS = {
    "1 layer": functools.partial(belief_network, 1),
    "2 layers": functools.partial(belief_network, 2),
    "3 layers": functools.partial(belief_network, 3),
    "categorical": categorical_autoencoder,
}
NETWORKS = ("1 layer", "2 layers", "categorical")  # that all estimators are measured on
FAMILIES = {"1 layer": "bernoulli", "2 layers": "bernoulli", "categorical": "categorical"}
OPTIONS_NETWORK = "3 layers"


def train_control(model, data: list[np.ndarray], num_steps: int) -> float:
    """Trains the estimator's own variables at fixed weights; the seconds that a step takes.

    The step is a whole training step, estimate and Adam over all variables; those of the model have a rate of 0.
    """
    import tensorflow as tf

    import rebar_tf as rt
    from rebar_tf.optimizers.groups import CONTROL_GROUP

    optimizer = rt.optimizers.Adam(3e-4, groups={CONTROL_GROUP: 10.0, "": 0.0})
    optimizer.build(model.trainable_variables)
    data = [tf.convert_to_tensor(part) for part in data]

    def one_step(i):
        gradients = model.estimate_gradients(*data)[1]
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


def main(argv: Sequence[str]) -> None:
    logging.set_verbosity(logging.ERROR)
    import_tensorflow()
    tables = {"registry": registry_table(), "measured": measured_table(), "options": options_table()}
    print("\n\n".join(tables.values()))
    if flags.FLAGS.write:
        text = GUIDE.read_text()
        for name, table in tables.items():
            text = markdown.replace_between_markers(text, name, table)
        GUIDE.write_text(text)


if __name__ == "__main__":
    app.run(main)
