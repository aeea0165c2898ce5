"""A functional Keras model with one stochastic layer, of the paper's size, trained by `fit` on arrays.

  python -m benchmarks.drop_in --data_dir=DIR --num_steps=3000

Prints a line for each 500 steps, and JSON at the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from trainers.common import flags
from trainers.common.errors import reports_bad_input
from trainers.common.experiment import FLAGS, Experiment
from trainers.common.tensorflow_import import import_tensorflow

_BATCH, _REPORT = 24, 500


@reports_bad_input("drop_in")
def main(argv: Sequence[str]) -> int:
    values = flags.Flags()
    flags.define_experiment(values, *FLAGS)
    experiment = Experiment.from_flags(flags.parse(values, argv, __doc__))
    import_tensorflow()
    import keras

    import rebar_tf as rt

    images = rt.datasets.load(experiment.dataset, experiment.data_dir).train[: _REPORT * _BATCH].astype("float32")

    keras.utils.set_random_seed(experiment.seed)
    x = keras.Input((784,))
    b = rt.layers.StochasticBinary(estimator="rebar")(keras.layers.Dense(200)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(784)(b))
    model.compile(
        optimizer=rt.optimizers.Adam(3e-4),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=100,
        jit_compile=True,
    )

    class Lines(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            print(f"step {(epoch + 1) * _REPORT}  loss {logs['loss']:.4f}", flush=True)

    print("step 0", flush=True)
    epochs = experiment.num_steps // _REPORT
    history = model.fit(images, images, batch_size=_BATCH, epochs=epochs, callbacks=[Lines()], verbose=0).history
    print(json.dumps({"loss": history["loss"][-1]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
