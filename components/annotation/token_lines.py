"""Tagged sentences as lines of text: CoNLL columns, and a sentence per line."""

from collections.abc import Iterable, Iterator

from trellis.components.errors import InputError, quoted
from trellis.components.readers.conll import DOCUMENT
from trellis.components.readers.sentence import Sentence


def conll_lines(sentences: Iterable[Sentence]) -> Iterator[str]:
    """Yield the lines of a CoNLL file: a token, a tab and its tag, and an empty line after each sentence.

    Raises:
        InputError: a token has a line break or a tab.
    """
    for number, sentence in enumerate(sentences, 1):
        for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
            if token == DOCUMENT or any(character in token + tag for character in "\t\n\r"):
                raise InputError(f"sentence {number}: {quoted(token)} {quoted(tag)} cannot be written as CoNLL")
            yield f"{token}\t{tag}\n"
        yield "\n"


def word_tag_lines(sentences: Iterable[Sentence], separator: str) -> Iterator[str]:
    """Yield a line for each sentence, `word|TAG word|TAG`.

    Raises:
        InputError: a token has a space or a line break, or a tag has the separator.
    """
    for number, sentence in enumerate(sentences, 1):
        for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
            if separator in tag or any(character in token + tag for character in " \n\r"):
                raise InputError(
                    f"sentence {number}: {quoted(token)} {quoted(tag)} cannot be written as word{separator}TAG"
                )
        yield " ".join(f"{token}{separator}{tag}" for token, tag in zip(sentence.tokens, sentence.tags, strict=True))
        yield "\n"
