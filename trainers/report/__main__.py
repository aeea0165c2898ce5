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
the figures are drawn: a thin line for each trial, a bold one for the median, a dashed one for a run that has not
finished. --workdir stands for both, where a sweep kept its table in its own folder. What was not run is marked as such.
Files that cannot be used are named, one line each, and end the program with status 2; the rest is written.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import BadInput, reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow

_RESULTS_DIR = "docs/results"


def parse(argv: Sequence[str]) -> tuple[pathlib.Path, list[pathlib.Path], pathlib.Path | None]:
    """The folder of results, the folders of runs, and the page of a command line."""
    values = flags.Flags()
    text = "Folder of the tables of sweeps. Expected: an existing folder."
    flags.define_string(values, "results_dir", None, f"{text} Unset: {_RESULTS_DIR}.")
    flags.define_list(values, "runs", None, "Folders of runs whose curves are kept. Expected: existing folders.")
    text = "Markdown file that gets tables and figures, between its markers. Unset: none."
    flags.define_string(values, "page", None, text)
    text = "Folder of a sweep, in place of --results_dir and --runs. Expected: an existing folder."
    flags.define_string(values, "workdir", None, text)
    given = flags.parse(values, argv, __doc__)
    if given["workdir"] is not None:
        for name in ("results_dir", "runs"):
            if given[name] is not None:
                raise BadInput(f"flag --{name}: expected without --workdir, which stands for it")
        given |= {"results_dir": given["workdir"], "runs": [given["workdir"]]}
    folder = pathlib.Path(given["results_dir"] or _RESULTS_DIR)
    if not folder.is_dir():
        name = "results_dir" if given["workdir"] is None else "workdir"
        raise BadInput(f"flag --{name}={folder}: expected an existing folder")
    page = pathlib.Path(given["page"]) if given["page"] else None
    return folder, [pathlib.Path(top) for top in given["runs"] or []], page


@reports_bad_input("report")
def main(argv: Sequence[str]) -> int:
    """Writes the report of the flags; bad files are named, and the rest is written."""
    folder, runs, page = parse(argv)
    import_tensorflow()
    from trainers.report import writing

    return writing.run(folder, runs, page)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
