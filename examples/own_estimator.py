"""An estimator of your own, compared with the exact gradient: REINFORCE whose baseline is the mean of the objective.

python -m examples.own_estimator
python -m examples.own_estimator pictures/own_estimator.png
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import rebar_tf as rt
from examples import pictures


@keras.saving.register_keras_serializable("examples")
class ReinforceWithMean(rt.estimators.Estimator):
    """`(f(b) - m) dlog p(b)/dl` for each stochastic layer, where the number m follows the mean of f.

    Unbiased, because m does not depend on the sample. m is trained by squared error and saved with the model.
    """

    estimator_name = "reinforce_with_mean"
    families = ("bernoulli",)

    def build_variables(self, spec: rt.estimators.ControlSpec) -> None:
        self.mean = self.add_weight(shape=(), initializer="zeros", name="mean")

    def estimate(
        self, objective: rt.estimators.Objective, step: tf.Tensor, context: tf.Tensor | None = None
    ) -> rt.estimators.Estimate:
        trace, f = self.hard_pass(objective, step)
        signal = tf.stop_gradient(f) - self.mean.value
        plain = [signal[:, tf.newaxis] * site.score for site in trace]
        control_loss = tf.reduce_mean(tf.square(signal))
        return rt.estimators.Estimate(value=f, direct=f, sites=trace.sites, plain=plain, control_loss=control_loss)


def small_model(estimator: str | rt.estimators.Estimator) -> rt.models.SigmoidBeliefNetwork:
    """A belief network of 6 binary units, with random weights: few enough states to sum over all of them."""
    model = rt.models.SigmoidBeliefNetwork(num_layers=2, hidden_units=3, visible_units=5, seed=0, estimator=estimator)
    random = np.random.default_rng(0)
    for variable in model.model_variables:
        variable.assign(random.normal(size=variable.shape))
    return model


def entry(model: rt.models.SigmoidBeliefNetwork, x: np.ndarray) -> np.ndarray:
    """2,000 estimates of the gradient of the encoder's first bias."""
    estimate = tf.function(lambda: model.estimate_gradients(x)[1][2][0], jit_compile=True)
    return np.array([estimate() for _ in range(2000)])


def main(picture: str | None = None) -> tuple[rt.diagnostics.BiasReport, float]:
    """Prints whether the estimator is unbiased, and its variance as a part of that without the baseline."""
    x = np.random.default_rng(0).integers(0, 2, (4, 5)).astype("float32")
    model = small_model(ReinforceWithMean())
    model.estimator.mean.assign(-model.bound(x).mean())  # where training takes it

    report = rt.diagnostics.check_unbiased(model, x, num_estimates=250, repeats=512)
    print(report)

    plain = small_model("reinforce")
    own, without = (
        sum(variance.sum() for variance in rt.diagnostics.gradient_variance(each, x)) for each in (model, plain)
    )
    ratio = float(own / without)
    print(f"unbiased: {report.unbiased}; variance {ratio:.2f} of REINFORCE's")
    if picture is not None:
        with pictures.chart(picture, "estimate of one entry of the gradient", "how many of 2,000 estimates") as axis:
            bins = np.linspace(-6, 6, 61)
            axis.hist(entry(plain, x), bins, color="0.75", label="REINFORCE")
            axis.hist(entry(model, x), bins, histtype="step", linewidth=2, label="with the mean as baseline")
            axis.axvline(rt.diagnostics.exact_gradients(model, x)[2][0], color="black", label="exact gradient")
    return report, ratio


if __name__ == "__main__":
    main(*sys.argv[1:])
