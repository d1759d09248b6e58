"""What runs keep for comparisons, by hand."""

import numpy as np

from trellis.components.alignment.token_pairs import TokenPairs
from trellis.components.metrics.breakdown import OTHERS, Ranges, divide
from trellis.components.readers.bitext import SentencePair
from trellis.components.readers.sentence import Sentence
from trellis.components.text.stream import Stream, vocabulary
from trellis.components.text.text_part import TextInMemory
from trellis.pipelines import segment_statistics


def sums(scored, dimension):
    """`{group: (size, *statistics)}` over all segments."""
    return {
        group.name: (int(group.sizes.sum()), *group.statistics.sum(axis=0).tolist())
        for group in scored.groups
        if group.dimension == dimension
    }


def test_ranges_have_names():
    ranges = Ranges(1, 2, 5, first="1")
    assert ranges.names == ["1", "2", "3–5", "over 5"]
    assert list(ranges([1, 2, 3, 5, 6, 600])) == ["1", "2", "3–5", "3–5", "over 5", "over 5"]


def test_small_groups_are_put_together():
    names = [f"type{index}" for index in range(40) for _ in range(40 - index)]
    groups = divide("type", names, np.zeros(len(names), int), np.ones((len(names), 1)), np.ones(len(names)), 1)
    assert [group.name for group in groups[:2]] == ["type0", "type1"] and groups[-1].name == OTHERS
    assert len(groups) == 30 and sum(group.sizes.sum() for group in groups) == len(names)
    assert divide("type", [], [], np.zeros((0, 1)), [], 3) == []


def test_entities_are_divided_by_type_length_and_training():
    train = [Sentence(("New", "York", "likes", "Ann"), ("B-LOC", "I-LOC", "O", "B-PER"))]
    gold = [
        Sentence(("New", "York", "and", "Ann"), ("B-LOC", "I-LOC", "O", "B-PER")),
        Sentence(("Bob", "likes"), ("B-PER", "O")),
    ]
    predicted = [("B-LOC", "I-LOC", "O", "O"), ("B-PER", "B-PER")]
    found = segment_statistics.of_entities("test", gold, predicted, train)
    assert found.statistics.tolist() == [[1, 1, 2], [1, 2, 1]]
    assert sums(found, "entity type") == {"PER": (2, 1, 2, 2), "LOC": (1, 1, 1, 1)}
    assert sums(found, "entity length") == {"1": (2, 1, 2, 2), "2": (1, 1, 1, 1)}
    assert sums(found, "in training") == {
        "as an entity": (2, 1, 1, 2), "its words only": (0, 0, 1, 0), "not all of its words": (1, 1, 1, 1),
    }  # fmt: skip
    assert sums(found, "sentence length") == {"up to 10": (3, 2, 3, 3)}


def test_tags_are_divided_by_known_words():
    gold = [Sentence(("a", "b"), ("X", "Y")), Sentence(("c",), ("X",))]
    found = segment_statistics.of_tags("test", gold, [("X", "X"), ("X",)], {"a", "b"})
    assert sums(found, "word") == {"in training": (2, 1, 2), "not in training": (1, 1, 1)}
    assert sums(found, "tag") == {"X": (2, 2, 2), "Y": (1, 0, 1)}


def test_sentences_are_divided_by_their_place_in_documents_that_are_known():
    def read(*documents):
        return [Sentence(("a",), ("B-X",), document=document) for document in documents]

    sentences = read(0, 0, 0, 0, 2, 2)
    tags = [sentence.tags for sentence in sentences]
    for found in (
        segment_statistics.of_entities("test", sentences, tags, []),
        segment_statistics.of_tags("test", sentences, tags, {"a"}),
    ):
        sizes = {name: size for name, (size, *_) in sums(found, "sentence of the document").items()}
        assert sizes == {"1": 2, "2–3": 3, "4–10": 1}
        assert found.documents.tolist() == [0, 0, 0, 0, 1, 1]
    unknown = segment_statistics.of_entities("test", read(0, 0), tags[:2], [])
    assert unknown.documents is None and not sums(unknown, "sentence of the document")


def test_tokens_are_divided_by_their_frequency_and_place():
    train, text = [[["a"] * 12 + ["b", "b"]]], [[["a", "b"], ["c"]], [["a"]]]
    vectorizer = vocabulary(TextInMemory(train).counts(), "words")
    stream = Stream(text, vectorizer, "words")
    found = segment_statistics.of_stream("test", stream, np.full(7, -1.0), Stream(train, vectorizer, "words").counts(5))
    assert sums(found, "occurrences in training") == {
        "2–10": (1, 1, 1), "11–100": (2, 2, 2), "unknown word": (1, 1, 1), "line end": (3, 3, 3),
    }  # fmt: skip
    assert sums(found, "position in the line") == {"1": (3, 3, 3), "2–5": (4, 4, 4)}
    assert found.documents.tolist() == [0, 0, 1] and found.statistics.tolist() == [[3, 3], [2, 2], [2, 2]]


def test_links_are_divided_by_the_frequency_of_the_source_word():
    training = TokenPairs()
    for _ in range(3):
        training.add(("the", "house"), ("la", "casa"))
    training.add(("the", "dog"), ("el", "perro"))
    pairs = [SentencePair(("the", "dog"), ("el", "perro"), frozenset({(1, 1)}), frozenset({(0, 0), (1, 1)}))]
    found = segment_statistics.of_links("test", pairs, [{(0, 0), (0, 1)}], training)
    assert found.statistics.tolist() == [[0, 1, 2, 1]]
    assert sums(found, "occurrences of the source word") == {"1": (1, 0, 0, 0, 1), "2–10": (1, 0, 1, 2, 0)}
    assert sums(found, "source length") == {"up to 10": (2, 0, 1, 2, 1)}
