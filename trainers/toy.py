"""Runs the paper's toy problem: minimises E[(b - t)^2], b ~ Bernoulli(sigmoid(theta)), with each estimator.

  python -m trainers.toy --target=0.499
      All estimators, one sample a step, theta from 0. Takes about a minute.

  python -m trainers.toy --target=0.45 --estimators=rebar,relax,reinforce,concrete --workdir=runs/toy-0.45
      Some of them, a folder of your choice.

The optimum is b = 0 for t < 0.5 and b = 1 for t > 0.5; the nearer t is to 0.5, the smaller is the gradient. The table
shows theta, P(b=1) and the exact expected loss at the end, the log variance of the gradient estimate over the last
quarter of the run, and whether the optimum was reached: the worse value of b drawn less often than one time in twenty.
The variance is measured from 10,000 fresh estimates at the same parameters. WORKDIR gets all of it over the steps as
curve.csv and curve.png. The last line of the output is summary.json.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from trainers import flags, quiet, toy_flags
from trainers.errors import BadInput
from trainers.workdir import Workdir


@flags.reports_bad_input
def main(argv: Sequence[str]) -> int | None:
    """Compares the estimators of the flags."""
    try:
        settings = toy_flags.parse(argv, __doc__)
        workdir = _claimed(settings)
        quiet.quiet_logs()
        quiet.import_tensorflow()
        summary = _run(settings, workdir.path)
        workdir.write_summary(summary)
    except KeyboardInterrupt:
        print("stopped by SIGINT; the same command starts anew", file=sys.stderr, flush=True)
        return 130
    print(json.dumps(summary), flush=True)
    return None


def _claimed(settings: dict[str, Any]) -> Workdir:
    """The folder of the flags, made and found to take files."""
    workdir = Workdir(settings["workdir"])
    if workdir.path == pathlib.Path():
        raise BadInput("flag --workdir=: accepted is a folder of its own for the run")
    if workdir.checkpoint.exists():
        raise BadInput(f"flag --workdir={workdir.path}: holds a run of trainers.train; accepted is another folder")
    workdir.claim(settings)
    return workdir


def _run(settings: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    """Runs one estimator after the other, and returns the summary."""
    from trainers import toy_problem, toy_report  # TensorFlow takes seconds: only now that the flags are good

    target = settings["target"]
    options = {name: settings[name] for name in ("target", "num_steps", "learning_rate", "seed", "baseline")}
    curves, results = {}, {}
    print(toy_report.header(), flush=True)
    for name in settings["estimators"]:
        curves[name] = toy_problem.train(name, **options)
        results[name] = toy_report.result(curves[name], target)
        print(toy_report.line(name, results[name], target), flush=True)
    toy_report.write_csv(folder / "curve.csv", curves, target)
    toy_report.write_plot(folder / "curve.png", curves, target)
    return toy_report.summary(settings, results)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
