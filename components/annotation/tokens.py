"""Convert annotated texts to tagged sentences, and tagged sentences to annotated texts."""

import logging
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Literal

from trellis.components.annotation.annotated_text import AnnotatedText, Span, Token, utf16_hint
from trellis.components.choices import Misfits, Tokenizer
from trellis.components.errors import InputError, quoted
from trellis.components.quiet import captured_stderr
from trellis.components.readers.sentence import Sentence
from trellis.components.readers.sources import Source
from trellis.components.text import tag_schemes
from trellis.components.types import FilePath

log = logging.getLogger(__name__)

_BATCH = 256  # texts that are tokenized at once
_BIO2 = tag_schemes.Scheme("BIO2")

Problem = Literal["misaligned", "empty", "overlapping", "discontinuous"]


class SpanProblems:
    """A count of the spans that tags cannot express.

    Args:
        policy: what to do with them. `error`: raise an error; `snap`: extend misaligned spans to whole tokens, and fill
            gaps; `drop`: leave out misaligned spans and those with gaps. `snap` and `drop` keep the longest of spans
            that overlap, and leave out spans without a token.
    """

    def __init__(self, policy: Misfits) -> None:
        self.policy = policy
        self._counts: Counter[Problem] = Counter()
        self._first = ""

    def add(self, problem: Problem, message: str) -> None:
        """Count a span; `message` says where it is and what is wrong."""
        self._first = self._first or message
        self._counts[problem] += 1

    def report(self, path: Source) -> None:
        """Warn of the spans that were changed or left out.

        Raises:
            InputError: there are any, and the policy is `error`.
        """
        if not self._counts:
            return
        total = self._counts.total()
        if self.policy == "error":
            more = f"; {total - 1} more such {'span' if total == 2 else 'spans'}" if total > 1 else ""
            raise InputError(
                f"{self._first}{more} (data.spans or --spans: snap extends spans to whole tokens, drop leaves them out)"
            )
        done = {
            "misaligned": "extended to whole tokens" if self.policy == "snap" else "left out",
            "empty": "left out",
            "overlapping": "left out for a longer one",
            "discontinuous": "filled" if self.policy == "snap" else "left out",
        }
        counts = ", ".join(f"{count} {problem} ({done[problem]})" for problem, count in self._counts.items())
        log.warning("%s: spans: %s; the first: %s", path, counts, self._first)


def sentences_of(
    path: Source, texts: Iterable[AnnotatedText], tokenizer: Tokenizer, policy: Misfits, by_line: bool = False
) -> list[Sentence]:
    """Return the sentences of annotated texts, with tags in BIO2.

    Texts keep the tokens that their file has; others are split by the tokenizer of exports. Texts without a token are
    left out.

    Args:
        path: the file that they are from, for messages.
        texts: the texts.
        tokenizer: how to split them.
        policy: what to do with spans that tags cannot express, see `SpanProblems`.
        by_line: whether each line of a text is a sentence, unless an entity continues on the next line; if False, each
            text is a sentence.

    Raises:
        InputError: tags cannot express a span, and the policy is `error`; names the file and line.
    """
    sentences, empty, problems = [], 0, SpanProblems(policy)
    for document, (text, words, tokens) in enumerate(_tokenized(texts, tokenizer)):
        if not words:
            empty += 1
            if not text.spans:
                continue
        tags = _tags(text, tokens, problems)
        bounds = [0, *(_line_starts(text.text, tokens, tags) if by_line else ()), len(words)]
        for start, stop in pairwise(bounds):
            if start < stop:
                lines = () if text.line is None else [text.line] * (stop - start)
                sentences.append(
                    Sentence(tuple(words[start:stop]), tuple(tags[start:stop]), None, lines, text.file, document)
                )
    problems.report(path)
    if empty:
        log.warning("%s: %d %s left out: without words", path, empty, "text" if empty == 1 else "texts")
    return sentences


def without_gaps(path: FilePath, texts: Iterable[AnnotatedText], policy: Misfits) -> list[AnnotatedText]:
    """Return texts whose spans have no gaps, for formats that cannot express them.

    Raises:
        InputError: a span has gaps, and the policy is `error`.
    """
    settled, problems = [], SpanProblems(policy)
    for text in texts:
        if any(span.gaps for span in text.spans):
            text = replace(text, spans=tuple(_filled(text, problems)))
        settled.append(text)
    problems.report(path)
    return settled


def texts_of(sentences: Iterable[Sentence]) -> list[AnnotatedText]:
    """Return the texts of sentences with tags in BIO2, their tokens separated by single spaces."""
    texts = []
    for sentence in sentences:
        position, tokens = 0, []
        for token in sentence.tokens:
            tokens.append((position, position + len(token)))
            position += len(token) + 1
        spans = tuple(
            Span(tokens[start][0], tokens[stop - 1][1], kind)
            for kind, start, stop in tag_schemes.entities(sentence.tags, _BIO2)
        )
        texts.append(AnnotatedText(" ".join(sentence.tokens), spans, tuple(tokens)))
    return texts


def _tokenized(
    texts: Iterable[AnnotatedText], tokenizer: Tokenizer
) -> Iterator[tuple[AnnotatedText, Sequence[str], Sequence[Token]]]:
    """Yield each text with its tokens and their offsets."""
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        unknown = [text.text for text in batch if text.tokens is None]
        found = iter(_split(unknown, tokenizer) if unknown else ())
        for text in batch:
            if text.tokens is None:
                yield text, *next(found)
            else:
                yield text, [text.text[start:end] for start, end in text.tokens], text.tokens


def _split(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[tuple[list[str], list[Token]]]:
    """Yield the tokens of each text and their offsets, by the tokenizer of exports."""
    with captured_stderr():  # TensorFlow's start-up messages
        import tensorflow as tf

        from trellis.components.text.offsets import token_offsets
        from trellis.components.text.tokenizer import tokenize

        strings = tf.constant([text.encode("utf-8") for text in texts])
        tokens = tokenize(strings, tokenizer)
        offsets = token_offsets(strings, tokens, tokenizer)
    for row, starts, ends in zip(tokens.numpy(), offsets.start.numpy(), offsets.end.numpy(), strict=True):
        words = [token.decode("utf-8") for token in row if token]
        yield words, list(zip(starts[: len(words)].tolist(), ends[: len(words)].tolist(), strict=True))


def _tags(text: AnnotatedText, tokens: Sequence[Token], problems: SpanProblems) -> list[str]:
    """Return the tags of the tokens of a text."""
    starts, ends, hint = [start for start, _ in tokens], [end for _, end in tokens], utf16_hint(text.text)
    found: list[tuple[int, int, Span]] = []
    for span in _filled(text, problems):
        first, stop = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if first >= stop or span.start == span.end:
            problems.add("empty", f"{_named(text, span)} has no token in it")
            continue
        if starts[first] < span.start or ends[stop - 1] > span.end:
            side = first if starts[first] < span.start else stop - 1
            token = quoted(text.text[starts[side] : ends[side]])
            how = "begins" if starts[first] < span.start else "ends"
            problems.add("misaligned", f"{_named(text, span)} {how} inside of the token {token}{hint}")
            if problems.policy == "drop":
                continue
        found.append((first, stop, span))
    tags = ["O"] * len(tokens)
    owners: list[Span | None] = [None] * len(tokens)
    for first, stop, span in sorted(found, key=lambda each: each[0] - each[1]):
        other = next((owner for owner in owners[first:stop] if owner), None)
        if other is not None:
            problems.add("overlapping", f"{_named(text, span)} overlaps {other.start}-{other.end} {_short(other)}")
            continue
        tags[first:stop] = [f"B-{span.label}", *[f"I-{span.label}"] * (stop - first - 1)]
        owners[first:stop] = [span] * (stop - first)
    return tags


def _filled(text: AnnotatedText, problems: SpanProblems) -> Iterator[Span]:
    """Yield the spans of a text with their gaps filled; with the policy `drop`, skip those that have gaps."""
    for span in text.spans:
        if span.gaps:
            problems.add("discontinuous", f"{_named(text, span)} leaves out words between its ends")
            if problems.policy == "drop":
                continue
        yield replace(span, gaps=False)


def _named(text: AnnotatedText, span: Span) -> str:
    words = quoted(text.text[span.start : span.end], 30)
    return f"{span.place or text.place}: span {span.start}-{span.end} {_short(span)} {words}"


def _short(span: Span) -> str:
    return " ".join(span.label[:30].split())


def _line_starts(text: str, tokens: Sequence[Token], tags: Sequence[str]) -> Iterator[int]:
    """Yield the index of each token that begins a line, except the first token and tokens inside an entity."""
    for index in range(1, len(tokens)):
        if "\n" in text[tokens[index - 1][1] : tokens[index][0]] and not tags[index].startswith("I-"):
            yield index
