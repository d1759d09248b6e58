"""Sampling and beam search against enumeration, on a small n-gram model and a small network."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.components.test_language_model import recurrent
from trellis.components import generation
from trellis.components.models.ngram import NGram

END = 2


@pytest.fixture(scope="module")
def ngram():
    model = NGram(7, 3)
    rng = np.random.default_rng(0)
    lines = [[*rng.choice([3, 4, 5, 6], size=rng.integers(1, 6), p=[0.5, 0.3, 0.15, 0.05]), END] for _ in range(80)]
    model.adapt(np.concatenate(lines), np.cumsum([0, *map(len, lines)])[:-1])
    model.fit()
    return model


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(2)
    model = recurrent("gru")
    for weight in model.trainable_variables:
        weight.assign(weight * 4)
    return model


PROMPTS = tf.constant([[END, 3, 4], [END, 5, 0], [END, 0, 0]])
LENGTHS = tf.constant([3, 2, 1])


def sampled(model, seeds=(1, 2, 3), prompts=PROMPTS, lengths=LENGTHS, **options):
    options = {"count": 8, "end": END} | options
    return generation.sample(model, prompts, lengths, tf.constant(seeds), **options).numpy()


@pytest.mark.parametrize("name", ["ngram", "network"])
def test_a_row_depends_on_its_prompt_and_seed_alone(name, request):
    model = request.getfixturevalue(name)
    together = sampled(model)
    for row, length in enumerate(LENGTHS.numpy()):
        alone = sampled(model, [row + 1], PROMPTS[row : row + 1, :length], LENGTHS[row : row + 1])[0]
        np.testing.assert_array_equal(alone, together[row][: len(alone)])
        assert not together[row][len(alone) :].any()
    assert any(not np.array_equal(sampled(model, [seed] * 3), together) for seed in (7, 8))


@pytest.mark.parametrize("name", ["ngram", "network"])
def test_greedy_generation_takes_the_most_probable_word(name, request):
    model = request.getfixturevalue(name)
    greedy = sampled(model, temperature=0.0)
    np.testing.assert_array_equal(greedy, sampled(model, top_k=1))
    np.testing.assert_array_equal(greedy, sampled(model, top_p=1e-6))
    features, _ = generation.after(model, PROMPTS, LENGTHS)
    np.testing.assert_array_equal(greedy[:, 0], tf.argmax(model.log_probabilities(features), -1))


@pytest.mark.slow
def test_draws_follow_the_model(ngram):
    rows = 3000
    prompts, lengths = tf.repeat(PROMPTS[:1], rows, 0), tf.repeat(LENGTHS[:1], rows)

    # In a graph: eagerly, each row's random number takes longer than everything else.
    @tf.function(autograph=False)
    def draw(temperature):
        return generation.sample(ngram, prompts, lengths, tf.range(rows), count=1, end=END, temperature=temperature)

    words = draw(tf.constant(1.0)).numpy()[:, 0]
    features, _ = generation.after(ngram, PROMPTS[:1], LENGTHS[:1])
    expected = tf.exp(ngram.log_probabilities(features)).numpy()[0]
    np.testing.assert_allclose(np.bincount(words, minlength=7) / rows, expected, atol=0.03)
    colder = draw(tf.constant(0.5)).numpy()[:, 0]
    np.testing.assert_allclose(np.bincount(colder, minlength=7) / rows, expected**2 / (expected**2).sum(), atol=0.03)


def test_top_k_and_top_p_leave_the_rest_out(ngram):
    features, _ = generation.after(ngram, PROMPTS[:1], LENGTHS[:1])
    every = tf.exp(ngram.log_probabilities(features)).numpy()[0]
    order = np.argsort(-every)
    prompts, lengths = tf.repeat(PROMPTS[:1], 400, 0), tf.repeat(LENGTHS[:1], 400)
    assert set(sampled(ngram, range(400), prompts, lengths, count=1, top_k=2)[:, 0]) == set(order[:2])
    reached = np.cumsum(every[order])
    kept = order[: 1 + np.count_nonzero(reached < 0.7)]
    assert set(sampled(ngram, range(400), prompts, lengths, count=1, top_p=0.7)[:, 0]) == set(kept)


def test_banned_ids_and_padding_are_never_generated(network):
    words = sampled(network, range(3), banned=(1, 4, 5), count=40, end=None, temperature=3.0)
    assert not np.isin(words, [0, 1, 4, 5]).any() and words.shape == (3, 40)


def test_a_row_ends_at_the_end(ngram):
    words = sampled(ngram, count=50)
    for row in words:
        ends = np.flatnonzero(row == END)
        assert len(ends) == 1 and not row[ends[0] + 1 :].any() and row[: ends[0]].all()
    assert words.shape[1] < 50


def test_a_repetition_penalty_prevents_repetition(network):
    free = sampled(network, count=9, end=None, temperature=0.0)
    held = sampled(network, count=9, end=None, temperature=0.0, repetition=100.0)
    assert all(len(set(row)) == 9 for row in held)
    assert any(len(set(row)) < 9 for row in free)


@pytest.mark.parametrize("name", ["ngram", "network"])
def test_a_wide_beam_finds_the_best(name, request):
    model = request.getfixturevalue(name)
    words, scores = generation.best_continuation(model, PROMPTS, LENGTHS, count=3, width=150)
    for row, length in enumerate(LENGTHS.numpy()):
        prompt = PROMPTS.numpy()[row, :length].tolist()
        every = [list(continuation) for continuation in itertools.product(range(1, model.vocabulary), repeat=3)]
        read = tf.constant([prompt + continuation[:-1] for continuation in every])
        features, _ = model.read(read, model.initial_states(len(every)))
        log_probabilities = tf.reduce_sum(
            model.token_log_probabilities(features[:, length - 1 :], tf.constant(every)), 1
        ).numpy()
        assert words[row].numpy().tolist() == every[int(log_probabilities.argmax())]
        assert float(scores[row]) == pytest.approx(log_probabilities.max(), abs=1e-4)


def test_a_beam_stops_at_the_end(ngram):
    words, _ = generation.best_continuation(ngram, PROMPTS, LENGTHS, count=20, width=3, end=END)
    for row in words.numpy():
        assert np.count_nonzero(row == END) == 1 and row[np.flatnonzero(row == END)[0] + 1 :].sum() == 0
