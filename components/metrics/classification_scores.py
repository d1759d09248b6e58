"""Scores of one label a text."""

from trellis.components.metrics.tagging_scores import tag_scores


def scores(gold, predicted):
    """Accuracy, and the mean F1 of the classes that gold has, each counting the same.

    Returns:
        `{"accuracy", "macro_f1"}` and, under `"classes"`, `{class: {"precision", "recall", "f1", "support"}}`.
    """
    classes = tag_scores([gold], [predicted])
    present = [each["f1"] for each in classes.values() if each["support"]]
    right = sum(a == b for a, b in zip(gold, predicted, strict=True))
    return {"accuracy": right / len(gold), "macro_f1": sum(present) / len(present), "classes": classes}
