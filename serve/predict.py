"""Tag, align or classify texts: `trellis predict exports/bilstm_crf "Mary Smith flew from Oslo to Lima."`

Texts are arguments, or lines of standard input with `-`; with `--tokens` they are already split at spaces. A tagger
prints tokens with their tags, or with `--format` entities with their offsets and probabilities, CoNLL columns, JSON
lines, or a page; `--threshold` keeps entities of at least a probability. With `--documents`, the lines up to an empty
one are the sentences of a document, for taggers trained with `data.documents=true`. A word aligner takes
`source ||| target`, split at spaces, and prints links, `0-0 1-2`, one line per pair; a classifier prints the label and
its probability. For language models see `trellis generate`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from trellis.components.command import CommandParser, probability, run_command
from trellis.components.errors import InputError
from trellis.serve import inference, tagged_formats
from trellis.serve.arguments import add_model_arguments, batch_size, open_model, read_texts
from trellis.serve.export_model import ExportModel, Kind


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis predict", __doc__)
    add_model_arguments(parser)
    parser.add_argument("text", nargs="+", help="a text, or - for lines of standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object per text, for machines")
    parser.add_argument("--format", choices=tuple(tagged_formats.FORMATS), help="what a tagger prints (tokens)")
    parser.add_argument(
        "--threshold", type=probability, help="keep entities of at least this probability, instead of the export's own"
    )
    parser.add_argument(
        "--documents", action="store_true", help="an empty line ends a document, which is tagged as a whole"
    )
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
    for option in ("format", "threshold"):
        if getattr(options, option) is not None and model.kind is not Kind.TAGGER:
            raise InputError(f"--{option}: {options.export} is {model.kind.value}; only a tagger has entities")
    if options.documents:
        _check_documents(model, options)
    if options.format and options.json:
        raise InputError(
            f"--format {options.format}: not with --json, which has a format of its own; try --format jsonl"
        )
    if options.threshold is not None and options.format in (None, "tokens"):
        raise InputError("--threshold: is for entities; add --format entities, conll, jsonl or html")
    if options.posteriors and model.kind is not Kind.ALIGNER:
        raise InputError(f"--posteriors: {options.export} is {model.kind.value}; only a word aligner has links")
    if options.posteriors and not options.json:
        raise InputError("--posteriors: probabilities of links are printed as JSON only; add --json")
    print_lines = {Kind.TAGGER: _tag, Kind.ALIGNER: _align, Kind.CLASSIFIER: _classify}[model.kind]
    for line in print_lines(model, options):
        print(line, flush=True)


def _check_documents(model: ExportModel, options: argparse.Namespace) -> None:
    """Raise InputError if the model or other options do not go with `--documents`."""
    if model.kind is not Kind.TAGGER:
        raise InputError(f"--documents: {options.export} is {model.kind.value}; only a tagger reads documents")
    if options.tokens or options.format not in (None, "tokens"):
        other = "--tokens" if options.tokens else f"--format {options.format}"
        raise InputError(f"--documents: not with {other}; it prints tokens with their tags, or --json")


def _tag(model: ExportModel, options: argparse.Namespace) -> Iterator[str]:
    texts, size = read_texts(options.text), batch_size(options.text)
    if not options.json and not options.documents:
        request = tagged_formats.Request(texts, options.tokens, options.threshold, size)
        yield from tagged_formats.lines(model, options.format or "tokens", request)
        return
    for tagged in (
        inference.tag_documents(model, texts)
        if options.documents
        else inference.tag(model, texts, options.tokens, size)
    ):
        if not options.json:
            yield f"{tagged_formats.readable(tagged)}\n"
            continue
        confidence = [round(value, 4) for value in tagged.confidence]
        yield _json(tokens=tagged.tokens, tags=tagged.tags, confidence=confidence)


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


if __name__ == "__main__":
    sys.exit(main())
