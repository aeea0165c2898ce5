"""The callbacks, each driven by hand; the trainer's tests run them together."""

import copy
import csv
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import rebar_tf as rt
from rebar_tf import callbacks

ROOT = pathlib.Path(__file__).parents[2]


def stub(step=0, **attributes):
    """What the callbacks ask a model for."""
    return types.SimpleNamespace(optimizer=types.SimpleNamespace(iterations=step), **attributes)


def attach(callback, model):
    callback.set_model(model)
    return callback


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(time, "monotonic", lambda: now.seconds)
    return now


def test_a_report_has_the_bound_in_place_of_the_loss():
    assert callbacks.report({"loss": 150.0, "temperature": 0.5}) == {"bound": -150.0, "temperature": 0.5}


def test_speed_leaves_out_the_first_program_and_the_time_between_epochs(clock):
    model, logs = stub(), {}
    callback = attach(callbacks.StepsPerSecond(), model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    clock.seconds += 60.0  # compilation
    model.optimizer.iterations = 100
    callback.on_train_batch_end(99)
    clock.seconds += 2.0
    model.optimizer.iterations = 500
    callback.on_train_batch_end(499)
    callback.on_epoch_end(0, logs)
    assert logs["steps_per_second"] == pytest.approx(200.0)

    clock.seconds += 30.0  # another callback
    callback.on_epoch_begin(1)
    clock.seconds += 1.0
    model.optimizer.iterations = 1000
    callback.on_train_batch_end(499)
    callback.on_epoch_end(1, logs)
    assert logs["steps_per_second"] == pytest.approx(500.0)


def test_speed_leaves_out_the_time_of_validation(clock):
    model, logs = stub(), {}
    callback = attach(callbacks.StepsPerSecond(), model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(99)
    clock.seconds += 2.0
    model.optimizer.iterations = 500
    callback.on_train_batch_end(499)
    callback.on_test_begin()
    clock.seconds += 50.0
    callback.on_test_end()
    callback.on_epoch_end(0, logs)
    assert logs["steps_per_second"] == pytest.approx((500 - 0) / 2.0)


def test_reports_leave_out_what_is_no_number():
    logs = {"loss": 1.0, "f1": np.array([0.5, 0.2]), "mae": np.float32(0.5)}
    assert callbacks.report(logs) == {"bound": -1.0, "mae": 0.5}


def test_an_epoch_of_one_program_that_compiles_has_no_speed(clock):
    model, logs = stub(), {}
    callback = attach(callbacks.StepsPerSecond(), model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    model.optimizer.iterations = 5
    callback.on_train_batch_end(4)
    callback.on_epoch_end(0, logs)
    assert logs == {}


def test_validation_bound_is_the_mean_over_examples():
    asked = []

    def bound(x, y, num_samples):
        asked.append((x, y, num_samples))
        return np.array([-1.0, -2.0, -6.0], np.float32)

    logs = {}
    attach(callbacks.ValidationBound("images", num_samples=7), stub(bound=bound)).on_epoch_end(0, logs)
    assert logs == {"valid_bound": -3.0}
    assert asked == [("images", None, 7)]


def test_progress_line():
    lines = []
    callback = attach(callbacks.ProgressLine(3000, print_fn=lines.append), stub(500))
    logs = {"loss": 206.0, "valid_bound": -188.94, "log_grad_variance": -4.78, "temperature": 0.3663}
    callback.on_epoch_end(0, {**logs, "steps_per_second": 2.0})
    assert lines == [
        "step  500/3000  bound -206.00  valid -188.94  log grad variance -4.78  temperature 0.366"
        "  2 steps/s  0:20:50 to go"
    ]


def test_progress_line_leaves_out_what_there_is_not():
    lines = []
    attach(callbacks.ProgressLine(print_fn=lines.append), stub(500)).on_epoch_end(0, {"loss": 206.0})
    assert lines == ["step 500  bound -206.00"]


def test_tensorboard_points_are_at_the_global_step(tmp_path):
    model = stub(1500)
    callback = attach(callbacks.TensorBoard(tmp_path), model)
    callback.on_train_begin()
    callback.on_epoch_end(0, {"loss": 200.0, "temperature": 0.5})
    model.optimizer.iterations = 2000
    callback.on_epoch_end(1, {"loss": 150.0, "temperature": 0.25})
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    points = {
        tag: [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in values]
        for tag, values in ((tag, events.Tensors(tag)) for tag in events.Tags()["tensors"])
        if tag != "custom_scalars__config__"
    }
    assert points == {"bound/train": [(1500, -200.0), (2000, -150.0)], "temperature": [(1500, 0.5), (2000, 0.25)]}


def test_tensorboard_groups_what_belongs_together(tmp_path):
    x = keras.Input((2,))
    model = rt.StochasticModel(x, rt.layers.StochasticBinary("rebar")(keras.layers.Dense(3, name="code")(x)))
    model.compile(rt.optimizers.Adam(), loss="mse", run_eagerly=True)
    data = np.zeros([4, 2], np.float32), np.zeros([4, 3], np.float32)
    bound = callbacks.ValidationBound(*data)
    for _ in range(2):  # one process, and one that goes on
        reports = [callbacks.StepsPerSecond(), bound, callbacks.TensorBoard(tmp_path)]
        model.fit(*data, batch_size=2, verbose=0, callbacks=reports)
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}, purge_orphaned_data=False).Reload()
    assert {*events.Tags()["tensors"]} == {
        *("bound/train", "bound/valid", "variance/all", "temperature", "speed", "eta/code/kernel", "eta/code/bias"),
        *("variance/code", "etas", "custom_scalars__config__"),
    }
    (layout,) = events.Tensors("custom_scalars__config__")
    (category,) = layout_pb2.Layout.FromString(tf.make_ndarray(layout.tensor_proto).item()).category
    charts = {chart.title: list(chart.multiline.tag) for chart in category.chart}
    assert charts == {"bound": ["^bound/"], "log variance of the gradient": ["^variance/[^/]+$"]}


def test_a_tensorboard_callback_is_copied(tmp_path):
    copied = copy.deepcopy(callbacks.TensorBoard(tmp_path, every=5))
    assert (copied.log_dir, copied.every) == (tmp_path, 5)


def events(log_dir):
    """(step, value) of each event of the curve `bound/train`, as it stands in the files."""
    raw = EventAccumulator(str(log_dir), size_guidance={"tensors": 0}, purge_orphaned_data=False).Reload()
    return [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in raw.Tensors("bound/train")]


def train_to(log_dir, start, *steps):
    """Writes reports at some steps, as one process would that goes on from the step `start`."""
    model = stub(start)
    callback = attach(callbacks.TensorBoard(log_dir, every=5), model)
    callback.on_train_begin()
    for step in steps:
        model.optimizer.iterations = step
        callback.on_epoch_end(0, {"loss": float(step)})


@pytest.mark.parametrize(("killed_after", "checkpoint"), [((5, 10, 15), 7), ((5, 10, 15), 10), ((5,), 0), ((5, 8), 8)])
def test_a_resume_leaves_no_gap_and_no_doubled_point(tmp_path, killed_after, checkpoint):
    train_to(tmp_path, 0, *killed_after)
    train_to(tmp_path, checkpoint, *range(checkpoint // 5 * 5 + 5, 25, 5))
    assert events(tmp_path) == [(step, -float(step)) for step in (5, 10, 15, 20)]


def test_a_long_epoch_has_points_before_its_end(tmp_path, clock):
    model = stub(0)
    callback = attach(callbacks.TensorBoard(tmp_path, seconds=10.0), model)
    callback.on_train_begin()
    for step, seconds in ((1, 60.0), (2, 9.0), (3, 2.0), (4, 2.0), (5, 9.0)):  # the first program is compiled
        clock.seconds += seconds
        model.optimizer.iterations = step
        callback.on_train_batch_end(step, {"loss": float(step)})
    callback.on_epoch_end(0, {"loss": 5.0})
    assert events(tmp_path) == [(3, -3.0), (5, -5.0), (5, -5.0)]


def picture_events(log_dir, tag):
    raw = EventAccumulator(str(log_dir), size_guidance={"tensors": 0}, purge_orphaned_data=False).Reload()
    return [(event.step, tf.make_ndarray(event.tensor_proto)) for event in raw.Tensors(tag)]


def test_pictures_are_some_seconds_apart(tmp_path, clock):
    model, gradient = stub(0), np.linspace([0.0, 1.0], [1.0, 0.0], 3)
    callback = attach(callbacks.TensorBoard(tmp_path, seconds=10.0, pictures=lambda _: {"drawn": gradient}), model)
    callback.on_train_begin()
    for step in (5, 10, 15):
        clock.seconds += 6.0
        model.optimizer.iterations = step
        callback.on_epoch_end(0, {"loss": 1.0})
    found = picture_events(tmp_path, "drawn")
    assert [step for step, _ in found] == [5, 15]
    width, height, png = found[0][1]
    assert (width, height) == (b"2", b"3")
    np.testing.assert_array_equal(tf.io.decode_png(png)[..., 0], [[0, 255], [128, 128], [255, 0]])


def test_histograms_are_those_of_etas_and_logits(tmp_path):
    x = keras.Input((2,))
    dense = keras.layers.Dense(3, name="code")
    model = rt.StochasticModel(x, rt.layers.StochasticBinary("rebar", name="units")(dense(x)))
    model.compile(rt.optimizers.Adam(1e-9), loss="mse", run_eagerly=True)
    data = np.eye(2, dtype=np.float32)
    targets = np.zeros([2, 3], np.float32)
    model.fit(data, targets, verbose=0, callbacks=[callbacks.TensorBoard(tmp_path, x=data)])
    ((_, logits),) = picture_events(tmp_path, "logits/units")  # [bins, (left, right, count)]
    expected = dense(data).numpy()
    assert (logits[0, 0], logits[-1, 1]) == pytest.approx((expected.min(), expected.max()), rel=1e-4)
    assert logits[:, 2].sum() == expected.size
    ((_, etas),) = picture_events(tmp_path, "etas")
    assert etas[:, 2].sum() == 2  # of kernel and bias


def test_the_variance_of_a_part_is_that_of_its_weights(tmp_path):
    x = keras.Input((2,))
    b = rt.layers.StochasticBinary("rebar")(keras.layers.Dense(3, name="code")(x))
    model = rt.StochasticModel(x, keras.layers.Dense(3, name="decoder")(b))
    model.compile(rt.optimizers.Adam(), loss="mse", run_eagerly=True)
    model.fit(np.eye(2), np.zeros([2, 3]), verbose=0, callbacks=[callbacks.TensorBoard(tmp_path)])
    moments = model.gradient_variance
    for part, places in (("code", (0, 1)), ("decoder", (2, 3))):
        values = [np.ravel(moments.second[k] - moments.first[k] ** 2) for k in places]
        ((_, found),) = picture_events(tmp_path, f"variance/{part}")
        assert found == pytest.approx(np.log(np.concatenate(values).mean()), rel=1e-5)


def test_settings_are_hyperparameters(tmp_path):
    callback = attach(callbacks.TensorBoard(tmp_path, settings={"estimator": "rebar", "layers": 2}), stub(5))
    callback.on_train_begin()
    callback.on_epoch_end(0, {"loss": 1.0})
    metadata = EventAccumulator(str(tmp_path)).Reload().SummaryMetadata("_hparams_/session_start_info")
    found = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert (found["estimator"].string_value, found["layers"].number_value) == ("rebar", 2.0)


def test_seconds_below_0_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`seconds` must be a number of 0 or more. Received: seconds=-1"):
        callbacks.TensorBoard(tmp_path, seconds=-1)


def test_pictures_of_repeated_steps_are_removed(tmp_path):
    def train_to(start, *steps):
        model = stub(start)
        pictures = callbacks.TensorBoard(tmp_path, 5, 0.0, pictures=lambda _: {"drawn": np.zeros([2, 2])})
        callback = attach(pictures, model)
        callback.on_train_begin()
        for step in steps:
            model.optimizer.iterations = step
            callback.on_epoch_end(0, {"loss": float(step)})

    train_to(0, 5, 10, 15)
    train_to(10, 15, 20)
    assert [step for step, _ in picture_events(tmp_path, "drawn")] == [5, 10, 15, 20]


def test_a_damaged_event_file_is_named_and_read_up_to_the_damage(tmp_path, capsys):
    train_to(tmp_path, 0, 5, 10, 15)
    (path,) = tmp_path.iterdir()
    whole = bytearray(path.read_bytes())
    whole[-10] ^= 1  # in the third of three points
    path.write_bytes(whole)
    train_to(tmp_path, 15, 20)
    assert [step for step, _ in events(tmp_path)] == [5, 10, 20]
    assert f"{path} is damaged" in capsys.readouterr().out
    assert (tmp_path / path.name.replace("events.out.tfevents.", "damaged.")).read_bytes() == whole


def write_curve(path, *steps):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([callbacks.CURVE_COLUMNS, *([step, -float(step), "", "", "", ""] for step in steps)])


def test_curve_appends_rows_with_empty_cells_for_what_there_is_not(tmp_path):
    model = stub(0)
    callback = attach(callbacks.CurveCsv(tmp_path / "curve.csv"), model)
    callback.on_train_begin()
    model.optimizer.iterations = 5
    callback.on_epoch_end(0, {"loss": 200.125, "log_grad_variance": -4.5})
    assert (tmp_path / "curve.csv").read_text().splitlines() == [
        "step,bound,valid_bound,log_grad_variance,temperature,steps_per_second",
        "5,-200.125,,-4.5,,",
    ]
    assert callbacks.read_curve(tmp_path / "curve.csv") == [{"step": 5, "bound": -200.125, "log_grad_variance": -4.5}]


@pytest.mark.parametrize(("step", "kept"), [(15, [5, 10, 15]), (12, [5, 10]), (10, [5, 10]), (0, [])])
def test_curve_goes_on_without_the_rows_after_the_models_step(tmp_path, step, kept):
    path = tmp_path / "curve.csv"
    write_curve(path, 5, 10, 15, 20)
    attach(callbacks.CurveCsv(path, every=5), stub(step)).on_train_begin()
    assert [row["step"] for row in callbacks.read_curve(path)] == kept


def test_curve_goes_on_without_the_short_report_that_ended_it(tmp_path):
    path = tmp_path / "curve.csv"
    write_curve(path, 5, 10, 12)
    attach(callbacks.CurveCsv(path, every=5), stub(12)).on_train_begin()
    assert [row["step"] for row in callbacks.read_curve(path)] == [5, 10]


def test_curve_goes_on_after_a_line_that_was_cut_off(tmp_path):
    path, model = tmp_path / "curve.csv", stub(5)
    write_curve(path, 5)
    with open(path, "a") as file:
        file.write("1")
    callback = attach(callbacks.CurveCsv(path, every=5), model)
    callback.on_train_begin()
    model.optimizer.iterations = 10
    callback.on_epoch_end(0, {"loss": 3.0})
    assert callbacks.read_curve(path) == [{"step": 5, "bound": -5.0}, {"step": 10, "bound": -3.0}]


@pytest.mark.parametrize(
    ("line", "text"), [(0, b"stop,bound"), (0, b"\xff\x00,"), (2, b"10,-1o,,,,"), (2, b"10,-1"), (2, b'10,"-1,,,,')]
)
def test_a_damaged_line_of_a_curve_is_named(tmp_path, line, text):
    path = tmp_path / "curve.csv"
    write_curve(path, 5, 10, 15)
    lines = path.read_bytes().splitlines()
    lines[line] = text
    path.write_bytes(b"\r\n".join(lines) + b"\r\n")
    with pytest.raises(ValueError, match=rf"curve.csv: line {line + 1} is damaged; expected step,bound"):
        callbacks.read_curve(path)


def test_a_curve_that_was_removed_is_an_error(tmp_path):
    callback = attach(callbacks.CurveCsv(tmp_path / "curve.csv"), stub(0))
    callback.on_train_begin()
    (tmp_path / "curve.csv").unlink()
    with pytest.raises(FileNotFoundError):
        callback.on_epoch_end(0, {"loss": 1.0})


def test_there_is_no_curve_without_a_file(tmp_path):
    assert callbacks.read_curve(tmp_path / "curve.csv") == []


@pytest.mark.parametrize(("step", "total"), [(7, 3.0), (10, 0.0)])
def test_only_a_report_that_was_cut_goes_on(step, total):
    mean = keras.metrics.Mean(name="loss")
    mean.update_state([1.0, 2.0])
    callback = attach(callbacks.ContinueReport(every=5), stub(step, metrics=[mean]))
    callback.on_train_begin()
    mean.reset_state()  # as `fit` does at the start of each epoch
    callback.on_epoch_begin(0)
    assert float(mean.total) == total
    mean.reset_state()
    callback.on_epoch_begin(1)
    assert float(mean.total) == 0.0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_training_between_two_programs(signum):
    before = signal.getsignal(signum)
    with callbacks.StopOnSignal() as stop:
        stop.on_train_batch_begin(0)
        os.kill(os.getpid(), signum)
        stop.on_train_batch_end(0)  # not here, where the report of an epoch is not yet written
        with pytest.raises(callbacks.Interrupted, match=signum.name) as interrupted:
            stop.on_train_batch_begin(1)
        stop._received = None
    assert interrupted.value.signum == signum
    assert signal.getsignal(signum) is before


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    script = (
        "import os, signal, rebar_tf as rt\n"
        "with rt.callbacks.StopOnSignal():\n"
        "    for _ in range(2): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "")
    assert "stopped at once by a second signal" in done.stderr


def run_block(error=None):
    """A block that a signal comes to, and that may fail."""
    with callbacks.StopOnSignal():
        os.kill(os.getpid(), signal.SIGTERM)
        if error is not None:
            raise error


def test_a_signal_after_the_last_step_is_not_lost():
    with pytest.raises(callbacks.Interrupted):
        run_block()


def test_an_error_in_training_is_not_hidden_by_a_signal():
    with pytest.raises(KeyError):
        run_block(KeyError())
