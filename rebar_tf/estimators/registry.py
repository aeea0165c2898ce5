"""The estimators by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import keras

if TYPE_CHECKING:  # an estimator registers itself, and asks here for others to recommend
    from rebar_tf.estimators.base import Estimator

_classes: dict[str, type[Estimator]] = {}

EstimatorClass = TypeVar("EstimatorClass", bound="type[Estimator]")


def register(estimator: EstimatorClass) -> EstimatorClass:
    """Class decorator: lets users pick the estimator by its `estimator_name`, and lets Keras save and load it.

    Example:
    >>> import rebar_tf as rt
    >>> @rt.estimators.register
    ... class HalfReinforce(rt.estimators.Reinforce):
    ...     estimator_name = "half_reinforce"
    >>> "half_reinforce" in rt.estimators.names()
    True
    >>> rt.estimators.unregister("half_reinforce")
    """
    keras.saving.register_keras_serializable("rebar_tf")(estimator)
    _classes[estimator.estimator_name] = estimator
    return estimator


def unregister(name: str) -> None:
    """Takes an estimator out of the registry, as a test or a notebook may want that registered its own."""
    del _classes[name]


def names(
    family: str | Iterable[str] = (),
    unbiased: bool | None = None,
    needs_derivative: bool | None = None,
    local: bool | None = None,
) -> list[str]:
    """Names of the estimators of these properties, sorted; of all if none is asked for.

    Args:
        family: of the units, `"bernoulli"`, `"categorical"` or `"subset"`, or several of them; those that serve all.
        unbiased: whether the estimate is unbiased.
        needs_derivative: whether the objective must be differentiable in the samples.
        local: whether the estimator is one that needs no objective, and whose layers train in any Keras model.

    Raises:
        ValueError: for a family that no estimator serves.

    Example:
    >>> import rebar_tf as rt
    >>> rt.estimators.names(family="categorical", unbiased=False, needs_derivative=False)
    []
    >>> "rebar" in rt.estimators.names(unbiased=True)
    True
    """
    families = {family} if isinstance(family, str) else set(family)
    known = {served for estimator in _classes.values() for served in estimator.families}
    if not families <= known:
        raise ValueError(f"`family` must be one of {', '.join(sorted(known))}. Received: family={family!r}")
    asked = {"unbiased": unbiased, "needs_derivative": needs_derivative, "local": local}
    return [
        name
        for name, estimator in sorted(_classes.items())
        if families <= set(estimator.families)
        and all(value is None or getattr(estimator, key) == value for key, value in asked.items())
    ]


def get(identifier: str | dict[str, Any] | Estimator | type[Estimator]) -> Estimator:
    """The estimator that `identifier` means.

    Args:
        identifier: a name of `names()`, an `Estimator` class or object, or the config of a serialised one.

    Returns:
        The object given, or a new one with the defaults of its class.

    Raises:
        ValueError: for a name that is not registered, naming those that are.

    Example:
    >>> import rebar_tf as rt
    >>> rt.estimators.get("rebar").estimator_name
    'rebar'
    """
    found: Any = identifier
    if isinstance(found, dict):
        found = keras.saving.deserialize_keras_object(found)
    if isinstance(found, str):
        found = _classes.get(found)
    if isinstance(found, type) and hasattr(found, "estimator_name"):
        found = found()
    if hasattr(found, "estimator_name"):
        return found
    raise ValueError(f"`estimator` must be one of {', '.join(names())}. Received: estimator={identifier!r}")
