"""The structured prediction network of the paper."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf.distributions import Bernoulli
from rebar_tf.estimators import Estimator
from rebar_tf.layers import StochasticBinary
from rebar_tf.models.segments import (
    add_data,
    centre,
    check_mean,
    check_width,
    choose_seed,
    derive_seeds,
    output_bias,
    segment,
)
from rebar_tf.training import StochasticTraining
from rebar_tf.validation import check_integer, validate_images

GENERATORS = ("paper", "deep")


@keras.saving.register_keras_serializable("rebar_tf")
class StructuredPredictionNetwork(StochasticTraining, keras.Model):
    """Predicts one part of a binary image from the other, through binary latent layers: bottom half from top half.

    `p(y | x) = E[p(y | b)]`, `b ~ q(b_1:n | x) = q(b_1 | x) ... q(b_n | b_n-1)`, all Bernoulli. The objective is
    `f = -log p(y | b)` in nats. It has no KL term: b is drawn from the model itself and not from an approximate
    posterior, so `-f` is a lower bound of `log p(y | x)` in expectation, and `bound(x, y, num_samples=K)` the tighter
    `log 1/K sum_k p(y | b_k)`.

    The generator is that of the published results or the one that their authors meant (see their erratum of 2019):

    - `"paper"`: only the last recognition layer reaches the generator, which has no other stochastic layer:
      `x -> b_1 -> ... -> b_n -> y`.
    - `"deep"`: the generator has n stochastic layers, like that of `SigmoidBeliefNetwork`: it begins with b_n and draws
      n - 1 further ones, `x -> b_1 -> ... -> b_n -> c_n-1 -> ... -> c_1 -> y`, and `f = -log p(y | c_1)`.

    With one layer the two are the same. As in the paper: x is centred with the training mean, binary units enter the
    next layer as -1 and 1, the output bias starts at the training statistics of y, and nonlinear models have two tanh
    layers before each stochastic layer and before y.

    Args:
        num_layers: n, stochastic layers of the recognition network, 1 or more.
        hidden_units: units of each stochastic layer, and of each tanh layer of a nonlinear model.
        nonlinear: whether two tanh layers stand between stochastic ones.
        estimator: a name of `rebar_tf.estimators.names()` or an `Estimator`.
        generator: `"paper"` or `"deep"`.
        input_units: pixels of x.
        output_units: pixels of y.
        input_mean: `[input_units]`, mean of the training x in [0, 1]; None means one half everywhere.
        output_mean: `[output_units]`, mean of the training y likewise.
        seed: integer from which the initial weights and the samples' noise derive; None draws one.

    Call arguments:
        x: `[batch, input_units]`, in [0, 1].

    Returns:
        `[batch, output_units]`, logits of y at one sample of b.

    Raises:
        ValueError: for a number of layers or units below 1, an unknown generator, or a mean of another shape.

    Example:
    >>> import numpy as np, rebar_tf as rt
    >>> model = rt.models.StructuredPredictionNetwork(num_layers=2, hidden_units=8, input_units=6, output_units=4)
    >>> model.compile(optimizer=rt.optimizers.Adam(3e-4))
    >>> history = model.fit(np.zeros([32, 6]), np.zeros([32, 4]), batch_size=8, verbose=0)
    >>> model.bound(np.zeros([5, 6]), np.zeros([5, 4]), num_samples=10).shape
    (5,)

    Reference: Tucker et al. 2017, tables App.1 and App.2, and appendix G; Raiko et al. 2015 for the task.
    """

    def __init__(
        self,
        num_layers: int = 1,
        hidden_units: int = 200,
        nonlinear: bool = False,
        estimator: str | Estimator = "rebar",
        generator: str = "paper",
        input_units: int = 392,
        output_units: int = 392,
        input_mean: np.ndarray | None = None,
        output_mean: np.ndarray | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        sizes = dict(
            num_layers=num_layers, hidden_units=hidden_units, input_units=input_units, output_units=output_units
        )
        for name, value in sizes.items():
            check_integer(name, value, least=1)
        if generator not in GENERATORS:
            raise ValueError(f"`generator` must be one of {', '.join(GENERATORS)}. Received: generator={generator!r}")
        self.num_layers, self.hidden_units, self.nonlinear = int(num_layers), int(hidden_units), bool(nonlinear)
        self.input_units, self.output_units = int(input_units), int(output_units)
        self.generator = generator
        self.seed = choose_seed(seed)
        seeds = derive_seeds(self.seed, self.num_layers)
        tanh_units = [self.hidden_units] * 2 if self.nonlinear else []

        generator_layers = self.num_layers if generator == "deep" else 1  # stochastic ones, b_n the first
        names = [f"encoder_{i}" for i in range(self.num_layers)]
        names += [f"generator_{i}" for i in reversed(range(generator_layers))]
        count = len(names) - 1
        widths = [self.input_units, *[self.hidden_units] * count, self.output_units]
        dtype = self.dtype_policy
        self.stochastic = [
            StochasticBinary(estimator, seed=next(seeds), name=f"stochastic_{i}", dtype=dtype) for i in range(count)
        ]
        # From x to y; a stochastic layer stands between each two.
        self.segments = [
            segment(name, widths[i], widths[i + 1], tanh_units, seeds, dtype) for i, name in enumerate(names)
        ]
        # Every variable exists from here on, so that a loaded model and an optimizer find all state in place.
        for layer in self.stochastic:
            layer.build((None, self.hidden_units))
        self.input_mean = add_data(self, "input_mean", check_mean(input_mean, self.input_units, "input_mean"))
        self.output_mean = add_data(self, "output_mean", check_mean(output_mean, self.output_units, "output_mean"))
        self.built = True
        self.build_estimator(self.input_units + self.output_units, seed=next(seeds))

    def baseline_context(self, x: tf.Tensor, y: tf.Tensor | None = None) -> tf.Tensor:
        """The centred x and y: the baseline may see all that is independent of the samples, as in the authors' code."""
        x = centre(x, self.input_mean, "x")
        return tf.concat([x, centre(self._check_target(y), self.output_mean, "y")], axis=1)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        inputs = centre(x, self.input_mean, "x")
        *hidden, output = self.segments
        for layers, units in zip(hidden, self.stochastic, strict=True):
            inputs = units(layers(inputs), training=training)
        return tf.cast(output(inputs), tf.float32) + output_bias(self.output_mean)

    def objective(self, x: tf.Tensor, y: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """`f = -log p(y | b)`, `[batch]` in nats, and the logits of y."""
        y = self._check_target(y)
        logits = self.call(x, training=True)  # not self(x): under mixed precision Keras would round x first
        return -Bernoulli(logits).log_prob(y), logits

    def _check_target(self, y: tf.Tensor | None) -> tf.Tensor:
        if y is None:
            raise ValueError(f"`y` must be what x is to predict, [batch, {self.output_units}]. Received: y=None")
        return check_width(y, self.output_units, "y")

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Keras's `fit`; arrays of images are checked first, so that bad ones fail before the first step."""
        for images, name, units in ((x, "x", self.input_units), (y, "y", self.output_units)):
            if isinstance(images, np.ndarray):
                validate_images(images, name=name, units=units)
        return super().fit(x, y, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "num_layers": self.num_layers,
            "hidden_units": self.hidden_units,
            "nonlinear": self.nonlinear,
            "estimator": self.stochastic[0].estimator_config,
            "generator": self.generator,
            "input_units": self.input_units,
            "output_units": self.output_units,
            "seed": self.seed,
        }
