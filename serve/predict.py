"""Tag, align or classify texts: `trellis predict exports/bilstm_crf "Mary Smith flew from Oslo to Lima."`

Texts are arguments, or lines of standard input with `-`; with `--tokens` they are already split at spaces. A word
aligner takes `source ||| target`, split at spaces, and prints links, `0-0 1-2`, one line per pair; a classifier prints
the label and its probability. For language models see `trellis generate`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError
from trellis.serve import inference
from trellis.serve.arguments import add_model_arguments, batch_size, open_model, read_texts
from trellis.serve.export_model import ExportModel, Kind
from trellis.serve.inference import Tagged


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis predict", __doc__)
    add_model_arguments(parser)
    parser.add_argument("text", nargs="+", help="a text, or - for lines of standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object per text, for machines")
    parser.add_argument("--tokens", action="store_true", help="texts are tokens already, separated by single spaces")
    parser.add_argument(
        "--posteriors", action="store_true", help="with --json and a word aligner: probabilities of all links"
    )
    return run_command(parser, _predict, parser.parse_args(arguments))


def _predict(options: argparse.Namespace) -> None:
    model = open_model(options)
    if model.kind is Kind.LANGUAGE_MODEL:
        raise InputError(f"{options.export}: a language model; use trellis generate")
    if model.kind is Kind.TRANSLATOR:
        raise InputError(f"{options.export}: a translator; use trellis translate")
    if options.tokens and model.kind is not Kind.TAGGER:
        raise InputError(f"--tokens: {options.export} is {model.kind.value}; only a tagger takes tokens")
    if options.posteriors and model.kind is not Kind.ALIGNER:
        raise InputError(f"--posteriors: {options.export} is {model.kind.value}; only a word aligner has links")
    if options.posteriors and not options.json:
        raise InputError("--posteriors: probabilities of links are printed as JSON only; add --json")
    print_lines = {Kind.TAGGER: _tag, Kind.ALIGNER: _align, Kind.CLASSIFIER: _classify}[model.kind]
    for line in print_lines(model, options):
        print(line, flush=True)


def _tag(model: ExportModel, options: argparse.Namespace) -> Iterator[str]:
    texts, size = read_texts(options.text), batch_size(options.text)
    for tagged in inference.tag(model, texts, options.tokens, size):
        if options.json:
            confidence = [round(value, 4) for value in tagged.confidence]
            yield _json(tokens=tagged.tokens, tags=tagged.tags, confidence=confidence)
        else:
            yield f"{readable(tagged)}\n"


def _align(model: ExportModel, options: argparse.Namespace) -> Iterator[str]:
    for aligned in inference.align(model, read_texts(options.text), batch_size(options.text)):
        if not options.json:
            yield " ".join(f"{i}-{j}" for i, j in aligned.links)
            continue
        posteriors = {}
        if options.posteriors and aligned.forward is not None and aligned.reverse is not None:
            # As float: rounded float32 is printed with all its digits.
            forward, reverse = (values.astype(float).round(4) for values in (aligned.forward, aligned.reverse))
            posteriors = {"forward": forward.tolist(), "reverse": reverse.tolist()}
        yield _json(source=aligned.source, target=aligned.target, alignment=aligned.links, **posteriors)


def _classify(model: ExportModel, options: argparse.Namespace) -> Iterator[str]:
    size = batch_size(options.text)
    for batch in inference.batches(read_texts(options.text), size):
        for text, (label, probabilities) in zip(batch, inference.classify(model, batch, size), strict=True):
            if options.json:
                rounded = {name: round(value, 4) for name, value in probabilities.items()}
                yield _json(text=text.decode("utf-8", "replace"), label=label, probabilities=rounded)
            else:
                yield f"{label}  {probabilities[label]:.2f}"


def _json(**values: object) -> str:
    return json.dumps(values, ensure_ascii=False)


def readable(tagged: Tagged) -> str:
    """Return three aligned columns: token, tag and confidence; a dot stands for the tag `O`."""
    tokens = [token.replace("\t", " ") for token in tagged.tokens]
    width = max((len(token) for token in tokens), default=0)
    tag_width = max((len(tag) for tag in tagged.tags), default=0)
    return "\n".join(
        f"{token:<{width}}  {tag if tag != 'O' else '·':<{tag_width}}  {value:.2f}"
        for token, tag, value in zip(tokens, tagged.tags, tagged.confidence, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
