"""The gradient estimators, by name. Every module of this package is searched for `Estimator` classes."""

from __future__ import annotations

import importlib
import pkgutil

import keras

from rebar_tf.estimators.base import BaselineEstimator, ControlSpec, Estimate, Estimator, Objective, evaluate

_registry: dict[str, type[Estimator]] = {}


def names() -> list[str]:
    """Names of all estimators, sorted.

    Example:
    >>> import rebar_tf as rt
    >>> "rebar" in rt.estimators.names()
    True
    """
    return sorted(_registry)


def serving(*families: str, without_derivative: bool = False) -> list[str]:
    """Names of the estimators that serve all of these families, sorted.

    Args:
        *families: `"bernoulli"`, `"categorical"`.
        without_derivative: whether to leave out those that need the derivative of the objective.

    Example:
    >>> import rebar_tf as rt
    >>> "arm" in rt.estimators.serving("bernoulli"), "arm" in rt.estimators.serving("bernoulli", "categorical")
    (True, False)
    """
    return [
        name
        for name, estimator in sorted(_registry.items())
        if set(families) <= set(estimator.families) and not (without_derivative and estimator.needs_derivative)
    ]


def get(identifier: str | dict | Estimator | type[Estimator]) -> Estimator:
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
    if isinstance(identifier, Estimator):
        return identifier
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
        if isinstance(identifier, Estimator):
            return identifier
    if isinstance(identifier, type) and issubclass(identifier, Estimator):
        return identifier()
    if isinstance(identifier, str) and identifier in _registry:
        return _registry[identifier]()
    raise ValueError(f"`estimator` must be one of {', '.join(names())}. Received: estimator={identifier!r}")


def _register_all() -> None:
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for member in vars(module).values():
            if not (isinstance(member, type) and issubclass(member, Estimator)):
                continue
            if member.__module__ == module.__name__ and member.estimator_name:
                keras.saving.register_keras_serializable("rebar_tf")(member)
                _registry[member.estimator_name] = member
                globals()[member.__name__] = member


_register_all()

__all__ = [
    "BaselineEstimator",
    "ControlSpec",
    "Estimate",
    "Estimator",
    "Objective",
    "evaluate",
    "get",
    "names",
    "serving",
    *sorted(member.__name__ for member in _registry.values()),
]
