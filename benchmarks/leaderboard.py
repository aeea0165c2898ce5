"""The bound that each estimator reaches in the same time of one core, and with the same evaluations of the objective.

  python -m benchmarks.leaderboard --dataset=mnist --data_dir=DIR --seconds=60 --seeds=3
  python -m benchmarks.leaderboard --seconds=10 --seeds=1 --models=sbn_linear1,code --estimators=rebar,disarm

The paper's six networks, generative and structured, and two autoencoders with categorical codes; every estimator with
its default options that can serve them, which those that list joint states cannot. A cell, one model with one estimator
and one seed, is a process that is confined to one core and trains for the given seconds of it; its first 50 steps,
which are compiled, and the measurements do not count. The seconds are those in which the core worked for it, so that
other work on the machine does not shorten its training. What is measured is the bound of single samples on held-out
images in nats, at the end and after the 50 steps in which the objective has been evaluated a million times for single
images.

Each cell is a row of docs/leaderboard.csv as soon as it is done: a run that is broken off goes on where it
was. At the end the tables of docs/leaderboard.md are written from the rows of these seconds and models. A cell takes
some 15 seconds more than its training; `--cores` works on several at a time.
"""

from __future__ import annotations

import concurrent.futures
import csv
import functools
import itertools
import json
import math
import os
import pathlib
import queue
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from trainers.common import flags, markdown
from trainers.common.errors import BadInput, reports_bad_input
from trainers.common.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    import numpy as np

    import rebar_tf as rt
    from benchmarks.models import Setting

ROOT = pathlib.Path(__file__).parents[1]
TABLE, PAGE = ROOT / "docs" / "leaderboard.csv", ROOT / "docs" / "leaderboard.md"
_RATE = 1e-3
_SAMPLES = 10  # single-sample bounds of each held-out image


@reports_bad_input("leaderboard")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_some(values, "models", MODELS, "Which models.")
    flags.define_list(values, "estimators", None, "Which estimators. Unset: all that serve a model.")
    flags.define_experiment(values, "dataset", "data_dir")
    flags.define_positive(values, "seconds", 60.0, "Of the training of each cell.")
    flags.define_integer(values, "seeds", 3, "How many seeds, from 0.", low=1)
    flags.define_integer(values, "cores", 1, "How many cells run at a time, each on a core of its own.", low=1)
    flags.define_string(values, "cell", None, "For the processes of this command: a model, an estimator and a seed.")
    given = flags.parse(values, argv, __doc__)
    if given["cell"] is not None:
        print(json.dumps(run_cell(*given["cell"].split("/"), given["seconds"], data_of(given))))
        return 0
    import_tensorflow()
    import rebar_tf as rt

    for name in given["estimators"] or ():
        if name not in rt.estimators.names():
            raise BadInput(f"flag --estimators={name}: expected some of {', '.join(rt.estimators.names())}")
    run_missing(list(cells(given)), given)
    write_page(rows_of(given))
    return 0


def data_of(given: dict[str, Any]) -> dict[str, Any]:
    """The flags that say which images."""
    return {name: given[name] for name in ("dataset", "data_dir")}


TASKS = {"sbn": "generative", "sp": "structured"}
NETS = {"linear1": (1, False), "linear2": (2, False), "nonlinear1": (1, True)}
CODES = {"code": [(10, 8)], "two_codes": [(20, 4), (10, 8)]}
MODELS = (*(f"{task}_{net}" for task in TASKS for net in NETS), *CODES)


def setting(name: str, data: dict[str, Any]) -> Setting:
    """A model by its name: one of the paper's, or one with categorical codes."""
    from benchmarks import models

    if name in CODES:
        return models.categorical_autoencoder(CODES[name], **data)
    task, net = name.split("_")
    return models.paper_network(TASKS[task], *NETS[net], learning_rate=_RATE, **data)


Cell = tuple[str, str, int]


def cells(given: dict[str, Any]) -> Iterable[Cell]:
    """Models, estimators that serve them, and seeds: a whole seed before the next."""
    names = {model: setting(model, data_of(given)).estimators() for model in given["models"]}
    for seed, model in itertools.product(range(given["seeds"]), given["models"]):
        for name in names[model]:
            if given["estimators"] is None or name in given["estimators"]:
                yield model, name, seed


def run_missing(asked: list[Cell], given: dict[str, Any]) -> None:
    """Runs the cells that the table has no row of, so many at a time."""
    cores = given["cores"]
    done = {(row["model"], row["estimator"], int(row["seed"])) for row in rows_of(given)}
    missing = [cell for cell in asked if cell not in done]
    free: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0))[:cores]:
        free.put(core)

    def run(cell: Cell) -> dict[str, Any]:
        core = free.get()
        try:
            return in_a_process(cell, given, core)
        finally:
            free.put(core)

    with concurrent.futures.ThreadPoolExecutor(max_workers=cores) as pool:
        for i, found in enumerate(pool.map(run, missing), start=1):
            append_row(found)
            print(f"{i} of {len(missing)}: " + ", ".join(f"{key} {value}" for key, value in found.items()), flush=True)


def in_a_process(cell: Cell, given: dict[str, Any], core: int) -> dict[str, Any]:
    """The row of a cell, of a process that may use one core."""
    name = "/".join(map(str, cell))
    asked = {"cell": name, "seconds": given["seconds"], **data_of(given)}
    command = [sys.executable, "-m", "benchmarks.leaderboard"]
    command += [f"--{key}={value}" for key, value in asked.items() if value is not None]
    settings = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    confined = functools.partial(os.sched_setaffinity, 0, {core})
    ended = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, preexec_fn=confined)
    if ended.returncode:
        raise RuntimeError(f"{name} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def run_cell(model_name: str, estimator: str, seed: str, seconds: float, data: dict[str, Any]) -> dict[str, Any]:
    """Trains one cell in this process: its row."""
    import_tensorflow()
    import keras
    import numpy as np

    import rebar_tf as rt
    from benchmarks import models

    own = setting(model_name, data)
    batch = [part[: models.BATCH] for part in own.train]
    of_a_million = -(-1_000_000 // (models.BATCH * evaluations(own.build(estimator, int(seed)), batch)))
    model = own.build(estimator, int(seed))

    def bound() -> float:
        bounds = [model.bound(*own.held_out, num_samples=1, seed=number).mean() for number in range(_SAMPLES)]
        return round(float(np.mean(bounds)), 3)

    class Clock(keras.callbacks.Callback):
        """Ends the training after that time; the first program, which is compiled, and what measures do not count."""

        started, bound_of_a_million = None, None

        def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
            now = time.process_time()
            self.started = self.started or now
            if self.bound_of_a_million is None and rt.callbacks.global_step(self.model) >= of_a_million:
                self.bound_of_a_million = bound()
                self.started += time.process_time() - now
            self.model.stop_training = now - self.started > seconds

    clock = Clock()
    images = models.whole_programs(*own.train)
    model.fit(*images, batch_size=models.BATCH, epochs=10**6, verbose=0, callbacks=[clock])
    return {
        "dataset": data["dataset"],
        "model": model_name,
        "estimator": estimator,
        "seed": int(seed),
        "seconds": seconds,
        "steps": rt.callbacks.global_step(model),
        "bound": bound(),
        "steps_of_a_million": of_a_million,
        "bound_of_a_million": clock.bound_of_a_million,
    }


def evaluations(model: rt.training.StochasticTraining, batch: list[np.ndarray]) -> int:
    """How often an estimate evaluates the objective, counted by the calls of the first stochastic layer."""
    layer, count = model.stochastic_layers[0], 0
    call = layer.call

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return call(*args, **kwargs)

    layer.call = counted
    model.estimate_gradients(*batch)  # not compiled, so that a loop calls the layer as often as it turns
    layer.call = call
    return count


def read_rows() -> list[dict[str, str]]:
    """What is done."""
    if not TABLE.exists():
        return []
    with open(TABLE, newline="") as file:
        return list(csv.DictReader(file))


def rows_of(given: dict[str, Any]) -> list[dict[str, str]]:
    """Those of the given models and seeds, on the same images in the same time."""
    key = (given["dataset"], given["seconds"])
    rows = [row for row in read_rows() if (row["dataset"], float(row["seconds"])) == key]
    return [row for row in rows if row["model"] in given["models"] and int(row["seed"]) < given["seeds"]]


def append_row(row: dict[str, Any]) -> None:
    """Adds a row to the table."""
    is_new = not TABLE.exists()
    with open(TABLE, "a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def write_page(rows: list[dict[str, str]]) -> None:
    """The tables of docs/leaderboard.md, from rows on the same images in the same time."""
    models = [name for name in MODELS if any(row["model"] == name for row in rows)]
    seeds = len({row["seed"] for row in rows})
    sections = [
        f"On {rows[0]['dataset']}, in {float(rows[0]['seconds']):g} seconds of one core, mean of {seeds} seed(s):",
        table(rows, models, "bound"),
        "After a million evaluations of the objective for single images (`-`: the seconds do not suffice for so many):",
        table(rows, models, "bound_of_a_million"),
    ]
    PAGE.write_text(markdown.replace_between_markers(PAGE.read_text(), "leaderboard", "\n\n".join(sections)))


def table(rows: list[dict[str, str]], models: list[str], column: str) -> str:
    """Mean bounds by estimator and model, the best mean rank first; the best of each model in bold.

    One that some model has no bound of has no mean rank, and comes last.
    """
    import numpy as np

    bounds: dict[str, dict[str, float]] = {}
    for name in sorted({row["estimator"] for row in rows}):
        own = [row for row in rows if row["estimator"] == name and row[column]]
        of_models = {model: [float(row[column]) for row in own if row["model"] == model] for model in models}
        bounds[name] = {model: float(np.mean(found)) for model, found in of_models.items() if found}
    ranks: dict[str, list[int]] = {name: [] for name in bounds}
    best: dict[str, list[str]] = {}
    for model in models:
        order = sorted((name for name in bounds if model in bounds[name]), key=lambda name: place(bounds[name][model]))
        best[model] = order[:1]
        for rank, name in enumerate(order, start=1):
            ranks[name].append(rank)
    lines = []
    means = {name: float(np.mean(own)) if len(own) == len(models) else math.inf for name, own in ranks.items()}
    for name in sorted((name for name in bounds if ranks[name]), key=lambda name: means[name]):
        cells = [f"{bounds[name][model]:.1f}" if model in bounds[name] else "-" for model in models]
        marked = [f"**{cell}**" if name in best[model] else cell for cell, model in zip(cells, models, strict=True)]
        lines.append([f"`{name}`", f"{means[name]:.1f}" if math.isfinite(means[name]) else "-", *marked])
    return markdown.table(["estimator", "mean rank", *models], lines)


def place(bound: float) -> float:
    """What sorts bounds, the highest first; last what diverged."""
    return math.inf if math.isnan(bound) else -bound


if __name__ == "__main__":
    sys.exit(main(sys.argv))
