"""`python -m tests.trainers.two_devices FLAGS`: `trainers.train` on a machine whose processor counts as two devices.

In a process of its own: TensorFlow takes two strategies of one process for one, and mixes up their sums.
"""

import sys

from trainers.common.tensorflow_import import import_tensorflow


def main():
    import_tensorflow()
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    from trainers.train import __main__ as train

    return train.main(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
