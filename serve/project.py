"""Project labels to another language: `trellis project exports/agreement en.conll text.es -o es.conll`

The inputs are the tagged sentences of a CoNLL file (a word and its tag per line) and their translations, one per line,
split at spaces; the export is a word aligner from the one language to the other. The output is a CoNLL file, which
`trellis train model=bilstm_crf data=conll` accepts. An entity becomes the span from the first to the last word linked
to it; with other tags, each word takes the most frequent tag of the words linked to it. Sentences without any link are
skipped.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from trellis.components.alignment.projection import project_entities, project_tags
from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.readers import conll
from trellis.components.readers.lines import read_lines
from trellis.components.readers.sentence import Sentence
from trellis.components.saved_model.versions import latest
from trellis.serve import inference
from trellis.serve.export_model import ExportModel, Kind, LocalModel

UNLINKED = "X"  # the tag of words without a link


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis project", __doc__)
    parser.add_argument("export", help="an export folder of a word aligner (its newest version), or one version")
    parser.add_argument("tagged", help="CoNLL file of the source language")
    parser.add_argument("translations", help="text file of the target language, one sentence per line")
    parser.add_argument("-o", "--output", required=True, type=Path, help="CoNLL file to write")
    parser.add_argument("--task", choices=("ner", "pos"), default="ner", help="entities, or one tag per word (ner)")
    parser.add_argument("--word-column", type=int, default=0, help="index of the column of words (0)")
    parser.add_argument("--tag-column", type=int, default=-1, help="index of the column of tags (-1, the last)")
    parser.add_argument("--unlinked", help=f"with --task pos, the tag of words without a link ({UNLINKED})")
    return run_command(parser, _project, parser.parse_args(arguments))


def _project(options: argparse.Namespace) -> None:
    if options.unlinked is not None and options.task != "pos":
        raise InputError("--unlinked: has no effect on entities; use it with --task pos")
    tagged = conll.read(options.tagged, options.word_column, options.tag_column)
    translations = [line for _, line in read_lines(options.translations)]
    if len(tagged) != len(translations):
        raise InputError(
            f"{options.tagged} has {len(tagged)} sentences, {options.translations} has {len(translations)}"
        )
    model = LocalModel(latest(options.export))
    if model.kind is not Kind.ALIGNER:
        raise InputError(f"{options.export}: {model.kind.value}, not a word aligner")
    written = write(options.output, project(model, tagged, translations, options.task, options.unlinked or UNLINKED))
    print(f"{options.output}: {written} of {len(tagged)} sentences")


def project(
    model: ExportModel, tagged: Sequence[Sentence], translations: Sequence[str], task: str, unlinked: str
) -> Iterator[Sentence]:
    """Yield the translations that have a link, with projected tags.

    Args:
        model: a word aligner.
        tagged: the tagged sentences.
        translations: the translation of each sentence.
        task: `ner` or `pos`.
        unlinked: for `pos`, the tag of words without a link.
    """
    pairs = (
        f"{_without_bars(' '.join(sentence.tokens))} ||| {_without_bars(text)}".encode()
        for sentence, text in zip(tagged, translations, strict=True)
    )
    for sentence, text, aligned in zip(tagged, translations, inference.align(model, pairs), strict=True):
        if not aligned.links:
            continue
        words = tuple(word for word in text.split(" ") if word)
        if task == "ner":
            yield Sentence(words, project_entities(sentence.tags, aligned.links, len(words)))
        else:
            tags = project_tags(sentence.tags, aligned.links, len(words))
            yield Sentence(words, tuple(tag or unlinked for tag in tags))


def _without_bars(text: str) -> str:
    """Replace what separates the two sides of a pair; the number of words stays the same."""
    return text.replace("|||", "|")


def write(path: Path, sentences: Iterable[Sentence]) -> int:
    """Write a CoNLL file atomically; return the number of sentences.

    Raises:
        InputError: the file cannot be written.
    """
    count = 0
    try:
        with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
            for sentence in sentences:
                rows = zip(sentence.tokens, sentence.tags, strict=True)
                file.writelines(f"{token}\t{tag}\n" for token, tag in rows)
                file.write("\n")
                count += 1
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    return count


if __name__ == "__main__":
    sys.exit(main())
