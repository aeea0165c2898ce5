"""The cells of a sweep: each is one run of `trainers.train`, and what names it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

from trainers import checked_flags, variance_methods
from trainers.errors import BadInput
from trainers.variance_methods import Method

# The models of the paper's tables: what they are in flags of `trainers.train`.
MODELS = {
    "linear1": {"num_layers": 1, "nonlinear": False},
    "linear2": {"num_layers": 2, "nonlinear": False},
    "nonlinear": {"num_layers": 1, "nonlinear": True},
}
# Flags of `trainers.train` that hold for all cells, and change their numbers.
SHARED_FLAGS = ("binarization", "binarization_seed", "hidden_units", "batch_size", "report_every")


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
        """The name of its folder, the same for every number of steps: a longer run goes on from a shorter one."""
        parts = (self.dataset, self.task, self.model, self.method.name.replace(":", "_"), f"{self.learning_rate:g}")
        return "-".join([*parts, f"seed{self.seed}"])

    @property
    def arguments(self) -> list[str]:
        """Flags of `trainers.train` for all that its numbers depend on."""
        of_method = self.method.settings({})
        values = {
            "dataset": self.dataset,
            "task": self.task,
            **MODELS[self.model],
            **{name: of_method[name] for name in ("estimator", "temperature", "learn_temperature")},
            "learning_rate": f"{self.learning_rate:g}",
            "num_steps": self.num_steps,
            "seed": self.seed,
            **dict(self.shared),
        }
        return [f"--{name}={checked_flags.text(value)}" for name, value in values.items() if value is not None]

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


def cells(settings: dict[str, Any]) -> list[Cell]:
    """The grid of the flags, in the order of the lists: the last of them, the seeds, changes fastest.

    Args:
        settings: `tasks`, `models`, `methods`, `learning_rates`, `nonlinear_learning_rates`, `seeds`, lists of
            text; `num_steps`; `shared`, values of `SHARED_FLAGS` by name.

    Raises:
        BadInput: for a dataset, task, model, method, rate or seed that there is none of.
    """
    tasks = [_task(text) for text in _given(settings, "tasks")]
    models = _given(settings, "models")
    for model in models:
        if model not in MODELS:
            raise BadInput(f"flag --models={','.join(models)}: {model!r} is none; accepted are {', '.join(MODELS)}")
    methods = variance_methods.parse_methods(settings["methods"])
    rates = {name: _rates(settings, name) for name in ("learning_rates", "nonlinear_learning_rates")}
    seeds = [_seed(text, settings) for text in _given(settings, "seeds")]
    shared = tuple(settings["shared"].items())
    return [
        Cell(dataset, task, model, method, rate, seed, settings["num_steps"], shared)
        for (dataset, task), model, method in itertools.product(tasks, models, methods)
        for rate in rates["nonlinear_learning_rates" if MODELS[model]["nonlinear"] else "learning_rates"]
        for seed in seeds
    ]


def _given(settings: dict[str, Any], name: str) -> list[str]:
    """The items of a list, each once."""
    if not settings[name]:
        raise BadInput(f"flag --{name}=: accepted is one value or more, separated by commas")
    return list(dict.fromkeys(settings[name]))


def _task(text: str) -> tuple[str, str]:
    import rebar_tf as rt
    from trainers.tasks import TASKS

    dataset, _, task = text.partition(":")
    if dataset not in rt.datasets.names() or task not in TASKS:
        accepted = f"dataset:task, of the datasets {', '.join(rt.datasets.names())} and the tasks {', '.join(TASKS)}"
        raise BadInput(f"flag --tasks: {text!r} is none; accepted is {accepted}")
    return dataset, task


def _rates(settings: dict[str, Any], name: str) -> list[float]:
    texts = _given(settings, name)
    try:
        rates = [float(text) for text in texts]
    except ValueError:
        rates = [math.nan]
    if not all(0.0 < rate < math.inf for rate in rates):
        raise BadInput(f"flag --{name}={','.join(texts)}: accepted are positive numbers")
    return list(dict.fromkeys(rates))


def _seed(text: str, settings: dict[str, Any]) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise BadInput(f"flag --seeds={','.join(settings['seeds'])}: accepted are integers from 0 to {2**31 - 1}")
    return int(text)
