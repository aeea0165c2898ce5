"""Settings shared by all tests."""

import gc
import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from trainers.common.tensorflow_import import import_tensorflow

import_tensorflow()  # as the trainers do: what they compute here is what they compute in a process of their own


def pytest_configure():
    """Two logical processors, for distribution strategies: TensorFlow fixes them at its first operation."""
    import tensorflow as tf

    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(autouse=True)
def fixed_seed():
    """One seed, one result: every test starts from the same global generators."""
    import keras

    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session(free_memory=False)  # collecting garbage after each test takes longer than the tests


@pytest.fixture(scope="module", autouse=True)
def garbage_of_a_module():
    """Collected at its end: Python else looks through all graphs again and again, a tenth of the tests' time."""
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture(scope="session")
def two_devices():
    """The one strategy of the process.

    TensorFlow counts the sums of each from 100 on, and refuses one whose number was of another shape before.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="module")
def short_programs():
    """Programs of 3 steps, so that a report of 6 can be cut."""
    with pytest.MonkeyPatch.context() as patch:
        from trainers.run import loop

        patch.setattr(loop, "_MOST_STEPS_PER_PROGRAM", 3)
        yield
