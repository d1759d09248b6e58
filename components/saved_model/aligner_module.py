"""A word aligner as a SavedModel: two strings in, links and their probabilities out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from trellis.components.alignment.co_occurrence import ClassPairs
from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.alignment.symmetrization import pharaoh, symmetrize
from trellis.components.layers.ibm1 import backed_off
from trellis.components.layers.positions import bincount
from trellis.components.models.word_aligner import WordAligner
from trellis.components.saved_model.export_module import ExportModule, Requests
from trellis.components.text.templates import attribute
from trellis.components.text.tokenizer import split_at_spaces
from trellis.components.text.vectorizer import normalize
from trellis.components.types import Mask, Strings, Tensor

UNSEEN = 1e-7  # probability of a pair that never co-occurred, if its classes did not either
KEY = 1 << 32  # the key of a pair is KEY × source + target
PADDING_ID = 1 << 30  # larger than the id of any word

# A level of back-off: the attribute that determines the classes, their pairs, and the source and target classes by id.
BackoffLevel: TypeAlias = tuple[str, ClassPairs, Sequence[bytes], Sequence[bytes]]


class _Level(NamedTuple):
    """What both directions know about a level of back-off, or about the words themselves.

    Attributes:
        attribute: the attribute that determines the classes; `word` for the words.
        vocabularies: the source and the target classes.
        keys: the key of each pair of classes that co-occurs, ascending, `(pairs,)`.
        counts: how often each source class and each target class occurs, `(classes + 1,)` each.
    """

    attribute: str
    vocabularies: "tuple[_Vocabulary, _Vocabulary]"
    keys: tf.Variable
    counts: tuple[tf.Variable, tf.Variable]


class _LevelCounts(NamedTuple):
    """Expected counts of a level in one direction; the additional last entry, 0, is for what never occurred.

    Attributes:
        pairs: the count of each pair of classes, in the order of its key, `(pairs + 1,)`; without back-off, its
            probability.
        generating: the count of each generating class, `(classes + 1,)`.
    """

    pairs: tf.Variable
    generating: tf.Variable


class AlignerModule(ExportModule):
    """The signature of a word aligner.

    `serving_default` maps `source (batch,)` and `target (batch,)`, strings whose tokens are split at ASCII spaces, to

    - `alignment (batch,)`: links as `0-0 1-2`, source first, counted from 0;
    - `forward`, `reverse (batch, source, target)`: the posterior of each link where source words generate target
      words, and where target words generate source words; 0 at padding.

    Words that training never saw are aligned by their classes, and by position.

    Args:
        model: the trained aligner.
        vocabularies: source and target words by id.
        levels: the levels of back-off, from coarse to fine.
        words: the words, and which of them co-occur.
        case: see `normalize`.
        method: how to combine both directions, see `symmetrize`.
        threshold: see `symmetrize`.
        unknown: the entry of `vocabularies` that stands for words outside of the vocabulary; None if there is none.
    """

    def __init__(
        self,
        model: WordAligner,
        vocabularies: tuple[Sequence[bytes], Sequence[bytes]],
        levels: Sequence[BackoffLevel],
        words: ClassPairs,
        case: str,
        method: str = "posterior",
        threshold: float = 0.5,
        unknown: bytes | None = None,
    ) -> None:
        super().__init__(name="aligner")
        self.case, self.method, self.threshold = case, method, threshold
        stage = int(model.stage())
        self.positions = [positions[stage] for _, *positions in model.directions]
        self.parameters = [variable.value for positions in self.positions for variable in positions.variables]
        self.null = [tf.Variable(lexicon.from_null, trainable=False) for lexicon, *_ in model.directions]
        self.strength = model.settings["strength"]
        self.frequencies = [_with_unknown(count / count.sum()) for count in (words.source_count, words.target_count)]
        ordered = [
            _level(name, pairs, (_Vocabulary(source_classes), _Vocabulary(target_classes)))
            for name, pairs, source_classes, target_classes in (levels if self.strength else ())
        ]
        known = _Vocabulary(vocabularies[0], unknown), _Vocabulary(vocabularies[1], unknown)
        ordered.append(_level("word", words, known))
        self.levels = [level for level, _ in ordered]
        self.counts = [
            [
                _LevelCounts(_with_zero(tf.gather(of_pairs, order)), _with_zero(generating))
                for (of_pairs, generating), (_, order) in zip(self._counts(lexicon), ordered, strict=True)
            ]
            for lexicon, *_ in model.directions
        ]
        text = [tf.TensorSpec([None], tf.string, name=name) for name in ("source", "target")]
        self.serving_default = tf.function(self._align, input_signature=text, autograph=False)

    def _counts(self, lexicon: Any) -> list[tuple[Tensor, Tensor]]:
        """Return the counts of the pairs and of the generating classes of each level."""
        if not self.strength:
            return [(lexicon.translations, tf.zeros([lexicon.given]))]
        of_words = lexicon.pair_counts, bincount(lexicon.given_of, lexicon.given, lexicon.pair_counts)
        return [*(lexicon.level_counts(index) for index in range(len(self.levels) - 1)), of_words]

    def _align(self, source: Strings, target: Strings) -> dict[str, Tensor]:
        source_tokens, target_tokens = _tokens(source), _tokens(target)
        words = [
            normalize(side, self.case, digits="keep") for side in (source_tokens.to_tensor(""), target_tokens.values)
        ]
        sentences = tf.cast(target_tokens.value_rowids(), tf.int32)
        source_ids, target_ids = (
            vocabulary.ids(side) for vocabulary, side in zip(self.levels[-1].vocabularies, words, strict=True)
        )
        real = tf.sequence_mask(source_tokens.row_lengths(), tf.shape(source_ids)[1])
        batch = {
            "sources": tf.where(real, source_ids, PADDING_ID),
            "targets": target_ids,
            "sentences": sentences,
            "source_lengths": tf.cast(source_tokens.row_lengths(), tf.int32),
            "target_lengths": tf.cast(target_tokens.row_lengths(), tf.int32),
            "pairs": tf.zeros([tf.size(sentences), tf.shape(source_ids)[1]], tf.int32),
        }
        classes = []
        for level in self.levels:
            source_classes, target_classes = (
                vocabulary.ids(attribute(level.attribute, side))
                for vocabulary, side in zip(level.vocabularies, words, strict=True)
            )
            classes.append((tf.gather(source_classes, sentences), target_classes[:, tf.newaxis]))
        mask = _mask(source_tokens, target_tokens)
        posteriors = []
        for direction, positions in enumerate(self.positions):
            directed = DirectedBatch(batch, (0, PADDING_ID, PADDING_ID), forward=direction == 0)
            translation = tf.where(tf.gather(real, sentences), self._translation(direction, classes), 0.0)
            null = tf.gather(self._null(direction), tf.minimum(directed.words, tf.size(self.null[direction])))
            # NULL generates padding with certainty.
            null = tf.where(directed.real > 0, null, 1.0)
            cells = positions.posteriors(directed, translation, null).cells
            posteriors.append(tf.where(mask, directed.dense(cells), 0.0))
        forward, reverse = posteriors
        links = symmetrize(forward, reverse, self.method, self.threshold)
        return {"alignment": pharaoh(links), "forward": forward, "reverse": reverse}

    def _translation(self, direction: int, classes: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the probability of each generated word given the other word, `(tokens, source)`.

        Args:
            direction: 0 forward, 1 in reverse.
            classes: the source and the target classes at each level, broadcasting to `(tokens, source)`.
        """
        generating, generated = direction, 1 - direction
        levels = []
        for level, counts, ids in zip(self.levels, self.counts[direction], classes, strict=True):
            known = (ids[0] < level.vocabularies[0].size) & (ids[1] < level.vocabularies[1].size)
            key = tf.cast(ids[0], tf.int64) * KEY + tf.cast(ids[1], tf.int64)
            keys = tf.convert_to_tensor(level.keys)
            index = tf.reshape(tf.searchsorted(keys, tf.reshape(key, [-1]), out_type=tf.int32), tf.shape(key))
            co_occurs = known & (tf.gather(keys, tf.minimum(index, tf.size(keys) - 1)) == key)
            of_pair = tf.gather(counts.pairs, tf.where(co_occurs, index, tf.size(keys)))
            of_generating = tf.gather(counts.generating, ids[generating])
            of_class = tf.gather(level.counts[generated], ids[generated])
            of_word = tf.gather(self.levels[-1].counts[generated], classes[-1][generated])
            levels.append((of_pair, of_generating, of_word / tf.maximum(of_class, of_word)))
        if not self.strength:
            return tf.maximum(levels[-1][0], UNSEEN)
        unigram = tf.gather(self.frequencies[generated], classes[-1][generated])
        return backed_off(unigram, levels, self.strength)

    def _null(self, direction: int) -> Tensor:
        """Return the probability of each word given NULL, `(words + 1,)`; unknown words are as rare as unseen pairs."""
        return tf.concat([tf.convert_to_tensor(self.null[direction]), [UNSEEN]], axis=0)

    def signatures(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return the function of each signature."""
        return {"serving_default": self.serving_default}

    def examples(self, texts: Sequence[tuple[str, str]]) -> Requests:
        """Return a request to each signature about sentence pairs `(source, target)`."""
        source, target = zip(*texts, strict=True)
        return {"serving_default": {"source": list(source), "target": list(target)}}


class _Vocabulary(tf.Module):
    """Ids of strings.

    Args:
        entries: the strings by id.
        unknown: the entry whose id other strings get; if it is not an entry, they get `size`.
    """

    def __init__(self, entries: Sequence[bytes], unknown: bytes | None = None) -> None:
        super().__init__()
        self.size = len(entries)
        keys, values = tf.constant(list(entries), tf.string), tf.range(self.size)
        default = self.size if unknown is None or unknown not in entries else entries.index(unknown)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)

    def ids(self, strings: Strings) -> Tensor:
        """Return ids in the shape of the strings."""
        return self.table.lookup(strings)


def _level(name: str, pairs: ClassPairs, vocabularies: tuple[_Vocabulary, _Vocabulary]) -> tuple[_Level, np.ndarray]:
    """Return a level, and the order of its pairs by key."""
    keys = pairs.source.astype(np.int64) * KEY + pairs.target
    order = np.argsort(keys)
    counts = _with_unknown(pairs.source_count), _with_unknown(pairs.target_count)
    return _Level(name, vocabularies, tf.Variable(keys[order], trainable=False), counts), order


def _tokens(texts: Strings) -> tf.RaggedTensor:
    """Split texts at spaces; an empty text gets one empty token, whose links are masked out later."""
    tokens = split_at_spaces(texts)
    missing = tf.cast(tokens.row_lengths() == 0, tf.int64)
    empty = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(missing)], ""), missing)
    return tf.concat([tokens, empty], axis=1)


def _mask(source: tf.RaggedTensor, target: tf.RaggedTensor) -> Mask:
    """Return a mask of the cells of real words, `(batch, source, target)`."""
    source_is_real, target_is_real = source.to_tensor("") != "", target.to_tensor("") != ""
    return source_is_real[:, :, tf.newaxis] & target_is_real[:, tf.newaxis, :]


def _with_unknown(counts: np.ndarray) -> tf.Variable:
    """Return counts as a variable, none below the smallest positive one, which is also the count of unknown entries."""
    smallest = counts[counts > 0].min() if len(counts) else 1
    return tf.Variable(np.append(np.maximum(counts, smallest), smallest).astype(np.float32), trainable=False)


def _with_zero(counts: Tensor) -> tf.Variable:
    return tf.Variable(tf.pad(counts, [[0, 1]]), trainable=False)
