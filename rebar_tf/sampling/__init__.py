"""The sampling context: a stochastic layer does not decide how it samples, the innermost sampler does.

A forward pass under `HardSampler` draws the discrete samples and keeps a trace of them. The same forward pass under
`RelaxedSampler(trace, first=i)` replays that trace, hard before layer i and relaxed from layer i on, with the same
noise. An estimator is written in these two words. The effect handlers of Pyro and Edward2 are the model.

Every random number is a function of `(seed of the layer, place of the layer in the pass, stream, step)`: nothing is
drawn from hidden state, so a pass can be repeated, resumed and compiled.
"""

from rebar_tf.sampling.context import (
    NoDerivativeError,
    Sampler,
    Source,
    active,
    check_no_vectorized_map,
    current,
    static_or_dynamic_shape,
)
from rebar_tf.sampling.deterministic import ForcedSampler, MeanSampler
from rebar_tf.sampling.hard import HardSampler, Site, noise_of
from rebar_tf.sampling.loss_scale import loss_scale, scaled_gradients, scaled_losses
from rebar_tf.sampling.noise import SeedOfRun, uniform
from rebar_tf.sampling.replay import CounterfactualSampler, RelaxedSampler, ReplaySampler, check_same_number

__all__ = [
    "CounterfactualSampler",
    "ForcedSampler",
    "HardSampler",
    "MeanSampler",
    "NoDerivativeError",
    "RelaxedSampler",
    "ReplaySampler",
    "Sampler",
    "SeedOfRun",
    "Site",
    "Source",
    "active",
    "check_no_vectorized_map",
    "check_same_number",
    "current",
    "loss_scale",
    "noise_of",
    "scaled_gradients",
    "scaled_losses",
    "static_or_dynamic_shape",
    "uniform",
]
