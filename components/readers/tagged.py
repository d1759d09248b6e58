"""What every reader of tagged sentences needs after reading: checks, BIO2, and sentences of a length that fits."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from trellis.components.errors import InputError
from trellis.components.readers.sentence import UNLABELLED, Sentence
from trellis.components.readers.sentence_files import changed
from trellis.components.readers.sources import Source
from trellis.components.text import tag_schemes
from trellis.components.text.tag_schemes import Scheme, UnknownTagError

log = logging.getLogger(__name__)

LONG = 1000  # tokens; no sentence has so many
_FULL_STOPS = frozenset(".!?。！？।؟…")


def place(path: Source, sentences: Sequence[Sentence], sentence: int, token: int = 0) -> str:
    """Return where a token is: `file:line`, or its sentence where the reader does not say lines."""
    chosen = sentences[sentence]
    if chosen.lines:
        return f"{chosen.file or path}:{chosen.lines[token]}"
    first = next((index for index in range(sentence + 1) if sentences[index].file == chosen.file), 0)
    return f"{chosen.file or path}: sentence {sentence - first + 1}, token {token + 1}"


def check(path: Source, sentences: Sequence[Sentence]) -> None:
    """Check that a file has sentences, and that no token and no tag is empty; warn of sentences that cannot be such.

    Raises:
        InputError: they are not; names the file and line.
    """
    if not sentences:
        raise InputError(f"{path}: no sentences in this file")
    longest, most = 0, 0
    for index, sentence in enumerate(sentences):
        if len(sentence.tokens) != len(sentence.tags) or not sentence.tokens:
            counts = f"{len(sentence.tokens)} tokens and {len(sentence.tags)} tags"
            raise InputError(f"{path}: sentence {index + 1} has {counts}")
        for name, values in (("word", sentence.tokens), ("tag", sentence.tags)):
            if not all(values):
                raise InputError(f"{place(path, sentences, index, values.index(''))}: the {name} is empty")
        if len(sentence.tokens) > most:
            longest, most = index, len(sentence.tokens)
    if most > LONG:
        log.warning(
            "%s: a sentence of %s tokens; are there no empty lines between sentences? data.max_length=100 divides it",
            place(path, sentences, longest),
            f"{most:,}",
        )


def in_bio2(
    files: Mapping[str, Source], parts: Mapping[str, Sequence[Sentence]]
) -> tuple[dict[str, Sequence[Sentence]], Scheme]:
    """Return the parts with entities in BIO2, whichever scheme each is written in, and the scheme of the training part.

    Raises:
        InputError: a tag is in no scheme, or not in that of the others; names the file and line. Or tags are in another
            scheme than BIO2, and some are missing: which token an entity ends at could not be told.
    """
    converted: dict[str, Sequence[Sentence]] = {}
    foreign: dict[Scheme, list[str]] = {}
    first: Scheme | None = None
    for part, sentences in parts.items():
        tags = _FilledTags(sentences)
        try:
            scheme = tag_schemes.recognize(tags)
        except UnknownTagError as error:
            # A small part may have too few tags to tell.
            if first is None or not first.covers(tags):
                where = place(files[part], sentences, error.sentence, error.token)
                raise InputError(f"{where}: {error} (data.task=pos takes tags of any kind)") from None
            scheme = first
        first = first or scheme
        converted[part] = sentences
        if scheme != Scheme("BIO2") or any("o" in row for row in tags):
            if scheme.name != "BIO2" and any(UNLABELLED in sentence.tags for sentence in sentences):
                raise InputError(f"{files[part]}: tags are written in {scheme}; data.unlabelled needs BIO2")
            foreign.setdefault(scheme, []).append(str(files[part]))
            converted[part] = changed(sentences, partial(_converted, scheme=scheme))
    for scheme, names in foreign.items():
        log.warning("%s: tags are written in %s; converted to BIO2", ", ".join(names), scheme)
    return converted, first or Scheme("BIO2")


def unlabelled(
    files: Mapping[str, Source], parts: Mapping[str, Sequence[Sentence]], marker: str
) -> dict[str, Sequence[Sentence]]:
    """Return the parts with `UNLABELLED` for the tag `marker`, which only the training part may have.

    Raises:
        InputError: no token has it, or one of another part; names the file and line.
    """
    for part, sentences in parts.items():
        for index, sentence in enumerate(sentences):
            if part != "train" and marker in sentence.tags:
                where = place(files[part], sentences, index, sentence.tags.index(marker))
                raise InputError(f"{where}: the tag is data.unlabelled={marker}; dev and test need labels everywhere")
    hidden = changed(
        parts["train"],
        lambda sentence: replace(sentence, tags=tuple(UNLABELLED if tag == marker else tag for tag in sentence.tags)),
    )
    if not any(UNLABELLED in sentence.tags for sentence in hidden):
        raise InputError(f"{files['train']}: no token has the tag data.unlabelled={marker}")
    return {**parts, "train": hidden}


class _FilledTags:
    """The tags of sentences, filled; computed anew at each iteration."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self._sentences = sentences

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return (filled(sentence.tags) for sentence in self._sentences)


def filled(tags: Sequence[str]) -> tuple[str, ...]:
    """Return BIO2 tags with one that suits the next token's wherever there is none: `O`, or `B-` before `I-`."""
    following = (*tags[1:], "O")
    return tuple(
        tag or (f"B-{after[2:]}" if after.startswith("I-") else "O") for tag, after in zip(tags, following, strict=True)
    )


def _converted(sentence: Sentence, scheme: Scheme) -> Sentence:
    """Return a sentence with its tags in BIO2; those that are missing stay so."""
    tags = tag_schemes.convert(filled(sentence.tags), "bio2", scheme)
    return replace(sentence, tags=tuple(tag and new for tag, new in zip(sentence.tags, tags, strict=True)))


def possible(files: Mapping[str, Source], parts: Mapping[str, Sequence[Sentence]]) -> dict[str, Sequence[Sentence]]:
    """Return parts in BIO2 with `B-` where an `I-` continues nothing, which changes no entity; warn of how many.

    A model that gives such a tag no probability could not learn from its sentence.
    """
    repaired: dict[str, Sequence[Sentence]] = {}
    for part, sentences in parts.items():
        repaired[part] = changed(sentences, partial(_converted, scheme=Scheme("BIO2")))
        differ = [
            (index, next(token for token, tag in enumerate(before.tags) if tag != after.tags[token]))
            for index, (before, after) in enumerate(zip(sentences, repaired[part], strict=True))
            if tuple(before.tags) != after.tags
        ]
        if differ:
            index, token = differ[0]
            log.warning(
                "%s: %s continues no entity, so model.constraints=training reads it as %s; %d sentences have such tags",
                place(files[part], sentences, index, token),
                sentences[index].tags[token],
                repaired[part][index].tags[token],
                len(differ),
            )
    return repaired


def divided(sentences: Sequence[Sentence], longest: int) -> list[Sentence]:
    """Return sentences of at most `longest` tokens: longer ones are cut, after a full stop where there is one.

    No entity in BIO2 is cut, unless it is itself longer.
    """
    return [piece for sentence in sentences for piece in _pieces(sentence, longest)]


def _pieces(sentence: Sentence, longest: int) -> Iterator[Sentence]:
    start = 0
    while len(sentence.tokens) - start > longest:
        ends = [end for end in range(start + 1, start + longest + 1) if not sentence.tags[end].startswith("I-")]
        stops = [end for end in ends if sentence.tokens[end - 1] in _FULL_STOPS]
        end = max(stops or ends or [start + longest])
        yield sentence.cut(start, end)
        start = end
    yield sentence.cut(start, len(sentence.tokens)) if start else sentence
