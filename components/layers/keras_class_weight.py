"""Refuse Keras's `class_weight` where it would weigh anything but classes.

Keras turns `class_weight` into one weight for each example before any model, layer or loss sees it. The class of an
example is the index of the largest value on the last axis of its targets. For the tags `(batch, time)` of a sequence,
that is the position of the tag with the highest id: a model would silently learn with weights that mean nothing. None
of the objects that such a model is made of sees the argument, so the two methods that take it are wrapped.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

METHODS = ("fit", "train_on_batch")
_WITHOUT_CLASSES: list[type] = []


def refuses_class_weight(kind: type) -> type:
    """Let `fit(class_weight=…)` raise a ValueError if a model is of this class, or is compiled with a loss of it.

    A decorator.
    """
    _WITHOUT_CLASSES.append(kind)
    return kind


def _check(model: Any, class_weight: Any) -> None:
    """Raise a ValueError if classes have no weights where this model is trained."""
    losses = keras.tree.flatten(model.loss) if model.compiled else []
    if class_weight is not None and any(isinstance(each, tuple(_WITHOUT_CLASSES)) for each in (model, *losses)):
        raise ValueError(
            "class_weight has no meaning for whole sequences; use sample_weight, one per sequence, or "
            "NegativeLogLikelihood(class_weights=…), one per tag"
        )


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        _check(self, signature.bind(self, *args, **kwargs).arguments.get("class_weight"))
        return method(self, *args, **kwargs)

    return checked


for _name in METHODS:
    setattr(keras.Model, _name, _checked(getattr(keras.Model, _name)))
