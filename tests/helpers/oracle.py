"""The check of a model as users write them, with the power that it must have."""

import numpy as np

import rebar_tf as rt


def assert_unbiased(model, x, y=None, sample_weight=None, count=4000, power=0.25, repeats=1):
    """The mean loss and gradient are the exact ones: false alarms 1e-5 over all entries, and the power is stated.

    A bias of `power` times the largest entry of a variable's gradient, in every entry, would be seen.

    Args:
        model: whose gradient it is.
        x: a batch of inputs.
        y: targets.
        sample_weight: as Keras takes it, or None.
        count: how many times each example is sampled.
        power: as stated.
        repeats: how many of these samples an estimate has; 1 for a loss that is not a mean over the examples.
    """
    report = rt.diagnostics.check_unbiased(
        model, x, y, count // repeats, 1e-5, jit_compile=False, repeats=repeats, sample_weight=sample_weight
    )
    assert report.unbiased, f"biased\n{report}"
    sizes = [np.abs(g).max() for g in report.exact[:-1]]
    for name, error, size in zip(report.names, report.standard_error, sizes, strict=False):
        seen = report.threshold * error.max()
        assert seen < power * max(size, 0.3 * max(sizes)), f"too little power for {name}\n{report}"
