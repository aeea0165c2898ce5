"""The faults that benchmarks.mutations puts into the library.

Left out, as no test can tell them apart from the library:

- `stop_gradient` of what a cotangent is made of (`signal`, `values`, `slopes` of the estimators): a cotangent has no
  gradient at first order, and at second order the objective has no control variable in it, at hard samples or at means.
- `stop_gradient` of hard samples: a comparison and an argmax have no derivative.
- `CounterfactualSampler.density_logits`: nothing differentiates that pass.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        breaks: what is broken, in one line.
        file: where.
        before: a text that is in the file once.
        after: what stands in its place.
        tests: what pytest is to run, the tests of the area.
    """

    breaks: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


DISTRIBUTIONS = ("tests/distributions",)
SAMPLING = ("tests/sampling",)
NOISE = ("tests/sampling/test_noise.py",)
ESTIMATORS = ("tests/estimators/test_estimators.py",)
COUNTERFACTUAL = ("tests/estimators/test_counterfactual.py",)
SUBSETS = ("tests/distributions/test_subset.py", "tests/layers/test_subset.py")
COMPARE = ("tests/trainers/test_compare.py",)
SECOND_ORDER = ("tests/estimators/test_second_order.py",)
ADVISER = ("tests/diagnostics/test_adviser.py",)
GROUPS = ("tests/estimators/test_group_size.py",)
LAYERS = ("tests/layers",)
LOCAL = ("tests/conformance/test_local.py",)
GRADIENTS = ("tests/training/test_gradients.py",)
METRICS = ("tests/training/test_metrics.py",)
EVALUATION = ("tests/training/test_evaluation.py",)
PROGRAMS = ("tests/training/test_multi_step.py",)
PARITY = ("tests/conformance/test_parity.py",)
KERAS = (*PARITY, "tests/conformance/test_gradients.py")
OPTIMIZERS = ("tests/optimizers",)
COMPARISON = ("tests/diagnostics/test_comparison.py",)
REPORT = ("tests/diagnostics/test_unbiased.py::test_a_report_states_its_error_rate_and_power",)
ENUMERATION = ("tests/diagnostics/test_enumeration.py",)
NETWORKS = ("tests/models/test_sigmoid_belief_network.py",)

MUTATIONS = (
    # Distributions
    Mutation(
        "H(0) is 1",
        "rebar_tf/distributions/bernoulli.py",
        "z > 0.0",
        "z >= 0.0",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the conditional sample has the softplus of l for both values",
        "rebar_tf/distributions/bernoulli.py",
        "logit(v) + tf.nn.softplus(sign * self.logits)",
        "logit(v) + tf.nn.softplus(self.logits)",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the coupled noise of a binary unit may be 1",
        "rebar_tf/distributions/bernoulli.py",
        "return open_interval(",
        "return (",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the coupled noise of a categorical unit may be 1",
        "rebar_tf/distributions/categorical.py",
        "return open_interval(",
        "return (",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the open interval has 1",
        "rebar_tf/distributions/math.py",
        "1.0 - 2.0**-24",
        "1.0",
        DISTRIBUTIONS,
    ),
    Mutation(
        "512 factors in one product of a density",
        "rebar_tf/distributions/math.py",
        "range(4)",
        "range(9)",
        DISTRIBUTIONS,
    ),
    Mutation(
        "a density leaves out what softplus has beyond its maximum",
        "rebar_tf/distributions/math.py",
        " + tf.reduce_sum(tf.math.log(factors), axis=1)",
        "",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the relaxation's derivative without 1/lambda",
        "rebar_tf/distributions/bernoulli.py",
        "relaxed * (1.0 - relaxed) / temperature",
        "relaxed * (1.0 - relaxed)",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the residual's sign within a binary unit",
        "rebar_tf/distributions/bernoulli.py",
        "(1.0 - p) + p * tf.exp",
        "(1.0 - p) - p * tf.exp",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the mean's derivative of a binary unit is the mean",
        "rebar_tf/distributions/bernoulli.py",
        "cotangent * theta * (1.0 - theta)",
        "cotangent * theta",
        DISTRIBUTIONS,
    ),
    Mutation(
        "eq. 7 with 1 / (lambda + 1)",
        "rebar_tf/distributions/relaxation.py",
        "(temperature / (temperature + 1.0))",
        "(1.0 / (temperature + 1.0))",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the residual of a categorical unit without the softmax's derivative",
        "rebar_tf/distributions/categorical.py",
        "return to_log_p - tf.nn.softmax(self.logits) * tf.reduce_sum(to_log_p, axis=-1, keepdims=True)",
        "return to_log_p",
        DISTRIBUTIONS,
    ),
    Mutation(
        "the mean's derivative of a categorical unit is diagonal",
        "rebar_tf/distributions/categorical.py",
        "return weighted - p * tf.reduce_sum(weighted, axis=-1, keepdims=True)",
        "return weighted",
        DISTRIBUTIONS,
    ),
    Mutation(
        "a mixture with twice the uniform law in binary units",
        "rebar_tf/distributions/bernoulli.py",
        "math.log(weight / 2)",
        "math.log(weight)",
        DISTRIBUTIONS,
    ),
    Mutation(
        "a mixture with K times the uniform law in categorical units",
        "rebar_tf/distributions/categorical.py",
        "math.log(weight / self.logits.shape[-1])",
        "math.log(weight)",
        DISTRIBUTIONS,
    ),
    # The generator
    Mutation(
        "0 is drawn",
        "rebar_tf/sampling/noise.py",
        " + 2.0**-24",
        "",
        NOISE,
    ),
    Mutation(
        "the numbers of steps overlap",
        "rebar_tf/sampling/noise.py",
        "_shift_left(tf.cast(step, tf.uint64))",
        "tf.cast(step, tf.uint64)",
        NOISE,
    ),
    Mutation(
        "one round less",
        "rebar_tf/sampling/noise.py",
        "    x = _swap_halves(x * x + y)\n",
        "",
        NOISE,
    ),
    Mutation(
        "replicas draw the same",
        "rebar_tf/sampling/noise.py",
        "return value + number * tf.constant(_GOLDEN - 1, tf.uint64)",
        "return value",
        NOISE,
    ),
    Mutation(
        "even keys",
        "rebar_tf/sampling/noise.py",
        ', "little") | 1',
        ', "little")',
        NOISE,
    ),
    Mutation(
        "even keys of replicas",
        "rebar_tf/sampling/noise.py",
        "tf.constant(_GOLDEN - 1, tf.uint64)",
        "tf.constant(_GOLDEN, tf.uint64)",
        NOISE,
    ),
    # Samplers
    Mutation(
        "layers with one seed draw the same",
        "rebar_tf/sampling/hard.py",
        "source.seed, place, stream)",
        "source.seed, stream)",
        SAMPLING,
    ),
    Mutation(
        "a layer's noise depends on how many before it have a local estimator",
        "rebar_tf/sampling/hard.py",
        "noise = noise_of(distribution, source, self.step, self.calls, self.stream)\n        z =",
        "noise = noise_of(distribution, source, self.step, len(self.sites), self.stream)\n        z =",
        SAMPLING,
    ),
    Mutation(
        "the score is kept in the direct gradient",
        "rebar_tf/sampling/hard.py",
        "return logits if self.score_in_density else tf.stop_gradient(logits)",
        "return logits",
        SAMPLING,
    ),
    Mutation(
        "later layers of a relaxed pass keep the hard pass's z",
        "rebar_tf/sampling/replay.py",
        "distribution.reparameterize(site.noise), site.layer",
        "site.z, site.layer",
        SAMPLING,
    ),
    Mutation(
        "the first relaxed layer is hard",
        "rebar_tf/sampling/replay.py",
        "site.index < self.first",
        "site.index <= self.first",
        SAMPLING,
    ),
    Mutation(
        "a counterfactual pass draws later layers as they were",
        "rebar_tf/sampling/replay.py",
        "self.first else distribution.sample(site.noise)",
        "self.first else site.sample",
        SAMPLING,
    ),
    Mutation(
        "the log-probability of given samples is that of the last layer",
        "rebar_tf/sampling/deterministic.py",
        "return sum(self.log_probs)",
        "return self.log_probs[-1]",
        SAMPLING,
    ),
    # Estimators
    Mutation(
        "REBAR takes an unseen layer's derivative for zero",
        "rebar_tf/estimators/rebar.py",
        "derivatives(relaxed, f_relaxed, first, end)",
        "derivatives(relaxed, f_relaxed, first, end, allow_unseen=True)",
        ESTIMATORS,
    ),
    Mutation(
        "REBAR's control variate with the other sign of the score",
        "rebar_tf/estimators/rebar.py",
        "residual - per_unit(f_relaxed",
        "residual + per_unit(f_relaxed",
        ESTIMATORS,
    ),
    Mutation(
        "REBAR's baseline sees the sample",
        "rebar_tf/estimators/rebar.py",
        "signal = tf.stop_gradient(f) - predict(self.baseline, context)",
        "first = trace.sites[0].sample[:, :1]\n"
        "        signal = tf.stop_gradient(f) - predict(self.baseline, None if context is None else context * first)",
        ESTIMATORS,
    ),
    Mutation(
        "the temperature's derivative has the other sign",
        "rebar_tf/estimators/rebar.py",
        "tf.stop_gradient(tangent) * step",
        "tf.stop_gradient(tangent) * -step",
        ESTIMATORS,
    ),
    Mutation(
        "NVIL's baseline sees the sample",
        "rebar_tf/estimators/reinforce.py",
        "signal = tf.stop_gradient(f) - predict(self.baseline, context)",
        "first = trace.sites[0].sample[:, :1]\n"
        "        signal = tf.stop_gradient(f) - predict(self.baseline, None if context is None else context * first)",
        ESTIMATORS,
    ),
    Mutation(
        "NVIL's baseline is trained on the absolute error",
        "rebar_tf/estimators/reinforce.py",
        "tf.reduce_mean(tf.square(signal))",
        "tf.reduce_mean(tf.abs(signal))",
        ESTIMATORS,
    ),
    Mutation(
        "Q is trained on the variance, too",
        "rebar_tf/estimators/q_function.py",
        "frozen=True",
        "frozen=False",
        GROUPS,
    ),
    Mutation(
        "the temperature is trained on Q's error, too",
        "rebar_tf/estimators/q_function.py",
        "tf.stop_gradient(self.temperature.relax(site.distribution, site.z, site.layer))",
        "self.temperature.relax(site.distribution, site.z, site.layer)",
        GROUPS,
    ),
    Mutation(
        "RELAX without the derivative of its network",
        "rebar_tf/estimators/relax.py",
        "slope + r_slope",
        "slope",
        ESTIMATORS,
    ),
    Mutation(
        "RELAX without the value of its network",
        "rebar_tf/estimators/relax.py",
        "f_relaxed + r,",
        "f_relaxed,",
        ESTIMATORS,
    ),
    Mutation(
        "MuProp has the first layer's scale of the constant everywhere",
        "rebar_tf/estimators/muprop.py",
        "constant = tf.stop_gradient(f) - mean_scales[site.layer]",
        "constant = tf.stop_gradient(f) - mean_scales[0]",
        ESTIMATORS,
    ),
    Mutation(
        "SimpleMuProp has the first layer's scale everywhere",
        "rebar_tf/estimators/muprop.py",
        "- scales[site.layer]",
        "- scales[0]",
        ESTIMATORS,
    ),
    Mutation(
        "MuProp is centred at the conditional mean",
        "rebar_tf/estimators/muprop.py",
        "site.sample - tf.stop_gradient(mean)",
        "site.sample - site.distribution.mean()",
        ESTIMATORS,
    ),
    Mutation(
        "MuProp's correction is not scaled",
        "rebar_tf/estimators/muprop.py",
        "correction = linear_scales[site.layer] * ",
        "correction = ",
        ESTIMATORS,
    ),
    Mutation(
        "RODEO without 1/d",
        "rebar_tf/estimators/rodeo.py",
        "* flipped * (1.0 - 2.0 * site.sample) / size",
        "* flipped * (1.0 - 2.0 * site.sample)",
        ESTIMATORS,
    ),
    Mutation(
        "RODEO without the first term of its Stein operator",
        "rebar_tf/estimators/rodeo.py",
        "return per_unit(stein(site, value, flipped), own) * site.score + own",
        "return own",
        ESTIMATORS,
    ),
    Mutation(
        "RODEO's other samples without their Stein operator",
        "rebar_tf/estimators/rodeo.py",
        "mean_of_others(values + self.alpha.value[layer] * operator)",
        "mean_of_others(values)",
        ESTIMATORS,
    ),
    Mutation(
        "the index of a state has no strides",
        "rebar_tf/estimators/exact.py",
        "number // strides[i] % tables",
        "number % tables",
        ESTIMATORS,
    ),
    Mutation(
        "ARM's weight is u",
        "rebar_tf/estimators/arm.py",
        "return decisions.noise - 0.5",
        "return decisions.noise",
        ESTIMATORS,
    ),
    Mutation(
        "DisARM's weight has the sigmoid of l",
        "rebar_tf/estimators/arm.py",
        "tf.sigmoid(tf.abs(decisions.logits))",
        "tf.sigmoid(decisions.logits)",
        ESTIMATORS,
    ),
    Mutation(
        "RLOO's baseline has the sample itself",
        "rebar_tf/estimators/rloo.py",
        "values - mean_of_others(values)",
        "values - tf.reduce_mean(values, axis=0)",
        ESTIMATORS,
    ),
    Mutation(
        "the mean of the others is divided by K",
        "rebar_tf/estimators/multi_sample.py",
        "/ (k - 1)",
        "/ k",
        ESTIMATORS,
    ),
    Mutation(
        "all samples are drawn from one stream",
        "rebar_tf/estimators/multi_sample.py",
        "_FIRST_STREAM + num_samples - 1)]",
        "_FIRST_STREAM + num_samples - 1)]\n    streams = [0] * num_samples",
        ESTIMATORS,
    ),
    Mutation(
        "VIMCO's mean of the others has the sample itself",
        "rebar_tf/estimators/vimco.py",
        "mean_of_others(weights)[",
        "tf.reduce_mean(weights, axis=0, keepdims=True)[",
        ESTIMATORS,
    ),
    Mutation(
        "VIMCO leaves the score out of its density",
        "rebar_tf/estimators/vimco.py",
        "score_in_density = True",
        "score_in_density = False",
        ESTIMATORS,
    ),
    Mutation(
        "the double control variate's baseline is that of RLOO",
        "rebar_tf/estimators/double_cv.py",
        "mean_of_others(less_linear)",
        "mean_of_others(values)",
        ESTIMATORS,
    ),
    Mutation(
        "straight-through has the value of the smooth sample, too",
        "rebar_tf/estimators/local.py",
        "(smooth - tf.stop_gradient(smooth))",
        "smooth",
        LOCAL,
    ),
    Mutation(
        "Concrete reports the relaxed objective",
        "rebar_tf/estimators/local.py",
        "HardSampler(step, training=False)",
        "HardSampler(step)",
        ESTIMATORS,
    ),
    Mutation(
        "the control variate is added without eta",
        "rebar_tf/estimators/base.py",
        "plain + eta * variate for",
        "plain + variate for",
        ESTIMATORS,
    ),
    Mutation(
        "eta is below 1",
        "rebar_tf/estimators/scale.py",
        "2.0 * tf.sigmoid(group)",
        "tf.sigmoid(group)",
        ESTIMATORS,
    ),
    Mutation(
        "all variables have the first one's eta",
        "rebar_tf/estimators/scale.py",
        "[raw[i] for i in range(len(self.units))]",
        "[raw[0] for i in range(len(self.units))]",
        GROUPS,
    ),
    Mutation(
        "the temperature is used for its log",
        "rebar_tf/estimators/temperature.py",
        "return tf.exp(log_temperature[layer] if",
        "return (log_temperature[layer] if",
        ESTIMATORS,
    ),
    Mutation(
        "all layers have the first one's temperature",
        "rebar_tf/estimators/temperature.py",
        "log_temperature[layer]",
        "log_temperature[0]",
        GROUPS,
    ),
    Mutation(
        "a baseline without its tanh",
        "rebar_tf/estimators/baseline.py",
        'activation="tanh", ',
        "",
        LAYERS,
    ),
    Mutation(
        "units that the batch shares get the sum of the examples' cotangents",
        "rebar_tf/estimators/surrogate.py",
        "tf.reduce_mean(of_examples",
        "tf.reduce_sum(of_examples",
        ESTIMATORS,
    ),
    Mutation(
        "the surrogate ignores what it is averaged by",
        "rebar_tf/estimators/surrogate.py",
        "per_unit(upstream, cotangent) * cotangent",
        "cotangent",
        ESTIMATORS,
    ),
    # Layers
    Mutation(
        "inference draws the same samples at each call",
        "rebar_tf/layers/base.py",
        "self.draws.assign_add(1)",
        "self.draws.value",
        LAYERS,
    ),
    Mutation(
        "layers with one seed predict the same samples",
        "rebar_tf/layers/base.py",
        "self.seed, self.index)\n",
        "self.seed, 0)\n",
        PARITY,
    ),
    Mutation(
        "all layers are the first one",
        "rebar_tf/layers/base.py",
        "self.seed, self.index, self.local)",
        "self.seed, 0, self.local)",
        GROUPS,
    ),
    Mutation(
        "masked units are drawn",
        "rebar_tf/layers/base.py",
        "tf.where(mask, sample, tf.zeros_like(sample))",
        "sample",
        LAYERS,
    ),
    Mutation(
        "the values of a binary unit are not low and high",
        "rebar_tf/layers/binary.py",
        "low + (high - low) * sample",
        "low + high * sample",
        LAYERS,
    ),
    # Training
    Mutation(
        "the control loss is not added to the variance objective",
        "rebar_tf/training/step.py",
        "add_gradients(control_gradients, mean_square_gradient(control_tape, gradients, control))",
        "mean_square_gradient(control_tape, gradients, control)",
        GRADIENTS,
    ),
    Mutation(
        "the penalties on weights are left out",
        "rebar_tf/training/step.py",
        "*model.regularization_losses]",
        "]",
        GRADIENTS,
    ),
    Mutation(
        "a step does not assign what its hard pass made of the state",
        "rebar_tf/training/step.py",
        "    objective.assign_updates()\n",
        "",
        KERAS,
    ),
    Mutation(
        "all steps draw the same numbers",
        "rebar_tf/training/step.py",
        "estimator.step.value.assign_add(1)",
        "estimator.step.value + 1",
        EVALUATION,
    ),
    Mutation(
        "the variance objective has half its gradient",
        "rebar_tf/training/gradients.py",
        "(2.0 / size",
        "(1.0 / size",
        ESTIMATORS,
    ),
    Mutation(
        "a sum of gradients without eta",
        "rebar_tf/training/gradients.py",
        "else f + eta * h",
        "else f + h",
        GRADIENTS,
    ),
    Mutation(
        "a bias gets the mean of the cotangents",
        "rebar_tf/training/gradients.py",
        "Gradient.whole(tf.reduce_sum(cotangent, axis=0))",
        "Gradient.whole(tf.reduce_mean(cotangent, axis=0))",
        GRADIENTS,
    ),
    Mutation(
        "the weights of a recorded product are differentiated twice",
        "rebar_tf/training/factored_dense.py",
        "tf.stop_gradient(tf.convert_to_tensor(kernel))",
        "tf.convert_to_tensor(kernel)",
        GRADIENTS,
    ),
    Mutation(
        "sample weights are left out of the evaluation of a compiled loss",
        "rebar_tf/training/model.py",
        "self._compute_loss(x, y, y_pred, sample_weight, training=False)",
        "self._compute_loss(x, y, y_pred, None, training=False)",
        KERAS,
    ),
    Mutation(
        "sample weights are left out of the evaluation of an objective",
        "rebar_tf/training/model.py",
        "BatchObjective(self, x, y, sample_weight)",
        "BatchObjective(self, x, y)",
        EVALUATION,
    ),
    Mutation(
        "sample weights are left out of an objective",
        "rebar_tf/training/objective.py",
        " else f * tf.cast(",
        " else f + 0.0 * tf.cast(",
        EVALUATION,
    ),
    Mutation(
        "evaluation draws training's numbers",
        "rebar_tf/training/model.py",
        "_EVALUATION_STREAM = 1",
        "_EVALUATION_STREAM = 0",
        EVALUATION,
    ),
    Mutation(
        "bounds draw training's numbers",
        "rebar_tf/training/bounds.py",
        "_BOUND_STREAM = 2",
        "_BOUND_STREAM = 0",
        EVALUATION,
    ),
    Mutation(
        "the noise of a bound's chunks of examples overlaps",
        "rebar_tf/training/bounds.py",
        "start * int(num_samples)",
        "start",
        EVALUATION,
    ),
    Mutation(
        "a bound's programs draw the same samples",
        "rebar_tf/training/bounds.py",
        "tf.constant(first + start, tf.int64)",
        "tf.constant(first, tf.int64)",
        EVALUATION,
    ),
    Mutation(
        "a bound is not divided by K",
        "rebar_tf/training/bounds.py",
        "log_sum.numpy() - np.log(num_samples)",
        "log_sum.numpy()",
        NETWORKS,
    ),
    Mutation(
        "an example's loss without the batch's size",
        "rebar_tf/training/keras_loss.py",
        "rows * tf.math.divide_no_nan(",
        "tf.math.divide_no_nan(",
        KERAS,
    ),
    Mutation(
        "a summed loss without the batch's size",
        "rebar_tf/training/keras_loss.py",
        "return rows * sums",
        "return sums",
        KERAS,
    ),
    Mutation(
        "a mean by weights is divided by the number of values",
        "rebar_tf/training/keras_loss.py",
        "divisor = tf.reduce_sum(weights)",
        "divisor = tf.cast(tf.size(values), values.dtype)",
        KERAS,
    ),
    Mutation(
        "the learning signal of a batch that is mixed is the batch's, not times its size",
        "rebar_tf/training/keras_loss.py",
        " + tf.stop_gradient((rows - 1.0) * total)",
        "",
        GRADIENTS,
    ),
    Mutation(
        "losses that samples reach are taken for the others",
        "rebar_tf/training/compiled_objective.py",
        "[loss for loss in losses if id(loss) not in ids], [loss for loss in losses if id(loss) in ids]",
        "[loss for loss in losses if id(loss) in ids], [loss for loss in losses if id(loss) not in ids]",
        KERAS,
    ),
    Mutation(
        "the moments' averages decay for one step, not for those left out",
        "rebar_tf/training/metrics.py",
        "1.0 - tf.pow(self.decay, steps)",
        "1.0 - self.decay",
        METRICS,
    ),
    Mutation(
        "the variance is that about zero",
        "rebar_tf/training/metrics.py",
        "tf.reduce_sum(new_second - tf.square(new_first))",
        "tf.reduce_sum(new_second)",
        METRICS,
    ),
    Mutation(
        "a program of several steps trains on its first batch only",
        "rebar_tf/training/multi_step.py",
        "lambda part: part[i], batches",
        "lambda part: part[0 * i], batches",
        PROGRAMS,
    ),
    # Optimizers
    Mutation(
        "Adam without the correction of the first moment's bias",
        "rebar_tf/optimizers/adam.py",
        " / _one_minus_power(self.beta_1, step)",
        "",
        OPTIMIZERS,
    ),
    Mutation(
        "Adam's correction is rounded in float32",
        "rebar_tf/optimizers/adam.py",
        "return -tf.math.expm1(step * math.log(beta))",
        "return 1.0 - tf.pow(beta, step)",
        OPTIMIZERS,
    ),
    Mutation(
        "all variables learn at the model's rate",
        "rebar_tf/optimizers/groups.py",
        "learning_rate = learning_rate if factor == 1.0 else learning_rate * factor",
        "pass",
        OPTIMIZERS,
    ),
    Mutation(
        "the control variables are clipped",
        "rebar_tf/optimizers/groups.py",
        "self._clipped = [not is_control(variable) for",
        "self._clipped = [True for",
        OPTIMIZERS,
    ),
    Mutation(
        "the control variables decay",
        "rebar_tf/optimizers/groups.py",
        "of_model = [variable for variable in variables if not is_control(variable)]",
        "of_model = list(variables)",
        OPTIMIZERS,
    ),
    # Diagnostics
    Mutation(
        "the signal is that of the noisiest method",
        "rebar_tf/diagnostics/compared_variance.py",
        "tf.reduce_min)",
        "tf.reduce_max)",
        COMPARISON,
    ),
    Mutation(
        "the best scale has the other sign",
        "rebar_tf/diagnostics/scales.py",
        "float(-np.sum(",
        "float(np.sum(",
        GROUPS,
    ),
    Mutation(
        "the threshold is one-sided",
        "rebar_tf/diagnostics/unbiasedness.py",
        "self.false_alarm / 2 / sum",
        "self.false_alarm / sum",
        REPORT,
    ),
    Mutation(
        "enumeration by examples takes later layers' states from the first one's number",
        "rebar_tf/diagnostics/enumeration.py",
        "            numbers = numbers // len(table)\n",
        "",
        ENUMERATION,
    ),
    Mutation(
        "enumeration of a batch takes later layers' states from the first one's number",
        "rebar_tf/diagnostics/enumeration.py",
        "            number = number // len(table) ** rows\n",
        "",
        ENUMERATION,
    ),
    # Networks
    Mutation(
        "the belief network keeps the score in the direct gradient",
        "rebar_tf/models/sigmoid_belief_network.py",
        "Bernoulli(sampler.density_logits(logits))",
        "Bernoulli(logits)",
        NETWORKS,
    ),
    Mutation(
        "the prior sees the first layer",
        "rebar_tf/models/sigmoid_belief_network.py",
        "log_prob(_zero_one(samples[-1]))\n        return",
        "log_prob(_zero_one(samples[0]))\n        return",
        NETWORKS,
    ),
    Mutation(
        "a generator's segment sees the layer that it predicts",
        "rebar_tf/models/sigmoid_belief_network.py",
        "self.generator[i](samples[i])",
        "self.generator[i](samples[i - 1])",
        NETWORKS,
    ),
    Mutation(
        "the output bias has the other sign",
        "rebar_tf/models/segments.py",
        "return -tf.math.log(1.0 /",
        "return tf.math.log(1.0 /",
        NETWORKS,
    ),
    Mutation(
        "the tree of classes has one side for both",
        "rebar_tf/distributions/categorical.py",
        "followed = decisions @ upper + (1.0 - decisions) @ lower",
        "followed = decisions @ upper + decisions @ lower",
        COUNTERFACTUAL,
    ),
    Mutation(
        "a turn of a class goes two places on",
        "rebar_tf/distributions/categorical.py",
        "return tf.roll(b, turns, axis=-1)",
        "return tf.roll(b, 2 * turns, axis=-1)",
        COUNTERFACTUAL,
    ),
    Mutation(
        "the noise of a decision lies on the other side",
        "rebar_tf/estimators/decisions.py",
        "given = tf.where(drawn > 0.0, 1.0 - p * v, (1.0 - p) * v)",
        "given = tf.where(drawn > 0.0, 1.0 - v, v)",
        COUNTERFACTUAL,
    ),
    Mutation(
        "decisions that only the first sample depends on count",
        "rebar_tf/estimators/arm.py",
        "decisions.relevant([decisions.drawn, antithetic])",
        "decisions.relevant([decisions.drawn])",
        ("tests/diagnostics/test_unbiased.py",),
    ),
    Mutation(
        "ARMS's copula forgets the first sample",
        "rebar_tf/estimators/arms.py",
        "w = [tf.pow(1.0 - remaining * each / total, power) for each in exponential]",
        "w = [tf.pow(1.0 - each / total, power) for each in exponential]",
        COUNTERFACTUAL,
    ),
    Mutation(
        "ARMS couples the likelier value",
        "rebar_tf/estimators/arms.py",
        "rarer = tf.cast(decisions.logits < 0.0, tf.float32)",
        "rarer = tf.cast(decisions.logits >= 0.0, tf.float32)",
        COUNTERFACTUAL,
    ),
    Mutation(
        "local expectation leaves the value's probability out",
        "rebar_tf/estimators/local_expectation.py",
        "this_unit * tf.exp(distribution.log_prob_of_units(other))",
        "this_unit",
        COUNTERFACTUAL,
    ),
    Mutation(
        "local expectation changes all units",
        "rebar_tf/estimators/local_expectation.py",
        "site.sample + this_unit * (other - site.sample)",
        "other",
        COUNTERFACTUAL,
    ),
    Mutation(
        "the states that are left have the weight of all",
        "rebar_tf/estimators/rao_blackwell.py",
        "p.append(tf.exp(states.log_p_without(likeliest)))",
        "p.append(tf.ones_like(f[0]))",
        COUNTERFACTUAL,
    ),
    Mutation(
        "a likeliest state is drawn again",
        "rebar_tf/estimators/joint_states.py",
        'tf.where(self.is_among(without) > 0.0, -float("inf"), gumbel)',
        "gumbel",
        COUNTERFACTUAL,
    ),
    Mutation(
        "the set's probability in one order",
        "rebar_tf/estimators/unordered_set.py",
        "for last in some])",
        "for last in [max(some)]])",
        COUNTERFACTUAL,
    ),
    Mutation(
        "the unordered set's baseline without the sample itself",
        "rebar_tf/estimators/unordered_set.py",
        "baseline = tf.exp(log_p[s]) * f[s] + sum(",
        "baseline = sum(",
        COUNTERFACTUAL,
    ),
    Mutation(
        "K-sample REBAR whose control variate is not centred",
        "rebar_tf/estimators/multi_sample_rebar.py",
        "control_variate(site, centred_relaxed[k], *rest)",
        "control_variate(site, samples[k][1], *rest)",
        ESTIMATORS,
    ),
    Mutation(
        "OVIS's bound of the others has the sample itself",
        "rebar_tf/estimators/ovis.py",
        'tf.where(own, -float("inf"), weights[tf.newaxis])',
        "weights[tf.newaxis] + 0.0 * tf.cast(own, tf.float32)",
        ESTIMATORS,
    ),
    Mutation(
        "OVIS without its constant",
        "rebar_tf/estimators/ovis.py",
        " - (1.0 - self.gamma) * of_one_less",
        "",
        ESTIMATORS,
    ),
    Mutation(
        "wake-sleep's shares are even",
        "rebar_tf/estimators/wake_sleep.py",
        "shares = tf.nn.softmax(-tf.stop_gradient(tf.stack(f)), axis=0)",
        "shares = tf.nn.softmax(0.0 * tf.stop_gradient(tf.stack(f)), axis=0)",
        ESTIMATORS,
    ),
    Mutation(
        "decoupled straight-through at the law's own temperature",
        "rebar_tf/estimators/straight_through.py",
        "type(distribution)(distribution.logits / self.temperature.of_layer(0)).mean()",
        "distribution.mean()",
        LOCAL,
    ),
    Mutation(
        "subsets whose halves are drawn evenly",
        "rebar_tf/distributions/subset.py",
        "total = tf.cumsum(tf.nn.softmax(log_weights), axis=-1)",
        "total = tf.cumsum(tf.cast(log_weights > -1e29, tf.float32), axis=-1)",
        SUBSETS,
    ),
    Mutation(
        "subsets whose nodes share their noise",
        "rebar_tf/distributions/subset.py",
        "np.where(middles < units, middles, 0)",
        "0 * middles",
        SUBSETS,
    ),
    Mutation(
        "polynomials of subsets without their highest term",
        "rebar_tf/distributions/subset.py",
        "exists = (sums >= firsts) & (sums - firsts <= degree)",
        "exists = (sums >= firsts) & (sums - firsts < degree)",
        SUBSETS,
    ),
    Mutation(
        "the mode of a subset has one unit too few",
        "rebar_tf/distributions/subset.py",
        "places = tf.math.top_k(self.logits, self.size).indices",
        "places = tf.math.top_k(self.logits, self.size - 1).indices",
        SUBSETS,
    ),
    Mutation(
        "names() forgets the family",
        "rebar_tf/estimators/registry.py",
        "if families <= set(estimator.families)",
        "if families",
        ("tests/estimators/test_registry.py",),
    ),
    Mutation(
        "batches are the first examples",
        "rebar_tf/diagnostics/adviser.py",
        "places = tf.cast(uniform([batch_size], step, _EXAMPLES) * tf.cast(count, tf.float32), tf.int32)",
        "places = tf.range(batch_size)",
        ADVISER,
    ),
    Mutation(
        "the copy is trained for one step",
        "rebar_tf/diagnostics/twin.py",
        "self.model.stop_training = self.left == 0",
        "self.model.stop_training = True",
        ADVISER,
    ),
    Mutation(
        "what was measured is measured again",
        "trainers/compare/measuring.py",
        "missing = [name for name, found in findings.items() if found is None]",
        "missing = list(names)",
        COMPARE,
    ),
    Mutation(
        "ReinMax with the whole score",
        "rebar_tf/estimators/reinmax.py",
        "return 0.5 * (distribution.mean() + along_score)",
        "return 0.5 * distribution.mean() + along_score",
        SECOND_ORDER,
    ),
    Mutation(
        "ReinMax with the score's derivative",
        "rebar_tf/estimators/reinmax.py",
        "along_score = tf.stop_gradient(distribution.score(b)) * ",
        "along_score = distribution.score(b) * ",
        SECOND_ORDER,
    ),
    Mutation(
        "the log-probability of a unit without its normalisation",
        "rebar_tf/distributions/categorical.py",
        "return tf.reduce_sum(b * tf.nn.log_softmax(self.logits), axis=-1, keepdims=True)",
        "return tf.reduce_sum(b * self.logits, axis=-1, keepdims=True)",
        SECOND_ORDER,
    ),
    Mutation(
        "Gumbel-Rao whose noise does not give the sample",
        "rebar_tf/estimators/gumbel_rao.py",
        "tf.math.floormod(distribution.couple(noise, b) + turns, 1.0)",
        "tf.math.floormod(noise + turns, 1.0)",
        SECOND_ORDER,
    ),
    Mutation(
        "Gumbel-Rao that differentiates the draw",
        "rebar_tf/estimators/gumbel_rao.py",
        "z = tf.stop_gradient(distribution.conditional(v, b))",
        "z = distribution.conditional(v, b)",
        SECOND_ORDER,
    ),
    Mutation(
        "a cost that is the variance alone",
        "rebar_tf/diagnostics/advice.py",
        "return self.variance * self.microseconds * 1e-6",
        "return self.variance * 1e-4",
        ADVISER,
    ),
    Mutation(
        "costs that differ within their errors are ranked",
        "rebar_tf/diagnostics/advice.py",
        "_ALIKE = 2.0",
        "_ALIKE = 0.0",
        ADVISER,
    ),
    Mutation(
        "a twin without the weights",
        "rebar_tf/diagnostics/twin.py",
        "        own.assign(other.value)",
        "        pass",
        ADVISER,
    ),
    Mutation(
        "updates that wait for a number that is not 0",
        "rebar_tf/optimizers/groups.py",
        "tf.cast(tf.bitwise.right_shift(sign, tf.constant(1, tf.uint32)), tf.float32)",
        "tf.cast(sign, tf.float32)",
        ("tests/optimizers/test_groups.py",),
    ),
    Mutation(
        "losses of operations",
        "rebar_tf/training/compiled_objective.py",
        "if isinstance(each, keras.layers.Layer)]",
        "]",
        ("tests/conformance/test_user_models.py",),
    ),
    Mutation(
        "points of TensorBoard by the clock stay when their steps are repeated",
        "rebar_tf/callbacks/event_file.py",
        "not _is_point(event) or _stands(event.step, reached, every)",
        "not _is_point(event) or event.step <= reached + every",
        ("tests/callbacks/test_callbacks.py",),
    ),
)
