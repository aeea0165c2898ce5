"""What an estimator is: which passes to run, and the cotangent that each stochastic layer's logits get."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from rebar_tf.distributions import Distribution
from rebar_tf.estimators import registry
from rebar_tf.estimators.baseline import InputDependentBaseline
from rebar_tf.estimators.control import mark_control
from rebar_tf.estimators.surrogate import surrogate_loss
from rebar_tf.sampling import CounterfactualSampler, HardSampler, NoDerivativeError, Sampler, Site
from rebar_tf.tables import html_table

Objective = Callable[[], tf.Tensor]

ALL_FAMILIES = ("bernoulli", "categorical", "subset")  # for estimators that ask for no more than sample, score, mean
_OF_EVERY_LAYER = ("name", "trainable", "dtype")


@dataclasses.dataclass
class Estimate:
    """The outcome of an estimator: one estimate of `d E[f] / d logits` for each stochastic layer.

    Attributes:
        value: `[batch]`, f at the hard samples: what is reported, always the proper objective.
        direct: `[batch]`, a tensor whose ordinary gradient is the direct gradient of the objective. It equals `value`
            for the unbiased estimators.
        sites: the stochastic layers of the hard pass.
        plain: for each site the cotangent of its logits without control variate, like the logits.
        variate: for each site the cotangent of the control variate, to be scaled by eta and added; empty for none.
        control_loss: scalar that trains the estimator's own variables, or None where there is none.
    """

    value: tf.Tensor
    direct: tf.Tensor
    sites: list[Site] = dataclasses.field(default_factory=list)
    plain: list[tf.Tensor] = dataclasses.field(default_factory=list)
    variate: list[tf.Tensor] = dataclasses.field(default_factory=list)
    control_loss: tf.Tensor | None = None

    def plain_loss(self) -> tf.Tensor:
        """`[batch]` surrogate: value f(b), gradient the direct one and the plain part of each layer's estimate."""
        return _chain_surrogates(self._valued_direct(), self.sites, self.plain)

    def variate_loss(self) -> tf.Tensor | None:
        """`[batch]` surrogate: value 0, gradient the control variate at scale 1; None without one."""
        if not self.variate:
            return None
        return _chain_surrogates(tf.zeros_like(self.value), self.sites, self.variate)

    def loss(self, eta: tf.Tensor | float = 1.0) -> tf.Tensor:
        """`[batch]` surrogate with the control variate, where there is one, at scale eta."""
        if not self.variate:
            return self.plain_loss()
        total = [plain + eta * variate for plain, variate in zip(self.plain, self.variate, strict=True)]
        return _chain_surrogates(self._valued_direct(), self.sites, total)

    def _valued_direct(self) -> tf.Tensor:
        """The direct gradient's tensor, with the value of f at the hard samples."""
        return self.value if self.direct is self.value else self.direct + tf.stop_gradient(self.value - self.direct)


def _chain_surrogates(loss: tf.Tensor, sites: list[Site], cotangents: list[tf.Tensor]) -> tf.Tensor:
    for site, cotangent in zip(sites, cotangents, strict=True):
        loss = surrogate_loss(loss, site.logits, cotangent)
    return loss


@dataclasses.dataclass(frozen=True)
class ControlSpec:
    """What an estimator must know of a model to create its own variables.

    Attributes:
        variable_shapes: of the model's trainable variables, in their order.
        layer_shapes: of one example's sample, for each stochastic layer, in their order.
        families: of the stochastic layers' distributions.
        layer_names: of the stochastic layers, for errors.
        context_size: length of the baseline's input; None for no baseline.
        seed: integer for initial weights; None draws one.
    """

    variable_shapes: tuple[tuple[int, ...], ...]
    layer_shapes: tuple[tuple[int | None, ...], ...]
    families: tuple[type[Distribution], ...]
    layer_names: tuple[str, ...]
    context_size: int | None = None
    seed: int | None = None

    def seed_of_layer(self, i: int) -> int | None:
        """The seed of the initial weights of what an estimator learns for one stochastic layer."""
        return None if self.seed is None else self.seed + 10 + i

    def build_baseline(self) -> InputDependentBaseline | None:
        """A baseline for the model; None where it gives no context."""
        if self.context_size is None:
            return None
        baseline = InputDependentBaseline(seed=self.seed, name="baseline")
        baseline.build((None, self.context_size))
        return baseline


class Estimator(keras.layers.Layer):
    """Base of the gradient estimators.

    An estimator is a Keras layer because it has state to train and to save with the model: temperature, control-variate
    scales, baseline, and the step counter that all random numbers derive from. Its variables are a model's *control
    variables*; `rebar_tf.optimizers.Adam` moves them at ten times the model's rate.

    A subclass sets the class attributes below, writes `estimate`, and is decorated with `register`. What it needs of
    a temperature, scales or a baseline it has as sublayers: `Temperature`, `Scale`, `ControlSpec.build_baseline`.
    """

    estimator_name: str
    unbiased: bool = True
    local: bool = False  # needs no objective: the layer's sample has a derivative
    objective: str = "expectation"  # what is minimised: the expectation of f, or a "bound" of several samples
    through_density: bool = True  # whether what is estimated has a gradient by way of a density `log q(b|x)` within f
    evaluations: str = "1"  # of the objective, in n, the number of stochastic layers
    enumerates: bool = False  # lists the joint states of a layer, and so serves few units only
    serves_coupled: bool = True  # an objective that mixes the examples of a batch
    needs_derivative: bool = False  # of the objective with respect to the samples
    minimizes_variance: bool = False  # trains its variables on the squared estimate
    families: tuple[str, ...] = ("bernoulli", "categorical")
    built: bool

    def __init__(self, name: str = "control", **kwargs: Any):
        super().__init__(name=name, **{"dtype": "float32", **kwargs})  # float32 under any mixed-precision policy

    @tf.autograph.experimental.do_not_convert  # it warns where it cannot rewrite a method for a function being traced
    def build_control(self, spec: ControlSpec) -> None:
        """Creates the estimator's variables, once; ValueError for a family that it does not serve."""
        self.check_families(spec.families)
        if self.built:
            return
        # int64: a 32-bit integer variable lives on the host, out of reach of a program compiled for a GPU.
        self.step = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="step")
        self.evaluation_step = self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False, name="evaluation_step"
        )
        with keras.name_scope(
            self.name, caller=self
        ):  # so that the variables of sublayers, too, are found under this name
            self.build_variables(spec)
        mark_control(self.variables)
        self.built = True

    def build_variables(self, spec: ControlSpec) -> None:
        """Creates what a subclass trains; by default nothing."""

    def check_families(self, families: tuple[type[Distribution], ...]) -> None:
        """ValueError if a stochastic layer is of a family that this estimator does not serve."""
        for family in families:
            if family.name not in self.families:
                raise ValueError(
                    f"Estimator {self.estimator_name!r} serves {' and '.join(self.families)} units only. "
                    f"Received: {family.name} units, which {', '.join(registry.names(family.name))} would do"
                )

    def estimate(self, objective: Objective, step: tf.Tensor, context: tf.Tensor | None = None) -> Estimate:
        """Runs the passes of one estimate.

        Args:
            objective: runs the model under the active sampler and returns f, `[batch]`, to be minimised.
            step: integer scalar that all noise derives from.
            context: `[batch, context_size]`, the baseline's input, independent of the samples.

        Returns:
            An `Estimate`.
        """
        raise NotImplementedError

    def exact_target(self, f: tf.Tensor, log_p: tf.Tensor) -> tf.Tensor:
        """What the estimate is unbiased for, `[batch]`, from f and `log p` of all states, `[states, batch]`."""
        return tf.reduce_sum(tf.exp(log_p) * f, axis=0)

    def etas(self) -> list[tf.Tensor]:
        """The control-variate scale of each variable of the `ControlSpec`: a scalar, or one a unit."""
        raise NotImplementedError

    def diagnostics(self) -> dict[str, tf.Tensor]:
        """Scalars worth watching, by name: the temperature, say."""
        return {}

    def options(self) -> dict[str, Any]:
        """The arguments of the constructor, without those of every Keras layer."""
        return {name: value for name, value in self.get_config().items() if name not in _OF_EVERY_LAYER}

    def __repr__(self) -> str:
        try:
            options = self.options()
        except NotImplementedError:  # by which Keras says that a class has no `get_config` of its own
            return super().__repr__()
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    def _repr_html_(self) -> str:
        now = {name: float(value) for name, value in self.diagnostics().items()} if self.built else {}
        facts = {"unbiased": self.unbiased, "evaluations of the objective": self.evaluations, **now}
        return html_table(("", "value"), [{"": name, "value": value} for name, value in facts.items()], repr(self))

    def hard_pass(
        self, objective: Objective, step: tf.Tensor, stream: int = 0, score_in_density: bool = False
    ) -> tuple[HardSampler, tf.Tensor]:
        """The hard samples, as a trace, and f there: `[batch]`, with its direct gradient."""
        with HardSampler(step, stream, score_in_density) as trace:
            value = evaluate(objective)
        check_trace(trace)
        check_rows(trace, value)
        return trace, value


def derivatives(
    sampler: Sampler, f: tf.Tensor, first: int = 0, last: int | None = None, allow_unseen: bool = False
) -> list[tf.Tensor]:
    """`Sampler.gradients`, whose error says which estimators need no derivative of the objective.

    Args:
        sampler: of the pass that f comes from.
        f: `[batch]`.
        first: index of the first output.
        last: index after the last one; None for all that follow.
        allow_unseen: as in `Sampler.gradients`.
    """
    try:
        return sampler.gradients(f, first, last, allow_unseen)
    except NoDerivativeError as error:
        able = ", ".join(registry.names(sampler.families, needs_derivative=False))
        raise ValueError(f"{error} Use an estimator that needs none: {able}.") from error


def check_trace(trace: HardSampler) -> None:
    """ValueError if a hard pass met no stochastic layer."""
    if trace.calls == 0:
        raise ValueError("The objective ran no stochastic layer; there is nothing to estimate a gradient through.")


def check_rows(trace: HardSampler, value: tf.Tensor) -> None:
    """ValueError for units of other examples than the objective's: it would not say whose signal they get."""
    rows = value.shape[0]
    for site in trace:
        own = site.logits.shape[0]
        differ = own != rows if own is not None and rows is not None else own == 1  # as logits that are weights
        if differ and not site.source.shared:
            raise ValueError(
                f"The logits of {site.source.name!r} must have a row for each value of the objective; where one sample "
                "is for the whole batch, make the layer with `shared=True`. Received: logits of shape "
                f"{tuple(site.logits.shape)}, an objective of shape {tuple(value.shape)}"
            )


def evaluate(objective: Objective) -> tf.Tensor:
    """Calls the objective; ValueError unless it returns one value an example, `[batch]`."""
    value = tf.convert_to_tensor(objective())
    if value.shape.rank != 1:
        raise ValueError(
            "The objective must return one value for each example, shape [batch]; do not average over the batch. "
            f"Received: shape {value.shape}"
        )
    return tf.cast(value, tf.float32)


def evaluate_at(objective: Objective, trace: HardSampler, site: Site, sample: tf.Tensor) -> tf.Tensor:
    """The objective with another sample at a site: earlier layers as in the trace, later ones drawn given the sample.

    Args:
        objective: as in `Estimator.estimate`.
        trace: of the hard pass.
        site: one of the trace.
        sample: like the site's logits.

    Returns:
        `[batch]`, constant.
    """
    with CounterfactualSampler(trace, site.index, tf.stop_gradient(sample)):
        return tf.stop_gradient(evaluate(objective))
