"""Writes the report: gathers curves, reads tables, draws figures, and names the files that cannot be used."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import TypeVar

from trainers.common.errors import BadInput, one_line, print_error
from trainers.report import curves, figures, tables
from trainers.report.curves import Curve
from trainers.report.page import Page
from trainers.sweep import results
from trainers.sweep.results import Row

_REPORT = "report"
Result = TypeVar("Result")
Tables = dict[str, list[Row]]  # by the name of their files


def run(folder: pathlib.Path, runs: list[pathlib.Path], page_path: pathlib.Path | None) -> int:
    """Writes the report, and prints the paths of its files.

    Args:
        folder: of the tables of sweeps and the curves that are kept.
        runs: folders of runs whose curves are kept first.
        page_path: Markdown file that gets tables and figures, if any.

    Returns:
        The exit status.

    Raises:
        BadInput: if there is nothing to report, or the page cannot be written.
    """
    page = Page(page_path) if page_path else None
    errors = Errors()
    _gather(runs, folder, errors)
    read = _read_tables(folder, errors)
    bounds = errors.caught(curves.read, folder / curves.CURVES) or []
    drawn = _draw(folder, read, bounds, errors)
    if not read and not drawn and not errors.count:
        raise BadInput(
            f"flag --results_dir={folder}: no finished run there; expected a folder with a table of trainers.sweep, "
            "or with --runs"
        )
    written = _write_tables(folder, read, _reached(bounds))
    if page:
        page.write(written, drawn, _missing(drawn))
    for path in [*(folder / _REPORT / f"{name}.md" for name in written), *drawn.values()]:
        print(path, flush=True)
    return BadInput.status if errors.count else 0


class Errors:
    """Prints what is wrong with one file, and lets the next be read."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @property
    def count(self) -> int:
        """How many things were wrong."""
        return len(self._said)

    def caught(self, work: Callable[..., Result], *arguments: object) -> Result | None:
        """The result of `work(*arguments)`; None where it was bad input, which is one line on stderr."""
        try:
            return work(*arguments)
        except BadInput as error:
            if one_line(error) not in self._said:  # several figures share a panel
                print_error("report", error)
            self._said.add(one_line(error))
            return None


def _gather(runs: list[pathlib.Path], folder: pathlib.Path, errors: Errors) -> None:
    def gather(top: pathlib.Path) -> None:
        for line in curves.gather([top], folder):
            print(line, flush=True)

    for top in runs:
        errors.caught(gather, top)


def _read_tables(folder: pathlib.Path, errors: Errors) -> Tables:
    read = {path.stem: errors.caught(_read_table, path) for path in sorted(folder.glob("*.csv"))}
    return {name: rows for name, rows in read.items() if rows}


def _read_table(path: pathlib.Path) -> list[Row]:
    rows = tables.longest(results.read(path))
    tables.check_comparable(rows, path)
    if not any(row["status"] == results.FINISHED for row in rows):
        raise BadInput(f"{path}: has no finished run; expected a table of trainers.sweep with one or more")
    return rows


def _reached(kept: list[Curve]) -> dict[tuple, int]:
    """The last step of runs that have not finished, by (dataset, task, model, method, steps, shared flags)."""
    reached: dict[tuple, int] = {}
    for curve in kept:
        if not curve.finished and curve.rows:
            shared = frozenset(f"--{name}={value}" for name, value in curve.shared)
            place = (curve.dataset, curve.task, curve.model, curve.method, curve.steps, shared)
            reached[place] = max(int(curve.rows[-1]["step"]), reached.get(place, 0))
    return reached


def _write_tables(folder: pathlib.Path, read: Tables, reached: dict[tuple, int]) -> dict[str, str]:
    """Writes the tables; the Markdown of each by name."""
    written = {name: tables.markdown(rows, reached) for name, rows in read.items()}
    for name, text in written.items():
        (folder / _REPORT).mkdir(exist_ok=True)
        (folder / _REPORT / f"{name}.md").write_text(f"{text}\n")
        tables.write_csv(folder / _REPORT / f"{name}.csv", read[name], reached)
    return written


def _draw(folder: pathlib.Path, read: Tables, bounds: list[Curve], errors: Errors) -> dict[str, pathlib.Path]:
    """Draws the figures; the file of each by its caption."""
    names = (curves.VARIANCE, curves.INFERENCE)
    variances, inference = (errors.caught(curves.read, folder / name) or [] for name in names)
    best = _best_rates(read)
    drawn = {}
    for plot in [*figures.PAPER, *figures.others(bounds, variances)]:
        trials = functools.partial(_trials, plot, bounds if plot.kind == "bound" else variances, best)
        panels = [errors.caught(trials, panel) or {} for panel in plot.panels]
        if any(panels):
            drawn[plot.caption] = figures.write(figures.draw(plot, panels), folder / _REPORT, plot.name)
    if inference:
        figure = figures.draw_inference(inference)
        drawn[figures.APP5_CAPTION] = figures.write(figure, folder / _REPORT, figures.APP5)
    return drawn


def _best_rates(read: Tables) -> dict[tuple, float]:
    """The best learning rate by (dataset, task, model, method, steps)."""
    return {
        (*names, rows[0]["steps"]): results.best_rate(rates)
        for rows in read.values()
        for names, rates in results.by_rate(rows).items()
    }


def _trials(plot: figures.Plot, kept: list[Curve], best: dict[tuple, float], panel: figures.Panel) -> figures.Trials:
    own = [curve for curve in kept if (curve.dataset, curve.task, curve.model) == panel]
    return figures.bound_trials(own, best) if plot.kind == "bound" else figures.variance_trials(own)


def _missing(drawn: dict[str, pathlib.Path]) -> list[str]:
    """The captions of the paper's figures that nothing was run for."""
    captions = [*(plot.caption for plot in figures.PAPER), figures.APP5_CAPTION]
    return [caption for caption in captions if caption not in drawn]
