"""Which labels are wrong: `trellis label errors model=bilstm_crf data=annotated data.path=labelled.json`

Lists labels of the training part that are improbable to a model that has not seen them, the most suspicious first:
entities with another type or extent, entities that may be none, and entities that were overlooked. To this end, a
tagger is trained once per fold of the training part, on everything outside of the fold (limit.leave_out), with the
other arguments as `trellis train` takes them. Labels with an exact probability of one half or more are not listed.

A fold consists of whole documents where the format has them, otherwise of sentences. Copies of its sentences are left
out of training too. Each run goes to a folder of its own below --folder. If the command is interrupted, run it again:
it does not repeat finished runs.
"""

import argparse
import contextlib
import html
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from trellis.components.annotation.records import write_records
from trellis.components.command import CommandParser, positive_int, run_command
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.pipelines.child_runs import TaggerRuns, checked, train
from trellis.pipelines.pages import page
from trellis.pipelines.terminal import OutputConsole

LIKELY = 0.5  # labels of at least this probability are not listed
SHOWN = 10  # on the terminal
ON_PAGE = 300
CERTAIN = 1e-4  # a model is never surer than 1 minus this

Span = Mapping[str, Any]  # type, start, end, probability
Sentence = Mapping[str, Any]  # a line of `reports/left_out.jsonl`


class Place(NamedTuple):
    """Tokens with entities that overlap, labelled or predicted. Of tags that are not entities, each token is a place.

    Attributes:
        probability: the lowest probability among labelled entities and among labels outside of them.
        predicted_probability: the same for what the model predicts. `probability` is at most 1 minus this.
        start, end: the first token, and the one after the last.
        gold, predicted: the entities here, labelled and predicted.
        sentence: the record of the sentence.
    """

    probability: float
    predicted_probability: float
    start: int
    end: int
    gold: Sequence[Span]
    predicted: Sequence[Span]
    sentence: Sentence

    @property
    def differs(self) -> bool:
        """Whether the predicted entities are others than the labelled ones."""
        gold, predicted = (
            [(span["type"], span["start"], span["end"]) for span in spans] for spans in (self.gold, self.predicted)
        )
        return gold != predicted

    @property
    def plausibility(self) -> float:
        """The product of two upper bounds of `probability`, by which places are ranked.

        The bounds are the lowest posterior of a tag in this place, and 1 minus `predicted_probability`. The probability
        itself would rank long and rare names first, because all their readings are improbable.
        """
        lowest = min(self.sentence["probabilities"][self.start : self.end])
        return float(lowest * max(1 - self.predicted_probability, CERTAIN))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis label errors", __doc__)
    parser.add_argument("overrides", nargs="*", help="arguments of trellis train: model=…, data=…, key=value")
    parser.add_argument("--folds", type=positive_int, default=5, help="number of folds, and of models (5)")
    parser.add_argument("--folder", type=Path, default=Path("outputs/label_errors"), help="(outputs/label_errors)")
    return run_command(parser, _errors, parser.parse_args(arguments))


def _errors(options: argparse.Namespace) -> None:
    if options.folds < 2:
        raise InputError(f"--folds {options.folds}: at least two are needed")
    reserved = {"limit.leave_out": "--folds says how many folds", "data.unlabelled": "every token needs a label"}
    common = checked(options.overrides, "a search for label errors", reserved)
    sentences = left_out(common, options.folds, options.folder)
    found = improbable(sentences)
    subject = f"{common.config.model.name} on {common.config.data.name}"
    with contextlib.ExitStack() as stack:
        records, shown = (
            stack.enter_context(atomic_write(options.folder / name)) for name in ("errors.jsonl", "errors.html")
        )
        records.write_text("".join(write_records(map(_record, found), as_list=False)), encoding="utf-8")
        shown.write_text(_page(subject, found, len(sentences)), encoding="utf-8")
    _show(found)
    several = len({id(place.sentence) for place in found})
    print(f"{len(found):,} improbable labels in {several:,} of {len(sentences):,} sentences")
    print(f"{options.folder / 'errors.html'} and errors.jsonl")


def left_out(common: TaggerRuns, folds: int, folder: Path) -> list[Sentence]:
    """Train without each fold; return the records of all sentences, each from the model that has not seen it.

    Args:
        common: what all runs have in common.
        folds: the number of folds.
        folder: receives a folder for each run.
    """
    sentences = []
    for number in range(1, folds + 1):
        own = folder / f"leave_out={number}of{folds}"
        metrics = train(common, [f"limit.leave_out={number}/{folds}", "tracking=off", "export=off"], own)
        with open(own / "reports" / "left_out.jsonl", encoding="utf-8") as file:
            fold = [json.loads(line) for line in file]
        sentences += fold
        name = next((name for name in ("f1", "accuracy") if f"left_out/{name}" in metrics), None)
        score = f"  {name} {metrics[f'left_out/{name}']:.4f}" if name else ""
        print(f"fold {number} of {folds}  {len(fold):>7,} sentences{score}", flush=True)
    return sentences


def improbable(sentences: Sequence[Sentence]) -> list[Place]:
    """Return the places whose labels are less probable than `LIKELY`, the least plausible first."""
    places = (place for sentence in sentences for place in _places(sentence))
    listed = (place for place in places if place.probability < LIKELY and place.differs)
    return sorted(listed, key=lambda place: place.plausibility)


def _places(sentence: Sentence) -> list[Place]:
    """Return the places of a sentence: entities that overlap share a place."""
    spans = sorted((*sentence["gold"], *sentence["predicted"]), key=lambda span: (span["start"], span["end"]))
    bounds: list[tuple[int, int]] = []
    for span in spans:
        if bounds and span["start"] < bounds[-1][1]:
            bounds[-1] = bounds[-1][0], max(bounds[-1][1], span["end"])
        else:
            bounds.append((span["start"], span["end"]))
    places = []
    for start, end in bounds:
        gold, predicted = (
            [span for span in sentence[name] if start <= span["start"] < end] for name in ("gold", "predicted")
        )
        probability = _least(gold, sentence["probabilities"], start, end)
        predicted_probability = _least(predicted, sentence["predicted_probabilities"], start, end)
        places.append(Place(probability, predicted_probability, start, end, gold, predicted, sentence))
    return places


def _least(spans: Sequence[Span], of_tags: Sequence[float], start: int, end: int) -> float:
    """Return the lowest probability among entities and among the tags outside of them."""
    inside = {token for span in spans for token in range(span["start"], span["end"])}
    outside = (of_tags[token] for token in range(start, end) if token not in inside)
    return min([*(span["probability"] for span in spans), *outside])


def _record(place: Place) -> dict[str, Any]:
    """Return the line of `errors.jsonl` for a place."""
    sentence, tokens = place.sentence, slice(place.start, place.end)
    return {
        "probability": place.probability,
        "predicted_probability": place.predicted_probability,
        "place": sentence["places"][place.start],
        "text": " ".join(sentence["tokens"][tokens]),
        "start": place.start,
        "end": place.end,
        "gold": place.gold,
        "predicted": place.predicted,
        "probabilities": sentence["probabilities"][tokens],
        "tokens": sentence["tokens"],
        "tags": sentence["tags"],
    }


def _bracketed(place: Place, spans: Sequence[Span]) -> str:
    """Return the words of a place with its entities in brackets: `[John Smith PER] said`."""
    words = list(place.sentence["tokens"])
    for span in spans:
        words[span["start"]] = "[" + words[span["start"]]
        words[span["end"] - 1] += f" {span['type']}]"
    return " ".join(words[place.start : place.end])


def _show(found: Sequence[Place]) -> None:
    """Print the first places as a table."""
    if not found:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("labelled", "p", "predicted", "p", "place"):
        table.add_column(column, justify="right" if column == "p" else "left", overflow="fold", no_wrap=column == "p")
    for place in found[:SHOWN]:
        table.add_row(
            escape(_bracketed(place, place.gold)),
            f"{place.probability:.2g}",
            escape(_bracketed(place, place.predicted)),
            f"{place.predicted_probability:.3f}",
            escape(Path(place.sentence["places"][place.start]).name),
        )
    console = OutputConsole(highlight=False)
    console.print()
    console.print(table)
    console.print()


def _page(subject: str, found: Sequence[Place], sentences: int) -> str:
    first = f"; the first {ON_PAGE}" if len(found) > ON_PAGE else ""
    labels = "1 label that is improbable to a model that has not seen it, out"
    if len(found) != 1:
        labels = f"{len(found):,} labels that are improbable to a model that has not seen them, out"
    introduction = (
        f"{labels} of {sentences:,} sentence{'s' * (sentences != 1)}{first}. "
        "<span class=b>Red</span>: as labelled. <span class=g>Green</span>: as predicted. Numbers are exact "
        "probabilities; the most suspicious labels come first."
    )
    style = (
        "p{border-top:1px solid #ddd;padding-top:.6em}mark{background:#fff3c4;padding:.1em .15em}"
        ".b{background:#fbdcd9}.g{background:#e2f2e4}small{font-size:13px}"
    )
    return page("Improbable labels", subject, introduction, map(_paragraph, found[:ON_PAGE]), style)


def _paragraph(place: Place) -> str:
    words = list(map(html.escape, place.sentence["tokens"]))
    words[place.start] = f"<mark>{words[place.start]}"
    words[place.end - 1] += "</mark>"
    return (
        f"<p>{' '.join(words)}<br>"
        f"<span class=b>{html.escape(_bracketed(place, place.gold))}</span> {place.probability:.2g} → "
        f"<span class=g>{html.escape(_bracketed(place, place.predicted))}</span> {place.predicted_probability:.3f}"
        f"<small>{html.escape(place.sentence['places'][place.start])}</small></p>"
    )


if __name__ == "__main__":
    sys.exit(main())
