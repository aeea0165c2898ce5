"""Steps per second of training, as ratios to a yardstick that runs in turn with it.

  python -m benchmarks.steps --yardstick=PATH/jax_rebar.py --data_dir=DIR

The yardstick is a program whose last line is JSON with `steps_per_second`; it is run with `--impl hand --mode dynamic
--steps N --data DIR/mnist`. In each round it runs once, then every row of the table; a ratio is to the same round, as a
machine is not equally fast all day. The medians over the rounds are printed as a table, and as JSON on the last line.

The rate of a trainer is that of its progress lines, 500 steps apart: the wall clock with everything on, the first line
left out because compilation is in it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import app, flags

flags.DEFINE_string("yardstick", None, "Program to compare with. Unset: no ratios.")
flags.DEFINE_string("yardstick_python", sys.executable, "Python that runs the yardstick.")
flags.DEFINE_string("data_dir", None, "Folder with the raw files mnist/*-ubyte.gz.", required=True)
flags.DEFINE_list("rows", None, "Names of the rows to run. Unset: all.")
flags.DEFINE_integer("rounds", 5, "Rounds, each with one run of the yardstick and of every row.", lower_bound=1)
flags.DEFINE_integer("num_steps", 3000, "Training steps of each run.", lower_bound=1500)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: what is run.
        arguments: of `trainers.train`, or of `benchmarks.drop_in`.
        at_least: the ratio that it must reach.
        aim: the ratio to aim for.
        module: the program.
    """

    name: str
    arguments: tuple[str, ...]
    at_least: float
    aim: float
    module: str = "trainers.train"


ROWS = (
    Row("linear", (), 1.0, 1.5),
    Row("two linear", ("--num_layers=2",), 0.6, 0.9),
    Row("nonlinear", ("--nonlinear=true",), 0.7, 1.0),
    Row("two nonlinear", ("--num_layers=2", "--nonlinear=true"), 0.4, 0.6),
    Row("fixed temperature", ("--learn_temperature=false",), 1.2, 1.7),
    Row("nvil", ("--estimator=nvil",), 1.5, 2.0),
    Row("muprop", ("--estimator=muprop",), 1.5, 2.0),
    Row("concrete", ("--estimator=concrete",), 1.5, 2.0),
    Row("drop-in fit", (), 0.5, 0.8, module="benchmarks.drop_in"),
)
START = "start"
_LIMITS = {"first_step_seconds": (20, 10), "peak_memory_mb": (1300, 900)}
_NUMBERS = ("train_bound", "log_grad_variance", "temperature")


def main(argv: Sequence[str]) -> None:
    del argv
    values = flags.FLAGS.flag_values_dict()
    rows = [row for row in ROWS if values["rows"] is None or row.name in values["rows"]]
    rounds = []
    for i in range(values["rounds"]):
        rounds.append(dict(_round(rows, values)))
        print(f"round {i + 1}/{values['rounds']}: {_rates(rounds[-1])}", flush=True)
    summary = summarize(rounds)
    print(table(rows, summary))
    print(json.dumps(summary))


def _round(rows: list[Row], values: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    if values["yardstick"] is not None:
        yield "yardstick", run_yardstick(values)
    for row in rows:
        yield row.name, run(row, values)
    yield START, start(values)


def run_yardstick(values: dict[str, Any]) -> dict[str, float]:
    """What the yardstick prints."""
    data = pathlib.Path(values["data_dir"], "mnist").resolve()
    options = ["--impl", "hand", "--mode", "dynamic", "--steps", str(values["num_steps"]), "--data", str(data)]
    command = [values["yardstick_python"], values["yardstick"], *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def run(row: Row, values: dict[str, Any]) -> dict[str, float]:
    """The median rate of a row's progress lines, and the numbers that its last line holds."""
    with tempfile.TemporaryDirectory() as workdir:
        steps = [f"--num_steps={values['num_steps']}", "--eval_samples=1"]
        command = [*_command(row.module, values, workdir), *steps, *row.arguments]
        times, last = [], ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            for line in process.stdout:
                times += [time.perf_counter()] * line.startswith("step")
                last = line
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    numbers = json.loads(last)
    windows = [500 / (end - begin) for begin, end in itertools.pairwise(times[1:])]
    return {
        "steps_per_second": statistics.median(windows),
        **{name: numbers[name] for name in _NUMBERS if numbers.get(name) is not None},
    }


def start(values: dict[str, Any]) -> dict[str, float]:
    """Seconds from the command to its first reported step, and the peak memory of a run of 500 steps."""
    with tempfile.TemporaryDirectory() as workdir:
        begin = time.perf_counter()
        command = [*_command("trainers.train", values, workdir), "--num_steps=1", "--report_every=1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            lines = (line for line in process.stdout if line.startswith("step"))
            next(lines), next(lines)  # of step 0, which is before training, and of step 1
            seconds = time.perf_counter() - begin
            process.stdout.read()
    with tempfile.TemporaryDirectory() as workdir:
        command = [*_command("trainers.train", values, workdir), "--num_steps=500"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0  # it is gone: Popen need not wait for it
    return {"first_step_seconds": seconds, "peak_memory_mb": usage.ru_maxrss / 1024}


def _command(module: str, values: dict[str, Any], workdir: str) -> list[str]:
    data = ["--dataset=mnist", f"--data_dir={values['data_dir']}"]
    return [sys.executable, "-u", "-m", module, *data, f"--workdir={workdir}/run"]


def _rates(results: dict[str, dict[str, float]]) -> str:
    return ", ".join(f"{name} {r['steps_per_second']:.0f}" for name, r in results.items() if "steps_per_second" in r)


def summarize(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians over the rounds of every number, and of the ratio to the yardstick of the same round."""
    summary = {}
    for name in rounds[0]:
        runs = [results[name] for results in rounds]
        numbers = [key for key, value in runs[0].items() if isinstance(value, (int, float))]
        summary[name] = {key: statistics.median(run[key] for run in runs) for key in numbers}
        if "steps_per_second" in runs[0] and "yardstick" in rounds[0]:
            rates = [(results[name], results["yardstick"]) for results in rounds]
            ratios = [ours["steps_per_second"] / theirs["steps_per_second"] for ours, theirs in rates]
            summary[name] |= {"ratio": statistics.median(ratios), "ratios": ratios}
    return summary


def table(rows: list[Row], summary: dict[str, dict[str, float]]) -> str:
    """The medians as Markdown."""
    lines = ["| what | steps/s | ratio | at least | aim | bound | log variance | temperature |", "|" + " --- |" * 8]
    wanted = {row.name: (f"{row.at_least}", f"{row.aim}") for row in rows}
    for name, result in summary.items():
        if name != START:
            rate, ratio = f"{result['steps_per_second']:.0f}", _text(result.get("ratio"), 2)
            numbers = [_text(result.get(key), digits) for key, digits in zip(_NUMBERS, (2, 2, 3), strict=True)]
            lines.append(f"| {' | '.join([name, rate, ratio, *wanted.get(name, ('', '')), *numbers])} |")
    lines += ["", "| what | measured | at most | aim |", "|" + " --- |" * 4]
    for key, (most, aim) in _LIMITS.items():
        lines.append(f"| {key.replace('_', ' ')} | {summary[START][key]:.1f} | {most} | {aim} |")
    return "\n".join(lines)


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    app.run(main)
