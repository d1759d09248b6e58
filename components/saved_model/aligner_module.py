"""A word aligner as a SavedModel: two strings in, links and their probabilities out."""

import numpy as np
import tensorflow as tf

from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.alignment.symmetrization import pharaoh, symmetrize
from trellis.components.layers.ibm1 import backed_off
from trellis.components.layers.positions import bincount
from trellis.components.text.templates import attribute
from trellis.components.text.vectorizer import normalize

UNSEEN = 1e-7  # probability of a pair that never met, where nothing is known of its classes either
KEY = 1 << 32  # the key of a pair is KEY × source + target


class AlignerModule(tf.Module):
    """Signature `serving_default`: `source (batch,)` and `target (batch,)` strings, tokens split at ASCII spaces, to

    - `alignment (batch,)`: links as `0-0 1-2`, source first, counted from 0;
    - `forward`, `reverse (batch, source, target)`: posterior of each link where source words generate target words, and
      where target words generate source words; 0 at padding.

    Words that training never saw are aligned by what their classes are, and by position.

    Args:
        model: a `WordAligner`.
        vocabularies: source and target words by id.
        levels: of back-off, `(attribute, CoOccurrence level, source classes, target classes)`, from coarse to fine.
        words: the `ClassPairs` of words.
        case: see `normalize`.
        method, threshold: how to make one alignment of two, see `symmetrize`.
        unknown: the word of `vocabularies` that stands for those that training left out; None: it left none out.
    """

    def __init__(self, model, vocabularies, levels, words, case, method="posterior", threshold=0.5, unknown=None):
        super().__init__(name="aligner")
        self.case, self.method, self.threshold = case, method, threshold
        stage = int(model.stage())
        self.positions = [positions[stage] for _, *positions in model.directions]
        self.parameters = [variable.value for each in self.positions for variable in each.variables]
        self.null = [tf.Variable(lexicon.from_null, trainable=False) for lexicon, *_ in model.directions]
        self.strength = model.settings["strength"]
        self.attributes = (*(name for name, *_ in levels), "word")
        every = [*((level, *classes) for _, level, *classes in levels), (words, *vocabularies)]
        if not self.strength:
            self.attributes, every = ("word",), every[-1:]
        self.tables = [[_Classes(source), _Classes(target)] for _, source, target in every[:-1]]
        self.tables.append([_Classes(side, unknown) for side in vocabularies])
        keys = [level.source.astype(np.int64) * KEY + level.target for level, *_ in every]
        orders = [np.argsort(each) for each in keys]
        self.keys = [tf.Variable(each[order], trainable=False) for each, order in zip(keys, orders, strict=True)]
        self.occurrences = [
            [_with_unknown(level.source_count), _with_unknown(level.target_count)] for level, *_ in every
        ]
        self.frequencies = [_with_unknown(count / count.sum()) for count in (words.source_count, words.target_count)]
        self.counts, self.given = [], []
        for lexicon, *_ in model.directions:
            if self.strength:
                of_levels = [lexicon.level_counts(number) for number in range(len(levels))]
                totals = bincount(lexicon.given_of, lexicon.given, lexicon.pair_counts)
                of_levels.append((lexicon.pair_counts, totals))
            else:
                of_levels = [(lexicon.translations, tf.zeros([lexicon.given]))]
            # One more for what never was: a count of 0.
            of_pairs = (tf.gather(pairs, order) for (pairs, _), order in zip(of_levels, orders, strict=True))
            self.counts.append([tf.Variable(tf.pad(pairs, [[0, 1]]), trainable=False) for pairs in of_pairs])
            self.given.append([tf.Variable(tf.pad(given, [[0, 1]]), trainable=False) for _, given in of_levels])
        text = [tf.TensorSpec([None], tf.string, name=name) for name in ("source", "target")]
        self.serving_default = tf.function(self._align, input_signature=text, autograph=False)

    def _align(self, source, target):
        source, target = self._tokens(source), self._tokens(target)
        words = [normalize(side, self.case, digits="keep") for side in (source.to_tensor(""), target.values)]
        sentences = tf.cast(target.value_rowids(), tf.int32)
        source_ids, target_ids = (table.ids(side) for table, side in zip(self.tables[-1], words, strict=True))
        inside = tf.sequence_mask(source.row_lengths(), tf.shape(source_ids)[1])
        sizes = (0, 1 << 30, 1 << 30)  # numbers that no word has, for padding
        batch = {
            "sources": tf.where(inside, source_ids, 1 << 30),
            "targets": target_ids,
            "sentences": sentences,
            "source_lengths": tf.cast(source.row_lengths(), tf.int32),
            "target_lengths": tf.cast(target.row_lengths(), tf.int32),
            "pairs": tf.zeros([tf.size(sentences), tf.shape(source_ids)[1]], tf.int32),
        }
        classes = []
        for name, tables in zip(self.attributes, self.tables, strict=True):
            of_source, of_target = (table.ids(attribute(name, side)) for table, side in zip(tables, words, strict=True))
            classes.append((tf.gather(of_source, sentences), of_target[:, tf.newaxis]))
        posteriors = []
        real = tf.gather(inside, sentences)
        for number, positions in enumerate(self.positions):
            grid = DirectedBatch(batch, sizes, forward=number == 0)
            translation = tf.where(real, self._translation(number, classes), 0.0)
            null = tf.gather(self._null(number), tf.minimum(grid.words, tf.size(self.null[number])))
            # Padding is generated by NULL for sure.
            null = tf.where(grid.real > 0, null, 1.0)
            posteriors.append(positions.posteriors(grid, translation, null).cells)
        real = self._real(source, target)
        forward, reverse = (tf.where(real, grid.dense(cells), 0.0) for cells in posteriors)
        links = symmetrize(forward, reverse, self.method, self.threshold)
        return {"alignment": pharaoh(links), "forward": forward, "reverse": reverse}

    def _tokens(self, texts):
        tokens = tf.strings.split(texts, " ")
        tokens = tf.ragged.boolean_mask(tokens, tokens != "")
        # An empty side gets one empty word, of which nothing is given out.
        missing = tf.cast(tokens.row_lengths() == 0, tf.int64)
        empty = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(missing)], ""), missing)
        return tf.concat([tokens, empty], axis=1)

    @staticmethod
    def _real(source, target):
        """Cells that are no padding and of no empty side: booleans `(batch, source, target)`."""
        source, target = source.to_tensor("") != "", target.to_tensor("") != ""
        return source[:, :, tf.newaxis] & target[:, tf.newaxis, :]

    def _translation(self, direction, classes):
        """Probability of each generated word given the other, `(tokens, source)`."""
        generated = 1 - direction
        levels = []
        for number, ids in enumerate(classes):
            known = (ids[0] < self.tables[number][0].size) & (ids[1] < self.tables[number][1].size)
            key = tf.cast(ids[0], tf.int64) * KEY + tf.cast(ids[1], tf.int64)
            keys = tf.convert_to_tensor(self.keys[number])
            place = tf.searchsorted(keys, tf.reshape(key, [-1]), out_type=tf.int32)
            place = tf.reshape(place, tf.shape(key))
            met = known & (tf.gather(keys, tf.minimum(place, tf.size(keys) - 1)) == key)
            pair = tf.gather(self.counts[direction][number], tf.where(met, place, tf.size(keys)))
            given = tf.gather(self.given[direction][number], ids[direction])
            of_class = tf.gather(self.occurrences[number][generated], ids[generated])
            of_word = tf.gather(self.occurrences[-1][generated], classes[-1][generated])
            levels.append((pair, given, of_word / tf.maximum(of_class, of_word)))
        if not self.strength:
            return tf.maximum(levels[-1][0], UNSEEN)
        unigram = tf.gather(self.frequencies[generated], classes[-1][generated])
        return backed_off(unigram, levels, self.strength)

    def _null(self, direction):
        # A word that training never saw is as probable as a pair of such.
        return tf.concat([tf.convert_to_tensor(self.null[direction]), [UNSEEN]], axis=0)

    def examples(self, texts):
        """Requests about pairs of sentences: `{signature: {input: value}}`."""
        source, target = zip(*texts, strict=True)
        return {"serving_default": {"source": list(source), "target": list(target)}}

    def save(self, path):
        """Writes the SavedModel."""
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(self, str(path), signatures={"serving_default": self.serving_default}, options=options)


class _Classes(tf.Module):
    """Numbers of strings; of one that is none of them, that of `unknown`, or `size`."""

    def __init__(self, names, unknown=None):
        super().__init__()
        self.size = len(names)
        keys, values = tf.constant(list(names), tf.string), tf.range(self.size)
        default = names.index(unknown) if unknown in names else self.size
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)

    def ids(self, strings):
        return self.table.lookup(strings)


def _with_unknown(counts):
    smallest = counts[counts > 0].min() if len(counts) else 1
    return tf.Variable(np.append(np.maximum(counts, smallest), smallest).astype(np.float32), trainable=False)
