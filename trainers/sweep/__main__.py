"""Trains a grid of methods, learning rates and seeds, and picks the best rate on the validation images.

  python -m trainers.sweep
      NVIL, MuProp, REBAR(0.1), REBAR and Concrete(0.1), at the learning rates of the paper's appendix G, on digits
      that need no download.

  python -m trainers.sweep --tasks=mnist_larochelle:generative,mnist_larochelle:structured --data_dir=data
      --learning_rates=3e-4 --nonlinear_learning_rates=1e-4 --num_steps=2000000 --workdir=runs/paper
      The MNIST cells of tables App.1 and App.2 at full length, at one rate and one seed. (One command, in one line.)

  python -m trainers.sweep --methods=nvil,rebar --learning_rates=3e-4 --seeds=0,1,2 --results=results/three.csv
      A grid of your choice; the table apart from the runs.

  python -m trainers.sweep --backend=dask --cluster=tcp://HOST:8786 --jobs=16 --workdir=/shared/sweep
      The same on a cluster whose machines share --workdir (pip install 'rebar_tf[sweep]'). A cell whose worker dies
      goes on from its checkpoint on another.

Each cell is a run of trainers.train in a separate process, or with --stacked several are one process and one program,
on its share of the cores, with a folder of its own below --workdir, where log.txt has its output. results.csv has a row
for each cell that has finished, diverged or failed. The same command continues an interrupted sweep: finished cells are
skipped, others resume from their checkpoints; diverged and failed ones are tried again with --retry. A larger
--num_steps continues finished cells as well. Ctrl-C and SIGTERM save the checkpoints before the program ends, with
status 130 and 143. The last line of the output counts the cells; the status is 1 if some failed or were not run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import BadInput, reports_bad_input
from trainers.common.experiment import FREE_FLAGS
from trainers.common.signals import exits_on_signals
from trainers.common.tensorflow_import import import_tensorflow
from trainers.sweep.settings import BACKENDS, MODELS, SHARED_FLAGS, Settings

_METHODS = ("nvil", "muprop", "rebar:0.1", "rebar", "concrete:0.1")


def parse(argv: Sequence[str]) -> Settings:
    """The settings of a command line."""
    values = flags.Flags()
    of_a_cell = (name for name in FREE_FLAGS if name != "worker_minutes")  # a cell is one process
    flags.define_experiment(values, *SHARED_FLAGS, *of_a_cell, "num_steps")
    text = (
        "What is trained on what, separated by commas. Expected: dataset:task, as in mnist:structured, of the names of "
        "--dataset and --task of trainers.train."
    )
    flags.define_list(values, "tasks", ["mnist_5k:generative"], text)
    text = f"Models, separated by commas. Expected: {', '.join(MODELS)}."
    flags.define_list(values, "models", list(MODELS), text)
    flags.define_methods(values, _METHODS)
    text = "Of the linear models, separated by commas. Expected: positive numbers."
    flags.define_list(values, "learning_rates", ["3e-5", "1e-4", "3e-4", "1e-3", "3e-3"], text)
    text = "Of the nonlinear model, separated by commas. Expected: positive numbers."
    flags.define_list(values, "nonlinear_learning_rates", ["3e-5", "1e-4"], text)
    flags.define_list(values, "seeds", ["0"], "Seeds, separated by commas. Expected: integers of 0 or more.")
    text = "File of the table. Expected: a path that ends in .csv. Unset: results.csv in --workdir."
    flags.define_string(values, "results", None, text)
    flags.define_boolean(values, "retry", False, "Whether cells that failed or diverged are tried again.")
    flags.define_integer(
        values, "jobs", None, "Processes at a time, each with a cell or with --stacked. Unset: one a core.", low=1
    )
    text = "Cells that one program trains, of those that differ in learning rate and seed alone; for an accelerator."
    flags.define_integer(values, "stacked", 1, text, low=1)
    flags.define_enum(values, "backend", "local", BACKENDS, "Where the cells are trained.")
    text = "Address of the cluster of --backend. Unset: a cluster of --jobs workers on this machine."
    flags.define_string(values, "cluster", None, text)
    settings = Settings.from_flags(flags.parse(values, argv, __doc__))
    if settings.results is not None and not settings.results.endswith(".csv"):
        raise BadInput(f"flag --results={settings.results}: expected a path that ends in .csv")
    if settings.cluster is not None and settings.backend == "local":
        raise BadInput(f"flag --cluster={settings.cluster}: expected with --backend=dask or ray")
    if settings.stacked > 1 and settings.backend != "local":
        raise BadInput(f"flag --stacked={settings.stacked}: expected 1 with --backend={settings.backend}")
    return settings


@reports_bad_input("sweep")
def main(argv: Sequence[str]) -> int:
    """Trains, or continues to train, the cells of the flags."""
    with exits_on_signals():
        settings = parse(argv)
        import_tensorflow()
        from trainers.sweep import training

        return training.run(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
