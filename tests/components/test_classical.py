"""Classical taggers: feature templates, the log-linear scores, the HMM and its EM, label bias."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from trellis.components.layers.crf import CRF
from trellis.components.layers.feature_scores import FeatureScores
from trellis.components.layers.memm import MEMM
from trellis.components.layers.sequence_head import NegativeLogLikelihood
from trellis.components.models.hidden_markov import hmm
from trellis.components.models.log_linear import log_linear
from trellis.components.text.templates import attribute, parse
from trellis.components.text.vectorizer import TokenVectorizer


def test_templates_are_parsed():
    parsed = parse(["lower[-1:1]", "suffix3", "shape[2]", "lower[-1] & lower[0]"])
    assert parsed.attributes == ("lower", "suffix3", "shape")
    assert parsed.singles == ((0, -1), (0, 0), (0, 1), (1, 0), (2, 2))
    assert parsed.conjunctions == (((0, -1), (0, 0)),)


@pytest.mark.parametrize(
    "template", ["words", "suffix", "suffix0", "lower3", "lower[1:0]", "lower[a]", "lower[0]&", ""]
)
def test_malformed_templates_are_refused(template):
    with pytest.raises(ValueError, match="feature template"):
        parse([template])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("word", "Ödön-2021"),
        ("lower", "ödön-2021"),
        ("shape", "Xxxx-dddd"),
        ("pattern", "Xx-d"),
        ("prefix2", "Öd"),
        ("suffix4", "2021"),
        ("suffix9", "Ödön-2021"),
    ],
)
def test_attributes_are_those_of_their_names(name, expected):
    assert attribute(name, tf.constant(["Ödön-2021", "a"])).numpy()[0].decode() == expected
    if name[-1].isdigit():
        assert attribute(name, tf.constant("a\nb")).numpy() == b"a\nb"[: int(name[-1])] or "suffix" in name


def test_attribute_ids_are_those_of_training():
    tokens = ["Paris", "paris", "Rome", "Paris"]
    vectorizer = TokenVectorizer.adapt(
        tokens, features=("words", "attributes"), attributes=("lower", "shape"), min_value_count=2
    )
    assert set(vectorizer.values) == {"lower=paris", "shape=Xxxxx"}
    ids = vectorizer(tf.constant([["Paris", "Rome", ""]]))["attributes"].numpy()[0]
    assert (ids[0] > 0).all() and not ids[1:].any() and vectorizer.sizes["attributes"] == 3


def test_other_columns_are_attributes():
    assert parse(["column(pos)[-1:1]", "column(chunk)&word"]).attributes == ("column(pos)", "column(chunk)", "word")
    tokens = ["flew\tVBD\tB-VP", "Oslo\tNNP\tB-NP", "Oslo\tNNP\t"]
    names = ("column(pos)", "column(chunk)", "suffix2")
    vectorizer = TokenVectorizer.adapt(
        tokens, features=("words", "characters", "attributes"), attributes=names, columns=("pos", "chunk")
    )
    assert vectorizer.words == ["oslo", "flew"]
    assert set(vectorizer.characters) == set("flewOslo")
    assert set(vectorizer.values) == {
        "column(pos)=NNP", "column(pos)=VBD", "column(chunk)=B-NP", "column(chunk)=B-VP", "suffix2=lo", "suffix2=ew",
    }  # fmt: skip
    ids = vectorizer(tf.constant([["Oslo\tVBD\tI-NP", "flew\tNNP\tB-VP", ""]]))
    assert ids["words"].numpy().tolist() == [[2, 3, 0]]
    known = [[vectorizer.values[index - 1] if index else "" for index in row] for row in ids["attributes"].numpy()[0]]
    assert known == [
        ["column(pos)=VBD", "", "suffix2=lo"],
        ["column(pos)=NNP", "column(chunk)=B-VP", "suffix2=ew"],
        ["", "", ""],
    ]


def test_membership_in_a_list_is_an_attribute():
    lists = {"cities": ["Oslo", "Lima", "Paris"], "nobody": ["Zoe"]}
    names = ("in(cities)", "in(nobody)")
    assert parse(["in(cities)[-1:1]", "in(nobody)&in(cities)[1]"]).attributes == names
    vectorizer = TokenVectorizer.adapt(
        ["Oslo", "flew", "oslo"], features=("words", "attributes"), attributes=names, lists=lists
    )
    # No training word is in the second list; to be in none is no feature.
    assert vectorizer.values == ["in(cities)=yes"]
    ids = vectorizer(tf.constant([["Lima", "flew", "lima", "Zoe", ""]]))["attributes"].numpy()[0]
    assert ids.tolist() == [[1, 0], [0, 0], [0, 0], [0, 0], [0, 0]]


def test_feature_scores_are_sums_of_weights():
    layer = FeatureScores(9, ["lower[-1:1]", "suffix3", "lower[0]&suffix3[1]"], 3, buckets=50)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (2, 4, 2))
    ids[1, 3:] = 0
    layer(ids)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    weights = {w.name: w.numpy() for w in layer.weights}
    scores = layer(ids).numpy()
    for row, t in itertools.product(range(2), range(4)):
        expected = weights["bias"].copy()
        features = [(offset, ids[row, t + offset, 0]) for offset in (-1, 0, 1) if 0 <= t + offset < 4]
        for offset, value in [*features, (0, ids[row, t, 1])]:
            expected += weights[f"offset_{offset}"][value] * (value != 0)
        both = (ids[row, t, 0], ids[row, t + 1, 1]) if t < 3 else (0, 0)
        conjunction = scores[row, t] - expected
        if 0 in both:
            np.testing.assert_allclose(conjunction, 0.0, atol=1e-5)
        else:
            assert np.abs(weights["conjunction_0"] - conjunction).max(axis=1).min() < 1e-5


def compile_tagger(model, optimizer):
    model.compile(optimizer, loss=NegativeLogLikelihood(), jit_compile=False)
    # A first step that has to create these variables would be traced twice.
    optimizer.build(model.trainable_variables)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["crf", "memm", "softmax"])
def test_a_log_linear_model_learns_and_saves(head, tmp_path):
    rng = np.random.default_rng(0)
    words = rng.integers(1, 8, (12, 6)) * (np.arange(6) < rng.integers(1, 7, 12)[:, None])
    inputs = {"words": words, "attributes": words[:, :, None]}
    tags = words % 3
    model = log_linear(
        {"attributes": 9}, 3, head=head, templates=["lower[-1:1]", "lower[-1]&lower[0]"], buckets=64, l1=0.0, l2=1e-4
    )
    compile_tagger(model, keras.optimizers.Adam(0.3))
    losses = model.fit(inputs, tags, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    predicted = model.predict(inputs, verbose=0)
    assert (predicted == tags)[words > 0].all()
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded({name: tf.constant(values) for name, values in inputs.items()}), predicted)


# HMM


def small_hmm(words=6, tags=3, smoothing=0.0):
    keras.utils.set_random_seed(1)
    model = hmm(
        {"words": words, "attributes": 5},
        tags,
        templates=["pattern", "suffix2", "suffix1"],
        smoothing={"words": smoothing, "transitions": smoothing},
    )
    model.compile(jit_compile=False)
    for layer in (model.get_layer("emissions"), model.get_layer("head")):
        for counts in layer.counts:
            counts.assign(np.random.default_rng(len(counts.shape)).random(counts.shape))
        layer.maximize()
    return model


def small_corpus(seed=0, words=6, tags=3):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, 20)
    valid = np.arange(4) < lengths[:, None]
    ids = rng.integers(1, words, (20, 4)) * valid
    attributes = rng.integers(1, 5, (20, 4, 3)) * valid[..., None]
    return {"words": ids, "attributes": attributes}, rng.integers(0, tags, (20, 4)), lengths


def probabilities(model):
    head, emissions = model.get_layer("head"), model.get_layer("emissions")
    return [np.exp(table.numpy()) for table in (*head.scores(False), *emissions.tables)]


def joint(model, inputs, row, length, path):
    """Probability of one sentence together with one path, from the tables alone."""
    transitions, start, end, words, shapes, endings = probabilities(model)
    value = start[path[0]] * end[path[-1]]
    for before, after in itertools.pairwise(path):
        value *= transitions[before, after]
    for t, tag in enumerate(path):
        word, (shape, long, short) = inputs["words"][row, t], inputs["attributes"][row, t]
        value *= words[word, tag] * (shapes[shape, tag] * endings[long or short, tag] if word == 1 else 1.0)
    return value


def test_a_supervised_hmm_counts():
    inputs, tags, lengths = small_corpus()
    model = small_hmm()
    model.fit(inputs, tags, epochs=1, batch_size=7, verbose=0)
    transitions, start, end, words, *_ = probabilities(model)
    first = np.bincount(tags[:, 0], minlength=3)
    np.testing.assert_allclose(start, first / 20, atol=1e-6)
    pairs, last, seen = np.zeros((3, 3)), np.zeros(3), np.zeros((6, 3))
    for row, length in enumerate(lengths):
        for a, b in itertools.pairwise(tags[row, :length]):
            pairs[a, b] += 1
        last[tags[row, length - 1]] += 1
        for t in range(length):
            seen[inputs["words"][row, t], tags[row, t]] += 1
    np.testing.assert_allclose(transitions, pairs / (pairs.sum(1) + last)[:, None], atol=1e-6)
    np.testing.assert_allclose(end, last / (pairs.sum(1) + last), atol=1e-6)
    np.testing.assert_allclose(words, seen / seen.sum(0), atol=1e-6)
    # The loss is the likelihood before the update; a second epoch tells that of the counts, and changes nothing.
    tables = probabilities(model)
    loss = model.fit(inputs, tags, epochs=1, verbose=0).history["loss"][0]
    expected = np.mean([-np.log(joint(model, inputs, r, n, tags[r, :n])) for r, n in enumerate(lengths)])
    assert loss == pytest.approx(expected, rel=1e-5)
    for before, after in zip(tables, probabilities(model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_baum_welch_equals_enumeration():
    """One iteration of EM from all paths of all sentences."""
    inputs, _, lengths = small_corpus(1)
    model = small_hmm()
    pairs, first, last, seen, log_likelihood = np.zeros((3, 3)), np.zeros(3), np.zeros(3), np.zeros((6, 3)), 0.0
    for row, length in enumerate(lengths):
        paths = list(itertools.product(range(3), repeat=length))
        weights = np.array([joint(model, inputs, row, length, path) for path in paths])
        log_likelihood += np.log(weights.sum())
        for path, weight in zip(paths, weights / weights.sum(), strict=True):
            first[path[0]] += weight
            last[path[-1]] += weight
            for a, b in itertools.pairwise(path):
                pairs[a, b] += weight
            for t, tag in enumerate(path):
                seen[inputs["words"][row, t], tag] += weight
    loss = model.fit(inputs, epochs=1, batch_size=6, verbose=0).history["loss"][0]
    assert loss == pytest.approx(-log_likelihood / 20, rel=1e-5)
    transitions, start, end, words, *_ = probabilities(model)
    np.testing.assert_allclose(start, first / 20, rtol=1e-4)
    np.testing.assert_allclose(transitions, pairs / (pairs.sum(1) + last)[:, None], rtol=1e-4)
    np.testing.assert_allclose(end, last / (pairs.sum(1) + last), rtol=1e-4)
    np.testing.assert_allclose(words, seen / seen.sum(0), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("known", ["nothing", "some", "sets"])
def test_the_likelihood_never_falls(known):
    inputs, tags, _ = small_corpus(2)
    labels = None
    if known == "some":
        labels = np.where(np.random.default_rng(0).random(tags.shape) < 0.3, tags, -1)
    elif known == "sets":
        labels = np.eye(3)[tags] + np.eye(3)[(tags + 1) % 3]
    model = small_hmm()
    losses = model.fit(inputs, labels, epochs=20, verbose=0).history["loss"]
    assert all(after <= before + 1e-5 for before, after in itertools.pairwise(losses))
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.slow
def test_sample_weight_counts_a_sequence_that_many_times():
    inputs, tags, _ = small_corpus(4)
    weights = np.random.default_rng(0).integers(0, 4, 20)
    repeated = {name: values.repeat(weights, axis=0) for name, values in inputs.items()}
    for labels in (tags, tags[..., None], None):
        weighted, long = small_hmm(smoothing=0.1), small_hmm(smoothing=0.1)
        long.run_eagerly = True
        losses = [
            weighted.fit(inputs, labels, sample_weight=weights.astype("float64"), verbose=0).history["loss"],
            long.fit(repeated, None if labels is None else labels.repeat(weights, axis=0), verbose=0).history["loss"],
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for ours, theirs in zip(probabilities(weighted), probabilities(long), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="class_weight has no meaning"):
        weighted.fit(inputs, tags, class_weight={0: 2.0}, verbose=0)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"rank 2|Shape of tensor"):
        weighted.fit(inputs, tags, sample_weight=np.ones((20, 4)), verbose=0)


def test_a_loaded_hmm_continues_training(tmp_path):
    inputs, tags, _ = small_corpus(3)
    model = small_hmm(smoothing=0.1)
    model.fit(inputs, tags, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    words = {name: tf.constant(values) for name, values in inputs.items()}
    np.testing.assert_array_equal(loaded(words), model(words))
    loaded.compile()
    assert loaded.fit(inputs, tags, epochs=1, verbose=0).history["loss"] == pytest.approx(
        model.fit(inputs, tags, epochs=1, verbose=0).history["loss"]
    )


@pytest.mark.slow
def test_a_memm_has_label_bias_and_a_crf_does_not():
    """The corpus of docs/how_to/structured_prediction.md: the MEMM cannot revise its first step, the CRF can."""
    letters = {"r": 1, "i": 2, "o": 3, "b": 4}
    words = np.array([[letters[letter] for letter in word] for word in ("rob", "rob", "rob", "rib")])
    tags = np.array([[3, 4, 5]] * 3 + [[0, 1, 2]])
    ways = np.zeros((6, 6), bool)
    ways[[0, 1, 3, 4], [1, 2, 4, 5]] = ways[[2, 5]] = True
    predicted = {}
    for name, head in (("crf", CRF), ("memm", MEMM)):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None,), dtype="int32")
        emissions = keras.layers.Embedding(5, 6, embeddings_initializer="zeros")(inputs)
        model = keras.Model(inputs, head(constraints=ways, constrain_training=True)(emissions))
        compile_tagger(model, keras.optimizers.Adam(0.5))
        model.fit(words, tags, epochs=40, verbose=0)
        predicted[name] = model(words).numpy().tolist()
    assert predicted["crf"] == tags.tolist()
    assert predicted["memm"] == [[3, 4, 5]] * 4
