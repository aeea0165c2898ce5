"""Programs of several steps: every batch counts once, in its place."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import rebar_tf as rt
from rebar_tf.training.multi_step import multi_step_function


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [(1, [123, 123456, 1234567]), (3, [61507]), (4, [1018])],
    ids=["a short last program", "an odd last batch", "an odd batch after one"],
)
def test_a_program_takes_every_batch_once_and_in_order(batch_size, expected):
    base = 10.0 if batch_size == 1 else 100.0
    digits = tf.Variable(0.0)
    train = multi_step_function(
        train_step=lambda batch: digits.assign(base * digits + tf.reduce_sum(batch)),
        read_logs=lambda: {"digits": digits.value()},
        steps=3,
        is_stacked=lambda iterator: False,
    )
    iterator = iter(tf.data.Dataset.from_tensor_slices(tf.range(1.0, 8.0)).batch(batch_size))
    assert [float(train(iterator)["digits"]) for _ in expected] == expected
    with pytest.raises(StopIteration):
        train(iterator)


@pytest.mark.parametrize(("jit_compile", "steps"), [(False, 1), (True, 2)], ids=["Keras's way", "many steps"])
def test_a_step_is_traced_once(jit_compile, steps):
    traces = []

    class Counted(rt.StochasticModel):
        def train_step(self, data):
            traces.append(data)
            return super().train_step(data)

    x = keras.Input((3,))
    outputs = keras.layers.Dense(2)(rt.layers.StochasticBinary(estimator="reinforce")(keras.layers.Dense(2)(x)))
    model = Counted(x, outputs)
    model.compile(keras.optimizers.Adam(), loss="mse", jit_compile=jit_compile, steps_per_execution=steps)
    model.fit(np.zeros([8, 3]), np.zeros([8, 2]), batch_size=2, verbose=0)
    assert len(traces) == 1
