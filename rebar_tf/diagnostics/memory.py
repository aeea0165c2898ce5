"""How much memory a compiled function works in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def working_megabytes(function: Callable[[], Any]) -> float:
    """What XLA sets aside for the values within a function, in MB: inputs, variables and results do not count.

    The function is compiled and not run.

    Args:
        function: without arguments, whatever it returns.

    Returns:
        10^6 bytes; NaN where TensorFlow does not describe compiled programs.
    """
    try:
        from tensorflow.compiler.xla.service.hlo_pb2 import HloProto
    except ImportError:  # it is no part of TensorFlow's public interface
        return math.nan
    compiled = tf.function(function, autograph=False, jit_compile=True)
    describe = compiled.experimental_get_compiler_ir()
    try:
        program = HloProto.FromString(describe("optimized_hlo_proto_serialized"))
    except (ValueError, tf.errors.OpError):  # by which it says that it cannot for this device
        return math.nan
    return sum(buffer.size for buffer in program.buffer_assignment.buffer_allocations if _is_within(buffer)) / 1e6


def _is_within(buffer: Any) -> bool:
    outside = buffer.is_entry_computation_parameter or buffer.maybe_live_out
    return not (outside or buffer.is_constant or buffer.is_thread_local)
