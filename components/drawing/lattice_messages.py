"""Every quantity that the dynamic programs compute on the lattice of one sentence, to be looked at."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from trellis.components.lattice import linear_chain, paths
from trellis.components.lattice.potentials import FORBIDDEN


@dataclass(frozen=True)
class LatticeMessages:
    """The lattice of a sentence; scores and messages are logs, in nats, and not normalised.

    A score below `IMPOSSIBLE` belongs to a tag that no path can go through.

    Attributes:
        unary: the score of each tag at each time step, boundaries included, `(time, tags)`.
        pairwise: the score of each pair of neighbouring tags, `(time - 1, tags, tags)`.
        forward: log α, the log of the summed exp-scores of all paths up to and including each tag, `(time, tags)`.
        backward: log β, the same for all paths after each tag, `(time, tags)`; 0 at the last time step.
        posteriors: the probability of each tag, `(time, tags)`.
        pair_posteriors: the probability of each pair of neighbouring tags, `(time - 1, tags, tags)`.
        best: the score of the best path up to and including each tag, `(time, tags)`.
        previous: the tag before each tag on that path, `(time, tags)`; 0 at the first time step.
        path: the best path, `(time,)`.
        path_score: its score.
        log_partition: the log of the summed exp-scores of all paths.
        entropy: of the distribution over paths.
    """

    unary: np.ndarray
    pairwise: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    posteriors: np.ndarray
    pair_posteriors: np.ndarray
    best: np.ndarray
    previous: np.ndarray
    path: np.ndarray
    path_score: float
    log_partition: float
    entropy: float


IMPOSSIBLE = FORBIDDEN / 1e6


def lattice_messages(unary: np.ndarray, pairwise: np.ndarray) -> LatticeMessages:
    """Run every dynamic program on a lattice, in float64.

    Args:
        unary: `(time, tags)`, with at least one time step.
        pairwise: `(time - 1, tags, tags)`.
    """
    unary, pairwise = (np.maximum(scores.astype(np.float64), FORBIDDEN) for scores in (unary, pairwise))
    time, tags = unary.shape
    zeros = np.zeros(tags)
    chain = unary[None], np.array([time]), pairwise[None], zeros, zeros
    path, score = paths.viterbi(*chain)
    # With a matrix for each pair of steps, expected counts are posteriors.
    posteriors, pair_posteriors, _, _, log_partition = linear_chain.expected_counts(*chain)
    best, previous = _best_arrivals(unary, pairwise)
    after = _log_messages(unary[::-1], pairwise[::-1].swapaxes(1, 2))[::-1]  # includes the tag's own score
    backward = [_log_sum_exp(pairwise[step] + after[step + 1], axis=1) for step in range(time - 1)]
    return LatticeMessages(
        unary=unary,
        pairwise=pairwise,
        forward=_log_messages(unary, pairwise),
        backward=np.array([*backward, zeros]),
        posteriors=_numpy(posteriors)[0],
        pair_posteriors=_numpy(pair_posteriors)[0],
        best=best,
        previous=previous,
        path=_numpy(path)[0],
        path_score=float(_numpy(score)[0]),
        log_partition=float(_numpy(log_partition)[0]),
        entropy=float(_numpy(linear_chain.entropy(*chain))[0]),
    )


def _log_messages(unary: np.ndarray, pairwise: np.ndarray) -> np.ndarray:
    """Return the log of the summed exp-scores of all paths up to and including each tag, `(time, tags)`."""
    zeros = np.zeros(unary.shape[1])
    normalised = _numpy(linear_chain.log_forward(unary[None], np.array([len(unary)]), pairwise[None], zeros, zeros))[0]
    # What `log_forward` divides by at each time step.
    scales = [_log_sum_exp(unary[0])]
    for step in range(1, len(unary)):
        arrivals = _log_sum_exp(normalised[step - 1][:, None] + pairwise[step - 1], axis=0)
        scales.append(_log_sum_exp(arrivals + unary[step]))
    return normalised + np.cumsum(scales)[:, None]


def _best_arrivals(unary: np.ndarray, pairwise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of the best path up to each tag, and the tag before it on that path, `(time, tags)` each."""
    best, previous = [unary[0]], [np.zeros(unary.shape[1], np.int64)]
    for step in range(1, len(unary)):
        arrivals = best[-1][:, None] + pairwise[step - 1]
        previous.append(arrivals.argmax(axis=0))
        best.append(arrivals.max(axis=0) + unary[step])
    return np.array(best), np.array(previous)


def _log_sum_exp(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    largest = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - largest).sum(axis=axis)) + np.squeeze(largest, axis=axis)


def _numpy(tensor: object) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))
