"""Scores of predicted tag sequences: entities as `conlleval` counts them, tokens, and words known or not."""

from collections import Counter

from trellis.components.text.tag_schemes import entities


def entity_scores(gold, predicted):
    """Entity precision, recall and F1, micro-averaged and for each type, with the semantics of `conlleval`.

    An entity is right if its type and both of its ends are.

    Args:
        gold, predicted: tag sequences, a pair a sentence, of equal lengths.

    Returns:
        `{"precision", "recall", "f1", "types": {type: {"precision", "recall", "f1", "support"}}}`, all from 0 to 1;
        0 where a denominator is 0.
    """
    right, found, present = Counter(), Counter(), Counter()
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        gold_entities, predicted_entities = set(entities(gold_tags)), set(entities(predicted_tags))
        present.update(entity.kind for entity in gold_entities)
        found.update(entity.kind for entity in predicted_entities)
        right.update(entity.kind for entity in gold_entities & predicted_entities)
    types = {
        kind: {**_scores(right[kind], found[kind], present[kind]), "support": present[kind]}
        for kind in sorted(present | found)
    }
    return {**_scores(right.total(), found.total(), present.total()), "types": types}


def token_accuracy(gold, predicted):
    """Share of tokens with the right tag; 0 without tokens."""
    right = total = 0
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        right += sum(a == b for a, b in zip(gold_tags, predicted_tags, strict=True))
        total += len(gold_tags)
    return right / total if total else 0.0


def tag_scores(gold, predicted):
    """Precision, recall, F1 and support of each tag, over tokens."""
    right, found, present = Counter(), Counter(), Counter()
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        present.update(gold_tags)
        found.update(predicted_tags)
        right.update(a for a, b in zip(gold_tags, predicted_tags, strict=True) if a == b)
    return {
        tag: {**_scores(right[tag], found[tag], present[tag]), "support": present[tag]}
        for tag in sorted(present | found)
    }


def accuracy_by_familiarity(sentences, predicted, known):
    """Token accuracy on words of the set `known` and on the others: `{"known", "unknown"}`, None without such words."""
    right, total = Counter(), Counter()
    for sentence, predicted_tags in zip(sentences, predicted, strict=True):
        for token, gold_tag, tag in zip(sentence.tokens, sentence.tags, predicted_tags, strict=True):
            total[token in known] += 1
            right[token in known] += tag == gold_tag
    return {
        name: right[key] / total[key] if total[key] else None for name, key in (("known", True), ("unknown", False))
    }


def confusion(gold, predicted):
    """`{(gold tag, predicted tag): tokens}`."""
    pairs = Counter()
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        pairs.update(zip(gold_tags, predicted_tags, strict=True))
    return pairs


def _scores(right, found, present):
    precision = right / found if found else 0.0
    recall = right / present if present else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}
