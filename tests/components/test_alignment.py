"""Word alignment models against numbers worked by hand, NLTK, and enumeration of every alignment."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.components.test_bitext import chunk
from trellis.components.alignment.co_occurrence import CoOccurrence
from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.layers import ibm1
from trellis.components.layers.ibm1 import IBM1
from trellis.components.layers.positions import Diagonal, Jumps, PositionTable, Uniform
from trellis.components.models.word_aligner import WordAligner

LECTURE = [("b c", "x y"), ("b", "y")]


class Bitext:
    """Sentence pairs as words, numbered."""

    def __init__(self, pairs, cells=2**20):
        self.pairs = [(source.split(), target.split()) for source, target in pairs]
        self.words = [sorted({w for pair in self.pairs for w in pair[side]}) for side in (0, 1)]
        ids = [[np.array([self.words[side].index(w) for w in pair[side]]) for pair in self.pairs] for side in (0, 1)]
        self.grid = CoOccurrence([chunk(*ids)], *map(len, self.words), cells)
        self.sizes = len(self.grid.words.source), *map(len, self.words)

    def aligner(self, iterations, in_graph=False, **options):
        """Return a compiled model. One batch in few epochs is faster step by step than to trace a graph for it."""
        model = WordAligner(*self.sizes, iterations=iterations, **options)
        model.adapt(self.grid.words, batches=len(self.grid.batches))
        model.compile(run_eagerly=not in_graph and len(self.grid.batches) == 1)
        return model

    def fit(self, model, epochs=1):
        return model.fit(self.grid.dataset(), epochs=epochs, verbose=0, shuffle=False).history["loss"]

    def translation(self, model, direction=0):
        """`{(given, generated): probability}`."""
        lexicon = model.directions[direction][0]
        sides = (self.grid.words.source, self.grid.words.target), self.words
        given, generated = direction, 1 - direction
        return {
            (sides[1][given][pair[given]], sides[1][generated][pair[generated]]): float(probability)
            for *pair, probability in zip(*sides[0], lexicon.translations.numpy(), strict=True)
        }


@pytest.fixture(scope="module")
def made():
    """A bitext of 30 pairs with lengths from 1 to 6."""
    rng = np.random.default_rng(3)
    draw = lambda letters: " ".join(rng.choice(list(letters), rng.integers(1, 7)))  # noqa: E731
    return [(draw("abcdefg"), draw("stuvwxyz")) for _ in range(30)]


def test_the_two_sentences_of_the_lectures():
    """`b c / x y` and `b / y`, without NULL: the fractions of the first two iterations, worked by hand."""
    bitext = Bitext(LECTURE)
    model = bitext.aligner({"ibm1": 2}, null_probability={"ibm1": 0.0})
    bitext.fit(model)
    # Each of b and c generates x and y with 1/2; in the second pair b generates y for sure.
    # Counts: b-x 1/2, b-y 1/2 + 1, c-x 1/2, c-y 1/2.
    expected = {("b", "x"): 1 / 4, ("b", "y"): 3 / 4, ("c", "x"): 1 / 2, ("c", "y"): 1 / 2}
    assert bitext.translation(model) == pytest.approx(expected)
    bitext.fit(model)
    # x: b 1/4 to c 1/2, so 1/3 and 2/3; y: b 3/4 to c 1/2, so 3/5 and 2/5; and 1 for y in the second pair.
    # Counts: b-x 1/3, b-y 3/5 + 1 = 8/5, c-x 2/3, c-y 2/5.
    expected = {("b", "x"): 5 / 29, ("b", "y"): 24 / 29, ("c", "x"): 5 / 8, ("c", "y"): 3 / 8}
    assert bitext.translation(model) == pytest.approx(expected)


def test_model_1_is_that_of_nltk(made):
    from nltk.translate import AlignedSent, IBMModel1

    # A target word that stands twice in a sentence is counted as one by NLTK.
    bitext = Bitext([pair for pair in made if len(set(pair[1].split())) == len(pair[1].split())])
    assert len(bitext.pairs) > 10
    model = bitext.aligner({"ibm1": 7})
    bitext.fit(model, 7)
    # NLTK's `words` are generated, `mots` generate.
    theirs = IBMModel1([AlignedSent(target, source) for source, target in bitext.pairs], 7)
    for (given, word), probability in bitext.translation(model).items():
        assert probability == pytest.approx(theirs.translation_table[word][given], abs=1e-6)
    for number, word in enumerate(bitext.words[1]):
        null = float(model.directions[0][0].from_null[number])
        assert null == pytest.approx(theirs.translation_table[word][None], abs=1e-6)


@pytest.mark.parametrize("cells", [12, 2**20])
@pytest.mark.parametrize("null", [None, 0.2])
def test_likelihood_never_falls(made, cells, null):
    bitext = Bitext(made, cells)
    model = bitext.aligner({"ibm1": 12}, null_probability={"ibm1": null})
    losses = bitext.fit(model, 12)
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(losses))
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.slow
def test_batches_do_not_change_full_batch_em(made):
    one, many = Bitext(made), Bitext(made, cells=12)
    models = [bitext.aligner({"ibm1": 2, "hmm": 2}) for bitext in (one, many)]
    for bitext, model in zip((one, many), models, strict=True):
        bitext.fit(model, 4)
    assert len(many.grid.batches) > 20
    assert one.translation(models[0]) == pytest.approx(many.translation(models[1]), abs=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 100])
def test_steps_of_a_call_do_not_change_full_batch_em(made, steps):
    bitext = Bitext(made, cells=60)
    one, several = bitext.aligner({"ibm1": 3}), bitext.aligner({"ibm1": 3})
    several.compile(steps_per_execution=steps)
    # Of 2 and 3 one does not divide the number of batches.
    assert len(bitext.grid.batches) % 6 in (2, 3, 4)
    assert bitext.fit(several, 3) == pytest.approx(bitext.fit(one, 3))
    assert bitext.translation(several) == pytest.approx(bitext.translation(one), abs=1e-6)


@pytest.mark.slow
def test_compiled_or_not(made, monkeypatch):
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(ibm1, "COMPILED", compiled)
        bitext = Bitext(made, cells=75)
        model = bitext.aligner({"ibm1": 2, "hmm": 1}, in_graph=True)
        found.append((bitext.fit(model, 4), bitext.translation(model), bitext.translation(model, 1)))
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def enumerated(translation, null, prior):
    """Posteriors `(generated, given)`, of NULL, and log-likelihood, from every alignment of a sentence pair.

    Args:
        translation: `(generated, given)`; null: `(generated,)`.
        prior: function of an alignment, a tuple of positions from 0 and None for NULL, to its probability.
    """
    generated, given = translation.shape
    posteriors, of_null, total = np.zeros((generated, given)), np.zeros(generated), 0.0
    for alignment in itertools.product([*range(given), None], repeat=generated):
        weight = prior(alignment)
        for j, i in enumerate(alignment):
            weight *= null[j] if i is None else translation[j, i]
        total += weight
        for j, i in enumerate(alignment):
            if i is None:
                of_null[j] += weight
            else:
                posteriors[j, i] += weight
    return posteriors / total, of_null / total, np.log(total)


def jump_prior(layer, given):
    jumps = layer.jumps.numpy().astype(np.float64)
    share = layer.null_probability
    from_null = share / (1 - share)

    def prior(alignment):
        weight, at = 1.0, None
        for i in alignment:
            if at is None:
                # Where NULL comes first, it has stood at each position.
                return sum(first(i, start) * rest(alignment[1:], start) for start in range(given) if i in (None, start))
        return weight

    def first(i, start):
        return (share if i is None else 1 - share) / given

    def rest(alignment, at):
        weight = 1.0
        for i in alignment:
            leaving = from_null + sum(jumps[to - at + layer.widest] for to in range(given))
            weight *= (from_null if i is None else jumps[i - at + layer.widest]) / leaving
            at = at if i is None else i
        return weight

    return prior


def diagonal_prior(layer, generated, given):
    tension, null = float(layer.tension), float(layer.null_weight)

    def prior(alignment):
        weight = 1.0
        for j, i in enumerate(alignment):
            near = [np.exp(-tension * abs((k + 1) / given - (j + 1) / generated)) for k in range(given)]
            weight *= null if i is None else (1 - null) * near[i] / sum(near)
        return weight

    return prior


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("kind", ["uniform", "uniform null", "diagonal", "jumps", "table"])
def test_posteriors_against_every_alignment(kind, forward):
    """Three sentence pairs of different lengths in one batch, so that padding is in it too."""
    rng = np.random.default_rng(5)
    bitext = Bitext([("a b c", "x y"), ("a", "z y x"), ("c b", "x z x")])
    layers = {
        "uniform": lambda: Uniform(),
        "uniform null": lambda: Uniform(0.3),
        "diagonal": lambda: Diagonal(tension=2.5, null_probability=0.2),
        "jumps": lambda: Jumps(null_probability=0.15),
        "table": lambda: PositionTable([(1, 3), (2, 3), (3, 2)], forward, null_probability=0.1),
    }
    layer = layers[kind]()
    if kind == "table":
        layer.table.assign(rng.uniform(0.1, 1.0, layer.table.shape))
    (batch,) = bitext.grid.batches
    grid = DirectedBatch({name: tf.constant(values) for name, values in batch.items()}, bitext.sizes, forward)
    table = rng.uniform(0.05, 1.0, (3, 3))  # source word, target word
    null_table = np.append(rng.uniform(0.05, 1.0, 3), 1.0)
    padded = np.append(table[bitext.grid.words.source, bitext.grid.words.target], 0.0)
    result = layer.posteriors(
        grid,
        tf.constant(padded[batch["pairs"]], tf.float32),
        tf.gather(tf.constant(null_table, tf.float32), grid.words),
    )
    total, row = 0.0, 0
    for index, sentence in enumerate(bitext.grid.rows(0)):
        source, target = ([bitext.words[side].index(w) for w in bitext.pairs[sentence][side]] for side in (0, 1))
        cells = table[np.ix_(source, target)].T
        words = target
        if not forward:
            cells, words = cells.T, source
        generated, given = cells.shape
        prior = {
            "uniform": lambda a, g=given: (g + 1.0) ** -len(a),
            "uniform null": lambda a, g=given: np.prod([0.3 if i is None else 0.7 / g for i in a]),
            "diagonal": diagonal_prior(layer, generated, given) if kind == "diagonal" else None,
            "jumps": jump_prior(layer, given) if kind == "jumps" else None,
            "table": _table_prior(layer, forward, generated, given) if kind == "table" else None,
        }[kind]
        posteriors, null, log_likelihood = enumerated(cells, null_table[words], prior)
        total += log_likelihood
        there = result.cells.numpy()[row : row + len(target), : len(source)]
        np.testing.assert_allclose(there, posteriors if forward else posteriors.T, atol=2e-6)
        of_null = result.null.numpy()
        of_null = of_null[row : row + len(target)] if forward else of_null[index, : len(source)]
        np.testing.assert_allclose(of_null, null, atol=2e-6)
        assert not result.cells.numpy()[row : row + len(target), len(source) :].any()
        row += len(target)
    assert float(result.log_likelihood) == pytest.approx(total, rel=1e-5)


def _table_prior(layer, forward, generated, given):
    size = (given, generated) if forward else (generated, given)
    sizes = [(1, 3), (2, 3), (3, 2)]
    start = sum(a * b for a, b in sizes[: sizes.index(size)])
    cells = layer.table.numpy()[start : start + size[0] * size[1]].reshape(size[1], size[0])  # target, source
    weights = cells if forward else cells.T

    def prior(alignment):
        weight = 1.0
        for j, i in enumerate(alignment):
            weight *= 0.1 if i is None else 0.9 * weights[j, i] / weights[j].sum()
        return weight

    return prior


def test_jumps_are_counted(made):
    """Sentences that are copies of each other word by word: every jump goes one ahead."""
    bitext = Bitext([(s, " ".join(w.upper() for w in s.split())) for s, _ in made])
    model = bitext.aligner({"ibm1": 4, "hmm": 6})
    bitext.fit(model, 10)
    for _, _, jumps in model.directions:
        assert int(tf.argmax(jumps.jumps)) == jumps.widest + 1
        assert float(tf.reduce_max(jumps.jumps)) > 0.8


def test_the_diagonal_is_learned(made):
    copies = Bitext([(s, " ".join(w.upper() for w in s.split())) for s, _ in made])
    model = copies.aligner({"fast_align": 6})
    copies.fit(model, 6)
    assert all(float(diagonal.tension) > 8 for _, diagonal in model.directions)


def test_position_table_is_learned():
    swapped = Bitext([("a b", "Y X"), ("b c", "Z Y"), ("c a", "X Z")] * 2)
    model = swapped.aligner({"ibm2": 8}, sizes=[(2, 2)], null_probability={"ibm2": 0.05})
    swapped.fit(model, 8)
    table = model.directions[0][1].table.numpy()[:-1].reshape(2, 2)
    assert table[0, 1] > 5 * table[0, 0]
    assert table[1, 0] > 5 * table[1, 1]


def test_agreement_leaves_what_both_see(made):
    bitext = Bitext(made)
    plain, agreed = (bitext.aligner({"ibm1": 6}, agreement=agreement) for agreement in (False, True))
    for model in (plain, agreed):
        bitext.fit(model, 6)
    mass = lambda model: float(tf.reduce_sum(model.directions[0][0].pair_counts))  # noqa: E731
    assert mass(agreed) < mass(plain)
    forward, reverse = (lexicon.pair_counts for lexicon, *_ in agreed.directions)
    np.testing.assert_allclose(forward, reverse, rtol=1e-5)


def test_each_model_goes_on_from_the_one_before(made):
    """The third epoch is the first of the HMM: it has Model 1's translations, and its own positions."""
    bitext = Bitext(made)
    model = bitext.aligner({"ibm1": 2, "hmm": 1})
    bitext.fit(model, 2)
    before = bitext.translation(model)
    other = bitext.aligner({"ibm1": 2})
    bitext.fit(other, 2)
    assert before == pytest.approx(bitext.translation(other))
    jumps = model.directions[0][2].jumps.numpy().copy()
    assert (int(model.stage()), int(model.stage(trained=False))) == (0, 1)
    bitext.fit(model)
    assert np.abs(jumps - model.directions[0][2].jumps.numpy()).max() > 1e-3


def test_back_off_is_a_distribution_and_helps_rare_words():
    """A word seen once is decided by what words like it do."""
    bitext = Bitext([("books", "knihy"), ("book", "kniha"), ("bookish red", "knižní červená")])
    first = [np.unique([w[:3] for w in words], return_inverse=True)[1].astype(np.int32) for words in bitext.words]
    level = bitext.grid.class_pairs(*first)
    levels = [(len(level.source), len(level.source_count), len(level.target_count))]
    model = WordAligner(*bitext.sizes, iterations={"ibm1": 6}, levels=levels, strength=2.0)
    model.adapt(bitext.grid.words, [level])
    model.compile(run_eagerly=True)
    bitext.fit(model, 6)
    table = bitext.translation(model)
    assert table["bookish", "knižní"] > 1.3 * table["bookish", "červená"]
    plain = bitext.aligner({"ibm1": 6})
    bitext.fit(plain, 6)
    alone = bitext.translation(plain)
    assert alone["bookish", "knižní"] == pytest.approx(alone["bookish", "červená"])
    # What is left of one is for words that never met the given one.
    for given in bitext.words[0]:
        assert sum(p for (e, _), p in table.items() if e == given) <= 1 + 1e-6


def test_variational_bayes_prefers_few_translations(made):
    bitext = Bitext(made)
    entropies = []
    for concentration in (0.0, 0.01):
        model = bitext.aligner({"ibm1": 8}, concentration=concentration)
        bitext.fit(model, 8)
        p = np.maximum(model.directions[0][0].translations, 1e-12)
        p = p / np.bincount(bitext.grid.words.source, p)[bitext.grid.words.source]
        entropies.append(-(p * np.log(p)).sum())
    assert entropies[1] < entropies[0]


def test_stepwise_em_comes_near_full_batch_em(made):
    pairs = made * 3
    full, stepwise = Bitext(pairs), Bitext(pairs, cells=40)
    models = full.aligner({"ibm1": 10}), stepwise.aligner({"ibm1": 10}, stepwise=0.7)
    losses = full.fit(models[0], 10), stepwise.fit(models[1], 10)
    assert losses[1][-1] == pytest.approx(losses[0][-1], abs=0.15)


@pytest.mark.slow
def test_replicas_count_the_same(made, monkeypatch):
    monkeypatch.setattr(ibm1, "COMPILED", True)
    bitext = Bitext(made[:12], cells=75)
    alone = bitext.aligner({"ibm1": 1, "hmm": 1})
    alone.run_eagerly = True
    bitext.fit(alone, 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        split = bitext.aligner({"ibm1": 1, "hmm": 1})
    batches = list(bitext.grid.dataset())
    assert len(batches) % 2 == 0

    @tf.function(reduce_retracing=True)
    def count(per_replica):
        strategy.run(split.train_step, args=(per_replica,))

    for epoch in range(2):
        split.reset_counts()
        for pair in zip(batches[::2], batches[1::2], strict=True):
            choose = lambda context, pair=pair: pair[context.replica_id_in_sync_group]  # noqa: E731
            count(strategy.experimental_distribute_values_from_function(choose))
        split.maximize()
        split.done.assign(epoch + 1)
    assert bitext.translation(split) == pytest.approx(bitext.translation(alone), abs=1e-5)


@pytest.mark.slow
def test_save_and_load(made, tmp_path):
    bitext = Bitext(made)
    model = bitext.aligner({"ibm1": 1, "hmm": 2})
    bitext.fit(model, 3)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    batch = next(iter(bitext.grid.dataset()))
    for mine, theirs in zip(model(batch), loaded(batch), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # It goes on where it stopped.
    loaded.compile(run_eagerly=True)
    assert bitext.fit(loaded) == pytest.approx(bitext.fit(model))


def test_one_sentence_pair():
    bitext = Bitext([("a", "x")])
    model = bitext.aligner({"ibm1": 2, "hmm": 2})
    assert np.isfinite(bitext.fit(model, 4)).all()
    assert float(model(next(iter(bitext.grid.dataset())))[0][0, 0]) > 0.4


def test_a_long_sentence_pair():
    words = [f"w{number}" for number in range(400)]
    bitext = Bitext([(" ".join(words), " ".join(reversed(words))), ("w1", "w2")], cells=1000)
    model = bitext.aligner({"ibm1": 1, "hmm": 1})
    assert np.isfinite(bitext.fit(model, 2)).all()


@pytest.mark.parametrize("options", [{"strength": -1.0}, {"strength": 1.0, "concentration": 0.1}])
def test_refused(options):
    with pytest.raises(ValueError, match="strength"):
        IBM1(1, 1, 1, **options)
