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
        10^6 bytes; NaN where TensorFlow does not have the description of compiled programs.
    """
    try:
        from tensorflow.compiler.xla.service.hlo_pb2 import HloProto
    except ImportError:  # it is no part of TensorFlow's public interface
        return math.nan
    compiled = tf.function(function, autograph=False, jit_compile=True)
    program = HloProto.FromString(compiled.experimental_get_compiler_ir()("optimized_hlo_proto_serialized"))
    return sum(buffer.size for buffer in program.buffer_assignment.buffer_allocations if _is_within(buffer)) / 1e6


def _is_within(buffer: Any) -> bool:
    outside = buffer.is_entry_computation_parameter or buffer.maybe_live_out
    return not (outside or buffer.is_constant or buffer.is_thread_local)
