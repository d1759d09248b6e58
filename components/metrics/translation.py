"""Scores of translations: BLEU, chrF, chrF++ and TER as sacrebleu computes them, METEOR and HTER.

A name says which text a score compares. `bleu_13a` and `bleu_13a_lc` are for raw text, which sacrebleu tokenizes;
`bleu_tok_lc` is for text that is tokenized already, as most papers report it. The two are never comparable. All scores
are on sacrebleu's scale, from 0 to 100 (TER may exceed 100).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from trellis.components.errors import nearest
from trellis.components.metrics.meteor import Meteor
from trellis.components.metrics.translation_metric import Hter, References, SacreBleuMetric, TranslationMetric


class Definition(NamedTuple):
    """A score.

    Attributes:
        meaning: what it is, in a few words.
        tokenized: whether it is a score of tokenized text; None if it is one of either.
        kind: the class in `sacrebleu.metrics`; None if it is not from there.
        options: the arguments of its constructor.
        default: whether it is computed unless others are named.
    """

    meaning: str
    tokenized: bool | None = None
    kind: str | None = None
    options: Mapping[str, bool | int | str] = {}
    default: bool = True


# `force` only silences a warning about text that looks tokenized.
_BLEU_13A: dict[str, bool | int | str] = {"tokenize": "13a", "force": True}

DEFINITIONS = {
    "bleu_13a": Definition("BLEU of raw text, cased", False, "BLEU", _BLEU_13A),
    "bleu_13a_lc": Definition("BLEU of raw text, lower-cased", False, "BLEU", {**_BLEU_13A, "lowercase": True}),
    "bleu_tok_lc": Definition(
        "BLEU of tokens, lower-cased", True, "BLEU", {**_BLEU_13A, "lowercase": True, "tokenize": "none"}
    ),
    "chrf": Definition("chrF, F2 of character n-grams, cased", None, "CHRF"),
    "chrf_lc": Definition("the same, lower-cased", None, "CHRF", {"lowercase": True}, default=False),
    "chrfpp": Definition("chrF++, F2 of characters and words, cased", None, "CHRF", {"word_order": 2}),
    "ter": Definition("translation edit rate, lower-cased; lower is better", None, "TER"),
    "meteor": Definition("METEOR of words and stems, lower-cased; needs the language", default=False),
    "hter": Definition("mean edit rate to post-edits, at most 100; lower is better", default=False),
}


def default_names(tokenized: bool) -> tuple[str, ...]:
    """Return the names of the scores that are computed for tokenized or for raw text unless others are named."""
    return tuple(
        name
        for name, definition in DEFINITIONS.items()
        if definition.default and definition.tokenized in (None, tokenized)
    )


def translation_metric(name: str, *, tokenized: bool, language: str | None = None) -> TranslationMetric:
    """Return a metric by its name.

    Args:
        name: a name of `DEFINITIONS`.
        tokenized: whether the texts are tokens joined by spaces, rather than raw text.
        language: the ISO 639 code of the language of the texts, for `meteor`.

    Raises:
        ValueError: there is no such metric, it does not suit such texts, or `meteor` has no language.
    """
    if name not in DEFINITIONS:
        raise ValueError(f"{name}: no such metric; did you mean {nearest(name, DEFINITIONS)}?")
    definition = DEFINITIONS[name]
    if definition.tokenized not in (None, tokenized):
        text, valid = "tokenized" if tokenized else "raw", ", ".join(default_names(tokenized))
        raise ValueError(f"{name}: not a metric of {text} text, which has {valid}")
    if definition.kind:
        return SacreBleuMetric(definition.kind, definition.options)
    if name == "hter":
        return Hter()
    if language is None:
        raise ValueError(f"{name}: needs the language of the texts, such as en")
    return Meteor(language, tokenized=tokenized)


def corpus_scores(
    hypotheses: Sequence[str],
    references: References,
    *,
    tokenized: bool,
    names: Collection[str] | None = None,
    language: str | None = None,
) -> dict[str, float]:
    """Return the scores of a corpus.

    Args:
        hypotheses: the translations.
        references: one list per set of references, as sacrebleu takes them: `references[set][segment]`; None where a
            segment has fewer references than others.
        tokenized: whether the texts are tokens joined by spaces, rather than raw text.
        names: the scores to compute; by default those that suit such texts (`default_names`).
        language: the language of the texts, for `meteor`.

    Returns:
        `{name: score}`.

    Raises:
        ValueError: see `check` and `translation_metric`.
    """
    check(hypotheses, references)
    scores = {}
    for name in default_names(tokenized) if names is None else names:
        metric = translation_metric(name, tokenized=tokenized, language=language)
        scores[name] = metric.score(metric.statistics(hypotheses, references).sum(axis=0))
    return scores


def segment_scores(
    hypotheses: Sequence[str],
    references: References,
    *,
    tokenized: bool,
    names: Collection[str] | None = None,
    language: str | None = None,
) -> dict[str, list[float]]:
    """Return the scores of each segment on its own; arguments and errors are those of `corpus_scores`.

    The BLEU of a segment has the effective order (`eff:yes` in its signature): n-grams longer than it do not count.
    """
    check(hypotheses, references)
    scores = {}
    for name in default_names(tokenized) if names is None else names:
        metric = translation_metric(name, tokenized=tokenized, language=language)
        scores[name] = [metric.segment_score(row) for row in metric.statistics(hypotheses, references)]
    return scores


def signatures(
    references: References,
    *,
    tokenized: bool,
    names: Collection[str] | None = None,
    language: str | None = None,
    segments: bool = False,
) -> dict[str, str]:
    """Return the signature of each score, which says all that another implementation has to know.

    Args:
        references: one list per set of references; signatures say how many there are.
        tokenized: whether the texts are tokens joined by spaces.
        names: the scores; by default those that suit such texts.
        language: the language of the texts, for `meteor`.
        segments: describe `segment_scores` rather than `corpus_scores`.
    """
    return {
        name: translation_metric(name, tokenized=tokenized, language=language).signature(references, segments)
        for name in (default_names(tokenized) if names is None else names)
    }


def hter(hypotheses: Sequence[str], post_edits: Sequence[str]) -> list[float]:
    """Return the HTER of each segment: its edit rate to its own post-edit, lower-cased, at most 100.

    Args:
        hypotheses: machine translations, tokenized.
        post_edits: what a person made of each, tokenized.
    """
    return segment_scores(hypotheses, [post_edits], tokenized=True, names=["hter"])["hter"]


def check(hypotheses: Sequence[str], references: References) -> None:
    """Check what sacrebleu does not: it stops silently at the end of the shorter list.

    Raises:
        ValueError: there are no hypotheses or references, a set of references has another length, or a segment has no
            reference.
    """
    if not hypotheses or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} sets of references; at least one of each")
    for index, texts in enumerate(references):
        if len(texts) != len(hypotheses):
            raise ValueError(f"references[{index}] has {len(texts)} segments, expected {len(hypotheses)}")
    for segment, texts in enumerate(zip(*references, strict=True)):
        if all(text is None for text in texts):
            raise ValueError(f"segment {segment} has no reference")
