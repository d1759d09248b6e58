"""Scores of text classification with one label per text."""

from collections.abc import Sequence
from typing import Any

from trellis.components.metrics.tagging_scores import tag_scores


def scores(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, Any]:
    """Return the accuracy, and the macro-averaged F1 over the classes that occur in the gold labels.

    Args:
        gold: the gold label of each text.
        predicted: the predicted label of each text.

    Returns:
        `{"accuracy", "macro_f1"}` and, under `"classes"`, `{class: {"precision", "recall", "f1", "support"}}`.
    """
    classes = tag_scores([gold], [predicted])
    f1_scores = [class_scores["f1"] for class_scores in classes.values() if class_scores["support"]]
    correct = sum(a == b for a, b in zip(gold, predicted, strict=True))
    return {"accuracy": correct / len(gold), "macro_f1": sum(f1_scores) / len(f1_scores), "classes": classes}
