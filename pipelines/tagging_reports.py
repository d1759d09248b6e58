"""Tables and pictures about a tagger's predictions, in the run's `reports/` and in MLflow."""

import csv
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trellis.components.metrics.tagging_scores import confusion, entity_scores, tag_scores
from trellis.components.readers.sentence import Sentence
from trellis.components.text import tag_schemes
from trellis.pipelines.pages import page
from trellis.pipelines.pictures import confusions

WORST = 50  # sentences on the page of errors

Tags = Sequence[str]


def write(
    folder: Path,
    run: str,
    part: str,
    sentences: Sequence[Sentence],
    predicted: Sequence[Tags],
    losses: np.ndarray,
    entities: bool,
) -> None:
    """Write `predictions.PART.conll`, `per_type.csv`, `confusion.png` and `errors.html`.

    Args:
        run: the name of the run.
        part: the part that the sentences are of.
        losses: nats of the gold tags of each sentence; NaN where they have no probability.
        entities: whether tags are of entities, in BIO2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"predictions.{part}.conll", "w", encoding="utf-8") as lines:
        for sentence, tags in zip(sentences, predicted, strict=True):
            lines.writelines(map("{}\t{}\t{}\n".format, sentence.tokens, sentence.tags, tags))
            lines.write("\n")
    gold = [sentence.tags for sentence in sentences]
    types = entity_scores(gold, predicted)["types"] if entities else tag_scores(gold, predicted)
    with open(folder / "per_type.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("type", "precision", "recall", "f1", "support"))
        for kind, scores in types.items():
            rounded = (f"{scores[name]:.4f}" for name in ("precision", "recall", "f1"))
            table.writerow((kind, *rounded, scores["support"]))
    pairs = confusion(*(map(_types, (gold, predicted)) if entities else (gold, predicted)))
    confusions(folder / "confusion.png", pairs, "share of the gold tag's tokens")
    (folder / "errors.html").write_text(_errors(run, sentences, predicted, losses), encoding="utf-8")


def _types(rows: Sequence[Tags]) -> list[list[str]]:
    """Return the entity type of each tag; B- and I- are not told apart."""
    return [[tag_schemes.split(tag)[1] or "O" for tag in tags] for tags in rows]


def _errors(run: str, sentences: Sequence[Sentence], predicted: Sequence[Tags], losses: np.ndarray) -> str:
    wrong = [
        (loss, sentence, tags)
        for loss, sentence, tags in zip(losses, sentences, predicted, strict=True)
        if tuple(sentence.tags) != tuple(tags)
    ]
    wrong.sort(key=lambda row: float("-inf") if np.isnan(row[0]) else -row[0])
    introduction = (
        f"{len(wrong)} of {len(sentences)} sentences have an error. First come those whose gold tags were least "
        "probable to the model; the number is their negative log-probability in nats. Green: right. "
        "Red: <i>gold</i> → <i>predicted</i>."
    )
    style = (
        "p{line-height:1.9;border-top:1px solid #ddd;padding-top:.6em}"
        "ruby{margin-right:.25em}rt{font-size:.65em}.g{background:#e2f2e4}.b{background:#fbdcd9}"
    )
    paragraphs = []
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
        paragraphs.append(f"<p><span class=n>{loss:.1f}</span>{' '.join(words)}</p>")
    return page("Worst errors", run, introduction, paragraphs, style)
