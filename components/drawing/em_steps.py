"""The iterations of EM for IBM Model 1 on a small corpus, to be followed number by number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from trellis.components.alignment.co_occurrence import CoOccurrence
from trellis.components.alignment.directed_batch import DirectedBatch
from trellis.components.alignment.token_pairs import TokenPairs
from trellis.components.layers.ibm1 import IBM1
from trellis.components.layers.positions import Uniform

NULL = "NULL"


@dataclass(frozen=True)
class Iteration:
    """An iteration of EM.

    Attributes:
        translations: t(target word | source word) before the iteration, `(source words, target words)`; NaN for words
            that never meet. The last row is NULL if the model has it.
        posteriors: for each sentence pair, the probability that a source word generated a target word,
            `(source, target)`; the last row is NULL if the model has it.
        counts: the expected counts of the corpus, as `translations`.
        log_likelihood: of the target sides given the source sides, in nats.
    """

    translations: np.ndarray
    posteriors: Sequence[np.ndarray]
    counts: np.ndarray
    log_likelihood: float


@dataclass(frozen=True)
class EMSteps:
    """A run of EM.

    Attributes:
        pairs: the tokens of each sentence pair.
        source_words: the words that generate, NULL last if the model has it.
        target_words: the words that are generated.
        iterations: in order.
        translations: after the last iteration.
    """

    pairs: Sequence[tuple[Sequence[str], Sequence[str]]]
    source_words: Sequence[str]
    target_words: Sequence[str]
    iterations: Sequence[Iteration]
    translations: np.ndarray


def em_steps(pairs: Sequence[tuple[Sequence[str], Sequence[str]]], iterations: int, null: bool) -> EMSteps:
    """Train IBM Model 1 by the layer `IBM1`, and keep what each iteration computes.

    Args:
        pairs: the tokens of each sentence pair; no side may be empty.
        iterations: how many.
        null: whether NULL generates words too, as likely as each of the words.
    """
    tokens = TokenPairs()
    for source, target in pairs:
        tokens.add(source, target)
    source_words, target_words = (list(side) for side in tokens.tokens)
    corpus = CoOccurrence(tokens.chunks(), len(source_words), len(target_words))
    words = corpus.words
    lexicon = IBM1(len(words.source), len(source_words), len(target_words))
    lexicon.adapt(words)
    positions = Uniform() if null else Uniform(null_probability=0.0)
    sizes = len(words.source), len(source_words), len(target_words)
    batches = [
        (corpus.rows(index), DirectedBatch({name: tf.constant(values) for name, values in batch.items()}, sizes))
        for index, batch in enumerate(corpus.batches)
    ]

    def table(of_pairs: np.ndarray, of_null: np.ndarray) -> np.ndarray:
        values = np.full((len(source_words), len(target_words)), np.nan)
        values[words.source, words.target] = of_pairs
        return np.concatenate([values, of_null[None]]) if null else values

    def translations() -> np.ndarray:
        return table(lexicon.translations.numpy(), lexicon.from_null.numpy())

    done = []
    for _ in range(iterations):
        before, nats = translations(), 0.0
        posteriors: dict[int, np.ndarray] = {}
        lexicon.reset_counts()
        for rows, batch in batches:
            expected = lexicon.posteriors(batch, positions)
            lexicon.count(batch, expected.cells, expected.null)
            nats += float(expected.log_likelihood)
            posteriors |= dict(_by_pair(rows, batch, expected.cells, expected.null, null))
        counts = table(lexicon.pair_counts.numpy(), np.asarray(lexicon.null_counts)[:-1])
        done.append(Iteration(before, [posteriors[row] for row in range(len(pairs))], counts, nats))
        lexicon.maximize()
    return EMSteps(pairs, source_words + [NULL] * null, target_words, done, translations())


def _by_pair(
    rows: np.ndarray, batch: DirectedBatch, cells: tf.Tensor, null: tf.Tensor, has_null: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the row of each sentence pair of a batch and its posteriors, `(source, target)`."""
    dense, of_null = batch.dense(cells).numpy(), batch.by_sentence(null).numpy()
    lengths = zip(batch.source_lengths.numpy(), batch.target_lengths.numpy(), strict=True)
    for index, (row, (source, target)) in enumerate(zip(rows.tolist(), lengths, strict=True)):
        links = dense[index, :source, :target]
        yield row, np.concatenate([links, of_null[index][None, :target]]) if has_null else links
