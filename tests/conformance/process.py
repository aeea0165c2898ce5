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

from tests.conformance import catalogue, checks  # noqa: E402


def main(folder):
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    jobs = {
        "saved": functools.partial(checks.load_and_go_on, folder=folder),
        "mirrored": functools.partial(checks.replicate, strategy=strategy),
    }
    failures = {}
    for row in catalogue.ROWS:
        for name, job in jobs.items():
            if name == "mirrored" or row.kind not in checks.NO_FILE:
                try:
                    job(row)
                except Exception:
                    failures[f"{name} {row.name}"] = traceback.format_exc()
    (folder / "failures.json").write_text(json.dumps(failures))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
