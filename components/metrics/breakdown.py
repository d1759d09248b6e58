"""A score divided by what was scored: by entity type, sentence length, seen and unseen words."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST = 30  # maximum groups of a dimension; the smallest ones are merged
OTHERS = "others"


class Group(NamedTuple):
    """A part of what is scored, such as the entities of one type.

    Attributes:
        dimension: how the whole is divided, such as `entity type`.
        name: which part it is, such as `PER`.
        sizes: how many gold entities, tokens or links of each segment are in the group, `(segments,)`.
        statistics: the numbers that the score is computed from, of this group alone, `(segments, numbers)`.
    """

    dimension: str
    name: str
    sizes: NDArray[np.int64]
    statistics: NDArray[np.float64]


def divide(
    dimension: str,
    names: Sequence[str],
    segments: ArrayLike,
    statistics: ArrayLike,
    sizes: ArrayLike,
    count: int,
    order: Sequence[str] = (),
) -> list[Group]:
    """Divide what was scored into groups; the statistics of all groups sum to those of the whole.

    Args:
        dimension: how the whole is divided.
        names: the group of each item.
        segments: the index of the segment that each item is in, `(items,)`.
        statistics: the contribution of each item to the statistics of its segment, `(items, numbers)`.
        sizes: how much of the gold each item is, `(items,)`: 0 for a predicted entity that is not gold.
        count: the number of segments.
        order: the names of the groups in the order in which to list them; by default the largest first.
    """
    if not len(names):
        return []
    found, groups = np.unique(np.array(names, object), return_inverse=True)
    weights = np.asarray(sizes, np.int64)
    totals = np.bincount(groups, weights, len(found))
    # `order` has the names of ranges, which are few; types and classes may be many.
    largest = [str(found[index]) for index in np.argsort(-totals, kind="stable")]
    listed = [name for name in order or largest if name in set(largest)]
    kept = listed if len(listed) <= MOST else [*listed[: MOST - 1], OTHERS]
    places = {name: index for index, name in enumerate(kept)}
    of_items = np.array([places.get(str(name), len(kept) - 1) for name in found])[groups]
    values = np.asarray(statistics, np.float64)
    sums = np.zeros((len(kept), count, values.shape[1]))
    sums_of_sizes = np.zeros((len(kept), count), np.int64)
    np.add.at(sums, (of_items, np.asarray(segments)), values)
    np.add.at(sums_of_sizes, (of_items, np.asarray(segments)), weights)
    return [Group(dimension, name, sums_of_sizes[index], sums[index]) for index, name in enumerate(kept)]


class Ranges:
    """Names for ranges of whole numbers: with the bounds 1 and 4 these are `up to 1`, `2–4` and `over 4`.

    Args:
        bounds: the last number of each range but the last, ascending.
        first: the name of the first range.
    """

    def __init__(self, *bounds: int, first: str | None = None) -> None:
        self._bounds = bounds
        between = (str(high) if high == low + 1 else f"{low + 1}–{high}" for low, high in pairwise(bounds))
        self.names = [first or f"up to {bounds[0]}", *between, f"over {bounds[-1]}"]

    def __call__(self, values: Iterable[int]) -> Iterator[str]:
        """Yield the name of the range of each value."""
        for index in np.searchsorted(self._bounds, np.fromiter(values, np.int64), side="left"):
            yield self.names[index]
