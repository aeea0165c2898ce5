"""The curves that a report keeps: a small CSV for each run, whose first line is the command and the day.

That of a run which has not finished says so, after the day.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import pathlib
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from rebar_tf.callbacks import CURVE_COLUMNS, read_curve, read_table
from trainers.common import estimator_options, flags
from trainers.common.errors import BadInput, one_line
from trainers.common.experiment import FREE_FLAGS, Experiment
from trainers.common.files import write_csv
from trainers.common.methods import Method
from trainers.evaluate import inference
from trainers.run.workdir import Workdir
from trainers.sweep.grid import Cell
from trainers.sweep.settings import MODELS, SHARED_FLAGS
from trainers.variance import report as variance
from trainers.variance.settings import DEFAULT_FOLLOW

CURVES, VARIANCE, INFERENCE = "curves", "variance", "inference"  # folders of what is kept
VARIANCE_COLUMNS = ("step", "method", "log_variance")
_MOST_POINTS = 100
_UNFINISHED = ", unfinished"
# The flags in which the runs of the tables may differ; a run that sets any other flag is left out.
_VARIED = ("dataset", "task", "num_layers", "nonlinear", "estimator", "temperature", "learn_temperature")
_KNOWN = (*_VARIED, "learning_rate", "num_steps", "seed", "methods", "follow", "eval_samples")


@dataclasses.dataclass(frozen=True)
class Curve:
    """The curve of one run.

    Attributes:
        path: of the file.
        dataset: its name.
        task: generative or structured.
        model: one of `trainers.sweep.settings.MODELS`.
        method: that was trained; of a comparison, the one that was followed.
        learning_rate: of Adam.
        seed: of the run.
        steps: in all, those that a run which has not finished has yet to do included.
        shared: the flags that hold for a whole sweep, as text.
        finished: whether the run has done its steps.
        rows: with text or numbers by column.
    """

    path: pathlib.Path
    dataset: str
    task: str
    model: str
    method: str
    learning_rate: float
    seed: int
    steps: int
    shared: tuple[tuple[str, str], ...]
    finished: bool
    rows: list[dict[str, Any]] = dataclasses.field(compare=False)


def gather(runs: Iterable[pathlib.Path], kept: pathlib.Path) -> Iterator[str]:
    """Copies the curves of the runs below some folders, thinned to 100 points each.

    Args:
        runs: folders, searched with all that is below them.
        kept: where to: the folders curves, variance and inference there.

    Yields:
        A line on each run that is left out.

    Raises:
        BadInput: for a folder that is not there, or has no run with a report.
    """
    for top in runs:
        # An inference network that was fitted apart, in a folder within that of its run, is no run itself.
        found = [path for path in sorted(top.rglob("flags.json")) if not path.parent.match(f"{inference.FOLDER}*")]
        reported = [path.parent for path in found if _has_report(path.parent / "curve.csv")]
        if not reported:
            raise BadInput(
                f"flag --runs={top}: {len(found)} runs there, none of them with a report; expected a folder of runs of "
                "trainers.sweep, train or variance"
            )
        for folder in reported:
            try:
                _keep(folder, kept)
            except (BadInput, ValueError) as error:  # the latter from a damaged table
                yield f"{folder} left out: {one_line(error)}"


def _has_report(path: pathlib.Path) -> bool:
    try:
        return bool(read_curve(path))
    except ValueError:  # of a damaged table, which is named where it is read again
        return True


def _keep(folder: pathlib.Path, kept: pathlib.Path) -> None:
    settings = _stored(folder)
    end = "" if Workdir(folder).finished(settings["num_steps"]) is not None else _UNFINISHED
    texts = {name: flags.text(value) for name, value in settings.items() if value is not None}
    curve = _described(folder, {**texts, "estimator": texts.get("estimator", texts.get("follow", ""))}, not end, [])
    names = (curve.dataset, curve.task, curve.model, curve.method.replace(":", "_"), f"{curve.learning_rate:g}")
    name = f"{'-'.join(names)}-seed{curve.seed}.csv"
    compared = (folder / "variance.csv").exists()
    _check_of_one_panel(curve, (kept / (VARIANCE if compared else CURVES)).glob(f"{'-'.join(names[:3])}-*.csv"))
    if compared:
        if _longer_is_kept(kept / VARIANCE / name, curve):
            return
        rows = [row for row in variance.read_rows(folder / "variance.csv") if row["part"] == variance.WHOLE]
        methods = dict.fromkeys(row["method"] for row in rows)
        rows = [row for method in methods for row in _thinned([row for row in rows if row["method"] == method])]
        _write(kept / VARIANCE / name, _first_line(folder / "variance.csv") + end, VARIANCE_COLUMNS, rows)
        return
    if _longer_is_kept(kept / CURVES / name, curve):
        return
    day = datetime.date.fromtimestamp((folder / "curve.csv").stat().st_mtime).isoformat()
    origin = f"{_cell(curve).command}, {day}{end}"
    _write(kept / CURVES / name, origin, CURVE_COLUMNS, _thinned(read_curve(folder / "curve.csv")))
    fitted = read_table(folder / inference.TABLE, inference.TABLE_COLUMNS)
    if fitted:
        _write(kept / INFERENCE / name, origin, inference.TABLE_COLUMNS, fitted)


def _check_of_one_panel(curve: Curve, paths: Iterable[pathlib.Path]) -> None:
    """Raises `BadInput` unless a run has the flags of those that it would be drawn beside, which all have the same."""
    path = next(iter(paths), None)
    if path is None:
        return
    own, theirs = (
        " ".join(f"--{name}={text}" for name, text in each.shared if name != "report_every") or "the default ones"
        for each in (curve, _read_file(path))
    )
    if own != theirs:
        raise BadInput(f"its flags are {own}, those of {path} {theirs}; expected another --results_dir for it")


def _longer_is_kept(path: pathlib.Path, curve: Curve) -> bool:
    """Whether a longer run is kept already, whose curve begins with this one; or the same one, finished."""
    if not path.exists():
        return False
    other = _read_file(path)
    return other.steps > curve.steps or (other.steps == curve.steps and other.finished > curve.finished)


def _stored(folder: pathlib.Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "flags.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"cannot read flags.json ({one_line(error)})") from error


def _cell(curve: Curve) -> Cell:
    estimator, _, temperature = curve.method.partition(":")
    method = Method(curve.method, estimator, float(temperature) if temperature else None)
    shared = dict(curve.shared)
    return Cell(
        *(curve.dataset, curve.task, curve.model, method, curve.learning_rate, curve.seed, curve.steps),
        tuple((name, shared[name]) for name in SHARED_FLAGS if name in shared),
    )


def read(folder: pathlib.Path) -> list[Curve]:
    """The curves that are kept in a folder.

    Raises:
        BadInput: for a file whose first line is no command of a trainer.
    """
    return [_read_file(path) for path in sorted(folder.glob("*.csv"))]


def _read_file(path: pathlib.Path) -> Curve:
    try:
        origin = _first_line(path)
        command = origin.removesuffix(_UNFINISHED).rpartition(",")[0]
        given = dict(part[2:].split("=", 1) for part in shlex.split(command) if part.startswith("--"))
        defaults = {name: flags.text(flag) for name, flag in Experiment().flags().items() if flag is not None}
        texts = {**defaults, "follow": DEFAULT_FOLLOW, **given}
        if "estimator" not in given:  # of a comparison
            texts["estimator"] = texts["follow"]
        return _described(path, texts, not origin.endswith(_UNFINISHED), _table(path))
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: no curve that trainers.report keeps: {one_line(error)}") from error


def _described(path: pathlib.Path, texts: dict[str, str], finished: bool, rows: list[dict[str, Any]]) -> Curve:
    """The curve of a run with these flags, given as text; `BadInput` if the tables have no such run."""
    defaults = {name: flags.text(value) for name, value in Experiment().flags().items()}
    for name, text in texts.items():
        if name not in (*_KNOWN, *SHARED_FLAGS, *FREE_FLAGS) and text != defaults.get(name):
            raise BadInput(f"--{name}={text} is no flag of a run of the tables")
    architecture = (texts["num_layers"], texts["nonlinear"])
    models = {(str(m["num_layers"]), flags.text(m["nonlinear"])): name for name, m in MODELS.items()}
    if architecture not in models:
        raise BadInput(f"--num_layers={architecture[0]} --nonlinear={architecture[1]} is no model of the tables")
    method = texts["estimator"]
    if "temperature" in texts:
        if "learn_temperature" in estimator_options.names(method) and texts.get("learn_temperature") != "false":
            raise BadInput(f"a temperature that is learned from {texts['temperature']} is no method of the tables")
        method = f"{method}:{float(texts['temperature']):g}"
    elif texts.get("learn_temperature") == "false":
        raise BadInput("--learn_temperature=false without --temperature is no method of the tables")
    shared = tuple((name, texts[name]) for name in SHARED_FLAGS if name in texts and texts[name] != defaults[name])
    return Curve(
        *(path, texts["dataset"], texts["task"], models[architecture], method, float(texts["learning_rate"])),
        *(int(texts["seed"]), int(texts["num_steps"]), shared, finished, rows),
    )


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most 100 rows, evenly spaced, the last one included."""
    every = -(-len(rows) // _MOST_POINTS) or 1
    return rows[::-1][::every][::-1]


def _write(path: pathlib.Path, origin: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, columns, [{name: _short(value) for name, value in row.items()} for row in rows], origin)


def _short(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value


def _first_line(path: pathlib.Path) -> str:
    with open(path) as file:
        line = file.readline()
    if not line.startswith("# python -m trainers."):
        raise ValueError("its first line is no command of a trainer")
    return line[1:].strip()


def _table(path: pathlib.Path) -> list[dict[str, Any]]:
    """A CSV file without its comments; numbers are floats."""
    with open(path, newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [{name: _number(text) for name, text in row.items() if text} for row in rows]


def _number(text: str) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text
