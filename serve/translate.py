"""Translate texts: `trellis translate exports/gru_translation "a man rides a bicycle ."`

Or put attributes into words: `trellis translate exports/vector_to_text "name[The Lantern], kind[single], view[sea]"`.

Texts are arguments, or lines of standard input with `-`. The output has one line per text, in the order of the texts,
whatever happens; with --best more than 1, several lines in the format of Moses, `index ||| text ||| score`. Options
replace settings of the export; with --url, the others have the values in parentheses.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence

from trellis.components.command import CommandParser, non_negative_float, non_negative_int, positive_int, run_command
from trellis.components.errors import InputError, nearest
from trellis.components.readers.attributes import parse
from trellis.components.saved_model.versions import latest, read_metadata
from trellis.components.types import JSON
from trellis.serve import inference
from trellis.serve.arguments import add_model_arguments, batch_size, open_model, read_texts
from trellis.serve.export_model import Kind
from trellis.serve.inference import Search, Translated


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis translate", __doc__)
    add_model_arguments(parser)
    parser.add_argument("text", nargs="+", help="a text, or - for lines of standard input")
    parser.add_argument("--width", type=positive_int, help="open hypotheses of the beam; 1: greedy (5)")
    parser.add_argument("--best", type=positive_int, help="translations per text, in the format of Moses (1)")
    parser.add_argument("--alpha", type=non_negative_float, help="exponent of the length normalization (1)")
    parser.add_argument("--coverage", type=non_negative_float, help="weight of the coverage penalty (0)")
    parser.add_argument("--channel", type=non_negative_float, help="weight of the attributes found in a text (0)")
    parser.add_argument("--count", type=positive_int, help="maximum subwords of a translation (250)")
    parser.add_argument("--minimum", type=non_negative_int, help="minimum subwords of a translation (0)")
    parser.add_argument("--no-repeat", type=non_negative_int, metavar="N", help="no N subwords occur twice; 0: off (0)")
    parser.add_argument("--alignment", action="store_true", help="add the source word of each word, ||| 0-0 1-2")
    parser.add_argument("--json", action="store_true", help="print one JSON object per text, for machines")
    return run_command(parser, _translate, parser.parse_args(arguments))


def _translate(options: argparse.Namespace) -> None:
    chosen = {
        field.name: value for field in dataclasses.fields(Search) if (value := getattr(options, field.name)) is not None
    }
    metadata = {} if options.url else read_metadata(latest(options.export))
    search = dataclasses.replace(Search.of(metadata), **chosen)
    if search.best > search.width:
        raise InputError(f"--best {search.best}: a beam of width {search.width} has no more; add --width {search.best}")
    model = open_model(options)
    if model.kind is not Kind.TRANSLATOR:
        raise InputError(f"{options.export}: {model.kind.value}, not a translator")
    for name in ("alignment", "coverage"):
        if getattr(options, name) and "align" not in model.inputs:
            raise InputError(f"--{name}: {options.export} has no attention")
    if options.channel and "channel" not in model.inputs["translate"]:
        raise InputError(f"--channel: {options.export} is no model of attributes")
    # Without options the export's own settings are the right ones, and nothing else is computed.
    detailed = bool(chosen) or options.alignment or options.json
    texts = read_texts(options.text)
    if not options.url:
        texts = _known(texts, metadata)
    found = inference.translate(model, texts, search if detailed else None, batch_size(options.text))
    for index, translations in enumerate(found):
        if options.json:
            print(json.dumps({"translations": [_as_json(one) for one in translations]}, ensure_ascii=False), flush=True)
        else:
            for one in translations:
                print(_line(index, one, search.best > 1, options.alignment), flush=True)


def _known(texts: Iterator[bytes], facts: JSON) -> Iterator[bytes]:
    """Yield the texts; for a model of attributes, raise InputError for one that it does not know."""
    names: Sequence[str] | None = facts.get("attributes")
    open_classes: Sequence[str] = facts.get("open_classes", ())
    for line, text in enumerate(texts, 1):
        try:
            attributes = {} if names is None else parse(text.decode("utf-8", "replace"))
        except ValueError as error:
            raise InputError(f"text {line}: {error}") from None
        for name, value in attributes.items():
            if names is not None and name not in open_classes and f"{name}[{value}]" not in names:
                closest = nearest(f"{name}[{value}]", [*names, *open_classes])
                raise InputError(f"text {line}: {name}[{value}]: unknown attribute; did you mean {closest}?")
        yield text


def _line(index: int, translation: Translated, several: bool, alignment: bool) -> str:
    # A line end in a translation would shift all lines after it.
    fields = [" ".join(translation.text.splitlines())]
    if several:
        fields = [str(index), *fields, f"{translation.score:.4f}"]
    if alignment:
        fields.append(" ".join(f"{i}-{j}" for i, j in translation.links))
    return " ||| ".join(fields)


def _as_json(translation: Translated) -> JSON:
    answer: JSON = {
        "text": translation.text,
        "score": round(translation.score, 5),
        "log_probability": round(translation.log_probability, 5),
        "pieces": translation.pieces,
        "piece_log_probabilities": [round(value, 4) for value in translation.piece_log_probabilities],
    }
    if translation.attention is not None:
        answer |= {
            "source_pieces": translation.source_pieces,
            "alignment": translation.links,
            # As float: rounded float32 is printed with all its digits.
            "attention": translation.attention.astype(float).round(4).tolist(),
        }
    return answer


if __name__ == "__main__":
    sys.exit(main())
