"""Tables and pictures about a tagger's predictions: for reading in MLflow or in the run's `reports/`."""

import csv
import html

from trellis.components.metrics import tagging_scores
from trellis.components.text import tag_schemes
from trellis.pipelines.pictures import confusions

WORST = 50  # sentences on the page of errors


def write(folder, sentences, predicted, losses, entities):
    """Writes `per_type.csv`, `confusion.png` and `errors.html` to a folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    gold = [sentence.tags for sentence in sentences]
    types = tagging_scores.entity_scores(gold, predicted)["types"] if entities else tagging_scores.tag_scores(gold, predicted)
    with open(folder / "per_type.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("type", "precision", "recall", "f1", "support"))
        for kind, each in types.items():
            rounded = (f"{each[name]:.4f}" for name in ("precision", "recall", "f1"))
            table.writerow((kind, *rounded, each["support"]))
    _confusion(folder / "confusion.png", gold, predicted, entities)
    (folder / "errors.html").write_text(_errors(sentences, predicted, losses), encoding="utf-8")
    return folder


def _confusion(path, gold, predicted, entities):
    if entities:
        # By type: which of B- and I- it was says little.
        gold, predicted = (
            [[tag_schemes.split(tag)[1] or "O" for tag in tags] for tags in each] for each in (gold, predicted)
        )
    confusions(path, tagging_scores.confusion(gold, predicted), "share of the gold tag's tokens")


def _errors(sentences, predicted, losses):
    wrong = [
        (loss, sentence, tags)
        for loss, sentence, tags in zip(losses, sentences, predicted, strict=True)
        if tuple(sentence.tags) != tuple(tags)
    ]
    wrong.sort(key=lambda each: -each[0] if each[0] == each[0] else float("-inf"))
    parts = [
        "<!doctype html><meta charset=utf-8><title>Worst errors</title><style>"
        "body{font:15px/1.9 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
        "p{border-top:1px solid #ddd;padding-top:.6em}.n{color:#888;margin-right:.8em}"
        "ruby{margin-right:.25em}rt{font-size:.65em}.g{background:#e2f2e4}.b{background:#fbdcd9}"
        "</style><h1>Worst errors</h1>"
        f"<p>{len(wrong)} of {len(sentences)} sentences have an error; here are those whose gold tags the model "
        "believed in least (nats). Green: right. Red: <i>gold</i> → <i>predicted</i>.</p>"
    ]
    for loss, sentence, tags in wrong[:WORST]:
        words = []
        for token, gold, tag in zip(sentence.tokens, sentence.tags, tags, strict=True):
            text = html.escape(token)
            if gold != tag:
                words.append(f"<ruby class=b>{text}<rt>{html.escape(gold)} → {html.escape(tag)}</rt></ruby>")
            elif gold != "O":
                words.append(f"<ruby class=g>{text}<rt>{html.escape(gold)}</rt></ruby>")
            else:
                words.append(text)
        parts.append(f"<p><span class=n>{loss:.1f}</span>{' '.join(words)}</p>")
    return "\n".join(parts) + "\n"
