"""`python -m tests.conformance.process FOLDER`: the checks that need another process, two devices among them.

Writes what failed to `failures.json` in the folder, where `checks.save_and_go_on` has left the models.
"""

import functools
import json
import os
import pathlib
import sys
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainers.common.tensorflow_import import import_tensorflow

import_tensorflow()

import tensorflow as tf  # noqa: E402

(CPU,) = tf.config.list_physical_devices("CPU")  # two of it, before TensorFlow starts
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

from tests.conformance import catalogue, checks  # noqa: E402


def main(folder):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    jobs = {
        "saved": functools.partial(checks.load_and_go_on, folder=folder),
        "MirroredStrategy": functools.partial(checks.replicate, strategy=strategy),
    }
    rows = {row.name: row for row in catalogue.ROWS}
    failures = {}
    for column, name in json.loads((folder / "cells.json").read_text()):
        try:
            jobs[column](rows[name])
        except Exception:
            failures[f"{column}, {name}"] = traceback.format_exc()
    (folder / "failures.json").write_text(json.dumps(failures))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
