"""The sequence heads as Keras layers: training, saving, masks, labels, constraints and errors."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from trellis.components.layers.crf import CRF
from trellis.components.layers.memm import MEMM
from trellis.components.layers.sequence_head import IndependentTags, NegativeLogLikelihood
from trellis.components.text import tag_schemes

HEADS = {"crf": CRF, "memm": MEMM, "independent": IndependentTags}
RNG = np.random.default_rng(0)
LENGTHS = np.array([5, 3, 1, 4, 2, 5])
VALID = np.arange(5) < LENGTHS[:, None]
WORDS = np.where(VALID, VALID.cumsum().reshape(6, 5), 0)  # each word occurs once, so that models can learn its tag
TAGS = RNG.integers(0, 4, (6, 5))


def functional(head, recurrent=False):
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(21, 8, mask_zero=True)(words)
    if recurrent:
        x = keras.layers.Bidirectional(keras.layers.LSTM(8, return_sequences=True))(x)
    return keras.Model(words, HEADS[head]()(keras.layers.Dense(4)(x)))


def compiled(model):
    model.compile(keras.optimizers.Adam(0.1), loss=NegativeLogLikelihood(), weighted_metrics=[keras.metrics.Accuracy()])
    # A first step that has to create these variables would be traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(21, 8, mask_zero=True)
        self.emissions = keras.layers.Dense(4)
        self.crf = CRF()

    def call(self, words):
        embedded = self.embedding(words)
        return self.crf(self.emissions(embedded), mask=self.embedding.compute_mask(words))


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_model_trains_saves_loads_and_clones(head, tmp_path):
    keras.utils.set_random_seed(0)
    model = compiled(functional(head))
    losses = model.fit(WORDS, TAGS, epochs=20, batch_size=6, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    loss, accuracy = model.evaluate(WORDS, TAGS, verbose=0)
    predicted = model.predict(WORDS, verbose=0)
    assert accuracy == pytest.approx((predicted == TAGS)[VALID].mean())
    assert not predicted[~VALID].any()

    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(WORDS), predicted)
    # The step of training reports loss and accuracy from before it. One step is not worth a graph.
    loaded.run_eagerly = True
    first = loaded.fit(WORDS, TAGS, epochs=1, verbose=0).history
    assert [first["loss"][0], first["accuracy"][0]] == pytest.approx([loss, accuracy])

    cloned = keras.models.clone_model(model)
    cloned.set_weights(model.get_weights())
    np.testing.assert_array_equal(cloned(WORDS), predicted)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_an_export_predicts_what_the_model_predicts(head, tmp_path):
    model = functional(head, recurrent=True)
    model.export(tmp_path / "export", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "export")
    np.testing.assert_array_equal(loaded.serve(tf.constant(WORDS, tf.int32)), model(WORDS))


@pytest.mark.slow
def test_a_subclassed_model_trains():
    model = Subclassed()
    model(WORDS)
    losses = compiled(model).fit(WORDS, TAGS, epochs=15, batch_size=6, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_mixed_precision_trains_with_float32_weights(head):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(functional(head))
    finally:
        keras.config.set_dtype_policy("float32")
    losses = model.fit(WORDS, TAGS, epochs=15, batch_size=6, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
    assert all(weight.dtype == "float32" for weight in model.layers[-1].weights)


@pytest.mark.slow
def test_two_replicas_train_like_one():
    """On the two devices of conftest, the loss of the first step is that of one replica over the same batch."""
    keras.utils.set_random_seed(3)
    alone = compiled(functional("crf"))
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    with strategy.scope():
        model = compiled(functional("crf"))
        model.set_weights(alone.get_weights())
    losses = model.fit(WORDS, TAGS, epochs=5, batch_size=6, verbose=0).history["loss"]
    alone.run_eagerly = True
    (alone_loss,) = alone.fit(WORDS, TAGS, epochs=1, batch_size=6, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(alone_loss, rel=1e-3)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_equals_its_definition(head):
    emissions = tf.constant(RNG.normal(size=(6, 5, 4)), tf.float32)
    layer = HEADS[head]()
    tags = layer(emissions, mask=tf.sequence_mask(LENGTHS, 5))
    losses = NegativeLogLikelihood(reduction="none")(TAGS, tags)
    probabilities = layer.marginals(emissions, LENGTHS)
    if head == "independent":
        for row, length in enumerate(LENGTHS):
            chosen = probabilities.numpy()[row, range(length), TAGS[row, :length]]
            np.testing.assert_allclose(losses[row], -np.log(chosen).sum(), rtol=1e-5)
    # The likelihoods of every tag of a sequence of length 1 sum to one.
    certain = [NegativeLogLikelihood(reduction="none")(np.full_like(TAGS, tag), tags)[2] for tag in range(4)]
    np.testing.assert_allclose(np.exp(-np.array(certain)).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(NegativeLogLikelihood()(TAGS, tags), np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(NegativeLogLikelihood(reduction="sum")(TAGS, tags), np.sum(losses), rtol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_dummy_rows_and_zero_weights_do_not_count(head):
    emissions = tf.constant(RNG.normal(size=(6, 5, 4)), tf.float32)
    layer = HEADS[head]()
    loss = NegativeLogLikelihood()
    alone = loss(TAGS[:2], layer(emissions[:2], mask=tf.sequence_mask(LENGTHS[:2], 5)))
    filled = loss(TAGS, layer(emissions, mask=tf.sequence_mask([5, 3, 0, 0, 0, 0], 5)))
    weighted = loss(TAGS, layer(emissions, mask=tf.sequence_mask(LENGTHS, 5)), sample_weight=[1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose([filled, weighted], [alone, alone], rtol=1e-6)
    only_padding = loss(TAGS, layer(emissions, mask=tf.zeros((6, 5), tf.bool)))
    assert float(only_padding) == 0.0


@pytest.mark.parametrize("head", HEADS)
def test_likelihoods_of_all_paths_sum_to_one(head):
    emissions = tf.constant(RNG.normal(size=(1, 3, 3)) * 3, tf.float32)
    layer = HEADS[head]()
    layer.build((None, None, 3))
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.weights])
    every = np.array(list(itertools.product(range(3), repeat=3)))
    tags = layer(tf.repeat(emissions, 27, axis=0))
    probabilities = np.exp(-NegativeLogLikelihood(reduction="none")(every, tags).numpy())
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert every[probabilities.argmax()].tolist() == tags[0].numpy().tolist()
    if head != "independent":
        best = layer(emissions, output="k_best", k=4)
        np.testing.assert_array_equal(best[0], every[np.argsort(-probabilities)[:4]])
    marginals = layer(emissions, output="marginals").numpy()[0]
    counted = [[probabilities[every[:, t] == tag].sum() for tag in range(3)] for t in range(3)]
    np.testing.assert_allclose(marginals, counted, atol=1e-5)


def test_memm_is_normalised_at_each_time_step():
    """Its likelihood is the product of the softmax of each tag given the one before."""
    emissions = RNG.normal(size=(6, 5, 4)).astype(np.float32)
    layer = MEMM()
    tags = layer(emissions, mask=tf.constant(VALID))
    transitions, start = layer.transitions.numpy(), layer.start.numpy()
    expected = np.zeros(6)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            scores = emissions[row, t] + (transitions[TAGS[row, t - 1]] if t else start)
            expected[row] -= scores[TAGS[row, t]] - np.log(np.exp(scores).sum())
    np.testing.assert_allclose(NegativeLogLikelihood(reduction="none")(TAGS, tags), expected, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_left_padding_equals_right_padding(head):
    emissions = RNG.normal(size=(6, 5, 4)).astype(np.float32)
    layer, loss = HEADS[head](), NegativeLogLikelihood(reduction="none")
    shifted = lambda values: np.stack([np.roll(v, 5 - n, axis=0) for v, n in zip(values, LENGTHS, strict=True)])  # noqa: E731
    right, left = layer(emissions, mask=tf.constant(VALID)), layer(shifted(emissions), mask=tf.constant(shifted(VALID)))
    np.testing.assert_array_equal(shifted(right.numpy()), left)
    np.testing.assert_allclose(loss(TAGS, right), loss(shifted(TAGS), left), rtol=1e-6)
    for output in ("marginals",) if head == "independent" else ("marginals", "k_best"):
        outputs = [
            layer(x, mask=tf.constant(m), output=output, k=2)
            for x, m in ((emissions, VALID), (shifted(emissions), shifted(VALID)))
        ]
        if output == "k_best":
            outputs = [np.moveaxis(tags.numpy(), 1, 2) for tags in outputs]
        np.testing.assert_allclose(shifted(np.array(outputs[0])), outputs[1], rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_partial_labels_sum_over_the_paths_they_allow(head):
    emissions = tf.constant(RNG.normal(size=(6, 5, 4)), tf.float32)
    tags = HEADS[head]()(emissions, mask=tf.constant(VALID))
    loss = NegativeLogLikelihood(reduction="none")
    certain = np.eye(4)[TAGS]
    np.testing.assert_allclose(loss(certain, tags), loss(TAGS, tags), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loss(np.ones((6, 5, 4)), tags), np.zeros(6), atol=1e-5)
    np.testing.assert_allclose(loss(np.zeros((6, 5, 4)), tags), np.zeros(6), atol=1e-5)
    # Two tags are possible at the second time step: as likely as either of them.
    doubtful, other = certain.copy(), TAGS.copy()
    other[:, 1] = (TAGS[:, 1] + 1) % 4
    doubtful[np.arange(6), 1, other[:, 1]] = 1
    either = np.logaddexp(-loss(TAGS, tags).numpy(), -loss(other, tags).numpy())
    long = LENGTHS > 1
    np.testing.assert_allclose(loss(doubtful, tags)[long], -either[long], rtol=1e-4)


@pytest.mark.parametrize("head", [CRF, MEMM])
@pytest.mark.parametrize("scheme", ["bio", "iobes"])
def test_constraints_rule_out_impossible_sequences(head, scheme, tmp_path):
    names = ["O", "B-A", "I-A", "B-B", "I-B"]
    names += ["E-A", "S-A", "E-B", "S-B"] if scheme == "iobes" else []
    emissions = RNG.normal(size=(200, 5, len(names))).astype(np.float32) * 5
    mask = tf.constant(np.tile(VALID, (34, 1))[:200])
    free = head()(emissions, mask=mask)
    layer = head(constraints=scheme, tags=names)
    fails = 0
    for tags in (free, layer(emissions, mask=mask)):
        fails = 0
        for row, valid in zip(tags.numpy(), mask.numpy(), strict=True):
            sequence = tuple(names[tag] for tag in row[valid])
            repaired = tag_schemes.convert(sequence, "bio2" if scheme == "bio" else "iobes")
            fails += sequence != repaired
    assert fails == 0
    # Trained with the constraints, impossible sequences have no probability, and all others sum to one.
    every = np.array(list(itertools.product(range(len(names)), repeat=2)))
    layer = head(constraints=scheme, tags=names, constrain_training=True)
    losses = NegativeLogLikelihood(reduction="none")(every, layer(np.repeat(emissions[:1, :2], len(every), axis=0)))
    allowed, first, last = tag_schemes.allowed_transitions(names, scheme)
    possible = np.array([allowed[a][b] and first[a] and (last[b] or head is MEMM) for a, b in every])
    probabilities = np.exp(-losses.numpy())
    assert probabilities[~possible].max() == 0.0
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-4)
    again = head.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_class_weights_weigh_a_sequence_by_their_mean():
    emissions = tf.constant(RNG.normal(size=(6, 5, 4)), tf.float32)
    tags = CRF()(emissions, mask=tf.constant(VALID))
    plain = NegativeLogLikelihood(reduction="none")(TAGS, tags).numpy()
    weights = np.array([1.0, 1.0, 5.0, 1.0])
    mean = np.array([weights[row[:n]].mean() for row, n in zip(TAGS, LENGTHS, strict=True)])
    loss = NegativeLogLikelihood(class_weights={2: 5.0})
    np.testing.assert_allclose(loss(TAGS, tags), (plain * mean).sum() / mean.sum(), rtol=1e-5)
    again = NegativeLogLikelihood.from_config(loss.get_config())
    assert again.class_weights == [1.0, 1.0, 5.0]


@pytest.mark.slow
@pytest.mark.parametrize("weights", [np.array([1, 1, 5, 1.0]), (1, 1, 5), {np.int64(2): 5}, {"C": 5}])
def test_class_weights_survive_saving_however_they_are_written(tmp_path, weights):
    words = keras.Input((None,), dtype="int32")
    emissions = keras.layers.Dense(4)(keras.layers.Embedding(21, 8, mask_zero=True)(words))
    model = keras.Model(words, CRF(tags=["A", "B", "C", "D"])(emissions))
    model.compile("sgd", loss=NegativeLogLikelihood(class_weights=weights), run_eagerly=True)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    loaded.run_eagerly = True
    model.compile("sgd", loss=NegativeLogLikelihood(class_weights={2: 5.0}), run_eagerly=True)
    expected = model.evaluate(WORDS, TAGS, verbose=0)
    assert loaded.evaluate(WORDS, TAGS, verbose=0) == pytest.approx(expected)
    model.compile("sgd", loss=NegativeLogLikelihood(), run_eagerly=True)
    assert model.evaluate(WORDS, TAGS, verbose=0) != pytest.approx(expected)


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"B-PER": 5}, "name the tag 'B-PER', but the head does not know names"),
        ({7: 5}, "no tag 7; the emissions have 4"),
        ([1, 2, 3, 4, 5], "for 5 tags, the emissions have 4"),
        ({-1: 5}, "from 0, or their names"),
        ({1.5: 5}, "from 0, or their names"),
        ([1, float("nan")], "finite numbers, at least 0"),
        ({0: -1}, "finite numbers, at least 0"),
        ([[1, 2]], "rank 2"),
        ({0: 1, "A": 2}, "not both"),
    ],
)
def test_class_weights_that_mean_nothing_are_refused(weights, complaint):
    with pytest.raises(ValueError, match=complaint):
        NegativeLogLikelihood(class_weights=weights)(TAGS, CRF()(tf.zeros((6, 5, 4))))
    with pytest.raises(ValueError, match="no tag 'B-PRE'; did you mean B-PER"):
        NegativeLogLikelihood(class_weights={"B-PRE": 2})(TAGS, CRF(tags=["O", "B-PER", "X", "Y"])(tf.zeros((6, 5, 4))))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(None, None, 1), (None, None, None), (6, 5, 1), (None, 5, None)])
def test_gold_tags_with_an_axis_of_one_are_ids(shape):
    emissions = tf.constant(RNG.normal(size=(6, 5, 4)), tf.float32)
    crf, loss = CRF(), NegativeLogLikelihood(class_weights={1: 3})

    def value(gold):
        return loss(gold, crf(emissions, mask=tf.constant(VALID)))

    expected = value(TAGS)
    assert expected > 0.1
    graph = tf.function(value, input_signature=[tf.TensorSpec(shape, tf.int32)])
    np.testing.assert_allclose(graph(tf.constant(TAGS[..., None], tf.int32)), expected, rtol=1e-5)
    np.testing.assert_allclose(value(TAGS[..., None]), expected, rtol=1e-5)
    if shape[-1] is None:
        partial = tf.one_hot(TAGS, 4, dtype=tf.int32)
        np.testing.assert_allclose(graph(partial), expected, rtol=1e-5)
        with pytest.raises(tf.errors.InvalidArgumentError):
            graph(tf.zeros((6, 5, 3), tf.int32))


def test_keras_learns_from_gold_tags_of_any_shape():
    words = keras.Input((None,), dtype="int32")
    emissions = keras.layers.Dense(4)(keras.layers.Embedding(21, 8, mask_zero=True)(words))
    model = keras.Model(words, CRF()(emissions))
    model.compile("sgd", loss=NegativeLogLikelihood())
    rows = tf.data.Dataset.from_generator(
        lambda: iter([(WORDS, TAGS[..., None])]),
        output_signature=(tf.TensorSpec((None, None), tf.int32), tf.TensorSpec(None, tf.int32)),
    ).map(lambda x, y: (x, tf.ensure_shape(y, (None, None, None))))
    assert model.fit(rows, verbose=0).history["loss"][0] > 0.1


def test_tags_are_never_broadcast():
    emissions, crf = tf.zeros((6, 5, 4)), CRF()
    for wrong in ((6, 1), (1, 5), (5, 6)):
        with pytest.raises(ValueError, match="gold tags have"):
            NegativeLogLikelihood()(np.zeros(wrong), crf(emissions))
        graph = tf.function(
            lambda gold: NegativeLogLikelihood()(gold, crf(emissions)),
            input_signature=[tf.TensorSpec((None, None), tf.int32)],
        )
        if wrong != (5, 6):
            with pytest.raises(tf.errors.InvalidArgumentError):
                graph(np.zeros(wrong, np.int32))


@pytest.mark.parametrize("head", [CRF, MEMM])
@pytest.mark.parametrize("partial", [False, True])
def test_gold_that_the_constraints_of_training_forbid_is_an_error(head, partial):
    layer = head(constraints="bio", tags=["O", "B-X", "I-X"], constrain_training=True)
    gold = np.array([[0, 1, 2], [1, 0, 2]])
    gold = np.eye(3)[gold] if partial else gold
    emissions = tf.zeros((2, 3, 3))
    with pytest.raises(ValueError, match="constraints forbid the gold tags at sequence 1"):
        NegativeLogLikelihood()(gold, layer(emissions))
    with pytest.raises(tf.errors.InvalidArgumentError, match="constraints forbid the gold tags"):
        tf.function(lambda: NegativeLogLikelihood()(gold, layer(emissions)))()
    assert np.isfinite(NegativeLogLikelihood()(gold[:1], layer(emissions[:1])))


@pytest.mark.slow
def test_a_functional_model_can_have_every_output(tmp_path):
    words = keras.Input((None,), dtype="int32")
    emissions = keras.layers.Dense(4)(keras.layers.Embedding(21, 8, mask_zero=True)(words))
    crf = CRF()
    requests = ({}, {"output": "marginals"}, {"output": "k_best", "k": 3}, {"output": "k_best_scores", "k": 3})
    model = keras.Model(words, [crf(emissions, **options) for options in requests])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    outputs = loaded.predict(WORDS, verbose=0)
    assert [values.shape for values in outputs] == [(6, 5), (6, 5, 4), (6, 3, 5), (6, 3)]
    np.testing.assert_array_equal(outputs[0], outputs[2][:, 0])


def test_checks_name_the_position():
    emissions = np.zeros((2, 3, 4), np.float32)
    broken = emissions.copy()
    broken[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="NaN at sequence 1, time step 2"):
        CRF()(broken)
    with pytest.raises(ValueError, match="not contiguous: the mask has a hole at sequence 0, time step 1"):
        CRF()(emissions, mask=tf.constant([[True, False, True], [True, True, True]]))
    with pytest.raises(ValueError, match="not one of the 4 tags at sequence 1, time step 0"):
        NegativeLogLikelihood()(np.array([[0, 1, 2], [4, 0, 0]]), CRF()(emissions))
    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
        layer = CRF(checks=True)
        tf.function(lambda x: layer(x))(broken)
    for wrong, complaint in (
        ({"mask": tf.ones((2, 4), tf.bool)}, "4 time steps, the emissions have 3"),
        ({"mask": tf.ones((2,), tf.bool)}, "rank 1"),
        ({"output": "posteriors"}, "'tags', 'marginals', 'k_best' or 'k_best_scores'"),
    ):
        with pytest.raises(ValueError, match=complaint):
            CRF()(keras.KerasTensor((2, 3, 4)) if "output" in wrong else emissions, **wrong)
    with pytest.raises(ValueError, match="have 4 time steps"):
        NegativeLogLikelihood()(np.zeros((2, 4)), CRF()(emissions))


def test_constraints_that_cannot_be_met_are_refused():
    with pytest.raises(ValueError, match="no path for a sentence of 2 tokens"):
        CRF(constraints=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="need the names"):
        CRF(constraints="bio")
    with pytest.raises(ValueError, match="'X-A' is not a tag of the scheme 'bio'"):
        CRF(constraints="bio", tags=["O", "X-A"])
    with pytest.raises(ValueError, match="for 2 tags, the emissions have 4"):
        CRF(constraints="bio", tags=["O", "B-A"])(np.zeros((1, 2, 4), np.float32))
    with pytest.raises(ValueError, match="label_smoothing"):
        NegativeLogLikelihood(label_smoothing=0.1)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="output of a CRF"):
        NegativeLogLikelihood()(TAGS, tf.zeros((6, 5)))
    with pytest.raises(ValueError, match="one per sequence"):
        NegativeLogLikelihood()(TAGS, CRF()(tf.zeros((6, 5, 4))), sample_weight=np.ones((6, 5)))
    with pytest.raises(ValueError, match="reduction"):
        NegativeLogLikelihood(reduction="median")
    with pytest.raises(ValueError, match="number of tags"):
        CRF().build((None, None, None))
