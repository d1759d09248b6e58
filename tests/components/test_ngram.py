"""N-gram models against definitions written out with dictionaries, and against NLTK."""

import itertools
from collections import Counter, defaultdict

import keras
import numpy as np
import pytest
import tensorflow as tf
from nltk.lm import WittenBellInterpolated
from nltk.util import everygrams

from trellis.components.models.ngram import NGram

END = 2
VOCABULARY = 9


def lines(count=60, seed=0):
    rng = np.random.default_rng(seed)
    # Skewed, so that counts of one, two, three and four occur at every order.
    return [[int(3 + min(rng.geometric(0.4), 6) - 1) for _ in range(rng.integers(0, 7))] for _ in range(count)]


def fitted(text, order, **options):
    ids, starts = [], []
    for line in text:
        starts.append(len(ids))
        ids += [*line, END]
    model = NGram(VOCABULARY, order, **options)
    model.adapt(np.array(ids), np.array(starts))
    model.fit()
    return model


def probabilities(model, context, words):
    """Return the probability of each word given all words before it in its line."""
    states = model.initial_states(1)
    contexts, _ = model.read(tf.constant([[END, *context]]), states)
    last = tf.repeat(contexts[:, -1], len(words), axis=0)
    return tf.exp(model.token_log_probabilities(last, tf.constant(words))).numpy()


def probability(model, context, word):
    return float(probabilities(model, context, [word])[0])


class KneserNey:
    """Chen and Goodman 1999, section 3, literally; n-grams at the beginning of a line keep their counts."""

    def __init__(self, text, order, prune=(0,)):
        self.order, self.prune = order, prune
        self.counts = [defaultdict(Counter) for _ in range(order)]
        raw = Counter()
        for line in text:
            padded = (END, *line, END)
            for length in range(1, order + 1):
                for end in range(max(length, 2), len(padded) + 1):
                    raw[padded[end - length : end], end == length] += 1
        self.raw = raw
        for length in range(1, order + 1):
            if length == order:
                for (gram, _), count in raw.items():
                    if len(gram) == length:
                        self.counts[-1][gram[:-1]][gram[-1]] += count
                continue
            before = defaultdict(set)
            for gram, _ in raw:
                if len(gram) == length + 1:
                    before[gram[1:]].add(gram[0])
            for gram, initial in raw:
                if len(gram) == length:
                    count = raw[gram, True] if initial else len(before[gram])
                    self.counts[length - 1][gram[:-1]][gram[-1]] = count
        self.discounts = []
        for table in self.counts:
            n = Counter(count for words in table.values() for count in words.values())
            if min(n[1], n[2], n[3], n[4]) == 0:
                self.discounts.append([0, 0.5, 1.0, 1.5])
                continue
            y = n[1] / (n[1] + 2 * n[2])
            found = [0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
            self.discounts.append([min(max(d, 0), k) for k, d in enumerate(found)])

    def kept(self, gram):
        least = self.prune[min(len(gram), len(self.prune)) - 1]
        return self.raw[gram, True] + self.raw[gram, False] > least

    def __call__(self, context, word):
        return self._of(tuple(context)[-(self.order - 1) :] if self.order > 1 else (), word)

    def _of(self, context, word):
        counts = self.counts[len(context)].get(context)
        lower = self._of(context[1:], word) if context else 1 / (VOCABULARY - 1)
        if not counts or not sum(counts.values()):
            return lower
        discounts, total = self.discounts[len(context)], sum(counts.values())
        own = {
            each: max(count - discounts[min(count, 3)], 0) if self.kept((*context, each)) else 0
            for each, count in counts.items()
        }
        return own.get(word, 0) / total + (total - sum(own.values())) / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 4, 6])
def test_kneser_ney_equals_its_definition(order):
    text = lines()
    model, wanted = fitted(text, order), KneserNey(text, order)
    for context in [[], [3], [3, 4], [5, 3, 3], [8, 8, 8, 8], [3, 4, 3, 3, 4]]:
        words = range(1, VOCABULARY)
        expected = [wanted((END, *context), word) for word in words]
        assert probabilities(model, context, words) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", ["kneser_ney", "witten_bell", "add_k"])
@pytest.mark.parametrize(
    ("order", "prune"), [(1, None), (2, None), (3, None), (5, None), (2, [0, 1]), (4, [0, 0, 2]), (5, [0, 1, 1, 3, 3])]
)
def test_probabilities_add_up_to_one(smoothing, order, prune):
    model = fitted(lines(25), order, smoothing=smoothing, prune=prune)
    contexts = [list(each) for n in range(3) for each in itertools.product((3, 4, 7, 8), repeat=n)]
    for context in contexts:
        features, _ = model.read(tf.constant([[END, *context]]), model.initial_states(1))
        every = tf.exp(model.log_probabilities(features[:, -1])).numpy()[0]
        assert every[0] == 0 and every.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("prune", [[0, 1, 1, 1], [0, 0, 2], [0, 100]])
def test_pruned_n_grams_leave_their_share_to_shorter_contexts(prune):
    text, order = lines(), 4
    model, wanted = fitted(text, order, prune=prune), KneserNey(text, order, prune)
    for context in [[], [3], [3, 4], [5, 3, 3], [8, 8, 8, 8]]:
        words = range(1, VOCABULARY)
        expected = [wanted((END, *context), word) for word in words]
        assert probabilities(model, context, words) == pytest.approx(expected, rel=1e-5)
    padded = [[END, *line, END] for line in text]
    for length, entries in enumerate(model.entries, 2):
        found = Counter(tuple(line[i : i + length]) for line in padded for i in range(len(line) - length + 1))
        least = prune[min(length, len(prune)) - 1]
        assert entries == max(1, sum(count > least for count in found.values()))


@pytest.mark.parametrize("prune", [[1], [0, 2, 1], [0, 0, 0, 0]])
def test_pruning_that_would_drop_parts_of_kept_n_grams_is_refused(prune):
    with pytest.raises(ValueError, match="must begin with 0, must not descend, and has at most 3 numbers"):
        NGram(VOCABULARY, 3, prune=prune)


def test_witten_bell_equals_nltk():
    text, order = lines(40, seed=3), 3
    model = fitted(text, order, smoothing="witten_bell")
    padded = [["e", *map(str, line), str(END)] for line in text]
    counted = WittenBellInterpolated(order)
    # NLTK's lowest order is the relative frequency, ours has the uniform distribution below: compare above that.
    counted.fit(
        [list(everygrams(line, max_len=order)) for line in padded],
        vocabulary_text=[each for line in padded for each in line],
    )
    for context, word in [((3, 4), 3), ((3, 3), 5), ((4, 3), END)]:
        count = Counter(tuple(line[i : i + 3]) for line in padded for i in range(len(line) - 2))
        seen = {gram[2]: n for gram, n in count.items() if gram[:2] == tuple(map(str, context))}
        total, kinds = sum(seen.values()), len(seen)
        share = seen.get(str(word), 0)
        lower = probability(fitted(text, 2, smoothing="witten_bell"), [context[1]], word)
        ours = probability(model, context, word)
        assert ours == pytest.approx((share + kinds * lower) / (total + kinds), rel=1e-5)
        theirs = counted.score(str(word), list(map(str, context)))
        assert theirs == pytest.approx(ours, abs=0.02)


def test_the_training_loss_is_the_loss_of_the_text():
    text = lines(30)
    model, losses = NGram(VOCABULARY, 3), []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            losses.append(logs["loss"])

    ids = np.array([each for line in text for each in [*line, END]])
    starts = np.cumsum([0, *(len(line) + 1 for line in text)])[:-1]
    model.adapt(ids, starts)
    model.fit(callbacks=[Watch()])
    width = max(map(len, text)) + 1
    padded = np.array([[*line, END] + [0] * (width - len(line) - 1) for line in text])
    assert losses == [pytest.approx(-float(tf.reduce_sum(model(padded))) / len(ids), rel=1e-5)]


def test_contexts_end_where_documents_do():
    model = fitted([[3, 4], [5, 6]] * 4, 3)
    joined = NGram(VOCABULARY, 3)
    joined.adapt(np.array([3, 4, END, 5, 6, END] * 4), np.array([0]))
    joined.fit()
    # Nothing is learned across the end of a line, unless the lines are one document.
    assert probability(joined, [3, 4, END], 5) > probability(model, [3, 4, END], 5)


def test_a_loaded_model_scores_as_the_saved_one(tmp_path):
    model = fitted(lines(), 4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    tokens = tf.constant([[3, 4, 3, END], [8, 3, END, 0]])
    np.testing.assert_array_equal(model(tokens), again(tokens))


def test_reading_in_parts_equals_reading_at_once():
    model = fitted(lines(), 4)
    tokens = tf.constant([[END, 3, 4, 5, 3, 3], [END, 4, 4, 3, 8, 0]])
    whole, _ = model.read(tokens, model.initial_states(2), tf.constant([6, 5]))
    first, states = model.read(tokens[:, :2], model.initial_states(2))
    rest, _ = model.read(tokens[:, 2:], states)
    np.testing.assert_array_equal(whole, tf.concat([first, rest], 1))
    _, states = model.read(tokens, model.initial_states(2), tf.constant([6, 5]))
    np.testing.assert_array_equal(states[0], [[5, 3, 3], [4, 3, 8]])
