"""Tables and pictures about a classifier's predictions: for reading in MLflow or in the run's `reports/`."""

import csv
import html

from trellis.components.metrics.classification_scores import scores
from trellis.components.metrics.tagging_scores import confusion
from trellis.pipelines.pictures import confusions

WORST = 60  # texts on the page of errors


def write(folder, examples, probabilities, labels):
    """Writes `per_class.csv`, `confusion.png` and `errors.html` to a folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    gold = [example.label for example in examples]
    predicted = [labels[number] for number in probabilities.argmax(axis=1)]
    with open(folder / "per_class.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("class", "precision", "recall", "f1", "support"))
        for label, each in scores(gold, predicted)["classes"].items():
            table.writerow((label, *(f"{each[name]:.4f}" for name in ("precision", "recall", "f1")), each["support"]))
    confusions(folder / "confusion.png", confusion([gold], [predicted]), "share of the gold class's texts")
    (folder / "errors.html").write_text(_errors(examples, predicted, probabilities), encoding="utf-8")
    return folder


def _errors(examples, predicted, probabilities):
    rows = zip(probabilities.max(axis=1).tolist(), examples, predicted, strict=True)
    wrong = sorted((row for row in rows if row[1].label != row[2]), key=lambda row: -row[0])
    parts = [
        "<!doctype html><meta charset=utf-8><title>Most confident errors</title><style>"
        "body{font:15px/1.6 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
        "p{border-top:1px solid #ddd;padding-top:.5em;margin:.5em 0}.n{color:#888;margin-right:.8em}"
        "b{background:#e2f2e4}i{background:#fbdcd9}</style><h1>Most confident errors</h1>"
        f"<p>{len(wrong)} of {len(examples)} texts are wrong; first those of which the model was surest. "
        "<b>gold</b> <i>predicted</i></p>"
    ]
    for probability, example, label in wrong[:WORST]:
        gold, given, text = (html.escape(each) for each in (example.label, label, example.text[:2000]))
        parts.append(f"<p><span class=n>{probability:.2f}</span><b>{gold}</b> <i>{given}</i> {text}</p>")
    return "\n".join(parts) + "\n"
