"""Convert annotated texts: `trellis convert annotations.jsonl train.conll`

Formats are recognized by the name and content of files, or set by --from and --to:

  spacy, prodigy, doccano, label_studio   JSON or JSON lines, spans with character offsets
  brat                                    a folder of .txt and .ann files, or one of them
  huggingface                             lists of tokens and tags, JSON lines or Parquet
  conll, conllu (read only)               a token per line
  csv                                     a token per row: Sentence #,Word,POS,Tag
  word_tag                                a sentence per line: word|TAG, or word/TAG

Texts are split into tokens by --tokenizer, unless the file has tokens. Spans that begin or end inside a token, contain
none, or overlap are errors. --spans snap extends spans to whole tokens, --spans drop leaves them out; both keep the
longest of spans that overlap, and leave out spans without a token.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from trellis.components.annotation import formats, tools
from trellis.components.choices import AnnotationFormat, Misfits, OffsetUnit, Tokenizer
from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis convert", __doc__)
    parser.add_argument("input", help="a file, or a brat folder")
    parser.add_argument("output", help="the file to write, which may end in .gz; for brat a new folder")
    parser.add_argument("--from", dest="source", choices=formats.FORMATS, help="format of the input")
    parser.add_argument("--to", dest="target", choices=formats.FORMATS, help="format of the output")
    parser.add_argument("--spans", choices=get_args(Misfits), default="error", help="see above (error)")
    parser.add_argument("--tokenizer", choices=get_args(Tokenizer), help="how to split texts into tokens (words)")
    parser.add_argument("--lines", action="store_true", help="each line of a text is a sentence")
    units = get_args(OffsetUnit)
    parser.add_argument("--offsets", choices=units, help="what offsets count in the input (code_points)")
    parser.add_argument("--to-offsets", choices=units, help="what offsets count in the output (code_points)")
    parser.add_argument("--encoding", help="encoding of the input (utf-8)")
    parser.add_argument("--separator", help="separator of words and tags in word_tag (| or /)")
    parser.add_argument("--word", metavar="NAME", help="column of words in csv, field of tokens in huggingface")
    parser.add_argument("--tag", metavar="NAME", help="column or field of tags in csv, conllu and huggingface")
    parser.add_argument("--sentence", metavar="NAME", help="column of sentences in csv")
    parser.add_argument("--word-column", type=int, metavar="INDEX", help="column of words in conll (0)")
    parser.add_argument("--tag-column", type=int, metavar="INDEX", help="column of tags in conll (-1)")
    parser.add_argument("--names", metavar="O,B-PER,…", help="names of tags that are numbers in huggingface")
    return run_command(parser, _convert, parser.parse_args(arguments))


def _convert(options: argparse.Namespace) -> None:
    target = options.target or formats.format_for(options.output)
    if Path(options.output).exists() and Path(options.output).samefile(options.input):
        raise InputError(f"{options.output}: is the input; choose another output")
    source = options.source or formats.recognize(options.input, options.encoding or "utf-8")
    _check_effects(options, source, target)
    content = formats.read(
        options.input,
        source,
        encoding=options.encoding,
        offsets=options.offsets,
        separator=options.separator if source == "word_tag" or target != "word_tag" else None,
        word=options.word,
        tag=options.tag,
        sentence=options.sentence,
        word_column=options.word_column,
        tag_column=options.tag_column,
        names=options.names.split(",") if options.names else None,
    )
    if not content:
        raise InputError(f"{options.input}: nothing to convert in this file")
    writing = formats.WritingOptions(
        offsets=options.to_offsets or "code_points",
        separator=options.separator or "|",
        tokenizer=options.tokenizer or "words",
        spans=options.spans,
        by_line=options.lines,
    )
    count = formats.write(options.output, target, options.input, content, writing)
    kind = "text" if target in formats.TEXT_FORMATS else "sentence"
    print(f"{options.output}: {count:,} {kind}{'s' * (count != 1)} ({source} to {target})")


def _check_effects(options: argparse.Namespace, source: AnnotationFormat, target: AnnotationFormat) -> None:
    """Raise an InputError for an option that has no effect between two formats."""
    splits = source in formats.TEXT_FORMATS and target not in formats.TEXT_FORMATS
    effective = {
        "tokenizer": splits,
        "lines": splits,
        "to_offsets": target in tools.TOOLS,
    }
    for name, has_effect in effective.items():
        if getattr(options, name) and not has_effect:
            raise InputError(f"--{name.replace('_', '-')}: has no effect from {source} to {target}")


if __name__ == "__main__":
    sys.exit(main())
