"""Scores of predicted tag sequences: entities as `conlleval` counts them, tokens, and known or unknown words."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from trellis.components.readers.sentence import Sentence
from trellis.components.text.tag_schemes import Entity, entities, recognize


class ComparedEntity(NamedTuple):
    """An entity that is gold, predicted or both.

    Attributes:
        sentence: the index of its sentence.
        entity: its type and place.
        predicted: whether it is predicted.
        gold: whether it is gold.
    """

    sentence: int
    entity: Entity
    predicted: bool
    gold: bool

    @property
    def counts(self) -> tuple[bool, bool, bool]:
        """Whether it is correct, predicted and gold, as `precision_recall_f1` counts them."""
        return self.predicted and self.gold, self.predicted, self.gold


def compared_entities(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Iterator[ComparedEntity]:
    """Yield each entity that is gold, predicted or both, once, in the order of the sentences; see `entity_scores`."""
    scheme = recognize([*gold, *predicted])
    for sentence, pair in enumerate(zip(gold, predicted, strict=True)):
        gold_entities, predicted_entities = (set(entities(tags, scheme)) for tags in pair)
        for entity in sorted(gold_entities | predicted_entities):
            yield ComparedEntity(sentence, entity, entity in predicted_entities, entity in gold_entities)


def entity_scores(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Return entity precision, recall and F1, micro-averaged and for each type, with the semantics of `conlleval`.

    An entity is correct if its type and both of its boundaries are.

    Args:
        gold: the gold tags of each sentence, in any scheme that `recognize` knows.
        predicted: the predicted tags of each sentence, of the same lengths and in the same scheme.

    Returns:
        `{"precision", "recall", "f1", "types": {type: {"precision", "recall", "f1", "support"}}}`, all from 0 to 1;
        0 where a denominator is 0.

    Raises:
        UnknownTagError: a tag is in no scheme, or not in that of the others.
    """
    counts: dict[str, np.ndarray] = {}
    for compared in compared_entities(list(gold), list(predicted)):
        counts.setdefault(compared.entity.kind, np.zeros(3, int))[:] += compared.counts
    types = {
        kind: {**precision_recall_f1(*of_kind), "support": of_kind[2]}
        for kind, of_kind in ((kind, counts[kind].tolist()) for kind in sorted(counts))
    }
    return {**precision_recall_f1(*sum(counts.values(), np.zeros(3, int)).tolist()), "types": types}


def entity_counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the correct, predicted and gold entities of each sentence, `(sentences, 3)`; see `entity_scores`."""
    counts = np.zeros((len(gold), 3))
    for compared in compared_entities(gold, predicted):
        counts[compared.sentence] += compared.counts
    return counts


def token_counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the correct tags and the tokens of each sentence, `(sentences, 2)`."""
    return np.array(
        [(sum(a == b for a, b in zip(*tags, strict=True)), len(tags[0])) for tags in zip(gold, predicted, strict=True)],
        np.float64,
    ).reshape(-1, 2)


def token_accuracy(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> float:
    """Return the share of tokens with the correct tag; 0 without tokens."""
    correct, total = token_counts(list(gold), list(predicted)).sum(axis=0).tolist()
    return correct / total if total else 0.0


def tag_scores(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and support of each tag, over tokens."""
    correct: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        support.update(gold_tags)
        guessed.update(predicted_tags)
        correct.update(a for a, b in zip(gold_tags, predicted_tags, strict=True) if a == b)
    return {
        tag: {**precision_recall_f1(correct[tag], guessed[tag], support[tag]), "support": support[tag]}
        for tag in sorted(support | guessed)
    }


def accuracy_by_familiarity(
    sentences: Iterable[Sentence], predicted: Iterable[Sequence[str]], known: Container[str]
) -> dict[str, float | None]:
    """Return token accuracy on known and on unknown words.

    Args:
        sentences: sentences with their gold tags.
        predicted: the predicted tags of each sentence.
        known: the words that count as known.

    Returns:
        `{"known", "unknown"}`; None if there are no such words.
    """
    correct: Counter[bool] = Counter()
    total: Counter[bool] = Counter()
    for sentence, predicted_tags in zip(sentences, predicted, strict=True):
        for token, gold_tag, tag in zip(sentence.tokens, sentence.tags, predicted_tags, strict=True):
            total[token in known] += 1
            correct[token in known] += tag == gold_tag
    return {
        name: correct[is_known] / total[is_known] if total[is_known] else None
        for name, is_known in (("known", True), ("unknown", False))
    }


def confusion(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> Counter[tuple[str, str]]:
    """Return the number of tokens for each `(gold tag, predicted tag)`."""
    pairs: Counter[tuple[str, str]] = Counter()
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        pairs.update(zip(gold_tags, predicted_tags, strict=True))
    return pairs


def precision_recall_f1(correct: float, guessed: float, support: float) -> dict[str, float]:
    """Return `{"precision", "recall", "f1"}` of how many are correct, predicted and gold; 0 where one is undefined."""
    precision = correct / guessed if guessed else 0.0
    recall = correct / support if support else 0.0
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}
