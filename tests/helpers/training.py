"""Runs `trainers.train` in this process and in another."""

import os
import pathlib
import subprocess
import sys

from helpers import command_line

from trainers.train import __main__ as train

ROOT = pathlib.Path(__file__).parents[2]
TINY = ("--hidden_units=8", "--batch_size=4", "--report_every=6", "--eval_samples=2")


def command(*arguments):
    """Runs the trainer in this process; its exit status."""
    return command_line.exit_status(lambda: train.main(["train.py", *map(str, arguments)]))


def process(*arguments):
    """Starts the trainer in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainers.train", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
    )
