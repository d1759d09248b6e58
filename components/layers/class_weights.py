"""Weights of tags in the loss of a `SequenceHead`."""

from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np

from trellis.components.errors import nearest

ClassWeights = dict[int | str, float] | list[float]


def plain_class_weights(weights: Mapping[int | str, float] | Sequence[float] | None) -> ClassWeights | None:
    """Return the weights of tags as plain numbers, which a saved model can hold.

    Raises:
        ValueError: they are not finite numbers of 0 or more, or their keys are neither ids nor names.
    """
    if weights is None:
        return None
    plain: ClassWeights
    if isinstance(weights, Mapping):
        if not all(isinstance(tag, str) or (isinstance(tag, Integral) and tag >= 0) for tag in weights):
            raise ValueError(f"class_weights={dict(weights)}: keys must be the ids of tags, from 0, or their names")
        plain = {tag if isinstance(tag, str) else int(tag): float(weight) for tag, weight in weights.items()}
        values = list(plain.values())
        if len({type(tag) for tag in plain}) > 1:
            raise ValueError(f"class_weights={plain}: keys must be ids or names, not both")
    else:
        array = np.asarray(weights, float)
        if array.ndim != 1:
            raise ValueError(f"class_weights have rank {array.ndim}, expected one weight for each tag")
        plain = values = array.tolist()
    if not all(0 <= weight < float("inf") for weight in values):
        raise ValueError(f"class_weights={plain}: weights must be finite numbers, at least 0")
    return plain


def weight_of_each_tag(weights: ClassWeights, size: int, names: Sequence[str] | None) -> list[float]:
    """Return the weight of each of `size` tags.

    Raises:
        ValueError: there is no such tag.
    """
    if isinstance(weights, list):
        if len(weights) > size:
            raise ValueError(f"class_weights are for {len(weights)} tags, the emissions have {size}")
        return [*weights, *[1.0] * (size - len(weights))]
    full = [1.0] * size
    for tag, weight in weights.items():
        if isinstance(tag, str):
            if names is None:
                raise ValueError(
                    f"class_weights name the tag {tag!r}, but the head does not know names: CRF(tags=['O', 'B-PER', …])"
                )
            if tag not in names:
                raise ValueError(f"class_weights: no tag {tag!r}; did you mean {nearest(tag, names)}?")
            tag = names.index(tag)
        if tag >= size:
            raise ValueError(f"class_weights: no tag {tag}; the emissions have {size}")
        full[tag] = weight
    return full
