"""Metrics of translations as sums of statistics of segments: whatever a corpus score or a significance test needs.

Every metric here first reduces each segment to a few numbers, such as n-gram counts, and computes a score from
their sum. So a corpus, its segments and ten thousand resampled corpora can be scored without reading a text again.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

References = Sequence[Sequence[str | None]]
Statistics = NDArray[np.float64]


class TranslationMetric(abc.ABC):
    """A metric of translations, on a scale from 0 to 100."""

    @abc.abstractmethod
    def statistics(self, hypotheses: Sequence[str], references: References) -> Statistics:
        """Return the sufficient statistics of each segment, `(segments, statistics)`.

        Args:
            hypotheses: the translations.
            references: one list per set of references, `references[set][segment]`; None where a segment has fewer.
        """

    @abc.abstractmethod
    def score(self, statistics: Statistics) -> float:
        """Return the score of a corpus.

        Args:
            statistics: the sum over its segments, `(statistics,)`.
        """

    def segment_score(self, statistics: Statistics) -> float:
        """Return the score of a single segment.

        Args:
            statistics: of this segment, `(statistics,)`.
        """
        return self.score(statistics)

    @abc.abstractmethod
    def signature(self, references: References, segments: bool = False) -> str:
        """Return what another implementation has to know to compute the same score.

        Args:
            references: one list per set of references; the signature says how many there are.
            segments: describe `segment_score` rather than `score`.
        """


class SacreBleuMetric(TranslationMetric):
    """A metric of sacrebleu.

    Args:
        kind: a class of `sacrebleu.metrics`: `BLEU`, `CHRF` or `TER`.
        options: the arguments of its constructor.
    """

    def __init__(self, kind: str, options: Mapping[str, bool | int | str]) -> None:
        self._kind = kind
        self._options = dict(options)
        self._corpus = self._metric()
        self._segment = self._metric(effective_order=True) if kind == "BLEU" else self._corpus

    def _metric(self, **options: object) -> "Metric":
        from sacrebleu import metrics

        return getattr(metrics, self._kind)(**self._options, **options)

    # Two private methods of sacrebleu: its public ones return scores, without the statistics of chrF, and its tests of
    # significance count the trials that exceed the observed difference rather than those that reach it, and so call
    # systems that differ nowhere significantly different. A test compares the results with the public methods' ones.

    def statistics(self, hypotheses: Sequence[str], references: References) -> Statistics:
        """Return the statistics of sacrebleu: n-gram counts and lengths, or edits and lengths."""
        metric: Any = self._corpus
        return np.asarray(metric._extract_corpus_statistics(hypotheses, references), np.float64)

    def score(self, statistics: Statistics) -> float:
        """Return the score that sacrebleu computes from summed statistics."""
        return float(self._corpus._compute_score_from_stats(statistics.tolist()).score)

    def segment_score(self, statistics: Statistics) -> float:
        """Return the score of a segment; BLEU has the effective order then (`eff:yes`)."""
        return float(self._segment._compute_score_from_stats(statistics.tolist()).score)

    def signature(self, references: References, segments: bool = False) -> str:
        """Return sacrebleu's signature."""
        # It only depends on the number of references of each segment: one stand-in for each number that occurs.
        counts = sorted(reference_counts(references))
        stand_ins = [["" if index < count else None for count in counts] for index in range(max(counts))]
        options = {"effective_order": True} if segments and self._kind == "BLEU" else {}
        return self._metric(references=stand_ins, **options).get_signature().format()


class Hter(TranslationMetric):
    """HTER: the edit rate of each segment to its own post-edit, at most 100; that of a corpus is their mean.

    It is TER as sacrebleu computes it by default, lower-cased and not normalized. Dividing all edits of a corpus by all
    words instead gives `ter`.
    """

    def __init__(self) -> None:
        self._ter = SacreBleuMetric("TER", {})

    def statistics(self, hypotheses: Sequence[str], references: References) -> Statistics:
        """Return `(HTER, 1)` for each segment.

        Raises:
            ValueError: there is more than one set of references.
        """
        if len(references) != 1:
            raise ValueError(f"hter: {len(references)} sets of references; a translation has one post-edit")
        edits = self._ter.statistics(hypotheses, references)
        return np.array([(min(self._ter.score(row), 100.0), 1.0) for row in edits])

    def score(self, statistics: Statistics) -> float:
        """Return the mean."""
        total, count = statistics
        return float(total / count)

    def signature(self, references: References, segments: bool = False) -> str:
        """Return sacrebleu's signature of TER, and what is done to it."""
        return f"{self._ter.signature(references)}|max:100|corpus:mean"


def reference_counts(references: References) -> set[int]:
    """Return the numbers of references that segments have."""
    return {sum(text is not None for text in texts) for texts in zip(*references, strict=True)}
