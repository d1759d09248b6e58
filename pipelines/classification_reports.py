"""Tables and pictures about a classifier's predictions, in the run's `reports/` and in MLflow."""

import csv
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trellis.components.metrics.classification_scores import scores
from trellis.components.metrics.tagging_scores import confusion
from trellis.components.readers.labelled import Labelled
from trellis.pipelines.pages import page
from trellis.pipelines.pictures import confusions

WORST = 60  # texts on the page of errors


def write(
    folder: Path, run: str, part: str, examples: Sequence[Labelled], probabilities: np.ndarray, labels: Sequence[str]
) -> None:
    """Write `predictions.PART.tsv`, `per_class.csv`, `confusion.png` and `errors.html`.

    Args:
        run: the name of the run.
        part: the part that the examples are of.
        probabilities: `(texts, classes)`.
        labels: the classes in that order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gold = [example.label for example in examples]
    predicted = [labels[index] for index in probabilities.argmax(axis=1)]
    with open(folder / f"predictions.{part}.tsv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(("label", "predicted", "probability", "text"))
        for example, label, row in zip(examples, predicted, probabilities.tolist(), strict=True):
            table.writerow((example.label, label, f"{max(row):.4f}", example.text))
    with open(folder / "per_class.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("class", "precision", "recall", "f1", "support"))
        for label, found in scores(gold, predicted)["classes"].items():
            rounded = (f"{found[name]:.4f}" for name in ("precision", "recall", "f1"))
            table.writerow((label, *rounded, found["support"]))
    confusions(folder / "confusion.png", confusion([gold], [predicted]), "share of the gold class's texts")
    (folder / "errors.html").write_text(_errors(run, examples, predicted, probabilities), encoding="utf-8")


def _errors(run: str, examples: Sequence[Labelled], predicted: Sequence[str], probabilities: np.ndarray) -> str:
    rows = zip(probabilities.max(axis=1).tolist(), examples, predicted, strict=True)
    wrong = sorted((row for row in rows if row[1].label != row[2]), key=lambda row: -row[0])
    introduction = (
        f"{len(wrong)} of {len(examples)} texts have the wrong label. First come those whose wrong label was most "
        "probable to the model; the number is that probability. Then the labels: <b>gold</b> <i>predicted</i>."
    )
    style = "p{border-top:1px solid #ddd;padding-top:.5em;margin:.5em 0}b{background:#e2f2e4}i{background:#fbdcd9}"
    paragraphs = []
    for probability, example, label in wrong[:WORST]:
        gold, predicted_label, text = map(html.escape, (example.label, label, example.text[:2000]))
        paragraphs.append(f"<p><span class=n>{probability:.2f}</span><b>{gold}</b> <i>{predicted_label}</i> {text}</p>")
    return page("Most confident errors", run, introduction, paragraphs, style)
