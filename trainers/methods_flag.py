"""The flag `--methods` of the trainers that compare some, each with methods of its own where it is unset."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

flags.DEFINE_list(
    "methods",
    None,
    "What to compare, separated by commas. Accepted: names of --estimator of trainers.train, each alone or, at a "
    "temperature that stays as it is, as name:temperature. Unset: those named above.",
)


def methods(unset: Sequence[str]) -> list[str]:
    """The value of the flag, or of `unset` where it was not given."""
    return list(unset) if flags.FLAGS.methods is None else flags.FLAGS.methods
