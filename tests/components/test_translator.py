"""The encoder-decoder and its decoding, against enumeration, an independent beam search, and each other."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from trellis.components.layers.attention import Attention
from trellis.components.models import decoding
from trellis.components.models.translator import Translator
from trellis.components.text.attention_guide import AttentionGuide
from trellis.components.text.subwords import BEGIN, END

SOURCE = tf.constant([[4, 5, 6, 3], [5, 3, 0, 0]])
NO_DROPOUT = {"word": 0.0, "input": 0.0, "between": 0.0, "recurrent": 0.0, "output": 0.0}


def translator(cell="gru", after="first", kind="additive", feeding=False, window=None, dropout=NO_DROPOUT, **options):
    keras.utils.set_random_seed(3)
    model = Translator(
        7,
        encoder={"cell": cell, "layers": 1, "units": 6, "bidirectional": True},
        decoder={"cell": cell, "layers": 2, "units": 8, "attend_after": after, "input_feeding": feeding},
        attention={"kind": kind, "units": 5, "window": window},
        dim=6,
        dropout=dropout,
        **{"tied": True, "label_smoothing": 0.1} | options,
    )
    for weight in model.trainable_variables:
        weight.assign(weight * 2.5)
    return model


@pytest.fixture(scope="module")
def model():
    return translator()


VARIANTS = [
    {"cell": "gru", "after": "first", "kind": "additive"},
    {"cell": "lstm", "after": "last", "kind": "general", "window": 1},
    {"cell": "lstm", "after": "first", "kind": "none"},
    {"cell": "gru", "after": "last", "kind": "additive", "feeding": True},
    {"cell": "lstm", "after": "first", "kind": "general", "feeding": True, "tied": False, "source_vocabulary": 8},
]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_wide_beam_finds_what_enumeration_finds(options):
    model = translator(**options)
    found = decoding.translate(model, model.encode(SOURCE), count=4, width=60, best=3, alpha=0.0)
    every = sorted(
        {words[: words.index(END) + 1] for words in itertools.product([1, 3, 4, 5, 6], repeat=4) if END in words}
    )
    targets = np.array([[*words, 0, 0, 0][:4] for words in every], np.int32)
    for row in range(2):
        forced = decoding.force(model, model.encode(SOURCE[row : row + 1]), targets[np.newaxis])
        totals = forced.log_probabilities.numpy().sum(-1)[0]
        best = np.argsort(-totals)[:3]
        np.testing.assert_allclose(found.log_probabilities[row], totals[best], atol=1e-4)
        assert [tuple(ids[ids > 0]) for ids in found.ids[row].numpy()] == [every[index] for index in best]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(map(str, options.values())))
def test_training_computes_what_decoding_computes(options):
    model = translator(**options, label_smoothing=0.0)
    target = tf.constant([[4, 6, 5, 3], [6, 3, 0, 0]])
    forced = decoding.force(model, model.encode(SOURCE), target).log_probabilities
    np.testing.assert_allclose(model({"source": SOURCE, "target": target}), forced, atol=1e-5)
    model.compile(keras.optimizers.SGD(0.0))
    loss = model.train_step(({"source": SOURCE, "target": target},))["loss"]
    assert float(loss) == pytest.approx(-forced.numpy().sum() / 6, abs=1e-5)


def beam_by_hand(model, source, width, alpha, count):
    """Beam search in Python: one sentence, forced decoding of every prefix, no states."""

    def following(prefix):
        target = tf.constant([[*prefix, 1]])
        memory, states = model.encode(source)
        before = tf.concat([[[BEGIN]], target[:, :-1]], 1)
        # Two steps at least: one step alone is decoded by another function.
        features = model.decode(tf.pad(before, [[0, 0], [0, 1]]), memory, states).features[:, len(prefix)]
        scores = model.log_probabilities(features).numpy()[0]
        scores[[0, BEGIN]] = -np.inf
        return scores

    beams, finished = [(0.0, ())], []
    for length in range(1, count + 1):
        grown = [
            (total + score, (*words, word)) for total, words in beams for word, score in enumerate(following(words))
        ]
        grown = sorted(grown, reverse=True)[: 2 * width]
        finished += [(total / length**alpha, words) for total, words in grown[:width] if words[-1] == END]
        finished = sorted(finished, reverse=True)[:width]
        beams = [hypothesis for hypothesis in grown if hypothesis[1][-1] != END][:width]
        reachable = max(beams[0][0], beams[0][0] / count**alpha)
        if len(finished) == width and reachable <= finished[0][0]:
            break
    return finished[0] if finished else max((total / count**alpha, words) for total, words in beams)


@pytest.mark.parametrize(("width", "alpha"), [(1, 1.0), (2, 0.0), (3, 0.6), (4, 1.0)])
def test_the_beam_is_that_of_an_independent_search(model, width, alpha):
    rng = np.random.default_rng(width)
    for _ in range(3):
        source = tf.constant([[*rng.integers(4, 7, rng.integers(1, 6)), END]], tf.int32)
        found = decoding.translate(model, model.encode(source), count=6, width=width, alpha=alpha)
        score, words = beam_by_hand(model, source, width, alpha, 6)
        ids = found.ids[0, 0].numpy()
        assert tuple(ids[ids > 0]) == words
        assert float(found.scores[0, 0]) == pytest.approx(score, abs=1e-4)


def test_a_translation_does_not_depend_on_its_batch(model):
    together = decoding.translate(model, model.encode(SOURCE), count=tf.constant([9, 4]), width=3, best=3, coverage=0.3)
    alone = decoding.translate(model, model.encode(SOURCE[1:, :2]), count=4, width=3, best=3, coverage=0.3)
    np.testing.assert_array_equal(together.ids[1].numpy()[:, : alone.ids.shape[2]], alone.ids[0])
    assert not together.ids[1].numpy()[:, alone.ids.shape[2] :].any()
    np.testing.assert_allclose(together.scores[1], alone.scores[0], atol=1e-5)
    drawn = decoding.sample(model, model.encode(SOURCE), tf.constant([1, 2]), count=5).numpy()
    np.testing.assert_array_equal(
        drawn[1][drawn[1] > 0],
        decoding.sample(model, model.encode(SOURCE[1:, :2]), tf.constant([2]), count=5).numpy()[0],
    )


def test_minimum_length_and_repetition_are_respected(model):
    free = decoding.translate(model, model.encode(SOURCE), count=9, width=2).ids[:, 0].numpy()
    held = decoding.translate(model, model.encode(SOURCE), count=9, width=2, minimum=6, no_repeat=2).ids[:, 0].numpy()
    for row in held:
        words = row[(row > 0) & (row != END)].tolist()
        assert len(words) >= 6
        assert len(set(itertools.pairwise(words))) == len(words) - 1
    assert (np.count_nonzero(free, axis=1) < 7).any()


def test_coverage_lowers_scores_by_the_log_of_missing_attention(model):
    found = decoding.translate(model, model.encode(SOURCE), count=8, width=3, best=3, coverage=0.4)
    weights = decoding.force(model, model.encode(SOURCE), found.ids).weights.numpy()
    lengths = np.count_nonzero(found.ids, axis=2)
    for row, rank in np.ndindex(2, 3):
        # The step that writes the end has no further say.
        attended = weights[row, rank, : lengths[row, rank]].sum(0)[: np.count_nonzero(SOURCE[row])]
        penalty = 0.4 * np.log(np.minimum(attended, 1.0)).sum()
        expected = float(found.log_probabilities[row, rank]) / lengths[row, rank] + penalty
        assert float(found.scores[row, rank]) == pytest.approx(expected, abs=1e-4)


def test_label_smoothing_is_the_cross_entropy_with_a_smoothed_target(model):
    target = tf.constant([[4, 6, 3], [5, 3, 0]])
    real = target.numpy() != 0
    features = model.force(SOURCE, target).features
    log_probabilities = model.log_probabilities(features).numpy()[real]
    smoothed = np.full((5, 7), 0.1 / 6) * (np.arange(7) > 0)
    smoothed[np.arange(5), target.numpy()[real]] += 0.9
    expected = -(smoothed * np.where(np.arange(7) > 0, log_probabilities, 0.0)).sum(1)
    nats = -model.softmax.token_log_probabilities(features, target).numpy()[real]
    excess = model.softmax.excess_scores(features, target).numpy()[real]
    np.testing.assert_allclose(nats + 0.1 * excess, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["additive", "general", "dot"])
def test_attention_is_the_formula_of_its_paper(kind):
    rng = np.random.default_rng(0)
    query, memory = rng.normal(size=(2, 3, 4)).astype("float32"), rng.normal(size=(2, 5, 4)).astype("float32")
    mask = np.arange(5) < [[5], [2]]
    attention = Attention(kind, 6)
    context, weights = attention(query, memory, memory_mask=mask)
    parts = {weight.name: weight.numpy() for weight in attention.weights}
    for row, time in np.ndindex(2, 3):
        scores = []
        for position in range(int(mask[row].sum())):
            q, m = query[row, time], memory[row, position]
            if kind == "additive":
                hidden = np.tanh(q @ parts["query_kernel"] + m @ parts["memory_kernel"] + parts["bias"])
                scores.append((hidden @ parts["score_kernel"])[0])
            else:
                scores.append(q @ (m @ parts["memory_kernel"] if kind == "general" else m))
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(weights[row, time, : len(expected)], expected, atol=1e-5)
        assert not weights[row, time, len(expected) :].numpy().any()
        np.testing.assert_allclose(context[row, time], expected @ memory[row, : len(expected)], atol=1e-5)


def test_local_attention_sees_its_window_alone():
    rng = np.random.default_rng(1)
    query, memory = rng.normal(size=(2, 3, 4)).astype("float32"), rng.normal(size=(2, 20, 4)).astype("float32")
    _, weights = Attention("general", window=2)(query, memory, memory_mask=np.arange(20) < [[20], [9]])
    assert (np.count_nonzero(weights, axis=-1) <= 5).all() and not weights.numpy()[1, :, 9:].any()
    np.testing.assert_allclose(weights.numpy().sum(-1), 1.0, atol=1e-5)


def test_attention_between_different_widths_is_refused_where_it_multiplies():
    with pytest.raises(ValueError, match="dot attention needs queries as wide as the memory, not 8 and 12"):
        translator(kind="dot")
    with pytest.raises(ValueError, match="must be one of additive, general, dot"):
        Attention("cosine")
    with pytest.raises(ValueError, match=r"model.dropout.recurrent: must be 0"):
        translator(feeding=True, dropout=NO_DROPOUT | {"recurrent": 0.2})


def test_a_small_translator_learns_to_reverse():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = Translator(
        9,
        encoder={"cell": "gru", "layers": 1, "units": 16, "bidirectional": True},
        decoder={"cell": "gru", "layers": 2, "units": 24, "attend_after": "first", "input_feeding": False},
        attention={"kind": "general", "units": 16, "window": None},
        dim=16,
        dropout=NO_DROPOUT,
        tied=True,
        label_smoothing=0.0,
    )
    model.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0))
    model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda s, t: model.train_step(({"source": s, "target": t},)), autograph=False)
    for _ in range(150):
        words = rng.integers(4, 9, (32, 5))
        ends = np.full((32, 1), END)
        step(tf.constant(np.hstack([words, ends]), tf.int32), tf.constant(np.hstack([words[:, ::-1], ends]), tf.int32))
    words = rng.integers(4, 9, (50, 5))
    source = tf.constant(np.hstack([words, np.full((50, 1), END)]), tf.int32)
    found = decoding.translate(model, model.encode(source), count=12, width=2).ids[:, 0, :5].numpy()
    assert (found == words[:, ::-1]).mean() > 0.95


def test_a_guide_is_the_attention_that_words_should_have():
    posteriors = np.array([[0.6, 0.0, 0.1], [0.2, 0.9, 0.1]])  # 2 source words, 3 target words
    guide = AttentionGuide([posteriors, None])
    source_words = np.eye(2)[[0, 0, 1]][None].repeat(2, 0)  # three pieces, of which two are one word
    source_words = np.pad(source_words, [(0, 0), (0, 1), (0, 0)]).astype("float32")  # and the end
    target_words = np.pad(np.eye(3), [(0, 1), (0, 0)])[None].repeat(2, 0).astype("float32")
    found = guide.rows(tf.constant([0, 1]), source_words, target_words).numpy()
    expected = [[0.375, 0.375, 0.25, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert not found[1].any() and not guide.rows(tf.constant([-1]), source_words[:1], target_words[:1]).numpy().any()


@pytest.mark.parametrize("cost", ["cross_entropy", "squared"])
def test_guided_attention_learns_its_guide(cost):
    model = translator(label_smoothing=0.0)
    target = tf.constant([[4, 6, 5, 3], [6, 3, 0, 0]])
    # Backwards: the first token from the last source position.
    guide = np.zeros((2, 4, 4), "float32")
    guide[0, [0, 1, 2], [2, 1, 0]] = guide[1, 0, 0] = 1.0
    model.guide(5.0, 0.9, cost, 100)
    model.compile(keras.optimizers.Adam(0.05))
    model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda: model.train_step(({"source": SOURCE, "target": target, "guide": guide},)))
    for _ in range(80):
        step()
    weights = decoding.force(model, model.encode(SOURCE), target).weights.numpy()
    assert (weights * guide).sum(-1)[guide.any(-1)].min() > 0.8


def test_the_step_after_a_token_is_that_which_reads_it(model):
    target = tf.constant([[4, 6, 3], [5, 3, 0]])
    forced = decoding.force(model, model.encode(SOURCE), target)
    longer = decoding.force(model, model.encode(SOURCE), tf.pad(target, [[0, 0], [0, 1]], constant_values=1))
    np.testing.assert_allclose(forced.weights_after[0], longer.weights[0, 1:], atol=1e-5)
    np.testing.assert_allclose(forced.weights[:, 1:], forced.weights_after[:, :-1], atol=1e-6)
