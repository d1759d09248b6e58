"""Vectoriser, tokeniser and batches."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.components.layers.character_encoder import CharacterEncoder
from trellis.components.layers.word_dropout import WordDropout
from trellis.components.readers.sentence import Sentence
from trellis.components.text.batching import (
    UNSEEN,
    Buckets,
    EncodedCorpus,
    optimal_bounds,
    ordered_batches,
    training_batches,
)
from trellis.components.text.tokenizer import tokenize
from trellis.components.text.vectorizer import TokenVectorizer, normalize

TOKENS = ["The", "cat", "saw", "2", "cats", "in", "1999", ".", "THE", "End", "iPhone3", "3.5"]


def decoded(strings):
    return [[each.decode() for each in row if each] for row in strings.numpy()]


def test_vocabularies_are_those_of_the_training_tokens():
    vectorizer = TokenVectorizer.adapt([*TOKENS, "cat"], min_count=2)
    assert vectorizer.words == ["the", "cat"]
    ids = vectorizer(tf.constant([["CAT", "dog", "", "the"], ["2", "", "", ""]]))
    assert ids["words"].numpy().tolist() == [[3, 1, 0, 2], [1, 0, 0, 0]]
    assert ids["characters"].shape == (2, 4, 3)
    assert not ids["characters"].numpy()[0, 2].any()
    assert vectorizer.sizes["words"] == 4
    kept = TokenVectorizer.adapt(TOKENS, min_count=2, keep=["cat", "zebra"])
    assert set(kept.words) == {"the", "cat", "zebra"}


def test_tokens_are_normalised():
    tokens = ["İSTANBUL", "ILIK", "Abc12", "ÀÉ", "x\u00a0Y"]
    assert [t.decode() for t in normalize(tf.constant(tokens), "turkish", "keep").numpy()] == [
        "istanbul", "ılık", "abc12", "àé", "x\u00a0y",
    ]  # fmt: skip
    assert normalize(tf.constant(["Abc12"]), "keep", "zero").numpy()[0] == b"Abc00"


def test_casing_patterns_by_hand():
    vectorizer = TokenVectorizer([], [])
    kinds = [["12", "3,000.5", "1990-91"], ["B2B", "4x"], [".", "--", "。"], ["cat", "über", "rock-n"],
             ["USA", "Ü.N.", "I"], ["Cat", "Élan"], ["iPhone", "McDonald"]]  # fmt: skip
    for number, tokens in enumerate(kinds, 1):
        assert vectorizer.casing_ids(tf.constant(tokens)).numpy().tolist() == [number] * len(tokens), tokens
    assert int(vectorizer.casing_ids(tf.constant(""))) == 0


def test_long_words_keep_both_ends():
    vectorizer = TokenVectorizer([], list("abcdefgh"), max_characters=5)
    assert vectorizer.character_ids(tf.constant(["abcdefgh", "abcde", "ab"])).numpy().tolist() == [
        [2, 3, 4, 8, 9], [2, 3, 4, 5, 6], [2, 3, 0, 0, 0],
    ]  # fmt: skip


def test_tokenizer_by_hand():
    texts = {
        "Mary Smith flew from Oslo to Lima.": "Mary Smith flew from Oslo to Lima .",
        "I don't think Mr. Smith's 3.5% e-mail": "I do n't think Mr. Smith 's 3.5% e-mail",
        "(a@b.com) is U.S. news!": "( a@b.com ) is U.S. news !",
        "See http://x.y/z?q=1, ok…": "See http://x.y/z?q=1 , ok …",
        "": "",
        "  \t ": "",
        "“Ünlü” -- İstanbul 東京": "“ Ünlü ” -- İstanbul 東京",
        "10:30 1,000.5 and/or": "10:30 1,000.5 and / or",
    }
    tokens = decoded(tokenize(tf.constant(list(texts))))
    for got, expected in zip(tokens, texts.values(), strict=True):
        assert got == expected.split()
    assert decoded(tokenize(tf.constant(["a.b  c!"]), "whitespace")) == [["a.b", "c!"]]
    assert tokenize(tf.constant([""])).shape == (1, 1)


def test_tokenizer_loses_no_character():
    rng = np.random.default_rng(0)
    alphabet = [*list("ab'-.,3 é中\xa0"), "n't", "'s", "..", "U.S."]
    texts = ["".join(rng.choice(alphabet, 12)) for _ in range(500)]
    for text, tokens in zip(texts, decoded(tokenize(tf.constant(texts))), strict=True):
        assert "".join("".join(tokens).split()) == "".join(text.split())


@given(st.lists(st.integers(0, 60), min_size=1, max_size=80), st.integers(1, 100), st.integers(1, 8), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_batches_hold_every_sentence_once(lengths, tokens, shapes, seed):
    buckets = Buckets(lengths, tokens, shapes)
    batches = buckets.epoch(np.random.default_rng(seed))
    rows = np.concatenate([batch for batch, _ in batches])
    assert sorted(rows[rows >= 0]) == list(range(len(lengths)))
    assert len({(len(batch), time) for batch, time in batches}) <= shapes
    assert len(batches) == buckets.steps
    for batch, time in batches:
        assert all(lengths[row] <= time for row in batch if row >= 0)
        assert len(batch) * time <= tokens or len(batch) == 1


def test_bounds_waste_the_fewest_cells():
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(1, 12, 30)
        for count in (1, 2, 3):
            bounds = optimal_bounds(lengths, count)
            cells = bounds[np.searchsorted(bounds, lengths)].sum()
            longest = lengths.max()
            values = sorted(set(lengths.tolist()) - {longest})
            best = min(
                np.array([*chosen, longest])[np.searchsorted([*chosen, longest], lengths)].sum()
                for size in range(min(count - 1, len(values)) + 1)
                for chosen in itertools.combinations(values, size)
            )
            assert cells == best


def sample_corpus(rng, count=40):
    words = [f"w{n}" for n in range(30)]
    sentences = [
        Sentence(tuple(rng.choice(words, n)), tuple(rng.choice(["A", "B", "Z"], n))) for n in rng.integers(1, 9, count)
    ]
    vectorizer = TokenVectorizer.adapt([token for sentence in sentences for token in sentence.tokens])
    return sentences, vectorizer, EncodedCorpus(sentences, vectorizer, ["A", "B"])


@pytest.mark.slow
def test_encoded_batches_equal_the_vectoriser():
    sentences, vectorizer, corpus = sample_corpus(np.random.default_rng(1))
    buckets = Buckets(corpus.lengths, 24, 4)
    for rows, features, gold in ordered_batches(corpus, buckets):
        time = gold.shape[1]
        picked = [sentences[row] if row >= 0 else Sentence((), ()) for row in rows.numpy()]
        padded = tf.constant([[*s.tokens, *[""] * (time - len(s.tokens))] for s in picked])
        for name, expected in vectorizer(padded).items():
            np.testing.assert_array_equal(features[name], expected)
        for sentence, tags in zip(picked, gold.numpy(), strict=True):
            assert [{0: "A", 1: "B", UNSEEN: "Z"}[t] for t in tags[: len(sentence.tags)]] == list(sentence.tags)


@pytest.mark.slow
def test_epochs_are_shuffled_by_seed_and_index_alone():
    _, _, corpus = sample_corpus(np.random.default_rng(2))
    buckets = Buckets(corpus.lengths, 24, 4)

    def words(seed, epoch):
        batches = training_batches(corpus, buckets, seed, lambda: epoch)
        assert batches.cardinality() == buckets.steps
        return [features["words"].numpy().tolist() for features, _ in batches]

    assert words(5, 0) == words(5, 0)
    assert len({str(words(seed, epoch)) for seed in (5, 6) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("kind", ["cnn", "lstm"])
def test_character_encoder_encodes_each_word_by_itself(kind):
    layer = CharacterEncoder(20, kind=kind, dim=4, units=6)
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 6, (3, 7))
    characters = rng.integers(1, 4, (3, 7, 5)) * (np.arange(5) < lengths[..., None])
    together = layer(characters).numpy()
    assert together.shape == (3, 7, 6)
    for b, t in itertools.product(range(3), range(7)):
        alone = layer(characters[b : b + 1, t : t + 1, : max(1, lengths[b, t])])[0, 0]
        np.testing.assert_allclose(together[b, t], alone, atol=1e-6)
        if not lengths[b, t]:
            assert not together[b, t].any()
    wider = np.pad(characters, [(0, 0), (0, 2), (0, 9)])
    np.testing.assert_allclose(layer(wider)[:, :7], together, atol=1e-6)


def test_character_encoder_tells_words_apart():
    """Every word of three characters out of 60 has a fingerprint of its own."""
    words = np.array(list(itertools.product(range(1, 61), repeat=3)), np.int32)
    _, index = CharacterEncoder._distinct(tf.constant(words))
    assert len(set(index.numpy())) == len(words)


def test_word_dropout_keeps_padding():
    layer = WordDropout(0.5, seed=1)
    words = np.tile([0, 5, 6, 7], (200, 1)).astype(np.int32)
    np.testing.assert_array_equal(layer(words), words)
    dropped = layer(words, training=True).numpy()
    assert not dropped[:, 0].any()
    assert 0.4 < (dropped[:, 1:] == 1).mean() < 0.6
    with pytest.raises(ValueError, match="rate"):
        WordDropout(1.0)
