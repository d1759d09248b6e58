"""What to label next: `trellis label suggest exports/bilstm_crf texts.jsonl -o tasks.json --to label_studio`

Ranks texts by how unsure a tagger is of them, the most unsure first, and writes them with the entities that it finds,
to be corrected. The tagger is an export, or the folder of its run. Texts are JSON or JSON lines with a field `text`,
tasks of Label Studio, or lines of a text file; duplicates are written once. --by chooses the measure, which is computed
exactly, over all sequences of tags:

  confidence_per_token  the negative log-probability of the best sequence, divided by its length
  entropy               the entropy of the distribution over sequences, which prefers long texts
  entropy_per_token     the same, divided by the length
  margin                1 - the difference between the probabilities of the two best sequences

With --diversity, a text that resembles one before it comes later (maximal marginal relevance).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from trellis.components.annotation import formats, tools
from trellis.components.annotation.annotated_text import AnnotatedText, Span
from trellis.components.annotation.records import write_records
from trellis.components.choices import OffsetUnit
from trellis.components.command import CommandParser, positive_int, rate, run_command
from trellis.components.errors import InputError
from trellis.components.metrics.diversity import diverse_order
from trellis.components.metrics.uncertainty import MEASURES, Uncertainty, uncertainty
from trellis.serve.arguments import add_model_arguments, export_of, open_model
from trellis.serve.entities import entities, require
from trellis.serve.export_model import ExportModel, Kind
from trellis.serve.inference import as_strings, batches

BATCH = 32


class Suggestion(NamedTuple):
    """A text to label, with the entities that a model finds in it, and a score: how unsure the model is."""

    text: AnnotatedText
    score: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis label suggest", __doc__)
    add_model_arguments(parser)
    parser.add_argument("texts", help="file of texts without labels")
    parser.add_argument("-o", "--output", help="file to write, .json or .jsonl, or .gz of these (standard output)")
    parser.add_argument("--to", choices=tuple(tools.TOOLS), default="spacy", help="format of the output (spacy)")
    parser.add_argument("--by", choices=tuple(MEASURES), default="confidence_per_token", help="see above")
    parser.add_argument("--count", type=positive_int, help="how many texts to write (all)")
    parser.add_argument("--diversity", type=rate, default=0.0, help="weight of dissimilarity, from 0 to below 1 (0)")
    parser.add_argument("--encoding", default="utf-8", help="encoding of the texts (utf-8)")
    parser.add_argument("--to-offsets", choices=get_args(OffsetUnit), default="code_points", help="(code_points)")
    return run_command(parser, _suggest, parser.parse_args(arguments))


def _suggest(options: argparse.Namespace) -> None:
    texts = tools.read_unlabelled(options.texts, options.encoding)
    distinct = list({text.text: text for text in reversed(texts)}.values())[::-1]
    if not distinct:
        raise InputError(f"{options.texts}: no texts in this file")
    if not options.url:
        options.export = export_of(options.export)
    model = open_model(options)
    if model.kind is not Kind.TAGGER:
        raise InputError(f"{options.export}: {model.kind.value}; only a tagger can suggest what to label")
    found = suggest(model, distinct, options.by, options.diversity, options.count)
    if not found:
        raise InputError(f"{options.texts}: no words in the texts of this file")
    scores = [suggestion.score for suggestion in found]
    records = tools.records([suggestion.text for suggestion in found], options.to, options.to_offsets, scores)
    if options.output is None:
        for line in write_records(records, as_list=False):
            print(line, end="")
        return
    as_list = options.output.removesuffix(".gz").endswith(".json")
    try:
        formats.write_text(Path(options.output), write_records(records, as_list))
    except OSError as error:
        raise InputError(f"{options.output}: cannot be written ({error.strerror or error})") from None
    print(f"{options.output}: {len(found):,} of {len(texts):,} texts, highest {options.by} {scores[0]:.3f}")


def suggest(
    model: ExportModel, texts: Sequence[AnnotatedText], by: str, diversity: float = 0.0, count: int | None = None
) -> list[Suggestion]:
    """Return texts in the order in which to label them, with the entities that a tagger finds.

    Args:
        model: a tagger of entities.
        texts: the texts; those without tokens are left out.
        by: what to order by, one of `MEASURES`.
        diversity: the weight of dissimilarity to the texts chosen before, see `diverse_order`.
        count: how many to return; None: all.

    Raises:
        InputError: the export was written before taggers had the signatures `lattice` and `entities`.
    """
    require(model, "entities")
    require(model, "lattice")
    known: list[tuple[AnnotatedText, list[str], float]] = []
    for batch in batches(texts, BATCH):
        tokens = _tokens(model, batch)
        kept = [index for index, row in enumerate(tokens) if row]
        if kept:
            measured = MEASURES[by](_uncertainty(model, [tokens[index] for index in kept]))
            for index, value in zip(kept, measured.tolist(), strict=True):
                words = [token.decode("utf-8", "replace") for token in tokens[index]]
                known.append((batch[index], words, value))
    values = [value for *_, value in known]
    order = diverse_order(values, [own for _, own, _ in known], diversity, count or len(known))[:count]
    chosen = [known[index][0] for index in order]
    spans = entities(model, (text.text.encode("utf-8") for text in chosen))
    return [
        Suggestion(
            AnnotatedText(text.text, tuple(Span(each.start, each.end, each.type) for each in own), None, text.id), value
        )
        for text, own, value in zip(chosen, spans, (values[index] for index in order), strict=True)
    ]


def _tokens(model: ExportModel, texts: Sequence[AnnotatedText]) -> list[list[bytes]]:
    """Return the tokens of texts, as the export splits them."""
    outputs = model.call("from_text", text=as_strings([text.text.encode("utf-8") for text in texts]))
    return [[token for token in row if token] for row in outputs["tokens"]]


def _uncertainty(model: ExportModel, tokens: Sequence[Sequence[bytes]]) -> Uncertainty:
    width = max(map(len, tokens))
    outputs = model.call("lattice", tokens=as_strings([[*row, *[b""] * (width - len(row))] for row in tokens]))
    return uncertainty(outputs["unary"], np.array(list(map(len, tokens)), np.int32), outputs["pairwise"])


if __name__ == "__main__":
    sys.exit(main())
