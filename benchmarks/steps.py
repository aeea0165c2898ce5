"""Steps per second of training, as ratios to a yardstick that trains the same network beside it.

  python -m benchmarks.steps --yardstick=PATH/jax_general.py --data_dir=DIR
  python -m benchmarks.steps --yardstick=PATH/jax_general.py --data_dir=DIR --rows=nvil,concrete --rounds=3

The yardstick is a program whose last line is JSON with `steps_per_second`. It takes the options `--layers`,
`--nonlinear`, `--estimator`, `--contract`, `--steps` and `--data`, the last with DIR/mnist. In each round every row
runs between runs of the yardstick on its own network, of which the faster counts, as a machine is not equally fast all
day. The medians over the rounds are printed as a table, and as JSON on the last line.

The rate of a trainer is that of its progress lines, 500 steps apart: the wall clock with everything on, the first line
left out because compilation is in it. The drop-in model is compared with the trainer on one linear layer, and the five
methods of `trainers.variance` on one trajectory with the slowest of them alone, REBAR.
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
from collections.abc import Sequence
from typing import Any

from absl import app, flags

flags.DEFINE_string("yardstick", None, "Program to compare with.", required=True)
flags.DEFINE_string("yardstick_python", sys.executable, "Python that runs the yardstick.")
flags.DEFINE_string("data_dir", None, "Folder with the raw files mnist/*-ubyte.gz.", required=True)
flags.DEFINE_list("rows", None, "Names of the rows to run. Unset: all.")
flags.DEFINE_integer("rounds", 5, "Rounds, each with every row and its yardstick.", lower_bound=1)
flags.DEFINE_integer("num_steps", 3000, "Training steps of each run.", lower_bound=1500)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: what is run.
        arguments: of `trainers.train`.
        yardstick: options of the yardstick.
        contracts: ways in which the yardstick computes the variance objective's product; the faster one counts.
    """

    name: str
    arguments: tuple[str, ...]
    yardstick: tuple[str, ...]
    contracts: tuple[str, ...] = ("product",)


BOTH = ("product", "gram")
ROWS = (
    Row("linear", (), (), BOTH),
    Row("two linear", ("--num_layers=2",), ("--layers=2",), BOTH),
    Row("nonlinear", ("--nonlinear=true",), ("--nonlinear",), BOTH),
    Row("two nonlinear", ("--num_layers=2", "--nonlinear=true"), ("--layers=2", "--nonlinear"), BOTH),
    Row("fixed temperature", ("--learn_temperature=false",), ("--estimator=rebar_fixed",), BOTH),
    Row("nvil", ("--estimator=nvil",), ("--estimator=nvil",)),
    Row("muprop", ("--estimator=muprop",), ("--estimator=muprop",)),
    Row("concrete", ("--estimator=concrete",), ("--estimator=concrete",)),
)
DROP_IN, FIVE_METHODS, START = "drop-in fit", "five methods", "start"
_LIMITS = {"first_step_seconds": (8, 5), "peak_memory_mb": (1000, 800)}
_FEW_SAMPLES = "--eval_samples=1"
_NUMBERS = ("train_bound", "log_grad_variance", "temperature")


def main(argv: Sequence[str]) -> None:
    del argv
    values = flags.FLAGS.flag_values_dict()
    rows = [row for row in ROWS if values["rows"] is None or row.name in values["rows"]]
    rounds: list[dict[str, dict[str, float]]] = []
    for i in range(values["rounds"]):
        results = {row.name: beside_yardstick(row, values) for row in rows}
        if values["rows"] is None:
            results |= {DROP_IN: drop_in(values), FIVE_METHODS: five_methods(values), START: start(values)}
        rounds.append(results)
        print(f"round {i + 1}/{values['rounds']}: {_ratios(results)}", flush=True)
    summary = summarize(rounds)
    print(table(summary))
    print(json.dumps(summary))


def beside_yardstick(row: Row, values: dict[str, Any]) -> dict[str, float]:
    """A row's rate and numbers, and the ratio to the yardstick that runs before and after."""
    options = [[*row.yardstick, f"--contract={contract}"] for contract in row.contracts]
    theirs = [yardstick(option, values) for option in options]
    ours = run("trainers.train", (*row.arguments, _FEW_SAMPLES), values)
    theirs = [(rate + yardstick(option, values)) / 2 for rate, option in zip(theirs, options, strict=True)]
    return {**ours, "yardstick": max(theirs), "ratio": ours["steps_per_second"] / max(theirs)}


def yardstick(options: list[str], values: dict[str, Any]) -> float:
    """The rate that the yardstick prints."""
    data = pathlib.Path(values["data_dir"], "mnist").resolve()
    options = [*options, f"--steps={values['num_steps']}", f"--data={data}"]
    command = [values["yardstick_python"], values["yardstick"], *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])["steps_per_second"]


def drop_in(values: dict[str, Any]) -> dict[str, float]:
    """The rate of `fit` on arrays, and the ratio to that of the trainer on the same network."""
    trainer = run("trainers.train", (_FEW_SAMPLES,), values)
    ours = run("benchmarks.drop_in", (_FEW_SAMPLES,), values)
    return {**ours, "ratio": ours["steps_per_second"] / trainer["steps_per_second"]}


def five_methods(values: dict[str, Any]) -> dict[str, float]:
    """The rate of a comparison of five methods, and the ratio to that of REBAR alone."""
    alone = run("trainers.variance", ("--methods=rebar", "--follow=rebar"), values)
    together = run("trainers.variance", (), values)
    return {**together, "ratio": together["steps_per_second"] / alone["steps_per_second"]}


def run(module: str, arguments: Sequence[str], values: dict[str, Any]) -> dict[str, float]:
    """The median rate of a program's progress lines, and the numbers that its last line holds."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [*_command(module, values, workdir), f"--num_steps={values['num_steps']}", *arguments]
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


def _ratios(results: dict[str, dict[str, float]]) -> str:
    return ", ".join(f"{name} {r['ratio']:.2f}" for name, r in results.items() if "ratio" in r)


def summarize(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Medians over the rounds of every number, and all ratios."""
    summary: dict[str, dict[str, Any]] = {}
    for name in rounds[0]:
        runs = [results[name] for results in rounds]
        summary[name] = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
        if "ratio" in runs[0]:
            summary[name]["ratios"] = [each["ratio"] for each in runs]
    return summary


def table(summary: dict[str, dict[str, Any]]) -> str:
    """The medians as Markdown."""
    columns = ("what", "steps/s", "yardstick", "ratio", "lowest", "highest", "bound", "log variance", "temperature")
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for name, result in summary.items():
        if name != START:
            ratios = [_text(value, 2) for value in (result["ratio"], min(result["ratios"]), max(result["ratios"]))]
            rates = [_text(result.get(key), 0) for key in ("steps_per_second", "yardstick")]
            numbers = [_text(result.get(key), digits) for key, digits in zip(_NUMBERS, (2, 2, 3), strict=True)]
            lines.append(f"| {' | '.join([name, *rates, *ratios, *numbers])} |")
    if START in summary:
        lines += ["", "| what | measured | at most | aim |", "|" + " --- |" * 4]
        for key, (most, aim) in _LIMITS.items():
            lines.append(f"| {key.replace('_', ' ')} | {summary[START][key]:.1f} | {most} | {aim} |")
    return "\n".join(lines)


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    app.run(main)
