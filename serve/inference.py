"""Ask exports about any number of texts, in batches. Texts are bytes, which need not be valid UTF-8."""

import dataclasses
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from trellis.components.errors import InputError
from trellis.components.types import JSON, Link
from trellis.serve.export_model import ExportModel

BATCH = 64
CELLS = 2**18  # maximum source words × target words of a batch of sentence pairs
# Maximum words of a sentence to align or translate: memory grows with their square, the time of an HMM with their cube.
LONGEST = 1000

Item = TypeVar("Item")


class Tagged(NamedTuple):
    """The tokens of a text, the tag of each, and the posterior probability of that tag."""

    tokens: list[str]
    tags: list[str]
    confidence: list[float]


class Aligned(NamedTuple):
    """The alignment of a sentence pair.

    Attributes:
        source: the tokens of the source sentence.
        target: the tokens of the target sentence.
        links: `(source position, target position)`, from 0.
        forward: posteriors of links where source words generate target words, `(source, target)`; None if a sentence
            is too long to be aligned.
        reverse: posteriors of links where target words generate source words, `(source, target)`, or None.
    """

    source: list[str]
    target: list[str]
    links: list[Link]
    forward: np.ndarray | None
    reverse: np.ndarray | None

    @property
    def posteriors(self) -> np.ndarray | None:
        """The mean of both directions, `(source, target)`; None if a sentence is too long to be aligned."""
        return None if self.forward is None or self.reverse is None else (self.forward + self.reverse) / 2


class Classified(NamedTuple):
    """The most probable label of a text, and the probability of every label."""

    label: str
    probabilities: dict[str, float]


class Scored(NamedTuple):
    """The log-probability of a text in nats, its number of tokens (its end included), and how many are unknown."""

    log_probability: float
    tokens: int
    unknown: int


class Translated(NamedTuple):
    """A translation of a text.

    Attributes:
        text: the translation.
        score: what translations of one text are ordered by.
        log_probability: its log-probability in nats.
        pieces: its subwords, the end included.
        piece_log_probabilities: the log-probability of each subword.
        source_pieces: the subwords of the source, the end included; empty without attention.
        attention: `(pieces, source pieces)`; None without attention.
        links: for each word the source word that was attended to most, `(source position, target position)`, from 0.
    """

    text: str
    score: float
    log_probability: float
    pieces: list[str]
    piece_log_probabilities: list[float]
    source_pieces: list[str]
    attention: np.ndarray | None
    links: list[Link]


@dataclass(frozen=True)
class Search:
    """How to search for translations.

    Attributes:
        width: the open hypotheses of the beam.
        best: the number of translations of a text.
        count: the maximum number of subwords of a translation.
        minimum: the minimum number of subwords.
        no_repeat: no sequence of this many subwords occurs twice in a translation; 0: it may.
        alpha: the exponent of the length by which log-probabilities are divided.
        coverage: the weight of the penalty for source words without attention.
        channel: the weight of the log-probability of the attributes given the text; only for models of attributes.
    """

    width: int = 5
    best: int = 1
    count: int = 250
    minimum: int = 0
    no_repeat: int = 0
    alpha: float = 1.0
    coverage: float = 0.0
    channel: float = 0.0

    @classmethod
    def of(cls, metadata: JSON) -> Self:
        """Return the settings that an export was written with, which its default signature uses.

        Args:
            metadata: of the export; what it lacks has the defaults.
        """
        own = metadata.get("config", {}).get("decoding", {})
        defaults = dataclasses.asdict(cls())
        return cls(**{name: type(default)(own[name]) for name, default in defaults.items() if name in own})


@dataclass(frozen=True)
class Sampling:
    """How to generate text.

    Attributes:
        count: the maximum number of tokens.
        temperature: divides the log-probabilities; 0 takes the most probable token at each step.
        top_k: draw from that many most probable tokens; 0: from all.
        top_p: draw from the most probable tokens that together reach this probability.
        repetition: nats that a token loses for having been generated before.
    """

    count: int = 60
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.95
    repetition: float = 0.0


def tag(
    model: ExportModel, texts: Iterable[bytes], tokenized: bool = False, batch_size: int = BATCH
) -> Iterator[Tagged]:
    """Yield the tags of each text.

    Args:
        model: a tagger.
        texts: the texts.
        tokenized: whether texts are tokens separated by spaces.
        batch_size: the number of texts of a request.

    Raises:
        InputError: the tagger reads columns that a token lacks.
    """
    for batch in batches(texts, batch_size):
        if tokenized:
            tokens = padded_tokens(batch)
            outputs = {"tokens": tokens, **model.call("serving_default", tokens=tokens)}
        else:
            outputs = model.call("from_text", text=as_strings(batch))
        yield from map(_tagged, *(outputs[name] for name in Tagged._fields))


def _tagged(tokens: np.ndarray, tags: np.ndarray, confidence: np.ndarray) -> Tagged:
    """Return what a tagger found in one text, without padding."""
    length = sum(token != b"" for token in tokens)
    return Tagged(
        [decoded(token) for token in tokens[:length]],
        [decoded(name) for name in tags[:length]],
        [float(value) for value in confidence[:length]],
    )


def tag_document(model: ExportModel, sentences: Sequence[bytes]) -> Iterator[Tagged]:
    """Yield the tags of each sentence of one document, knowing in each what was found in the others.

    Raises:
        InputError: the tagger reads sentences alone.
    """
    if "document" not in model.inputs:
        raise InputError(f"{model.name}: reads sentences alone; for documents, train with data.documents=true")
    if sentences:
        outputs = model.call("document", text=as_strings(sentences)[np.newaxis])
        yield from map(_tagged, *(outputs[name][0] for name in Tagged._fields))


def tag_documents(model: ExportModel, texts: Iterable[bytes]) -> Iterator[Tagged]:
    """Yield the tags of each text; an empty text ends a document and has no tags. See `tag_document`."""
    for ends, lines in itertools.groupby(texts, key=lambda text: not text.strip()):
        sentences = list(lines)
        yield from (Tagged([], [], []) for _ in sentences) if ends else tag_document(model, sentences)


def align(model: ExportModel, texts: Iterable[bytes], batch_size: int = BATCH) -> Iterator[Aligned]:
    """Yield the alignment of each sentence pair.

    A pair with a sentence of more than `LONGEST` words gets no links and no posteriors; a line on standard error says
    so.

    Args:
        model: a word aligner.
        texts: `source ||| target`, tokens separated by spaces.
        batch_size: the maximum number of pairs of a request.

    Raises:
        InputError: a text has another form.
    """
    for batch in _pair_batches(texts, batch_size):
        source, target = (
            as_strings([b"" if _too_long(pair) else b" ".join(pair[side]) for pair in batch]) for side in (0, 1)
        )
        outputs = model.call("serving_default", source=source, target=target)
        rows = (outputs[name] for name in ("alignment", "forward", "reverse"))
        for pair, links, forward, reverse in zip(batch, *rows, strict=True):
            words = [decoded(token) for token in pair[0]], [decoded(token) for token in pair[1]]
            if _too_long(pair):
                yield Aligned(*words, [], None, None)
            else:
                real = slice(len(pair[0])), slice(len(pair[1]))
                yield Aligned(*words, [_link(link) for link in links.split()], forward[real], reverse[real])


def _link(text: bytes) -> Link:
    source, _, target = text.partition(b"-")
    return int(source), int(target)


Pair = tuple[list[bytes], list[bytes]]  # source and target tokens


def _pair_batches(texts: Iterable[bytes], batch_size: int) -> Iterator[list[Pair]]:
    """Yield batches of sentence pairs, with few pairs if they are long."""
    line = 0
    for batch_texts in batches(texts, batch_size):
        batch: list[Pair] = []
        source = target = 0  # lengths of the longest sentences in the batch
        for text in batch_texts:
            line += 1
            sides = text.split(b"|||")
            if len(sides) != 2:
                raise InputError(f"text {line}: {len(sides) - 1} × |||, expected source ||| target")
            pair = split(sides[0]), split(sides[1])
            lengths = len(pair[0]), len(pair[1])
            if _too_long(pair):
                print(
                    f"text {line}: {lengths[0]} and {lengths[1]} words, more than {LONGEST}; not aligned",
                    file=sys.stderr,
                )
                lengths = 0, 0
            wider, longer = max(source, lengths[0]), max(target, lengths[1])
            if batch and (len(batch) + 1) * wider * longer > CELLS:
                yield batch
                batch, wider, longer = [], *lengths
            batch.append(pair)
            source, target = wider, longer
        yield batch


def _too_long(pair: Pair) -> bool:
    return max(map(len, pair)) > LONGEST


def classify(model: ExportModel, texts: Iterable[bytes], batch_size: int = BATCH) -> Iterator[Classified]:
    """Yield the label of each text, and the probability of every label."""
    for batch in batches(texts, batch_size):
        outputs = model.call("serving_default", text=as_strings(batch))
        names = [decoded(label) for label in outputs["labels"][0]]
        for label, probabilities in zip(outputs["label"], outputs["probabilities"].tolist(), strict=True):
            yield Classified(decoded(label), dict(zip(names, probabilities, strict=True)))


def embed(model: ExportModel, texts: Iterable[bytes]) -> np.ndarray:
    """Return the sentence vectors of texts, `(texts, dim)`; `(0, 0)` without texts."""
    vectors = [model.call("embed", text=as_strings(batch))["vector"] for batch in batches(texts)]
    return np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)


def score(model: ExportModel, texts: Iterable[bytes]) -> Iterator[Scored]:
    """Yield the log-probability of each text under a language model."""
    for batch in batches(texts):
        outputs = model.call("score", text=as_strings(batch))
        for total, tokens, unknown in zip(*(outputs[name] for name in Scored._fields), strict=True):
            yield Scored(float(total), int(tokens), int(unknown))


def next_tokens(model: ExportModel, prompts: Iterable[bytes], count: int) -> Iterator[dict[str, float]]:
    """Yield the `count` most probable next tokens after each prompt, with their probabilities, in descending order."""
    for batch in batches(prompts):
        outputs = model.call("next", prompt=as_strings(batch), count=np.int32(count))
        for tokens, probabilities in zip(outputs["tokens"], outputs["probabilities"].tolist(), strict=True):
            yield dict(zip(map(decoded, tokens), probabilities, strict=True))


def generate(model: ExportModel, prompts: Sequence[bytes], sampling: Sampling, seed: int) -> Iterator[str]:
    """Yield a continuation of each prompt, including the space before it.

    Args:
        model: a language model.
        prompts: the prompts.
        sampling: how to generate.
        seed: the first prompt and this seed determine its continuation, the second prompt and the next seed the second
            one, and so on.
    """
    settings = {
        "count": np.int32(sampling.count),
        "temperature": np.float32(sampling.temperature),
        "top_k": np.int32(sampling.top_k),
        "top_p": np.float32(sampling.top_p),
        "repetition": np.float32(sampling.repetition),
    }
    for batch in batches(prompts):
        seeds = np.arange(seed, seed + len(batch), dtype=np.int64)
        for text in model.call("generate", prompt=as_strings(batch), seed=seeds, **settings)["text"]:
            yield decoded(text)
        seed += len(batch)


def beam_search(model: ExportModel, prompt: bytes, count: int, width: int) -> tuple[str, float]:
    """Return the most probable continuation that a beam of some width finds, and its log-probability in nats."""
    outputs = model.call("beam", prompt=as_strings([prompt]), count=np.int32(count), width=np.int32(width))
    return decoded(outputs["text"][0]), float(outputs["log_probability"][0])


def translate(
    model: ExportModel, texts: Iterable[bytes], search: Search | None = None, batch_size: int = BATCH
) -> Iterator[list[Translated]]:
    """Yield the best translations of each text, best first.

    A text of more than `LONGEST` words has an empty translation; a line on standard error says so.

    Args:
        model: a translator.
        texts: the texts.
        search: how to search; None for one translation with the settings of the export, which has no details.
        batch_size: the number of texts of a request.
    """
    line = 0
    # Texts of similar lengths are translated together.
    for several in batches(texts, batch_size * 8 if batch_size > 1 else 1):
        shortened = []
        for text in several:
            line += 1
            words = len(text.split())
            if words > LONGEST:
                print(f"text {line}: {words} words, more than {LONGEST}; not translated", file=sys.stderr)
            shortened.append(b"" if words > LONGEST else text)
        found: dict[int, list[Translated]] = {}
        order = sorted(range(len(shortened)), key=lambda row: len(shortened[row]))
        for rows in batches(order, batch_size):
            answers = _translations(model, [shortened[row] for row in rows], search)
            found |= dict(zip(rows, answers, strict=True))
        yield from (found[row] for row in range(len(shortened)))


def _translations(model: ExportModel, texts: Sequence[bytes], search: Search | None) -> Iterator[list[Translated]]:
    if search is None:
        for text in model.call("serving_default", text=as_strings(texts))["text"]:
            yield [Translated(decoded(text), 0.0, 0.0, [], [], [], None, [])]
        return
    settings = {
        name: np.float32(value) if isinstance(value, float) else np.int32(value)
        for name, value in dataclasses.asdict(search).items()
        if name in model.inputs["translate"]
    }
    outputs = model.call("translate", text=as_strings(texts), **settings)
    for row in range(len(texts)):
        source = [decoded(piece) for piece in outputs["source_pieces"][row] if piece] if "attention" in outputs else []
        yield [
            _translated(
                {name: values[row][rank] for name, values in outputs.items() if name != "source_pieces"}, source
            )
            for rank in range(search.best)
        ]


def _translated(outputs: Mapping[str, Any], source: list[str]) -> Translated:
    pieces = [decoded(piece) for piece in outputs["pieces"] if piece]
    attention = outputs["attention"][: len(pieces), : len(source)] if source else None
    return Translated(
        decoded(outputs["text"]),
        float(outputs["score"]),
        float(outputs["log_probability"]),
        pieces,
        outputs["piece_log_probability"][: len(pieces)].tolist(),
        source,
        attention,
        [_link(link) for link in outputs.get("alignment", b"").split()],
    )


def score_translations(model: ExportModel, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[float, int]]:
    """Yield the log-probability of each translation given its text, in nats, and its number of subwords."""
    for batch in batches(pairs):
        text, translation = (as_strings([pair[side] for pair in batch]) for side in (0, 1))
        outputs = model.call("score", text=text, translation=translation)
        yield from zip(outputs["log_probability"].tolist(), outputs["tokens"].tolist(), strict=True)


def batches(items: Iterable[Item], size: int = BATCH) -> Iterator[list[Item]]:
    """Yield items in batches."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def split(text: bytes) -> list[bytes]:
    """Return the tokens of a text, separated by spaces."""
    return [token for token in text.split(b" ") if token]


def padded_tokens(texts: Sequence[bytes]) -> np.ndarray:
    """Return the tokens of texts, separated by spaces, as `(texts, time)`, padded with `b""`."""
    rows = [split(text) for text in texts]
    width = max(1, *map(len, rows))
    return as_strings([row + [b""] * (width - len(row)) for row in rows])


def as_strings(values: Sequence[bytes] | Sequence[list[bytes]]) -> np.ndarray:
    """Return bytes as an array of objects; NumPy's own strings would lose trailing null bytes."""
    return np.array(values, object)


def decoded(text: bytes) -> str:
    """Return bytes as text; what is not UTF-8 is replaced."""
    return text.decode("utf-8", "replace")
