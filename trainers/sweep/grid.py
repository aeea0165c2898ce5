"""The cells of a sweep: each is one run of `trainers.train`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import rebar_tf as rt
from trainers.common import methods
from trainers.common.errors import BadInput
from trainers.common.flags import text
from trainers.common.methods import Method
from trainers.common.tasks import TASKS
from trainers.sweep.settings import MODELS, Settings


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        dataset: its name.
        task: generative or structured.
        model: one of `MODELS`.
        method: an estimator, with a temperature where that is fixed.
        learning_rate: of Adam.
        seed: of weights, samples and order of the data.
        num_steps: in all.
        shared: values of `SHARED_FLAGS` other than the trainer's own, by name.
    """

    dataset: str
    task: str
    model: str
    method: Method
    learning_rate: float
    seed: int
    num_steps: int
    shared: tuple[tuple[str, Any], ...] = ()

    @property
    def folder(self) -> str:
        """The name of its folder, the same for every number of steps: a longer run continues a shorter one."""
        parts = (self.dataset, self.task, self.model, self.method.name.replace(":", "_"), f"{self.learning_rate:g}")
        return "-".join([*parts, f"seed{self.seed}"])

    @property
    def arguments(self) -> list[str]:
        """Flags of `trainers.train` for all that its numbers depend on."""
        values = {
            "dataset": self.dataset,
            "task": self.task,
            **MODELS[self.model],
            "estimator": self.method.estimator,
            **self.method.options,
            "learning_rate": f"{self.learning_rate:g}",
            "num_steps": self.num_steps,
            "seed": self.seed,
            **dict(self.shared),
        }
        return [f"--{name}={text(value)}" for name, value in values.items() if value is not None]

    @property
    def command(self) -> str:
        """The command that repeats it, without folders; no two cells have the same."""
        return " ".join(["python -m trainers.train", *self.arguments])

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the results that name it."""
        names = ("dataset", "task", "model", "learning_rate", "seed")
        values = {name: getattr(self, name) for name in names}
        return {**values, "method": self.method.name, "steps": self.num_steps, "command": self.command}

    def __str__(self) -> str:
        rate = f"learning rate {self.learning_rate:g}"
        return f"{self.dataset} {self.task} {self.model} {self.method.name}, {rate}, seed {self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """The grid of the settings, in the order of the lists: the last of them, the seeds, changes fastest.

    Raises:
        BadInput: for a dataset, task, model, method, rate or seed that does not exist.
    """
    tasks = [_task(item) for item in _given(settings, "tasks")]
    models = _given(settings, "models")
    for model in models:
        if model not in MODELS:
            raise BadInput(f"flag --models={','.join(models)}: {model!r} is none; expected {', '.join(MODELS)}")
    compared = methods.parse(settings.methods)
    rates = {name: _rates(settings, name) for name in ("learning_rates", "nonlinear_learning_rates")}
    seeds = list(dict.fromkeys(_seed(item, settings) for item in _given(settings, "seeds")))
    return [
        Cell(dataset, task, model, method, rate, seed, settings.experiment.num_steps, settings.shared)
        for (dataset, task), model, method in itertools.product(tasks, models, compared)
        for rate in rates["nonlinear_learning_rates" if MODELS[model]["nonlinear"] else "learning_rates"]
        for seed in seeds
    ]


def _given(settings: Settings, name: str) -> list[str]:
    """The items of a list, each once."""
    items = getattr(settings, name)
    if not items:
        raise BadInput(f"flag --{name}=: expected one value or more, separated by commas")
    return list(dict.fromkeys(items))


def _task(item: str) -> tuple[str, str]:
    dataset, _, task = item.partition(":")
    if dataset not in rt.datasets.names() or task not in TASKS:
        expected = f"dataset:task, of the datasets {', '.join(rt.datasets.names())} and the tasks {', '.join(TASKS)}"
        raise BadInput(f"flag --tasks: {item!r} is none; expected {expected}")
    return dataset, task


def _rates(settings: Settings, name: str) -> list[float]:
    items = _given(settings, name)
    try:
        rates = [float(item) for item in items]
    except ValueError:
        rates = [math.nan]
    if not all(0.0 < rate < math.inf for rate in rates):
        raise BadInput(f"flag --{name}={','.join(items)}: expected positive numbers")
    return list(dict.fromkeys(rates))


def _seed(item: str, settings: Settings) -> int:
    if not item.isdecimal() or int(item) >= 2**31:
        raise BadInput(f"flag --seeds={','.join(settings.seeds)}: expected integers from 0 to {2**31 - 1}")
    return int(item)
