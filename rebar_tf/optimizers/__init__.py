"""The optimizer of the paper."""

from rebar_tf.optimizers.adam import Adam

__all__ = ["Adam"]
