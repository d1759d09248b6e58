"""Probabilities of entities against the enumeration of every reading."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.components.test_linear_chain import Enumerated, random_lattice, tensors, varying_lattice
from trellis.components.lattice import spans
from trellis.components.layers.crf import CRF
from trellis.components.layers.hmm import HMM
from trellis.components.layers.memm import MEMM
from trellis.components.layers.sequence_head import IndependentTags
from trellis.components.text import tag_schemes

BIO2 = ["O", "B-A", "I-A", "B-B", "I-B"]
IOBES = ["O", "B-A", "I-A", "E-A", "S-A"]
LENGTHS = (5, 3, 1, 0, 2)
HEADS = {"crf": CRF, "memm": MEMM, "hmm": HMM, "independent": IndependentTags}


def scheme_of(tags):
    return tag_schemes.Scheme("IOBES" if "S-A" in tags else "BIO2")


def enumerated(oracle, tags):
    """Return the probability of each reading, a frozenset of entities, of one sequence."""
    readings = {}
    for path, posterior in zip(oracle.paths, oracle.posteriors, strict=True):
        reading = frozenset(tag_schemes.entities([tags[tag] for tag in path], scheme_of(tags)))
        readings[reading] = readings.get(reading, 0.0) + posterior
    return readings


def expected_marginals(oracle, tags, time, longest):
    """Return the probability of each entity, `(time, longest, kinds)`."""
    names = tag_schemes.segments(tags).names
    marginals = np.zeros((time, longest, len(names)))
    for reading, posterior in enumerated(oracle, tags).items():
        for kind, start, stop in reading:
            if stop - start <= longest:
                marginals[start, stop - start - 1, names.index(kind)] += posterior
    return marginals


def lattice_of(make, tags, scale, seed=3):
    emissions, lengths, transitions, start, end = random_lattice(seed, tags=len(tags), lengths=LENGTHS, scale=scale)
    if make is varying_lattice:
        rng = np.random.default_rng(seed)
        shape = (len(lengths), emissions.shape[1] - 1, len(tags), len(tags))
        transitions = (rng.normal(size=shape) * scale).astype(np.float32)
    return emissions, lengths, transitions, start, end


def exact(lattice):
    emissions, lengths, transitions, start, end = (np.asarray(each, np.float64) for each in lattice)
    matrices = transitions if transitions.ndim == 4 else [transitions] * len(emissions)
    return [Enumerated(e, int(n), m, start, end) for e, n, m in zip(emissions, lengths, matrices, strict=True)]


def forbid(lattice, tags):
    """Rule out what the scheme rules out, as hard constraints do."""
    emissions, lengths, transitions, start, end = lattice
    allowed = tag_schemes.allowed_transitions(tags, "iobes" if "S-A" in tags else "bio")
    chain = zip(allowed, (transitions, start, end), strict=True)
    return emissions, lengths, *(np.where(may, scores, np.float32(-1e30)) for may, scores in chain)


@pytest.mark.slow
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("scale", [1.0, 8.0])  # the second in logarithms
@pytest.mark.parametrize("tags", [BIO2, IOBES])
@pytest.mark.parametrize("make", [random_lattice, varying_lattice])
def test_span_marginals_equal_enumeration(make, tags, scale, constrained):
    lattice = lattice_of(make, tags, scale)
    lattice = forbid(lattice, tags) if constrained else lattice
    segments, time = tag_schemes.segments(tags, scheme_of(tags)), 5
    expected = np.stack([expected_marginals(oracle, tags, time, time) for oracle in exact(lattice)])
    precise = tensors(lattice, tf.float64)
    everything = spans.all_span_marginals(*precise, segments.kinds, segments.continues, time)
    np.testing.assert_allclose(everything, expected, atol=1e-9)
    single = spans.all_span_marginals(*tensors(lattice), segments.kinds, segments.continues, 3)
    np.testing.assert_allclose(single, expected[:, :, :3], atol=1e-6 * scale)

    # Every span of every kind, and some that are none, in one call.
    asked = list(itertools.product(range(-1, time + 1), range(-1, time + 2), range(-1, len(segments.names) + 1)))
    starts, stops, kinds = (np.tile(column, (len(LENGTHS), 1)) for column in zip(*asked, strict=True))
    given = spans.span_marginals(*precise, starts, stops, kinds, segments.kinds, segments.continues).numpy()
    for row, oracle in enumerate(exact(lattice)):
        for (start, stop, kind), probability in zip(asked, given[row], strict=True):
            real = 0 <= start < stop <= oracle.length and 0 <= kind < len(segments.names)
            wanted = expected[row, start, stop - start - 1, kind] if real else 0.0
            assert probability == pytest.approx(wanted, abs=1e-9), (row, start, stop, kind)
    rounded = spans.span_marginals(*tensors(lattice), starts, stops, kinds, segments.kinds, segments.continues)
    np.testing.assert_allclose(rounded, given, atol=1e-6 * scale)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("constraints", [None, "bio"])
def test_every_head_gives_the_probability_of_entities_under_its_own_distribution(head, constraints):
    if head == "independent" and constraints:
        pytest.skip("takes each tag on its own")
    keras.utils.set_random_seed(3)
    layer = HEADS[head](**({"constraints": constraints, "tags": BIO2} if constraints else {}))
    emissions = keras.random.normal((len(LENGTHS), 5, len(BIO2)), stddev=2.0)
    layer(emissions)
    lengths, segments = tf.constant(LENGTHS), tag_schemes.segments(BIO2)
    unary, pairwise = (np.asarray(scores, np.float64) for scores in layer.lattice(emissions, lengths))
    zeros = np.zeros(len(BIO2))
    for row, length in enumerate(LENGTHS):
        oracle = Enumerated(unary[row], length, pairwise[row], zeros, zeros)
        readings = enumerated(oracle, BIO2)
        assert math.isclose(sum(readings.values()), 1.0, abs_tol=1e-9)
        expected = expected_marginals(oracle, BIO2, 5, 5)
        asked = np.argwhere(np.ones_like(expected))
        starts, stops, kinds = asked[:, 0], asked.sum(axis=1) - asked[:, 2] + 1, asked[:, 2]
        one = slice(row, row + 1)
        given = layer.span_marginals(emissions[one], lengths[one], starts[None], stops[None], kinds[None], segments)
        np.testing.assert_allclose(given[0], expected.reshape(-1), atol=2e-6)
        tags, scores = layer.k_best(emissions[one], lengths[one], 4)
        best = np.sort(oracle.posteriors)[::-1][:4]
        probabilities = np.exp(scores[0] - oracle.log_partition)
        np.testing.assert_allclose(probabilities[: len(best)], best, atol=2e-6)
        assert not probabilities[len(best) :].any() and tags.shape == (1, 4, 5)


def test_the_probabilities_of_all_readings_of_a_sentence_follow_from_its_entities():
    """With one type and two words a reading is determined: none, one of three, or both of two."""
    tags = ["O", "B-A", "I-A"]
    lattice = forbid(random_lattice(5, tags=3, time=2, lengths=(2,)), tags)
    segments = tag_schemes.segments(tags)
    given = spans.all_span_marginals(*tensors(lattice, tf.float64), segments.kinds, segments.continues, 2).numpy()[0]
    first, second, whole = given[0, 0, 0], given[1, 0, 0], given[0, 1, 0]
    readings = enumerated(exact(lattice)[0], tags)
    both = readings[frozenset({("A", 0, 1), ("A", 1, 2)})]
    none = readings[frozenset()]
    assert none + (first - both) + (second - both) + both + whole == pytest.approx(1.0, abs=1e-9)


def test_long_sentences_keep_their_precision():
    tags = BIO2
    lattice = random_lattice(2, tags=5, time=600, lengths=(600, 411), scale=3.0)
    segments = tag_schemes.segments(tags)
    single, double = (
        spans.all_span_marginals(*tensors(lattice, dtype), segments.kinds, segments.continues, 4)
        for dtype in (tf.float32, tf.float64)
    )
    np.testing.assert_allclose(single, double, atol=1e-5)
    starts, stops, kinds = np.arange(500)[None].repeat(2, 0), np.arange(3, 503)[None].repeat(2, 0), np.ones((2, 500))
    given = spans.span_marginals(*tensors(lattice), starts, stops, kinds, segments.kinds, segments.continues)
    np.testing.assert_allclose(given, double[:, :500, 2, 1], atol=1e-5)


def test_values_at_padding_are_ignored():
    lattice = lattice_of(varying_lattice, BIO2, 1.0)
    changed = [values.copy() for values in lattice]
    for row, length in enumerate(LENGTHS):
        changed[0][row, length:] = 3e4
        changed[2][row, max(length - 1, 0) :] = -np.inf
    segments = tag_schemes.segments(BIO2)
    for each in (lattice, changed):
        marginals = spans.all_span_marginals(*tensors(each), segments.kinds, segments.continues, 2)
        np.testing.assert_allclose(marginals[1, 2:], np.r_[marginals[1, 2:3], np.zeros((2, 2, 2))], atol=1e-7)
    np.testing.assert_allclose(
        spans.all_span_marginals(*tensors(lattice), segments.kinds, segments.continues, 3),
        spans.all_span_marginals(*tensors(changed), segments.kinds, segments.continues, 3),
        atol=1e-6,
    )


def test_mistakes_are_named():
    lattice, segments = tensors(random_lattice(1, tags=5)), tag_schemes.segments(BIO2)
    with pytest.raises(ValueError, match="longest=0: must be at least 1"):
        spans.all_span_marginals(*lattice, segments.kinds, segments.continues, 0)
    with pytest.raises(ValueError, match=r"continues has the shape \(5, 5\), tag_kinds are of 4 tags"):
        spans.all_span_marginals(*lattice, segments.kinds[:4], segments.continues, 1)
