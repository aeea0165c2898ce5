"""Programs of several steps: every batch counts once, in its place."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.marks import slow_but

import rebar_tf as rt
from rebar_tf.training.multi_step import multi_step_function, step_by_step
from rebar_tf.training.stacked_batches import stack_fit


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [(1, [123, 123456, 1234567]), (3, [61507]), (4, [1018])],
    ids=["a short last program", "an odd last batch", "an odd batch after one"],
)
def test_a_program_takes_every_batch_once_and_in_order(batch_size, expected):
    base = 10.0 if batch_size == 1 else 100.0
    digits = tf.Variable(0.0)
    program = step_by_step(
        train_step=lambda batch: digits.assign(base * digits + tf.reduce_sum(batch)),
        read_logs=lambda: {"digits": digits.value()},
    )
    train = multi_step_function(program, steps=3)
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


class OwnLogs(rt.StochasticModel):
    def train_step(self, data):
        return {"mine": tf.constant(7.0), "loss": super().train_step(data)["loss"]}


@pytest.mark.parametrize("how", ["many steps", "two devices"])
def test_a_step_of_ones_own_has_the_logs_that_it_returns(how, two_devices):
    strategy = two_devices if how == "two devices" else tf.distribute.get_strategy()
    with strategy.scope():
        x = keras.Input((3,))
        b = rt.layers.StochasticBinary(estimator="reinforce")(keras.layers.Dense(2)(x))
        model = OwnLogs(x, keras.layers.Dense(2)(b))
        many = how == "many steps"
        model.compile("sgd", loss="mse", jit_compile=many, steps_per_execution=2 if many else 1)
    logs = model.fit(np.zeros([8, 3]), np.ones([8, 2]), batch_size=2, verbose=0).history
    assert logs["mine"] == [7.0]
    assert logs["loss"][0] > 0.0


def test_a_step_of_ones_own_is_taken_alone_under_a_strategy(two_devices):
    with two_devices.scope():
        x = keras.Input((3,))
        b = rt.layers.StochasticBinary(estimator="reinforce")(keras.layers.Dense(2)(x))
        model = OwnLogs(x, keras.layers.Dense(2)(b))
        model.compile("sgd", loss="mse", jit_compile=False, steps_per_execution=2)
    with pytest.raises(
        ValueError, match=r"`steps_per_execution` must be 1 .* `train_step` or .* of its own. Received: .*=2"
    ):
        model.fit(np.zeros([8, 3]), np.ones([8, 2]), batch_size=2, verbose=0)


def small_network(**compiled):
    keras.utils.set_random_seed(1)
    x = keras.Input((None, 3))
    b = rt.layers.StochasticBinary("reinforce", seed=1)(keras.layers.Dense(2)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(b)))
    model.compile(keras.optimizers.SGD(0.1), loss="mse", **compiled)
    return model


ONE_BY_ONE, MANY = {"jit_compile": False}, {"jit_compile": True, "steps_per_execution": 3}


@pytest.mark.parametrize("weights", [None, np.array([0.5, 2.0], np.float32)])
def test_a_single_batch_is_trained_on_by_a_program_of_many_steps(weights):
    models = [small_network(**compiled) for compiled in (ONE_BY_ONE, MANY)]
    for _ in range(2):
        logs = [m.train_on_batch(np.ones([2, 4, 3]), np.ones([2, 2]), weights, return_dict=True) for m in models]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("lengths", [[4, 4, 5, 5, 5, 4, 6, 4], [4, 5, 4, 5, 4, 5], [4, 4, 4, 4]])
def test_batches_of_several_shapes_are_all_taken_in_their_order(lengths):
    def batches():
        for i, length in enumerate(lengths):
            yield np.full([2, length, 3], 0.1 * i, np.float32), np.ones([2, 2], np.float32)

    specs = (tf.TensorSpec([2, None, 3]), tf.TensorSpec([2, 2]))
    data = tf.data.Dataset.from_generator(batches, output_signature=specs)
    data = data.apply(tf.data.experimental.assert_cardinality(len(lengths)))
    models = [small_network(**compiled) for compiled in (ONE_BY_ONE, MANY)]
    histories = [model.fit(data, epochs=2, shuffle=False, verbose=0).history for model in models]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)
    assert [int(model.optimizer.iterations) for model in models] == [2 * len(lengths)] * 2
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("optimizer", "copies"), [(rt.optimizers.Adam, 0), (keras.optimizers.Adam, 1)])
def test_no_weight_is_copied_where_updates_wait_for_the_passes(optimizer, copies):
    """XLA copies one that may be updated before its last reader is done: here that of the layer after the sample."""
    x = keras.Input((3,), batch_size=2)
    b = rt.layers.StochasticBinary(estimator="rebar")(keras.layers.Dense(5)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(7)(b))
    model.compile(optimizer(0.1), loss="mse", jit_compile=True, steps_per_execution=2)
    model.fit(np.zeros([4, 3]), np.zeros([4, 7]), batch_size=2, verbose=0)
    batches = (tf.zeros([2, 2, 3]), tf.zeros([2, 2, 7]))
    program = model.train_function.program.experimental_get_compiler_ir(batches, tf.constant(2))("optimized_hlo")
    body = program[: program.index("ENTRY")]
    assert len(re.findall(r"= f32\[5,7\]\S* copy\(", body)) == copies


ON_THE_HOST = re.compile(
    r"\b(infeed|outfeed|send|recv|send-done|recv-done)\(|custom_call_target=\"[^\"]*([Cc]all[Bb]ack|Host)"
)


def test_what_finds_the_host_finds_it():
    hlo = 'c = f32[] custom-call(x), custom_call_target="xla_python_cpu_callback"\no = token[] outfeed(x, t)'
    assert len(ON_THE_HOST.findall(hlo)) == 2


@pytest.mark.parametrize("name", slow_but(["rebar", "disarm", "nvil"], rt.estimators.names("bernoulli")))
def test_no_step_falls_back_to_the_host(name):
    """The whole program is XLA's: nothing in it calls Python, or waits for the host."""
    x = keras.Input((3,), batch_size=2)
    b = rt.layers.StochasticBinary(estimator=name)(keras.layers.Dense(5)(x))
    model = rt.StochasticModel(x, keras.layers.Dense(7)(b))
    model.compile(rt.optimizers.Adam(0.1), loss="mse", jit_compile=True, steps_per_execution=2)
    model.fit(np.zeros([4, 3]), np.zeros([4, 7]), batch_size=2, verbose=0)
    batches = (tf.zeros([2, 2, 3]), tf.zeros([2, 2, 7]))
    program = model.train_function.program.experimental_get_compiler_ir(batches, tf.constant(2))("hlo")
    assert "while(" in program  # the steps
    assert ON_THE_HOST.search(program) is None


def _epochs(count, batch_size, shuffle, data, steps=3):
    """The batches of some epochs of `fit` on arrays, as `train` is given them."""
    arguments = stack_fit(steps, keras.Model(), **data, batch_size=batch_size, shuffle=shuffle)
    iterator, epochs = iter(arguments["x"]), []
    for _ in range(count):
        epochs.append([])
        for _ in range(0, arguments["steps_per_epoch"], steps):
            stacked = next(iterator)
            parts = [*(tf.nest.map_structure(lambda part, i=i: part[i], stacked.batches) for i in range(stacked.count))]
            epochs[-1] += [*parts, *([stacked.rest] if stacked.has_rest else [])]
    return epochs


@pytest.mark.parametrize("size", [1, 4, 6, 7, 8, 12, 13, 14, 18, 19])
def test_stacked_arrays_are_the_batches_of_keras(size):
    x, y = np.arange(size * 2.0).reshape(size, 2), {"a": np.arange(size), "b": np.arange(size) > 2}
    data = {"x": x, "y": y}
    expected = [[x[i : i + 4], y["a"][i : i + 4], y["b"][i : i + 4]] for i in range(0, size, 4)]
    epochs = _epochs(2, 4, False, data)
    for epoch in epochs:
        found = [tf.nest.flatten(batch) for batch in epoch]
        assert len(found) == len(expected)
        for batch, parts in zip(found, expected, strict=True):
            assert [part.numpy().tolist() for part in batch] == [part.tolist() for part in parts]
            assert [part.dtype for part in batch] == [tf.float32, tf.int64, tf.bool]


def test_stacked_arrays_come_in_a_new_order_each_epoch():
    epochs = _epochs(3, 4, True, {"x": np.arange(50.0), "y": np.arange(50), "sample_weight": np.arange(50.0)})
    orders = []
    for epoch in epochs:
        x, y, sample_weight = (np.concatenate([batch[i] for batch in epoch]) for i in range(3))
        assert x.tolist() == y.tolist() == sample_weight.tolist()
        assert sorted(x) == [*range(50)]
        orders.append(tuple(x))
    assert len(set(orders)) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": {0: 1.0, 1: 2.0}},
        {"validation_split": 0.5},
        {"steps_per_epoch": 2},
        {"batch_size": -2},
        {"x": [[1.0], [2.0]]},
        {"x": tf.zeros([8, 1])},
        {"x": np.zeros([7, 1])},
        {"x": np.zeros([8, 1], "object")},
        {"y": {"a": np.zeros(8)}, "sample_weight": np.ones(8)},
    ],
    ids=lambda options: ", ".join(options),
)
def test_keras_takes_other_data_batch_by_batch(options):
    assert stack_fit(3, keras.Model(), **{"x": np.zeros([8, 1]), "y": np.zeros(8), **options}) is None
    assert stack_fit(3, keras.Model(), x=np.zeros([8, 1]), y=np.zeros(8)) is not None


@pytest.mark.parametrize("spec", [lambda x: x, lambda x: (x,), lambda x: ((x, x),), lambda x: (x, {"a": x})])
def test_a_stacked_dataset_keeps_the_structure_of_its_batches(spec):
    dataset = tf.data.Dataset.from_tensor_slices(tf.range(24)).batch(4, drop_remainder=True).map(spec)
    stacked = stack_fit(3, keras.Model(), dataset, steps_per_epoch=6)["x"].element_spec
    assert tf.nest.map_structure(lambda part: part.shape[1:], stacked.batches) == tf.nest.map_structure(
        lambda part: part.shape, dataset.element_spec
    )
