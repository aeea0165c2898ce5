"""Trains several cells of a sweep in one program: `python -m trainers.sweep.group "FLAGS" "FLAGS" ...`.

Each argument has the flags of `trainers.train` for one cell. Each cell has its folder, as if it was trained alone, and
its progress lines in log.txt there. One that diverges says so in its log and has no summary; the others go on.
"""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import BadInput, reports_bad_input
from trainers.common.experiment import FLAGS, Experiment
from trainers.common.signals import exits_on_signals
from trainers.common.tensorflow_import import import_tensorflow
from trainers.sweep.cell import stop_at_end_of_input

_OWN = ("seed", "learning_rate", "workdir")  # flags in which cells differ


def parse(text: str) -> Experiment:
    """The experiment of a cell's flags."""
    values = flags.Flags()
    flags.define_experiment(values, *FLAGS)
    return Experiment.from_flags(flags.parse(values, ["cell", *shlex.split(text)], __doc__, options_without=()))


def check(experiments: Sequence[Experiment]) -> None:
    """Raises `BadInput` unless the cells differ in seed, learning rate and folder alone, and each has a folder."""
    folders = [experiment.workdir for experiment in experiments]
    if not folders or None in folders or len({*folders}) < len(folders):
        raise BadInput(f"the cells of a group: expected a --workdir of its own for each; came {folders}")
    first, *rest = [{**experiment.flags(), **dict.fromkeys(_OWN)} for experiment in experiments]
    for flags_of_cell in rest:
        for name, value in first.items():
            if flags_of_cell[name] != value:
                raise BadInput(f"flag --{name}={flags_of_cell[name]}: expected {value} for all cells of a group")


@reports_bad_input("sweep")
def main(argv: Sequence[str]) -> int:
    """Trains, or continues to train, the cells."""
    with exits_on_signals():
        experiments = [parse(text) for text in argv[1:]]
        check(experiments)
        import_tensorflow()
        from trainers.sweep import group_training

        group_training.train(experiments)
    return 0


if __name__ == "__main__":
    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    sys.exit(main(sys.argv))
