"""Links: symmetrisation, scores, projection of labels, soft alignments."""

import numpy as np
import pytest
import tensorflow as tf

from trellis.components.alignment import soft_alignments, symmetrization
from trellis.components.alignment.projection import project_entities, project_tags
from trellis.components.errors import InputError
from trellis.components.metrics.alignment_scores import link_scores

NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def grown(forward, reverse, final=None):
    """Return the links of grow-diag and a final step as their authors define them: word by word, with sets."""
    links, candidates = forward & reverse, forward | reverse
    free = lambda i, j: (all(a != i for a, _ in links), all(b != j for _, b in links))  # noqa: E731
    while True:
        before = len(links)
        for i, j in sorted(links):
            for down, right in NEIGHBOURS:
                new = i + down, j + right
                if new in candidates and new not in links and any(free(*new)):
                    links = links | {new}
        if len(links) == before:
            break
    for direction in (forward, reverse) if final else ():
        for i, j in sorted(direction):
            if (i, j) not in links and final(free(i, j)):
                links = links | {(i, j)}
    return links


REFERENCE = {
    "intersection": lambda forward, reverse: forward & reverse,
    "union": lambda forward, reverse: forward | reverse,
    "grow-diag": grown,
    "grow-diag-final": lambda forward, reverse: grown(forward, reverse, any),
    "grow-diag-final-and": lambda forward, reverse: grown(forward, reverse, all),
}


def as_set(links):
    return set(map(tuple, np.argwhere(links).tolist()))


def table(text):
    """Return `x.` / `.x` as booleans `(1, source, target)`."""
    return tf.constant([[[sign == "x" for sign in row] for row in text.split()]])


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # forward  x..  reverse  x..
        #          .xx           .x.
        #          ...           x..
        ("intersection", "x.. .x. ..."),
        ("union", "x.. .xx x.."),
        # Both other links are neighbours of one in the intersection and have a word without a link.
        ("grow-diag", "x.. .xx x.."),
        ("grow-diag-final", "x.. .xx x.."),
    ],
)
def test_symmetrization_by_hand(method, expected):
    forward, reverse = table("x.. .xx ..."), table("x.. .x. x..")
    assert as_set(symmetrization.METHODS[method](forward, reverse)[0]) == as_set(table(expected)[0])


def test_final_steps_by_hand():
    """Away from the only common link, (2, 2) has two words without links, and then (2, 3) has one, its target."""
    forward, reverse = table("x... .... ..x."), table("x... .... ...x")
    results = {name: as_set(symmetrization.METHODS[name](forward, reverse)[0]) for name in REFERENCE}
    assert results["grow-diag"] == {(0, 0)}
    assert results["grow-diag-final-and"] == {(0, 0), (2, 2)}
    assert results["grow-diag-final"] == {(0, 0), (2, 2), (2, 3)}


@pytest.mark.parametrize("method", REFERENCE)
def test_methods_equal_their_definition_word_by_word(method):
    rng = np.random.default_rng(0)
    symmetrize = tf.function(symmetrization.METHODS[method], autograph=False, reduce_retracing=True)
    for _ in range(15):
        forward, reverse = rng.random((2, 7, 6, 9)) < 0.25
        found = symmetrize(tf.constant(forward), tf.constant(reverse)).numpy()
        for row in range(7):
            assert as_set(found[row]) == REFERENCE[method](as_set(forward[row]), as_set(reverse[row]))


def test_posteriors_are_thresholded_or_compared_with_null():
    """Each pair has two source and two target words; those of the second pair are padding."""
    forward = tf.constant([[[0.9, 0.2], [0.05, 0.3]], [[0.8, 0.0], [0.0, 0.0]]])
    reverse = tf.constant([[[0.9, 0.0], [0.1, 0.6]], [[0.1, 0.0], [0.0, 0.0]]])
    links = lambda *arguments: [as_set(each) for each in symmetrization.symmetrize(forward, reverse, *arguments)]  # noqa: E731
    assert links("posterior", 0.5) == [{(0, 0)}, set()]
    assert links("posterior", 0.4) == [{(0, 0), (1, 1)}, {(0, 0)}]
    # Target word 1: NULL has 0.5, more than the better of its words.
    assert links("intersection") == [{(0, 0)}, set()]
    assert links("union") == [{(0, 0), (1, 1)}, {(0, 0)}]


def test_links_are_written_as_in_pharaoh():
    links = table("x.x .x. ...")
    assert symmetrization.pharaoh(tf.concat([links, tf.zeros_like(links)], 0)).numpy().tolist() == [b"0-0 0-2 1-1", b""]


def test_link_scores_by_hand():
    sure, possible = [{(0, 0), (1, 1)}, {(0, 0)}], [{(0, 0), (1, 1), (1, 2)}, {(0, 0)}]
    scores = link_scores([{(0, 0), (1, 2), (2, 2)}, {(0, 0)}], sure, possible)
    # Of 4 links 2 are sure and 3 possible; of 3 sure ones 2 are found.
    assert scores["precision"] == pytest.approx(3 / 4)
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["aer"] == pytest.approx(1 - (2 + 3) / (4 + 3))
    assert scores["f"] == pytest.approx(2 * (3 / 4) * (2 / 3) / (3 / 4 + 2 / 3))
    assert link_scores([set()], [set()], [set()]) == {"aer": 0.0, "precision": 0.0, "recall": 0.0, "f": 0.0}


def test_entities_are_projected_as_spans():
    tags = ("B-PER", "I-PER", "O", "B-LOC")
    # The name moves, and contains a word without a link.
    assert project_entities(tags, {(0, 4), (1, 2), (2, 0), (3, 1)}, 6) == ("O", "B-LOC", "B-PER", "I-PER", "I-PER", "O")
    # The span of the name runs into the place; the earlier entity wins.
    assert project_entities(tags, {(0, 0), (1, 2), (3, 1)}, 3) == ("B-PER", "I-PER", "I-PER")
    assert project_entities(tags, {(0, 2), (3, 0), (3, 3)}, 4) == ("B-LOC", "I-LOC", "B-PER", "O")
    assert project_entities(tags, set(), 2) == ("O", "O")


def test_tags_are_projected_by_majority():
    assert project_tags(("DET", "NOUN"), {(0, 0), (1, 0), (1, 1)}, 3) == ("DET", "NOUN", None)


def test_soft_alignments_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    written = rng.random((2, 3)), None, rng.random((4, 1))
    with soft_alignments.writer(tmp_path / "soft.npz") as add:
        for posteriors in written:
            add(posteriors)
    first, missing, last = soft_alignments.read(tmp_path / "soft.npz")
    assert missing is None
    np.testing.assert_allclose(first, written[0], atol=1e-3)
    np.testing.assert_allclose(last, written[2], atol=1e-3)
    shapes = [each.shape for each in soft_alignments.dataset(tmp_path / "soft.npz").as_numpy_iterator()]
    assert shapes == [(2, 3), (0, 0), (4, 1)]
    (tmp_path / "none.npz").write_bytes(b"none")
    with pytest.raises(InputError, match=r"none\.npz: no soft alignments"):
        soft_alignments.read(tmp_path / "none.npz")
