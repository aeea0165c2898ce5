"""Kills commands at random times, goes on with them, and compares what they leave with runs that nothing stopped.

  python -m benchmarks.faults --kills=50
  python -m benchmarks.faults --kills=4 --commands=train --seed=1

Tiny networks, a quarter of the kills each in trainers.train, variance, evaluate and sweep. A kill is SIGKILL, SIGTERM
or SIGINT at a time that is uniform over the length of the whole command; then the same command is given again. When it
comes to its end its folder is compared with that of an unbroken run: all numbers of the checkpoints, curves, tables,
summaries and TensorBoard's points, without speeds and dates. What SIGTERM or SIGINT stop must leave one line and its
status. Steps repeated are those of progress lines that a later process did again. The last line of the output is JSON;
the exit status is 1 if anything was lost.
"""

from __future__ import annotations

import collections
import csv
import hashlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from typing import Any

import h5py

from trainers.common import flags
from trainers.common.errors import BadInput, reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow

_TINY = ("--hidden_units=4", "--report_every=500", "--checkpoint_minutes=0.01")
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": (*_TINY, "--estimator=rebar", "--batch_size=4", "--num_steps=12000", "--eval_samples=20"),
    "variance": (*_TINY, "--methods=nvil,rebar", "--follow=nvil", "--batch_size=4", "--num_steps=6000"),
    "evaluate": ("--samples=1,20", "--fit_inference_network", "--fit_steps=1000", "--report_every=100"),
    "sweep": (*_TINY, "--models=linear1", "--methods=nvil", "--learning_rates=3e-4", "--seeds=0,1", "--num_steps=6000"),
}
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_CHANGING = {"steps_per_second", "speed", "date", "workdir", "flags"}
_DAMAGE = re.compile("is damaged|cannot be read")
_ANEW = "no checkpoint was saved before"  # what a run says first that was killed before its first checkpoint
_PYTHON_STARTS = "Fatal Python error: init_import_site"  # a signal met the interpreter before it ran any file of ours
_STEP, _FROM = re.compile(r"^step +(\d+)/"), re.compile(r"from step (\d+)$")


@reports_bad_input("faults")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_integer(values, "kills", 50, "Kills in all.", low=1)
    flags.define_some(values, "commands", list(COMMANDS), "What is killed.")
    flags.define_integer(values, "seed", 0, "Of the times and the signals.", low=0)
    given = flags.parse(values, argv, __doc__)
    import_tensorflow()  # for TensorBoard's reader
    generator, totals = random.Random(given["seed"]), collections.Counter()
    for number, name in enumerate(given["commands"]):
        kills = len(range(number, given["kills"], len(given["commands"])))
        with tempfile.TemporaryDirectory() as folder:
            found = Faults(name, pathlib.Path(folder), generator).run(kills)
        print(f"{name:9} {', '.join(f'{count} {what}' for what, count in found.items())}", flush=True)
        totals.update(found)  # with the zeros, which += drops
    print(json.dumps(totals))
    return int(any(totals[what] for what in ("mismatches", "damaged files", "wrong endings")))


class Faults:
    """One command, killed again and again."""

    def __init__(self, name: str, folder: pathlib.Path, generator: random.Random):
        self.name, self.folder, self.generator = name, folder, generator
        self.start = folder / "start"  # what the command begins with
        self.start.mkdir()
        if name == "evaluate":
            self.command("train", self.start, *COMMANDS["train"]).communicate()
        begin = time.monotonic()
        self.go_on(pathlib.Path(shutil.copytree(self.start, folder / "unbroken")))
        self.seconds = time.monotonic() - begin
        self.expected = state(folder / "unbroken")
        self.found: collections.Counter[str] = collections.Counter()

    def command(self, name: str, folder: pathlib.Path, *arguments: str) -> subprocess.Popen:
        argv = [sys.executable, "-m", f"trainers.{name}", *arguments, f"--workdir={folder}"]
        environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def run(self, kills: int) -> collections.Counter[str]:
        names = ("kills survived", "runs compared", "mismatches", "steps repeated", "damaged files", "wrong endings")
        self.found = collections.Counter(dict.fromkeys(names, 0))
        while self.found["kills survived"] < kills:
            folder = self.folder / "killed"
            shutil.copytree(self.start, folder)
            output = self.killed_until_the_end(folder, kills)
            ours, theirs = state(folder), self.expected
            different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
            if different:
                print(f"{self.name}: {', '.join(different)}", flush=True)
            self.found["runs compared"] += 1
            self.found["mismatches"] += bool(different)
            outputs = [output, *(path.read_text() for path in folder.rglob("log.txt"))]
            self.found["steps repeated"] += sum(map(repeated, outputs))
            self.found["damaged files"] += sum(len(_DAMAGE.findall(text)) for text in outputs)
            shutil.rmtree(folder)
        return self.found

    def killed_until_the_end(self, folder: pathlib.Path, kills: int) -> str:
        """Kills the command until it ends by itself, or there were enough kills; what it printed."""
        output = ""
        while True:
            process = self.command(self.name, folder, *COMMANDS[self.name])
            signum = self.generator.choice(_SIGNALS)
            try:
                out, error = process.communicate(timeout=self.generator.uniform(0.0, self.seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(signum)
                out, error = process.communicate()
            output += out + error
            if process.returncode == 0:
                return output + ("" if self.is_done(out) else self.go_on(folder))
            lines = [line for line in error.splitlines() if _ANEW not in line]
            one_line = process.returncode == 128 + signum and len(lines) == 1
            good = one_line or process.returncode == -signum or _PYTHON_STARTS in error
            if not good:
                print(f"{self.name}: exit status {process.returncode} after {signum.name}: {error}", flush=True)
            self.found["wrong endings"] += not good
            self.found["kills survived"] += 1
            if self.found["kills survived"] >= kills:
                return output + self.go_on(folder)

    def go_on(self, folder: pathlib.Path) -> str:
        """Gives the command until it has done all; what it printed."""
        output = ""
        while True:
            process = self.command(self.name, folder, *COMMANDS[self.name])
            out, error = process.communicate()
            output += out + error
            if process.returncode != 0:
                raise BadInput(f"{self.name} ended with status {process.returncode}: {error}")
            if self.is_done(out):
                return output

    def is_done(self, out: str) -> bool:
        """Whether all is done: a cell that a killed sweep has left may not have ended when the next sweep begins."""
        report = json.loads(out.splitlines()[-1])
        if report.get("failed"):  # it would be compared with another one that failed
            raise BadInput(f"{self.name}: cells failed: {out}")
        return report.get("not_run", 0) == 0


def repeated(output: str) -> int:
    """The steps that progress lines say were done again."""
    steps, reached = 0, 0
    for line in output.splitlines():
        step, begin = _STEP.match(line), _FROM.search(line)
        if begin:
            steps += max(0, reached - int(begin[1]))
        reached = int(begin[1]) if begin else int(step[1]) if step else reached
    return steps


def state(folder: pathlib.Path) -> dict[str, Any]:
    """All numbers that a command left, by file."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "checkpoint.keras":
            found[name] = weights(path)
        elif path.suffix == ".csv":
            lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
            found[name] = [without(row) for row in csv.DictReader(lines)]
        elif path.name in ("summary.json", "flags.json", "evaluation.json"):
            found[name] = without(json.loads(path.read_text()))
        elif path.name == "tensorboard":
            found[name] = points(path)
    return found


def without(content: dict[str, Any]) -> dict[str, Any]:
    """Without what no two runs share: speeds, dates, and the name and the sum of a file in which dates are."""
    return {
        key: without(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if key not in _CHANGING
    }


def weights(path: pathlib.Path) -> str:
    """The hash of all numbers in a checkpoint: weights, optimizer, metrics."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:

        def add(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                digest.update(f"{name} {item.dtype} {item.shape} ".encode() + item[()].tobytes())

        file.visititems(add)
    return digest.hexdigest()


def points(folder: pathlib.Path) -> dict[str, list[tuple[int, bytes]]]:
    """The raw points of each curve, without TensorBoard's own removal of doubled ones.

    Histograms and pictures are some seconds apart: when, no two runs share.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}, purge_orphaned_data=False).Reload()
    return {
        tag: [(event.step, event.tensor_proto.SerializeToString()) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if tag not in _CHANGING and events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv))
