"""Scores of a part of the data as functions of sums over its segments, kept with a run so that runs can be compared.

Segments are sentences, texts, sentence pairs or lines. Every score here can be computed from the sum of a few numbers
for each segment, so a significance test can resample segments without the texts.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trellis.components.errors import InputError
from trellis.components.metrics import alignment_scores, tagging_scores
from trellis.components.metrics.breakdown import Group
from trellis.components.metrics.translation import DEFINITIONS, translation_metric

Statistics = NDArray[np.float64]


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else 0.0


# Each score as a function of the sums of the statistics over segments.
SCORES: dict[str, Callable[[Statistics], float]] = {
    # Correct, predicted and gold entities.
    "f1": lambda sums: tagging_scores.precision_recall_f1(*sums.tolist())["f1"],
    # Correct answers, and all.
    "accuracy": lambda sums: _ratio(sums[0], sums[1]),
    # Nats and tokens.
    "perplexity": lambda sums: float(np.exp(min(_ratio(sums[0], sums[1]), 700.0))),
    # Predicted links that are sure, those that are possible, all of them, and the sure links.
    "aer": lambda sums: alignment_scores.scores_of_counts(*sums.tolist())["aer"],
}


class ScoredSegments(NamedTuple):
    """The segments of a part, with how well a model does on each.

    Attributes:
        part: the part of the data, such as `test`.
        score: the name of the score: of `SCORES`, or of a translation metric.
        statistics: the numbers of each segment, `(segments, numbers)`.
        digest: a hash of the gold answers: scores are comparable if it is the same.
        groups: the same statistics divided by what was scored, in one way or several.
        documents: the index of the document that each segment is in, `(segments,)`; None if documents are not known.
    """

    part: str
    score: str
    statistics: Statistics
    digest: str
    groups: Sequence[Group] = ()
    documents: NDArray[np.int64] | None = None

    @property
    def name(self) -> str:
        """The score with its part, as `metrics.json` names it."""
        return f"{self.part}/{self.score}"


def digest(gold: Iterable[str]) -> str:
    """Return a hash of gold answers, in their order."""
    total = hashlib.sha256()
    for answer in gold:
        total.update(answer.encode("utf-8", "surrogatepass") + b"\0")
    return total.hexdigest()[:16]


def score_of(name: str) -> Callable[[Statistics], float]:
    """Return the function from the sums over segments to a score.

    Raises:
        ValueError: there is no such score.
    """
    if name in SCORES:
        return SCORES[name]
    definition = DEFINITIONS.get(name)
    if definition is None:
        raise ValueError(f"{name}: no such score")
    return translation_metric(name, tokenized=bool(definition.tokenized)).score


def save(path: Path, segments: ScoredSegments) -> None:
    """Write segments to a file `.npz`."""
    arrays: dict[str, Any] = {name: getattr(segments, name) for name in ("part", "score", "statistics", "digest")}
    if segments.groups:
        # One array for all groups: many small ones take longer to read and write.
        dimensions, names, sizes, statistics = zip(*segments.groups, strict=True)
        arrays |= {"group_dimensions": dimensions, "group_names": names}
        arrays |= {"group_sizes": np.stack(sizes), "group_statistics": np.stack(statistics)}
    if segments.documents is not None:
        arrays["documents"] = segments.documents
    np.savez_compressed(path, **arrays)


def load(path: Path) -> ScoredSegments:
    """Read segments.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return ScoredSegments(
                str(stored["part"]),
                str(stored["score"]),
                np.asarray(stored["statistics"], np.float64),
                str(stored["digest"]),
                _groups(stored),
                np.asarray(stored["documents"], np.int64) if "documents" in stored else None,
            )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; runs of earlier versions have none: train again to compare") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not statistics of segments ({' '.join(str(error).split())})") from None


def _groups(stored: Any) -> list[Group]:
    if "group_names" not in stored:
        return []
    arrays = (stored[f"group_{name}"] for name in ("dimensions", "names", "sizes", "statistics"))
    return [
        Group(str(dimension), str(name), np.asarray(sizes, np.int64), np.asarray(statistics, np.float64))
        for dimension, name, sizes, statistics in zip(*arrays, strict=True)
    ]
