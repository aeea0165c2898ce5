"""The sigmoid belief network of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from rebar_tf import sampling
from rebar_tf.distributions import Bernoulli
from rebar_tf.estimators import Estimator
from rebar_tf.layers import StochasticBinary
from rebar_tf.models.segments import (
    add_data,
    centre,
    check_mean,
    choose_seed,
    derive_seeds,
    output_bias,
    segment,
)
from rebar_tf.training import StochasticTraining
from rebar_tf.validation import check_integer, validate_images

if TYPE_CHECKING:  # see `_bernoulli`
    import tensorflow_probability as tfp


@keras.saving.register_keras_serializable("rebar_tf")
class SigmoidBeliefNetwork(StochasticTraining, keras.Model):
    """A deep generative model of binary images with binary latent layers, and its inference network.

    `p(x, b_1:n) = p(b_n) p(b_n-1 | b_n) ... p(x | b_1)` and `q(b_1:n | x) = q(b_1 | x) ... q(b_n | b_n-1)`, all
    Bernoulli. The objective is the negative single-sample bound `f = log q(b | x) - log p(x, b)`, in nats.

    As in the paper: inputs of the inference network are centred with the training mean, binary units enter the next
    layer as -1 and 1, the output bias starts at the training statistics, the prior's logits at 0, and nonlinear models
    have two tanh layers between stochastic ones.

    Args:
        num_layers: how many stochastic layers, 1 or more.
        hidden_units: units of each stochastic layer, and of each tanh layer of a nonlinear model.
        nonlinear: whether two tanh layers stand between stochastic ones.
        estimator: a name of `rebar_tf.estimators.names()` or an `Estimator`.
        visible_units: pixels of an image.
        data_mean: `[visible_units]`, mean of the training images in [0, 1]; None means one half everywhere. It is one
            of the weights: a copy by `keras.models.clone_model` has one half, until it gets these.
        seed: integer from which the initial weights and the samples' noise derive; None draws one.

    Call arguments:
        x: `[batch, visible_units]`, images in [0, 1].

    Returns:
        `[batch, visible_units]`, logits of the reconstruction.

    Raises:
        ValueError: for a number of layers or units below 1, or a `data_mean` of another shape.

    Example:
    >>> import numpy as np, rebar_tf as rt
    >>> model = rt.models.SigmoidBeliefNetwork(num_layers=2, hidden_units=8, visible_units=16, seed=0)
    >>> model.compile(optimizer=rt.optimizers.Adam(3e-4))
    >>> history = model.fit(np.zeros([32, 16]), batch_size=8, verbose=0)
    >>> model.bound(np.zeros([4, 16]), num_samples=10).shape
    (4,)

    Reference: Tucker et al. 2017, section 5 and appendix G; the details are those of the released code.
    """

    def __init__(
        self,
        num_layers: int = 1,
        hidden_units: int = 200,
        nonlinear: bool = False,
        estimator: str | Estimator = "rebar",
        visible_units: int = 784,
        data_mean: np.ndarray | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        sizes = dict(num_layers=num_layers, hidden_units=hidden_units, visible_units=visible_units)
        for name, value in sizes.items():
            check_integer(name, value, least=1)
        self.num_layers, self.hidden_units, self.nonlinear = int(num_layers), int(hidden_units), bool(nonlinear)
        self.visible_units = int(visible_units)
        self.seed = choose_seed(seed)
        seeds = derive_seeds(self.seed, self.num_layers)
        tanh_units = [self.hidden_units] * 2 if self.nonlinear else []
        widths = [self.visible_units, *[self.hidden_units] * self.num_layers]

        dtype, layers = self.dtype_policy, range(self.num_layers)
        self.stochastic = [
            StochasticBinary(estimator, seed=next(seeds), name=f"stochastic_{i}", dtype=dtype) for i in layers
        ]
        self.encoder = [segment(f"encoder_{i}", widths[i], widths[i + 1], tanh_units, seeds, dtype) for i in layers]
        self.generator = [segment(f"generator_{i}", widths[i + 1], widths[i], tanh_units, seeds, dtype) for i in layers]
        # Every variable exists from here on, so that a loaded model and an optimizer find all state in place.
        for layer in self.stochastic:
            layer.build((None, self.hidden_units))
        self.prior_logits = self.add_weight(shape=(self.hidden_units,), initializer="zeros", name="prior_logits")
        self.data_mean = add_data(self, "data_mean", check_mean(data_mean, self.visible_units, "data_mean"))
        self.built = True
        self.build_estimator(self.visible_units, seed=next(seeds))

    def baseline_context(self, x: tf.Tensor, y: Any = None) -> tf.Tensor:
        return centre(x, self.data_mean, "x")

    def visible_logits(self, b: tf.Tensor) -> tf.Tensor:
        """`[batch, visible_units]` logits of `p(x | b_1)`; `b` in {-1, 1}, `[batch, hidden_units]`."""
        return tf.cast(self.generator[0](b), tf.float32) + output_bias(self.data_mean)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        inputs = self.baseline_context(x)
        for i in range(self.num_layers):
            inputs = self.stochastic[i](self.encoder[i](inputs), training=training)
            if i == 0:
                first = inputs
        return self.visible_logits(first)

    def objective(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """`f = log q(b | x) - log p(x, b)`, `[batch]` in nats, and the logits of the reconstruction."""
        x = tf.cast(x, tf.float32)
        sampler = sampling.active()
        inputs, log_q, samples = self.baseline_context(x), 0.0, []
        for encoder, layer in zip(self.encoder, self.stochastic, strict=True):
            logits = tf.cast(encoder(inputs), tf.float32)
            inputs = layer(logits, training=True)
            samples.append(tf.cast(inputs, tf.float32))
            log_q += Bernoulli(sampler.density_logits(logits)).log_prob(_zero_one(samples[-1]))
        visible = self.visible_logits(samples[0])
        log_p = Bernoulli(visible).log_prob(x)
        for i in range(1, self.num_layers):
            log_p += Bernoulli(tf.cast(self.generator[i](samples[i]), tf.float32)).log_prob(_zero_one(samples[i - 1]))
        log_p += Bernoulli(tf.cast(self.prior_logits.value, tf.float32)[tf.newaxis]).log_prob(_zero_one(samples[-1]))
        return log_q - log_p, visible

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Keras's `fit`; arrays of images are checked first, so that bad ones fail before the first step."""
        if isinstance(x, np.ndarray):
            validate_images(x, name="x", units=self.visible_units)
        return super().fit(x, *args, **kwargs)

    def posterior(self, x: tf.Tensor) -> tfp.distributions.Distribution:
        """`q(b_1:n | x)` as a TFP distribution over units in {0, 1}.

        Args:
            x: `[batch, visible_units]` images in [0, 1].

        Returns:
            For one layer an independent Bernoulli with batch shape `[batch]` and event shape `[hidden_units]`; for more
            a `JointDistributionSequential` over `(b_1, ..., b_n)`.
        """
        logits = self.encoder[0](self.baseline_context(x))
        return _chain(logits, self.encoder[1:])

    def prior(self) -> tfp.distributions.Distribution:
        """`p(b_1:n)` as a TFP distribution over units in {0, 1}.

        Returns:
            For one layer an independent Bernoulli with event shape `[hidden_units]`; for more a
            `JointDistributionSequential` over `(b_n, ..., b_1)`, the order in which they are drawn.
        """
        return _chain(self.prior_logits.value, self.generator[:0:-1])

    def likelihood(self, b: tf.Tensor) -> tfp.distributions.Distribution:
        """`p(x | b_1)` as a TFP distribution.

        Args:
            b: `[batch, hidden_units]`, units in {0, 1}.

        Returns:
            An independent Bernoulli with batch shape `[batch]` and event shape `[visible_units]`.
        """
        return _bernoulli(self.visible_logits(2.0 * tf.cast(b, tf.float32) - 1.0))

    def generate(self, count: int, seed: int = 0) -> tf.Tensor:
        """Images that the model draws, as the probabilities of their pixels.

        Args:
            count: of the images.
            seed: of their samples.

        Returns:
            `[count, visible_units]` probabilities `p(x | b_1)`, with b from the prior.
        """
        logits = tf.repeat(tf.cast(self.prior_logits.value, tf.float32)[tf.newaxis], count, axis=0)
        for i in range(self.num_layers)[::-1]:
            noise = tf.random.stateless_uniform(tf.shape(logits), [seed, i])
            b = tf.where(noise < tf.sigmoid(logits), 1.0, -1.0)
            logits = tf.cast(self.generator[i](b), tf.float32) if i else self.visible_logits(b)
        return tf.sigmoid(logits)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "num_layers": self.num_layers,
            "hidden_units": self.hidden_units,
            "nonlinear": self.nonlinear,
            "estimator": self.stochastic[0].estimator_config,
            "visible_units": self.visible_units,
            "seed": self.seed,
        }


def _bernoulli(logits: tf.Tensor) -> tfp.distributions.Independent:
    import tensorflow_probability as tfp  # imported only when used: it takes seconds to load

    return tfp.distributions.Independent(
        tfp.distributions.Bernoulli(logits=tf.cast(logits, tf.float32), dtype=tf.float32),
        reinterpreted_batch_ndims=1,
    )


def _chain(logits: tf.Tensor, segments: list[keras.Sequential]) -> tfp.distributions.Distribution:
    """The first layer's Bernoulli, followed by those whose logits `segments` compute from the layer before."""
    first = _bernoulli(logits)
    if not segments:
        return first
    import tensorflow_probability as tfp

    conditionals = [lambda b, segment=segment: _bernoulli(_apply(segment, b)) for segment in segments]
    return tfp.distributions.JointDistributionSequential([first, *conditionals])


def _apply(segment: keras.Sequential, b: tf.Tensor) -> tf.Tensor:
    """The segment's logits for samples in {0, 1} of any sample shape: `[..., units] -> [..., outputs]`."""
    logits = segment(tf.reshape(2.0 * b - 1.0, [-1, b.shape[-1]]))
    return tf.reshape(logits, tf.concat([tf.shape(b)[:-1], tf.shape(logits)[-1:]], axis=0))


def _zero_one(values: tf.Tensor) -> tf.Tensor:
    """Samples in {0, 1} from those in {-1, 1}."""
    return 0.5 * (values + 1.0)
