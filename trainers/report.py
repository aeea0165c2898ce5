"""Writes tables App.1 and App.2 and figures App.1 to App.5 of the paper from what was run, next to the paper's numbers.

  python -m trainers.report --workdir=runs/sweep
      From the folder of a sweep, its results.csv and the curves of its runs, into runs/sweep/report.

  python -m trainers.report --results_dir=docs/results --page=docs/results.md
      From the tables of sweeps and the curves that are kept in docs/results, into docs/results/report and the page.

  python -m trainers.report --results_dir=docs/results --runs=runs/tables,runs/variance
      Keeps the curves of these runs in docs/results first.

Every .csv in --results_dir is a table of trainers.sweep, of runs with the same number of steps: NAME.csv becomes
report/NAME.md and report/NAME.csv, the mean and its standard error over the seeds, at the learning rate that is best
on the validation images. --runs are folders of runs of trainers.sweep, train, variance and evaluate, searched with all
that is below them: their curves are kept, 100 points each, in the folders curves, variance and inference, from which
the figures are drawn: a thin line for each trial, a bold one for the median. --workdir stands for both, where a sweep
kept its table in its own folder. What was not run is marked, and never
filled. What cannot be used ends the program with status 2 and a line for each file; the rest is written.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app
from absl import flags as absl_flags

from trainers import flags, quiet, sweep_results
from trainers.errors import BadInput, one_line
from trainers.report_page import Page
from trainers.sweep_results import Row

absl_flags.DEFINE_string("results_dir", "docs/results", "Folder of the tables of sweeps. Accepted: an existing folder.")
absl_flags.DEFINE_list("runs", [], "Folders of runs whose curves are kept. Accepted: existing folders.")
absl_flags.DEFINE_string("page", None, "Markdown file that gets tables and figures, between its markers. Unset: none.")
_REPORT = "report"


@flags.reports_bad_input
def main(argv: Sequence[str]) -> int:
    """Writes the report of the flags; bad files are named, and the rest is written."""
    folder, runs = _places()
    page = Page(pathlib.Path(absl_flags.FLAGS.page)) if absl_flags.FLAGS.page else None
    quiet.quiet_logs()
    quiet.import_tensorflow()
    errors = Errors()
    _gather(runs, folder, errors)
    tables = _read_tables(folder, errors)
    drawn = _draw(folder, tables, errors)
    if not tables and not drawn and not errors.count:
        raise BadInput(
            f"flag --results_dir={folder}: no finished run there; accepted is a folder with a table of trainers.sweep, "
            "or with --runs"
        )
    written = _write_tables(folder, tables)
    if page:
        page.write(written, drawn, _missing(drawn))
    for path in [*(folder / _REPORT / f"{name}.md" for name in written), *drawn.values()]:
        print(path, flush=True)
    return 2 if errors.count else 0


class Errors:
    """Says what is wrong with one file, and lets the next be read."""

    def __init__(self):
        self._said: set[str] = set()

    @property
    def count(self) -> int:
        """How many things were wrong."""
        return len(self._said)

    def caught(self, work: Callable, *arguments: object) -> object:
        """The result of `work(*arguments)`; None where it was bad input, which is one line on stderr."""
        try:
            return work(*arguments)
        except BadInput as error:
            line = one_line(error)
            if line not in self._said:  # several figures share a panel
                print(f"report.py: error: {line}", file=sys.stderr, flush=True)
            self._said.add(line)
            return None


def _places() -> tuple[pathlib.Path, list[pathlib.Path]]:
    """The folder of results and those of runs; `BadInput` for flags that have no meaning here."""
    values = absl_flags.FLAGS
    for name in flags.experiment():
        if values[name].present and name != "workdir":
            raise BadInput(f"flag --{name}: accepted by trainers.train only; see --help")
    if values.workdir is not None:
        for name in ("results_dir", "runs"):
            if values[name].present:
                raise BadInput(f"flag --{name}: accepted without --workdir, which stands for it")
    folder, name = (values.results_dir, "results_dir") if values.workdir is None else (values.workdir, "workdir")
    if not pathlib.Path(folder).is_dir():
        raise BadInput(f"flag --{name}={folder}: accepted is an existing folder")
    runs = values.runs if values.workdir is None else [folder]
    return pathlib.Path(folder), [pathlib.Path(top) for top in runs]


def _gather(runs: list[pathlib.Path], folder: pathlib.Path, errors: Errors) -> None:
    from trainers import report_runs

    def one(top: pathlib.Path) -> None:
        for line in report_runs.gather([top], folder):
            print(line, flush=True)

    for top in runs:
        errors.caught(one, top)


def _read_tables(folder: pathlib.Path, errors: Errors) -> dict[str, list[Row]]:
    """The rows of each table of a sweep, by the name of its file."""
    read = {path.stem: errors.caught(_read_table, path) for path in sorted(folder.glob("*.csv"))}
    return {name: rows for name, rows in read.items() if rows}


def _read_table(path: pathlib.Path) -> list[Row]:
    from trainers import report_tables

    rows = sweep_results.read(path)
    report_tables.check_comparable(rows, path)
    if not any(row["status"] == sweep_results.FINISHED for row in rows):
        raise BadInput(f"{path}: has no finished run; accepted is a table of trainers.sweep with one or more")
    return rows


def _write_tables(folder: pathlib.Path, tables: dict[str, list[Row]]) -> dict[str, str]:
    """Writes the tables; the Markdown of each by name."""
    from trainers import report_tables

    written = {name: report_tables.markdown(rows) for name, rows in tables.items()}
    for name, text in written.items():
        (folder / _REPORT).mkdir(exist_ok=True)
        (folder / _REPORT / f"{name}.md").write_text(f"{text}\n")
        report_tables.write_csv(folder / _REPORT / f"{name}.csv", tables[name])
    return written


def _draw(folder: pathlib.Path, tables: dict[str, list[Row]], errors: Errors) -> dict[str, pathlib.Path]:
    """Draws the figures; the file of each by its title."""
    from trainers import report_figures, report_runs

    names = (report_runs.CURVES, report_runs.VARIANCE, report_runs.INFERENCE)
    bounds, variances, inference = (errors.caught(report_runs.read, folder / name) or [] for name in names)
    best = {
        (*names, rows[0]["steps"]): sweep_results.best_rate(rates)
        for rows in tables.values()
        for names, rates in sweep_results.by_rate(rows).items()
    }
    drawn = {}
    for plot in [*report_figures.PAPER, *report_figures.others(bounds, variances)]:
        curves = bounds if plot.kind == "bound" else variances
        panels = [
            errors.caught(_trials, plot.kind, [c for c in curves if (c.dataset, c.task, c.model) == panel], best) or {}
            for panel in plot.panels
        ]
        if any(panels):
            report_figures.save(report_figures.draw(plot, panels), folder / _REPORT, plot.name)
            drawn[plot.caption] = _png(folder, plot.name)
    if inference:
        report_figures.save(report_figures.draw_inference(inference), folder / _REPORT, report_figures.APP5)
        drawn[report_figures.APP5_CAPTION] = _png(folder, report_figures.APP5)
    return drawn


def _missing(drawn: dict[str, pathlib.Path]) -> list[str]:
    """The captions of the paper's figures that nothing was run for."""
    from trainers import report_figures

    captions = [*(plot.caption for plot in report_figures.PAPER), report_figures.APP5_CAPTION]
    return [caption for caption in captions if caption not in drawn]


def _png(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / _REPORT / f"{name}.png"


def _trials(kind: str, curves: list, best: dict) -> dict:
    from trainers import report_figures

    return report_figures.bound_trials(curves, best) if kind == "bound" else report_figures.variance_trials(curves)


if __name__ == "__main__":
    app.run(main, flags_parser=flags.parse)
