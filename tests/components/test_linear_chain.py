"""The lattice functions against enumeration of every path, and in float64."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from trellis.components.lattice import linear_chain, paths, potentials

FORBIDDEN = potentials.FORBIDDEN


class Enumerated:
    """An oracle: everything about one lattice from the list of all its paths, in float64."""

    def __init__(self, emissions, length, transitions, start, end):
        _time, tags = emissions.shape
        self.shape, self.length = emissions.shape, length
        matrices = transitions if transitions.ndim == 3 else [transitions] * len(emissions)
        self.paths = list(itertools.product(range(tags), repeat=length))
        self.scores = np.array(
            [
                (start[path[0]] + end[path[-1]] if path else 0.0)
                + sum(emissions[t, tag] for t, tag in enumerate(path))
                + sum(matrices[t][a, b] for t, (a, b) in enumerate(itertools.pairwise(path)))
                for path in self.paths
            ]
        )

    @property
    def log_partition(self):
        top = self.scores.max()
        return top + np.log(np.exp(self.scores - top).sum())

    @property
    def posteriors(self):
        return np.exp(self.scores - self.log_partition)

    @property
    def unary(self):
        marginals = np.zeros(self.shape)
        for path, weight in zip(self.paths, self.posteriors, strict=True):
            for t, tag in enumerate(path):
                marginals[t, tag] += weight
        return marginals

    @property
    def pair_marginals(self):
        marginals = np.zeros((self.shape[0] - 1, self.shape[1], self.shape[1]))
        for path, weight in zip(self.paths, self.posteriors, strict=True):
            for t, (a, b) in enumerate(itertools.pairwise(path)):
                marginals[t, a, b] += weight
        return marginals

    @property
    def pairs(self):
        return self.pair_marginals.sum(axis=0)

    @property
    def entropy(self):
        return -(self.posteriors * np.log(self.posteriors)).sum()


def random_lattice(seed, tags=3, time=5, scale=1.0, lengths=(5, 3, 1, 0, 2)):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (rng.normal(size=shape) * scale).astype(np.float32)  # noqa: E731
    return draw(len(lengths), time, tags), np.array(lengths, np.int32), draw(tags, tags), draw(tags), draw(tags)


def varying_lattice(seed, scale=1.0):
    """Draw a lattice with separate transitions for each sequence and each pair of time steps."""
    emissions, lengths, transitions, start, end = random_lattice(seed, scale=scale)
    batch, time, tags = emissions.shape
    rng = np.random.default_rng(seed + 100)
    transitions = (rng.normal(size=(batch, time - 1, tags, tags)) * scale).astype(np.float32)
    return emissions, lengths, transitions, start, end


def enumerate_all(emissions, lengths, transitions, start, end):
    emissions, transitions, start, end = (x.astype(np.float64) for x in (emissions, transitions, start, end))
    transitions = transitions if transitions.ndim == 4 else [transitions] * len(emissions)
    return [
        Enumerated(e, int(n), matrices, start, end)
        for e, n, matrices in zip(emissions, lengths, transitions, strict=True)
    ]


def tensors(lattice, dtype=tf.float32):
    emissions, lengths, *chain = lattice
    return [tf.constant(emissions, dtype), tf.constant(lengths), *(tf.constant(scores, dtype) for scores in chain)]


@pytest.mark.slow
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_log_partition_and_its_gradient_equal_enumeration(seed, xla):
    lattice = random_lattice(seed)
    emissions, lengths, *chain = tensors(lattice)
    weights = np.array([1.0, -2.0, 3.0, 5.0, 0.5], np.float32)
    with tf.GradientTape() as tape:
        tape.watch([emissions, *chain])
        total = linear_chain.log_partition(emissions, lengths, *chain, jit_compile=xla)
        weighted = tf.reduce_sum(total * weights)
    gradients = tape.gradient(weighted, [emissions, *chain])

    exact = enumerate_all(*lattice)
    np.testing.assert_allclose(total, [oracle.log_partition for oracle in exact], rtol=1e-5, atol=1e-5)
    unary = [w * oracle.unary for w, oracle in zip(weights, exact, strict=True)]
    np.testing.assert_allclose(gradients[0], unary, atol=1e-5)
    pairs = sum(w * oracle.pairs for w, oracle in zip(weights, exact, strict=True))
    np.testing.assert_allclose(gradients[1], pairs, atol=2e-5)
    np.testing.assert_allclose(gradients[2], sum(u[0] for u in unary), atol=1e-5)
    ends = sum(u[oracle.length - 1] for u, oracle in zip(unary, exact, strict=True) if oracle.length)
    np.testing.assert_allclose(gradients[3], ends, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tags", [1, linear_chain.FEW_TAGS, linear_chain.FEW_TAGS + 1])
def test_xla_agrees_for_few_and_for_many_tags(tags):
    lattice = tensors(random_lattice(5, tags=tags, time=9, lengths=(9, 4, 0, 1)))
    plain, compiled = (linear_chain.expected_counts(*lattice, jit_compile=xla) for xla in (False, True))
    for expected, counts in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(counts, expected, atol=1e-4)


@pytest.fixture
def parallel(monkeypatch):
    """Compute by the associative scan, as long lattices on a GPU do."""
    monkeypatch.setattr(linear_chain, "has_gpu", lambda: True)
    monkeypatch.setattr(linear_chain, "PARALLEL_STEPS", 0)


@pytest.mark.slow
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3])
@pytest.mark.parametrize("lattice", [random_lattice, varying_lattice])
def test_the_associative_scan_equals_enumeration(lattice, scale, xla, parallel):
    drawn = lattice(3, scale=scale)
    emissions, lengths, *chain = tensors(drawn)
    with tf.GradientTape() as tape:
        tape.watch(emissions)
        total = linear_chain.log_partition(emissions, lengths, *chain, jit_compile=xla)
    gradient = tape.gradient(total, emissions)
    exact = enumerate_all(*drawn)
    np.testing.assert_allclose(total, [oracle.log_partition for oracle in exact], rtol=1e-5, atol=1e-5)
    # Products of logs in the thousands are rounded to some 1e-4 nats.
    close = {"atol": 1e-5 + 1e-7 * scale}
    np.testing.assert_allclose(gradient, [oracle.unary for oracle in exact], **close)
    pairs = linear_chain.pair_marginals(emissions, lengths, *chain, jit_compile=xla)
    np.testing.assert_allclose(pairs, [oracle.pair_marginals for oracle in exact], **close)


@pytest.mark.slow
@pytest.mark.parametrize("forbidden", [False, True])
def test_the_associative_scan_equals_the_walk_over_a_hundred_thousand_steps(forbidden, parallel, monkeypatch):
    emissions, lengths, transitions, *ends = random_lattice(4, tags=3, time=100_000, lengths=(100_000, 70_001, 1))
    if forbidden:
        transitions[0, 1] = -np.inf
    lattice = tensors((emissions, lengths, transitions, *ends))
    parallel_counts = linear_chain.expected_counts(*lattice, jit_compile=False)
    monkeypatch.setattr(linear_chain, "PARALLEL_STEPS", 1 << 30)
    walked_counts = linear_chain.expected_counts(*lattice, jit_compile=False)
    for counts, expected in zip(parallel_counts, walked_counts, strict=True):
        np.testing.assert_allclose(counts, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_marginals_best_path_and_path_score_equal_enumeration(seed):
    lattice = random_lattice(seed, scale=2.0)
    arguments = tensors(lattice)
    exact = enumerate_all(*lattice)
    marginals = linear_chain.marginals(*arguments, jit_compile=False)
    np.testing.assert_allclose(marginals, [oracle.unary for oracle in exact], atol=1e-5)
    tags, scores = paths.viterbi(*arguments)
    for row, oracle in enumerate(exact):
        assert tuple(tags[row, : oracle.length].numpy()) == oracle.paths[int(oracle.scores.argmax())]
        assert not tags[row, oracle.length :].numpy().any()
        np.testing.assert_allclose(scores[row], oracle.scores.max(), rtol=1e-5, atol=1e-5)
    emissions, lengths, *chain = arguments
    for row, oracle in enumerate(exact):
        for path, score in list(zip(oracle.paths, oracle.scores, strict=True))[:7]:
            padded = np.full((1, 5), 99)
            padded[0, : len(path)] = path
            got = linear_chain.path_score(emissions[row : row + 1], padded, lengths[row : row + 1], *chain)
            np.testing.assert_allclose(got[0], score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("scale", [30.0, 1e3, 1e4])
def test_large_potentials_do_not_lose_the_path_that_wins(scale, xla):
    """A recursion on probabilities would silently lose the path that wins in the end."""
    lattice = random_lattice(7, scale=scale)
    emissions, lengths, *chain = tensors(lattice)
    exact = enumerate_all(*lattice)
    with tf.GradientTape() as tape:
        tape.watch(emissions)
        total = linear_chain.log_partition(emissions, lengths, *chain, jit_compile=xla)
    np.testing.assert_allclose(total, [oracle.log_partition for oracle in exact], rtol=1e-5)
    unary = tape.gradient(total, emissions)
    assert np.isfinite(unary).all()
    if scale < 1e3:
        np.testing.assert_allclose(unary, [oracle.unary for oracle in exact], atol=1e-4)
    tags, _ = paths.viterbi(emissions, lengths, *chain)
    for row, oracle in enumerate(exact):
        assert tuple(tags[row, : oracle.length].numpy()) == oracle.paths[int(oracle.scores.argmax())]


def test_a_state_that_underflows_and_still_wins():
    """One tag is 200 nats behind everywhere, but the only way to the end leads through it."""
    emissions = np.zeros((1, 6, 2), np.float32)
    emissions[0, :, 1] = -200.0
    transitions = np.array([[0.0, -np.inf], [0.0, 0.0]], np.float32)
    start, end = np.zeros(2, np.float32), np.array([-np.inf, 0.0], np.float32)
    lattice = (emissions, np.array([6], np.int32), transitions, start, end)
    total = linear_chain.log_partition(*tensors(lattice))
    np.testing.assert_allclose(total, [-1200.0], rtol=1e-6)
    np.testing.assert_allclose(linear_chain.marginals(*tensors(lattice))[0, :, 1], 1.0)
    assert paths.viterbi(*tensors(lattice))[0].numpy().tolist() == [[1] * 6]


@pytest.mark.parametrize("forbidden", [-np.inf, -1e4])
def test_forbidden_transitions_have_no_probability(forbidden):
    lattice = list(random_lattice(3, tags=4))
    transitions = lattice[2].copy()
    transitions[0, 1] = transitions[2, 3] = transitions[3, 3] = forbidden
    lattice[2] = transitions
    exact = enumerate_all(lattice[0], lattice[1], np.maximum(transitions, FORBIDDEN), *lattice[3:])
    np.testing.assert_allclose(
        linear_chain.log_partition(*tensors(lattice)), [oracle.log_partition for oracle in exact], rtol=1e-5, atol=1e-5
    )
    marginals = linear_chain.marginals(*tensors(lattice))
    np.testing.assert_allclose(marginals, [oracle.unary for oracle in exact], atol=1e-5)
    tags, _ = paths.viterbi(*tensors(lattice))
    for row, length in zip(tags.numpy(), lattice[1], strict=True):
        assert all(transitions[a, b] != forbidden for a, b in itertools.pairwise(row[:length]))


@pytest.mark.slow
@pytest.mark.parametrize("varying", [False, True])
def test_a_tag_that_can_only_end_a_sentence_ends_it(varying):
    """Nothing can follow it beyond the end, and what the recursion computes there must not come back."""
    transitions = np.array([[0, 0], [-np.inf, -np.inf]])
    lattice = [np.zeros((2, 6, 2)), np.array([3, 6], np.int32), transitions, np.zeros(2), np.array([-np.inf, 0])]
    if varying:
        lattice[2] = np.broadcast_to(transitions, (2, 5, 2, 2))
    lattice = tensors(lattice)
    emissions, lengths, transitions, *_ = lattice
    with tf.GradientTape() as tape:
        tape.watch([emissions, transitions])
        total = linear_chain.log_partition(*lattice)
    np.testing.assert_array_equal(total, [0, 0])
    of_tags, of_pairs = tape.gradient(total, [emissions, transitions])
    only_path = np.zeros((2, 6, 2))
    for row, length in enumerate(lengths.numpy()):
        only_path[row, : length - 1, 0] = only_path[row, length - 1, 1] = 1
    np.testing.assert_allclose(of_tags, only_path, atol=1e-6)
    of_pairs = of_pairs.numpy().reshape(-1, 2, 2).sum(axis=0)
    np.testing.assert_allclose(of_pairs, [[1 + 4, 2], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(linear_chain.entropy(*lattice), [0, 0], atol=1e-6)


def test_probabilities_are_exact_at_the_edge_of_their_range():
    """Transitions span just less than the range of probabilities, and emissions underflow."""
    rng = np.random.default_rng(0)
    emissions = rng.choice([-500.0, 0.0, 500.0], size=(3, 6, 3)).astype(np.float32)
    transitions = rng.choice([-30.0, 29.9], size=(3, 3)).astype(np.float32)
    lattice = (emissions, np.array([6, 4, 2], np.int32), transitions, np.zeros(3, np.float32), np.zeros(3, np.float32))
    exact = enumerate_all(*lattice)
    np.testing.assert_allclose(
        linear_chain.log_partition(*tensors(lattice)), [oracle.log_partition for oracle in exact], rtol=1e-6
    )
    np.testing.assert_allclose(linear_chain.marginals(*tensors(lattice)), [e.unary for e in exact], atol=1e-4)


def test_ties_go_to_the_lower_tag():
    zeros = (np.zeros((2, 4, 3)), np.array([4, 2], np.int32), np.zeros((3, 3)), np.zeros(3), np.zeros(3))
    assert not paths.viterbi(*tensors(zeros))[0].numpy().any()


def test_a_single_tag_is_certain():
    lattice = random_lattice(1, tags=1)
    np.testing.assert_allclose(linear_chain.marginals(*tensors(lattice))[0], 1.0)


def test_float64_is_computed_in_float64():
    lattice = random_lattice(2)
    total = linear_chain.log_partition(*tensors(lattice, tf.float64))
    assert total.dtype == tf.float64
    np.testing.assert_allclose(total, [oracle.log_partition for oracle in enumerate_all(*lattice)], rtol=1e-12)


def test_long_sequences_keep_their_precision():
    rng = np.random.default_rng(0)
    lattice = [rng.normal(size=(1, 3000, 5)), np.array([3000], np.int32), *(rng.normal(size=s) for s in ((5, 5), 5, 5))]
    single = linear_chain.marginals(*tensors(lattice))
    double = linear_chain.marginals(*tensors(lattice, tf.float64))
    np.testing.assert_allclose(single, double, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_half_precision_is_computed_in_float32(dtype):
    lattice = random_lattice(5)
    half = tensors(lattice, dtype)
    whole = [tf.cast(values, tf.float32) if values.dtype == dtype else values for values in half]
    np.testing.assert_array_equal(linear_chain.log_partition(*half), linear_chain.log_partition(*whole))


# Moderate potentials are computed as probabilities, large ones as logarithms.
SCALES = [1.0, 20.0]


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("xla", [False, True])
def test_varying_transitions_equal_enumeration(scale, xla):
    lattice = varying_lattice(1, scale)
    emissions, lengths, transitions, *ends = tensors(lattice)
    exact = enumerate_all(*lattice)
    with tf.GradientTape() as tape:
        tape.watch(transitions)
        total = linear_chain.log_partition(emissions, lengths, transitions, *ends, jit_compile=xla)
    np.testing.assert_allclose(total, [oracle.log_partition for oracle in exact], rtol=1e-5, atol=1e-5)
    expected = [oracle.pair_marginals for oracle in exact]
    np.testing.assert_allclose(tape.gradient(total, transitions), expected, atol=2e-5)
    unary = linear_chain.marginals(emissions, lengths, transitions, *ends, jit_compile=xla)
    np.testing.assert_allclose(unary, [oracle.unary for oracle in exact], atol=2e-5)
    tags, scores = paths.viterbi(emissions, lengths, transitions, *ends, jit_compile=xla)
    for row, oracle in enumerate(exact):
        assert tuple(tags[row, : oracle.length].numpy()) == oracle.paths[int(oracle.scores.argmax())]
        np.testing.assert_allclose(scores[row], oracle.scores.max(), rtol=1e-5, atol=1e-5)


def test_a_batch_can_share_varying_transitions():
    lattice = list(varying_lattice(2))
    lattice[2] = np.repeat(lattice[2][:1], len(lattice[0]), axis=0)
    whole = tensors(lattice)
    shared = [*whole[:2], whole[2][0], *whole[3:]]
    np.testing.assert_allclose(linear_chain.log_partition(*shared), linear_chain.log_partition(*whole), rtol=1e-6)
    np.testing.assert_array_equal(paths.viterbi(*shared)[0], paths.viterbi(*whole)[0])


def test_values_at_padding_are_ignored():
    lattice = varying_lattice(4)
    changed = [values.copy() for values in lattice]
    for row, length in enumerate(lattice[1]):
        changed[0][row, length:] = 3e4
        changed[2][row, max(length - 1, 0) :] = -np.inf
    for function in (linear_chain.log_partition, linear_chain.marginals, lambda *x: paths.viterbi(*x)[0]):
        np.testing.assert_array_equal(function(*tensors(lattice)), function(*tensors(changed)))


@pytest.mark.parametrize("make", [random_lattice, varying_lattice])
@pytest.mark.parametrize("scale", SCALES)
def test_pair_marginals_and_entropy_equal_enumeration(make, scale):
    lattice = make(3, scale=scale)
    exact = enumerate_all(*lattice)
    pairs = linear_chain.pair_marginals(*tensors(lattice))
    np.testing.assert_allclose(pairs, [oracle.pair_marginals for oracle in exact], atol=2e-5)
    np.testing.assert_allclose(linear_chain.entropy(*tensors(lattice)), [oracle.entropy for oracle in exact], atol=2e-4)


@pytest.mark.parametrize("make", [random_lattice, varying_lattice])
@pytest.mark.parametrize("scale", SCALES)
def test_expected_counts_equal_enumeration(make, scale):
    lattice = make(8, scale=scale)
    exact = enumerate_all(*lattice)
    tags, pairs, first, last, total = linear_chain.expected_counts(*tensors(lattice))
    np.testing.assert_allclose(tags, [oracle.unary for oracle in exact], atol=2e-5)
    expected = [oracle.pair_marginals for oracle in exact]
    np.testing.assert_allclose(pairs, expected if make is varying_lattice else np.sum(expected, (0, 1)), atol=5e-5)
    np.testing.assert_allclose(first, sum(oracle.unary[0] for oracle in exact), atol=2e-5)
    np.testing.assert_allclose(last, sum(e.unary[e.length - 1] for e in exact if e.length), atol=2e-5)
    np.testing.assert_allclose(total, [oracle.log_partition for oracle in exact], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [random_lattice, varying_lattice])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_k_best_paths_are_the_best_of_all_paths(make, k):
    """30 is more than the number of paths of the shorter sequences."""
    lattice = make(5)
    tags, scores = paths.k_best(*tensors(lattice), k=k)
    for row, oracle in enumerate(enumerate_all(*lattice)):
        best = np.argsort(-oracle.scores)[:k]
        np.testing.assert_allclose(scores[row, : len(best)], oracle.scores[best], rtol=1e-5, atol=1e-5)
        assert [tuple(path) for path in tags[row, : len(best), : oracle.length].numpy()] == [
            oracle.paths[i] for i in best
        ]
        assert not tags[row, :, oracle.length :].numpy().any()
        assert (scores[row, len(best) :].numpy() == -np.inf).all()


def test_k_best_leaves_out_forbidden_paths():
    lattice = (np.zeros((1, 3, 2)), np.array([3], np.int32), np.array([[0, -np.inf], [0, 0]]), np.zeros(2), np.zeros(2))
    tags, scores = paths.k_best(*tensors(lattice), k=8)
    assert (scores.numpy() > -np.inf).sum() == 4
    assert {tuple(path) for path in tags[0, :4].numpy()} == {(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)}


@pytest.mark.parametrize("make", [random_lattice, varying_lattice])
def test_samples_follow_the_distribution(make):
    lattice = make(6)
    drawn = paths.sample(*tensors(lattice), samples=20_000, seed=1).numpy()
    assert drawn.shape == (5, 20_000, 5)
    for row, oracle in enumerate(enumerate_all(*lattice)):
        seen = np.zeros(len(oracle.paths))
        index = {path: i for i, path in enumerate(oracle.paths)}
        for path, count in zip(*np.unique(drawn[row, :, : oracle.length], axis=0, return_counts=True), strict=True):
            seen[index[tuple(path)]] = count
        assert np.abs(seen / 20_000 - oracle.posteriors).sum() < 0.12
    again = paths.sample(*tensors(lattice), samples=20_000, seed=1)
    np.testing.assert_array_equal(drawn, again)


def test_posterior_decoding_takes_the_largest_marginals():
    lattice = random_lattice(9)
    tags, confidence = paths.posterior_decoding(*tensors(lattice))
    for row, oracle in enumerate(enumerate_all(*lattice)):
        assert tags[row, : oracle.length].numpy().tolist() == oracle.unary[: oracle.length].argmax(-1).tolist()
        np.testing.assert_allclose(confidence[row, : oracle.length], oracle.unary[: oracle.length].max(-1), atol=1e-5)


def test_a_sequence_can_have_one_time_step():
    for make in (random_lattice, varying_lattice):
        emissions, _, transitions, start, end = make(1)
        transitions = transitions[:, :0] if transitions.ndim == 4 else transitions
        lattice = (emissions[:, :1], np.array([1, 1, 0, 1, 0], np.int32), transitions, start, end)
        exact = enumerate_all(*lattice)
        np.testing.assert_allclose(
            linear_chain.log_partition(*tensors(lattice)), [oracle.log_partition for oracle in exact], rtol=1e-5
        )
        assert linear_chain.pair_marginals(*tensors(lattice)).shape == (5, 0, 3, 3)
        assert paths.viterbi(*tensors(lattice))[0].shape == (5, 1)
        assert paths.k_best(*tensors(lattice), k=2)[0].shape == (5, 2, 1)
        assert paths.sample(*tensors(lattice), samples=2).shape == (5, 2, 1)
        np.testing.assert_allclose(
            linear_chain.entropy(*tensors(lattice)), [oracle.entropy for oracle in exact], atol=1e-5
        )
