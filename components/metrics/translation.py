"""Scores of translations: BLEU, chrF, chrF++ and TER as sacrebleu computes them, and HTER.

A name says which text a score compares. `bleu_13a` and `bleu_13a_lc` are for raw text, which sacrebleu tokenizes;
`bleu_tok_lc` is for text that is tokenized already, as most papers report it. The two are never comparable. All scores
are on sacrebleu's scale, from 0 to 100 (TER may exceed 100).
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

References = Sequence[Sequence[str | None]]


class Definition(NamedTuple):
    """How sacrebleu computes a score.

    Attributes:
        metric: the class in `sacrebleu.metrics`.
        options: the arguments of its constructor.
        tokenized: whether it is a score of tokenized text; None if it is one of either.
        meaning: one line for `--help`.
    """

    metric: str
    options: dict[str, bool | int | str]
    tokenized: bool | None
    meaning: str


DEFINITIONS = {
    "bleu_13a": Definition("BLEU", {"tokenize": "13a"}, False, "BLEU of raw text, cased"),
    "bleu_13a_lc": Definition("BLEU", {"tokenize": "13a", "lowercase": True}, False, "BLEU of raw text, lower-cased"),
    "bleu_tok_lc": Definition(
        "BLEU", {"tokenize": "none", "lowercase": True, "force": True}, True, "BLEU of tokenized text, lower-cased"
    ),
    "chrf": Definition("CHRF", {}, None, "chrF: character n-grams"),
    "chrfpp": Definition("CHRF", {"word_order": 2}, None, "chrF++: characters and words"),
    "ter": Definition("TER", {}, None, "translation edit rate, lower-cased; lower is better"),
}


def default_names(tokenized: bool) -> tuple[str, ...]:
    """Return the names of the scores of tokenized or of raw text."""
    return tuple(name for name, definition in DEFINITIONS.items() if definition.tokenized in (None, tokenized))


def corpus_scores(
    hypotheses: Sequence[str],
    references: References,
    *,
    tokenized: bool,
    names: Collection[str] | None = None,
) -> dict[str, float]:
    """Return the scores of a corpus.

    Args:
        hypotheses: the translations.
        references: one list per set of references, as sacrebleu takes them: `references[set][segment]`; None where a
            segment has fewer references than others.
        tokenized: whether the texts are tokens joined by spaces, rather than raw text.
        names: the scores to compute; by default all that suit such texts (`default_names`).

    Returns:
        `{name: score}`, from 0 to 100.

    Raises:
        ValueError: there are no hypotheses, a segment has no reference, a set of references has another length, or a
            score does not suit such texts.
    """
    _check(hypotheses, references)
    return {
        name: float(_metric(name, references=references).corpus_score(hypotheses, None).score)
        for name in _names(tokenized, names)
    }


def segment_scores(hypotheses: Sequence[str], references: References, name: str) -> list[float]:
    """Return a score of each segment on its own; BLEU has the effective order then (`eff:yes` in its signature).

    Args:
        hypotheses: the translations.
        references: one list per set of references, as for `corpus_scores`.
        name: a name of `DEFINITIONS`.

    Raises:
        ValueError: as in `corpus_scores`.
    """
    _check(hypotheses, references)
    metric = _metric(name, segments=True)
    return [
        float(metric.sentence_score(hypothesis, [text for text in texts if text is not None]).score)
        for hypothesis, *texts in zip(hypotheses, *references, strict=True)
    ]


def hter(hypotheses: Sequence[str], post_edits: Sequence[str]) -> list[float]:
    """Return the HTER of each segment: its edit rate to its own post-edit, lower-cased, at most 100.

    Args:
        hypotheses: machine translations, tokenized.
        post_edits: what a person made of each, tokenized.
    """
    return [min(score, 100.0) for score in segment_scores(hypotheses, [post_edits], "ter")]


def signatures(
    references: References, *, tokenized: bool, names: Collection[str] | None = None, segments: bool = False
) -> dict[str, str]:
    """Return sacrebleu's signature of each score, which says all that another implementation needs to know.

    Args:
        references: one list per set of references; signatures say how many there are.
        tokenized: whether the texts are tokens joined by spaces.
        names: the scores; by default all that suit such texts.
        segments: describe `segment_scores` rather than `corpus_scores`.
    """
    # Only the number of references of each segment matters: one stand-in segment for each number that occurs.
    counts = {sum(text is not None for text in texts) for texts in zip(*references, strict=True)}
    stand_ins = [["" if index < count else None for count in counts] for index in range(max(counts, default=0))]
    return {name: _metric(name, segments, stand_ins).get_signature().format() for name in _names(tokenized, names)}


def _names(tokenized: bool, names: Collection[str] | None) -> Collection[str]:
    """Return the names of scores to compute.

    Raises:
        ValueError: a score does not suit such texts, or there is none of this name.
    """
    valid = default_names(tokenized)
    wrong = [name for name in names or () if name not in valid]
    if wrong:
        raise ValueError(f"{wrong[0]}: not a score of {'tokenized' if tokenized else 'raw'} text: {', '.join(valid)}")
    return valid if names is None else names


def _check(hypotheses: Sequence[str], references: References) -> None:
    """Check what sacrebleu does not: it stops silently at the end of the shorter list.

    Raises:
        ValueError: see `corpus_scores`.
    """
    if not hypotheses or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} sets of references; at least one of each")
    for index, texts in enumerate(references):
        if len(texts) != len(hypotheses):
            raise ValueError(f"references[{index}] has {len(texts)} segments, expected {len(hypotheses)}")
    for segment, texts in enumerate(zip(*references, strict=True)):
        if all(text is None for text in texts):
            raise ValueError(f"segment {segment} has no reference")


def _metric(name: str, segments: bool = False, references: References | None = None) -> "Metric":
    """Return a metric of sacrebleu.

    Args:
        name: a name of `DEFINITIONS`.
        segments: for scores of single segments.
        references: references to cache.
    """
    from sacrebleu import metrics

    definition = DEFINITIONS[name]
    options = {**definition.options, "references": references}
    if definition.metric == "BLEU":
        # Raw text that ends in " ." would be reported as "already tokenized", in the middle of a run's output.
        options |= {"force": True, "effective_order": segments}
    return getattr(metrics, definition.metric)(**options)
