"""The numbers that summarise a run."""

from __future__ import annotations

import functools
import math
from typing import Any

from rebar_tf.training import StochasticTraining
from trainers.common.experiment import Experiment
from trainers.common.placement import device_name
from trainers.common.statistics import mean_and_error

# The training bound is averaged over this many steps at the end of the run.
_LAST_STEPS = 500


def summarize(
    experiment: Experiment,
    rows: list[dict[str, float]],
    model: StochasticTraining,
    held_out: tuple[tuple, tuple],
) -> dict[str, Any]:
    """The summary of a finished run.

    Args:
        experiment: what was trained.
        rows: the run's curve, as `rebar_tf.callbacks.read_curve` reads it.
        model: the trained model.
        held_out: what `model.bound` takes, of the validation and of the test split.

    Returns:
        `train_bound` and `log_grad_variance`, averaged over the last reports, which span 500 steps or more if
        the run has them; `valid_bound_K` and `test_bound_K` with K the `eval_samples`, the latter with its
        `_standard_error` over the images; `temperature`, None without one; `steps`; `steps_per_second` of training
        alone, None if too short to measure; `device`; `skipped_steps` under loss scaling; `flags`. Bounds are in nats.
    """
    samples = experiment.eval_samples
    bound = functools.partial(model.bound, num_samples=samples)
    (valid, _), (test, error) = (mean_and_error(bound(*examples)) for examples in held_out)
    watched = model.watched_scalars()
    temperature = watched.get("temperature")
    spans = _spans(rows)
    last = _last(spans, min(_LAST_STEPS, experiment.num_steps))
    summary = {
        "train_bound": _mean([(span, row["bound"]) for span, row in last]),
        f"valid_bound_{samples}": valid,
        f"test_bound_{samples}": test,
        f"test_bound_{samples}_standard_error": error,
        "log_grad_variance": _log(_mean([(span, math.exp(row["log_grad_variance"])) for span, row in last])),
        "temperature": None if temperature is None else float(temperature),
        "steps": experiment.num_steps,
        "steps_per_second": _rate(spans),
        "device": device_name(),
        **({"skipped_steps": int(watched["skipped_steps"])} if "skipped_steps" in watched else {}),
    }
    # JSON has no word for NaN or infinity, which a run that diverged has.
    finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in summary.items()}
    return {**finite, "flags": experiment.flags()}


def steps_per_second(rows: list[dict[str, float]]) -> float | None:
    """The speed of training alone over a whole curve; None if too short to measure."""
    return _rate(_spans(rows))


def _spans(rows: list[dict[str, float]]) -> list[tuple[float, dict[str, float]]]:
    """Each row with the number of steps that it reports on."""
    steps = [0, *(row["step"] for row in rows)]
    return [(step - before, row) for before, step, row in zip(steps, steps[1:], rows, strict=False)]


def _last(spans: list, steps: int) -> list:
    """The fewest rows at the end that report on `steps` steps or more."""
    for count in range(1, len(spans)):
        if sum(span for span, _ in spans[-count:]) >= steps:
            return spans[-count:]
    return spans


def _mean(weighted: list[tuple[float, float]]) -> float:
    return sum(weight * value for weight, value in weighted) / sum(weight for weight, _ in weighted)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _rate(spans: list) -> float | None:
    timed = [(span, row["steps_per_second"]) for span, row in spans if "steps_per_second" in row]
    return sum(span for span, _ in timed) / sum(span / rate for span, rate in timed) if timed else None
