"""What each task keeps of the segments that it was scored on, for `trellis compare`: statistics, in groups as well."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence, Set

import numpy as np

from trellis.components.alignment.token_pairs import TokenPairs
from trellis.components.metrics import alignment_scores, tagging_scores
from trellis.components.metrics.breakdown import Group, Ranges, divide
from trellis.components.metrics.segments import ScoredSegments, Statistics, digest
from trellis.components.readers.bitext import SentencePair
from trellis.components.readers.sentence import Sentence, document_numbers
from trellis.components.text.stream import BOUNDARY, TextStream
from trellis.components.text.tag_schemes import Scheme, entities
from trellis.components.text.vectorizer import UNKNOWN
from trellis.components.types import Link

Tags = Sequence[str]

LENGTHS = Ranges(10, 20, 40)  # words of a sentence
ENTITY_LENGTHS = Ranges(1, 2, 3, first="1")
FREQUENCIES = Ranges(0, 1, 10, 100, 1000, first="0")
POSITIONS = Ranges(1, 5, 10, 20, first="1")
PLACES = Ranges(1, 3, 10, first="1")  # of a sentence in its document
UNKNOWN_NAME, LINE_END = "unknown word", "line end"
KNOWN, UNSEEN = "all in training", "some not in training"


def of_entities(
    part: str, sentences: Sequence[Sentence], predicted: Sequence[Tags], train: Iterable[Sentence]
) -> ScoredSegments:
    """Return the statistics of sentences with entities, in BIO2: by type, length, and what training has of them."""
    gold = [sentence.tags for sentence in sentences]
    found = list(tagging_scores.compared_entities(gold, predicted))
    rows = [compared.sentence for compared in found]
    counts = np.array([compared.counts for compared in found], np.float64).reshape(-1, 3)
    sizes = [compared.gold for compared in found]
    texts = [sentences[row].tokens[each.entity.start : each.entity.stop] for row, each in zip(rows, found, strict=True)]
    # Training may be large, so only the entities and words that occur in `texts` are kept.
    asked_entities, asked_words = set(texts), {token for text in texts for token in text}
    known_entities: set[tuple[str, ...]] = set()
    known_words: set[str] = set()
    bio2 = Scheme("BIO2")
    for sentence in train:
        known_words.update(asked_words.intersection(sentence.tokens))
        own = (sentence.tokens[start:stop] for _, start, stop in entities(sentence.tags, bio2))
        known_entities.update(entity for entity in own if entity in asked_entities)

    def in_training(tokens: Tags) -> str:
        if tuple(tokens) in known_entities:
            return "as an entity"
        return "its words only" if all(token in known_words for token in tokens) else "not all of its words"

    def divided(dimension: str, names: Sequence[str], order: Sequence[str] = ()) -> list[Group]:
        return divide(dimension, names, rows, counts, sizes, len(gold), order)

    lengths = list(LENGTHS(len(tags) for tags in gold))
    groups = [
        *divided("entity type", [compared.entity.kind for compared in found]),
        *divided("entity length", list(ENTITY_LENGTHS(map(len, texts))), ENTITY_LENGTHS.names),
        *divided("in training", list(map(in_training, texts))),
        *divided("sentence length", [lengths[row] for row in rows], LENGTHS.names),
    ]
    documents, places = _documents(sentences)
    if documents is not None:
        groups += divided("sentence of the document", [places[row] for row in rows], PLACES.names)
    statistics = tagging_scores.entity_counts(gold, predicted)
    return ScoredSegments(part, "f1", statistics, digest(map(" ".join, gold)), groups, documents)


def of_tags(
    part: str, sentences: Sequence[Sentence], predicted: Sequence[Tags], known: Collection[str]
) -> ScoredSegments:
    """Return the statistics of sentences with a tag per token: by gold tag, known and unknown words, and length."""
    gold = [sentence.tags for sentence in sentences]
    lengths = np.array([len(tags) for tags in gold], np.int64)
    rows = np.repeat(np.arange(len(gold)), lengths)
    right = [a == b for tags in zip(gold, predicted, strict=True) for a, b in zip(*tags, strict=True)]
    counts = np.stack([right, np.ones(len(rows))], axis=1)

    def divided(dimension: str, names: Sequence[str], order: Sequence[str] = ()) -> list[Group]:
        return divide(dimension, names, rows, counts, np.ones(len(rows)), len(gold), order)

    tokens = (token for sentence in sentences for token in sentence.tokens)
    groups = [
        *divided("tag", [tag for tags in gold for tag in tags]),
        *divided("word", ["in training" if token in known else "not in training" for token in tokens]),
        *divided("sentence length", np.repeat(list(LENGTHS(lengths)), lengths).tolist(), LENGTHS.names),
    ]
    documents, places = _documents(sentences)
    if documents is not None:
        groups += divided("sentence of the document", np.repeat(places, lengths).tolist(), PLACES.names)
    statistics = tagging_scores.token_counts(gold, predicted)
    return ScoredSegments(part, "accuracy", statistics, digest(map(" ".join, gold)), groups, documents)


def _documents(sentences: Sequence[Sentence]) -> tuple[np.ndarray | None, list[str]]:
    """Return the document of each sentence, None if they are not known; and where in its document a sentence is."""
    numbers = np.array(document_numbers(sentences), np.int64)
    if len(set(numbers.tolist())) < 2:
        return None, []
    seen: Counter[int] = Counter()
    places = []
    for number in numbers.tolist():
        seen[number] += 1
        places.append(seen[number])
    return numbers, list(PLACES(places))


def of_texts(
    part: str, labels: Sequence[str], right: np.ndarray, tokens: Sequence[Tags], known: Collection[str]
) -> ScoredSegments:
    """Return the statistics of labelled texts: by gold label, length, and whether training has all of their words.

    Args:
        right: whether each text has its gold label.
        tokens: the words of each text.
        known: the words of the training part.
    """
    statistics = np.stack([right, np.ones(len(right))], axis=1)
    divided = _by_segment(statistics, np.ones(len(right)))
    groups = [*divided("label", labels, ()), *_by_words(divided, "text", tokens, known)]
    return ScoredSegments(part, "accuracy", statistics, digest(labels), groups)


def of_stream(part: str, stream: TextStream, log_probabilities: np.ndarray, occurrences: np.ndarray) -> ScoredSegments:
    """Return the statistics of the lines of a text: by the frequency of words, their position, and line length.

    Args:
        log_probabilities: of each token of the stream.
        occurrences: how often each id occurs in the training text, `(ids,)`.
    """
    ids = stream.ids
    lengths = np.diff([*stream.lines, len(stream)])
    # Ids differ between vocabularies, and so do the words that are unknown; the text is the same if its lines are.
    gold = map(str, [stream.characters, *lengths])
    nats = np.stack([-log_probabilities, np.ones(len(stream))], axis=1)
    rows = np.repeat(np.arange(len(lengths)), lengths)

    def divided(dimension: str, names: Sequence[str], order: Sequence[str]) -> list[Group]:
        return divide(dimension, names, rows, nats, np.ones(len(stream)), len(lengths), order)

    counts = occurrences[ids]
    special = {UNKNOWN: UNKNOWN_NAME, BOUNDARY: LINE_END}
    frequencies = [special.get(id, name) for id, name in zip(ids.tolist(), FREQUENCIES(counts), strict=True)]
    places = np.arange(len(stream)) - np.repeat(stream.lines, lengths) + 1
    groups = [
        *divided("occurrences in training", frequencies, [*FREQUENCIES.names, *special.values()]),
        *divided("position in the line", list(POSITIONS(places)), POSITIONS.names),
        *divided("line length", np.repeat(list(LENGTHS(lengths - 1)), lengths).tolist(), LENGTHS.names),
    ]
    documents = np.searchsorted(stream.documents, stream.lines, side="right") - 1
    return ScoredSegments(part, "perplexity", np.add.reduceat(nats, stream.lines), digest(gold), groups, documents)


def of_links(
    part: str, pairs: Sequence[SentencePair], predicted: Sequence[Set[Link]], training: TokenPairs
) -> ScoredSegments:
    """Return the statistics of sentence pairs: by the frequency of the source word of each link, and by length.

    Args:
        predicted: the predicted links of each pair.
        training: the bitext that the aligner learned from, in which the pairs themselves may be.
    """
    sure = [pair.sure or frozenset() for pair in pairs]
    possible = [pair.possible or frozenset() for pair in pairs]
    counts = alignment_scores.link_counts(predicted, sure, possible)
    gold = (f"{sorted(own_sure)} {sorted(own)}" for own_sure, own in zip(sure, possible, strict=True))
    ids = training.tokens[0]
    occurrences = sum(
        (np.bincount(chunk.source, minlength=len(ids)) for chunk in training.chunks()), np.zeros(len(ids), np.int64)
    )
    rows, statistics, sizes, frequencies = [], [], [], []
    for row, (pair, links) in enumerate(zip(pairs, predicted, strict=True)):
        for link in sorted(links | possible[row]):
            is_sure, is_possible, is_predicted = link in sure[row], link in possible[row], link in links
            rows.append(row)
            statistics.append((is_predicted and is_sure, is_predicted and is_possible, is_predicted, is_sure))
            sizes.append(is_possible)
            token = pair.source[link[0]]
            frequencies.append(int(occurrences[ids[token]]) if token in ids else 0)
    groups = [
        *divide(
            "occurrences of the source word", list(FREQUENCIES(frequencies)), rows, statistics, sizes, len(pairs),
            FREQUENCIES.names,
        ),
        *_by_segment(counts, [len(links) for links in possible])(
            "source length", list(LENGTHS(len(pair.source) for pair in pairs)), LENGTHS.names
        ),
    ]  # fmt: skip
    return ScoredSegments(part, "aer", counts, digest(gold), groups)


def of_translations(
    part: str,
    score: str,
    statistics: Statistics,
    references: Sequence[Sequence[str | None]],
    sources: Sequence[Tags],
    known: Collection[str],
) -> ScoredSegments:
    """Return the statistics of translations: by the length of the source, and whether training has all of its words.

    Args:
        score: the name of the score.
        statistics: those of each translation.
        references: `references[set][row]`; None where a text has fewer than others.
        sources: the words of each source.
        known: the source words of the training part.
    """
    gold = (text or "" for texts in references for text in texts)
    groups = _by_words(_by_segment(statistics, np.ones(len(statistics))), "source", sources, known)
    return ScoredSegments(part, score, statistics, digest(gold), groups)


Divide = Callable[[str, Sequence[str], Sequence[str]], list[Group]]


def _by_segment(statistics: Statistics, sizes: Sequence[int] | np.ndarray) -> Divide:
    """Return a function that divides whole segments: it takes the dimension, the name of each, and their order."""
    rows = np.arange(len(statistics))
    return lambda dimension, names, order: divide(dimension, names, rows, statistics, sizes, len(rows), order)


def _by_words(divided: Divide, text: str, tokens: Sequence[Tags], known: Collection[str]) -> list[Group]:
    """Return groups by the number of words of each text, and by whether all are known."""
    words = [KNOWN if all(token in known for token in each) else UNSEEN for each in tokens]
    return [
        *divided(f"{text} length", list(LENGTHS(map(len, tokens))), LENGTHS.names),
        *divided(f"{text} words", words, (KNOWN, UNSEEN)),
    ]
