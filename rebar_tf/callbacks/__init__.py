"""Keras callbacks that watch and save the training of a model with stochastic layers.

One epoch of `fit` is one report: with `steps_per_epoch=500` a line, a TensorBoard point and a row of the
curve appear every 500 steps. The step of a report is the optimizer's, so resumed training continues the curves.

A report is a dictionary of floats: `bound` (the negative of the loss, in nats for a belief network),
`log_grad_variance`, the estimator's `diagnostics` (`temperature`), and what earlier callbacks of the list added
to the logs (`valid_bound`, `steps_per_second`).
"""

from rebar_tf.callbacks.checkpoint import Checkpoint, copy_beside, last_good, previous
from rebar_tf.callbacks.continue_report import ContinueReport
from rebar_tf.callbacks.curve_csv import CURVE_COLUMNS, CurveCsv, read_curve
from rebar_tf.callbacks.divergence import Diverged, StopOnDivergence
from rebar_tf.callbacks.files import replacing, set_aside
from rebar_tf.callbacks.progress_line import ProgressLine
from rebar_tf.callbacks.report_table import ReportTable, Row, read_table
from rebar_tf.callbacks.reports import Logs, global_step, report, stands
from rebar_tf.callbacks.signals import Interrupted, StopOnSignal
from rebar_tf.callbacks.speed import StepsPerSecond
from rebar_tf.callbacks.temperature_scheduler import TemperatureScheduler
from rebar_tf.callbacks.tensorboard import TensorBoard
from rebar_tf.callbacks.validation_bound import ValidationBound

__all__ = [
    "CURVE_COLUMNS",
    "Checkpoint",
    "ContinueReport",
    "CurveCsv",
    "Diverged",
    "Interrupted",
    "Logs",
    "ProgressLine",
    "ReportTable",
    "Row",
    "StepsPerSecond",
    "StopOnDivergence",
    "StopOnSignal",
    "TemperatureScheduler",
    "TensorBoard",
    "ValidationBound",
    "copy_beside",
    "global_step",
    "last_good",
    "previous",
    "read_curve",
    "read_table",
    "replacing",
    "report",
    "set_aside",
    "stands",
]
