"""Carries labels over to another language: `trellis project exports/agreement en.conll text.es -o es.conll`

The tagged sentences of a CoNLL file (a word and its tag a line) and, a line a sentence, their translations, split at
spaces; the export is a word aligner from the one language to the other. What is written is a CoNLL file that
`model=bilstm_crf data=conll` trains on. Entities become the span from the first to the last word linked to them; for
other tags each word takes the one of most words linked to it. Sentences none of whose words are linked are left out.
"""

import argparse
import sys
from pathlib import Path

from trellis.components.alignment.projection import project_entities, project_tags
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.readers import conll
from trellis.components.readers.lines import read_lines
from trellis.components.saved_model.versions import latest
from trellis.serve.predict import align, is_aligner, load


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="trellis project", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", help="an export folder of a word aligner (its newest version) or one version of it")
    parser.add_argument("tagged", help="CoNLL file of the source language")
    parser.add_argument("translations", help="text file of the target language, a line a sentence")
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--task", choices=("ner", "pos"), default="ner", help="entities, or a tag for each word")
    parser.add_argument("--word-column", type=int, default=0)
    parser.add_argument("--tag-column", type=int, default=-1)
    parser.add_argument("--unlinked", default="X", help="with --task pos, the tag of words without a link")
    options = parser.parse_args(arguments)
    try:
        tagged = conll.read(options.tagged, options.word_column, options.tag_column)
        texts = [line for _, line in read_lines(options.translations)]
        if len(tagged) != len(texts):
            raise InputError(f"{options.tagged} has {len(tagged)} sentences, {options.translations} has {len(texts)}")
        model = load(latest(options.export))
        if not is_aligner(model):
            raise InputError(f"{options.export}: not the export of a word aligner")
        kept = write(options.output, project(model, tagged, texts, options.task, options.unlinked))
        print(f"{options.output}: {kept} of {len(tagged)} sentences")
    except InputError as error:
        print(f"trellis project: error: {error}", file=sys.stderr)
        return 2
    return 0


def project(model, tagged, texts, task, unlinked):
    """Yields the tokens and tags of each translation that has a link.

    Args:
        model: a loaded export of a word aligner.
        tagged: list of `Sentence`.
        texts: the translation of each.
        task: `ner` or `pos`; unlinked: for `pos`, the tag of words without a link.
    """
    pairs = (
        f"{_plain(' '.join(sentence.tokens))} ||| {_plain(text)}".encode()
        for sentence, text in zip(tagged, texts, strict=True)
    )
    words = ([word for word in text.split(" ") if word] for text in texts)
    for sentence, target, (_, _, links, *_) in zip(tagged, words, align(model, pairs), strict=True):
        if not links:
            continue
        if task == "ner":
            yield target, project_entities(sentence.tags, links, len(target))
        else:
            yield target, [tag or unlinked for tag in project_tags(sentence.tags, links, len(target))]


def _plain(text):
    """Without what separates the two sides; a word stays a word."""
    return text.replace("|||", "|")


def write(path, sentences):
    """Writes a CoNLL file, whole or not at all; the number of sentences."""
    count = 0
    try:
        with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
            for tokens, tags in sentences:
                file.writelines(f"{token}\t{tag}\n" for token, tag in zip(tokens, tags, strict=True))
                file.write("\n")
                count += 1
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    return count


if __name__ == "__main__":
    sys.exit(main())
