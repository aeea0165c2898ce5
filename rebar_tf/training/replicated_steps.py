"""Many steps in one program on the replicas of a distribution strategy.

Keras's own program of several steps does not run under a strategy with TensorFlow 2.21: `tf.cond` in `tf.while_loop`
loses an input there. Nor does Keras's mean of the logs over several machines, which asks scalars for a first axis. Here
a program is loops alone, and the logs are read from the model's state after it.

The steps are not compiled by XLA, which knows of no other replica: it would compute the sum over them on one device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rebar_tf.training.metrics import run_if

Logs = dict[str, tf.Tensor]


def replicated_function(
    strategy: tf.distribute.Strategy, step: Callable[[Any], Logs], read_logs: Callable[[], Logs], steps: int
) -> Callable[[tf.distribute.DistributedIterator], Logs]:
    """What `make_train_function` returns: takes up to `steps` steps on each replica, returns the logs.

    Args:
        strategy: of the model.
        step: one step of a replica on its share of a batch; what it returns is left to `read_logs`.
        read_logs: the logs after a step, computed from the model's state.
        steps: of one program.

    Returns:
        A function that raises StopIteration when the iterator has no batch left.
    """
    done = tf.Variable(0, dtype=tf.int64, trainable=False)  # how many steps the last program took

    @tf.function(autograph=False)
    def run(iterator: tf.distribute.DistributedIterator) -> None:
        def one_step(i: tf.Tensor, more: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = iterator.get_next_as_optional()

            def train() -> None:
                strategy.run(step, args=(batch.get_value(),))
                done.assign(i + 1)

            run_if(batch.has_value(), train)
            return i + 1, batch.has_value()

        done.assign(0)
        start = [tf.constant(0, tf.int64), tf.constant(True)]
        tf.while_loop(lambda i, more: tf.logical_and(more, i < steps), one_step, start, parallel_iterations=1)

    logs = tf.function(read_logs, autograph=False)  # of all replicas: what their metrics counted is added up

    def function(iterator: tf.distribute.DistributedIterator) -> Logs:
        run(iterator)
        if not done.numpy():
            raise StopIteration
        return logs()

    return function
