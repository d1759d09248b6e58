"""Readers of bitexts and gold links, and the numbering of pairs of words that co-occur."""

import gzip
import tracemalloc

import numpy as np
import pytest

from trellis.components.alignment import co_occurrence
from trellis.components.alignment.co_occurrence import CoOccurrence
from trellis.components.alignment.token_pairs import Chunk, TokenPairs
from trellis.components.errors import InputError
from trellis.components.readers import bitext


def test_parallel_files_have_one_pair_per_line(write):
    source = write("a.en", "the house\n a  book \n")
    target = write("a.cs.gz", gzip.compress("dům\nkniha\u00a0má\u3000 x\n".encode()))
    pairs = list(bitext.read_parallel(source, target))
    assert [pair.source for pair in pairs] == [("the", "house"), ("a", "book")]
    # Split at the ASCII space alone, or links would count other words.
    assert pairs[1].target == ("kniha\u00a0má\u3000", "x")
    assert pairs[0].sure is None


def test_sure_and_possible_files_may_count_from_one(write):
    files = [write(name, text) for name, text in (("s", "a b\n"), ("t", "x y\n"), ("sure", "1-1\n"), ("pos", "2-1\n"))]
    (pair,) = bitext.read_parallel(*files, first=1)
    assert pair.sure == {(0, 0)}
    assert pair.possible == {(0, 0), (1, 0)}


def test_one_field_may_mark_possible_links(write):
    bars = write("x.src-tgt", "a b ||| x y\n")
    (pair,) = bitext.read_bars(bars, write("x.gold", "1-1 2p1 2?2\n"), first=1)
    assert (pair.sure, pair.possible) == ({(0, 0)}, {(0, 0), (1, 0), (1, 1)})
    columns = write("x.tsv", "b a\tx\t0-0\n")
    (pair,) = bitext.read_columns(columns, gold_column=2)
    assert pair.sure == pair.possible == {(0, 0)}
    (pair,) = bitext.read_columns(write("y.tsv", "a\tx y\t1-0\n"), gold_column=2, swapped=True)
    assert pair.sure == {(0, 1)}


def test_naacl_2003_links_are_read(write):
    files = write("a.en", "a b\n\nc\n"), write("a.ro", "x y\nw\nz\n")
    gold = write("gold", "0001 1 2 S\n0001 2 1 P\n\n3 1 1\n")
    first, last = bitext.read_parallel(*files, naacl=gold)  # the second has an empty side
    assert first.sure == {(0, 1)}
    assert first.possible == {(0, 1), (1, 0)}
    assert last.sure == {(0, 0)}
    for name, text, message in (
        ("gold2", "4 1 1 S\n", r"gold2:1: sentence 4, but there are 3"),
        ("gold3", "1 1 1\n1-1\n", r"gold3:2: expected 'sentence source target S\|P'"),
        ("gold4", "3 1 2\n", r"gold4:sentence:3: link 1-2 is outside its sentences"),
    ):
        with pytest.raises(InputError, match=message):
            list(bitext.read_parallel(write("b.en", "a b\nd\nc\n"), files[1], naacl=write(name, text), strict=True))


def test_line_counts_that_differ_are_an_error(write):
    source, target = write("a.en", "a\nb\nc\n"), write("a.cs", "x\ny\n")
    with pytest.raises(InputError, match=r"a\.en has 3 lines, .*a\.cs has 2$"):
        list(bitext.read_parallel(source, target))


@pytest.mark.parametrize("strict", [False, True])
def test_empty_sides_are_skipped_or_an_error(write, caplog, strict):
    files = write("a.en", "a\n \nb\n"), write("a.cs", "x\ny\nz\n")
    if strict:
        with pytest.raises(InputError, match=r"a\.en:2: the source side is empty"):
            list(bitext.read_parallel(*files, strict=True))
        return
    assert [pair.target for pair in bitext.read_parallel(*files)] == [("x",), ("z",)]
    assert "skipped 1 sentence pairs with an empty side" in caplog.text


def test_empty_sides_may_keep_their_places(write):
    a, b, links = write("a.en", "a\n \nb\n"), write("a.cs", "x\ny\n\n"), write("gold", "0-0\n0-0\n0-0\n")
    pairs = list(bitext.read_parallel(a, b, sure=links, keep_empty=True))
    assert [pair[:2] for pair in pairs] == [(("a",), ("x",)), ((), ("y",)), (("b",), ())]
    assert [pair.sure for pair in pairs] == [{(0, 0)}, None, None]
    assert [p[:2] for p in bitext.read_bars(write("c", "a ||| x\n ||| y\n"), keep_empty=True)][1] == ((), ("y",))
    assert [p[:2] for p in bitext.read_columns(write("d", "a\tx\n\ty\n"), keep_empty=True)][1] == ((), ("y",))
    tokens = TokenPairs()
    assert [tokens.add(*pair[:2]) for pair in pairs] == [True, False, False]
    assert (tokens.count, tokens.empty, tokens.skipped) == (3, 2, 0)
    assert [chunk.rows.tolist() for chunk in tokens.chunks()] == [[0]]


@pytest.mark.parametrize("strict", [False, True])
def test_links_outside_their_sentences_are_skipped_or_an_error(write, caplog, strict):
    files = write("a.en", "a\nb c\n"), write("a.cs", "x\ny\n"), write("gold", "0-0\n1-0 1-1\n")
    if strict:
        with pytest.raises(InputError, match=r"gold:2: link 1-1 is outside its sentences \(2 and 1 words\)"):
            list(bitext.read_parallel(*files, strict=True))
        return
    assert list(bitext.read_parallel(*files))[1].sure == {(1, 0)}
    assert "gold:2: link 1-1 is outside its sentences; skipped" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bars", "a ||| b\nc d\n", r"a\.bars:2: 0 × \|\|\|, expected source \|\|\| target"),
        ("a.bars", "a ||| b ||| c\n", r"a\.bars:1: 2 × \|\|\|"),
        ("a.tsv", "a b\n", r"a\.tsv:1: 1 columns, expected at least 2"),
    ],
)
def test_bad_lines_are_named(write, name, content, message):
    read = bitext.read_bars if name.endswith("bars") else bitext.read_columns
    with pytest.raises(InputError, match=message):
        list(read(write(name, content)))


def test_a_malformed_link_is_an_error(write):
    with pytest.raises(InputError, match=r"gold:1: '0_0' is not a link such as 3-4"):
        list(bitext.read_parallel(write("a", "a\n"), write("b", "b\n"), write("gold", "0_0\n")))


def chunk(source, target, rows=None):
    """Return sentence pairs, as ids of their words, as one chunk."""
    lengths = (np.array(list(map(len, side)), np.int32) for side in (source, target))
    rows = np.arange(len(source)) if rows is None else rows
    return Chunk(rows, *(np.concatenate(side).astype(np.int32) for side in (source, target)), *lengths)


def random_bitext(seed, sentences=40, words=(5, 7), longest=6):
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, size, rng.integers(1, longest + 1)) for _ in range(sentences)] for size in words]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("cells", [1, 60, 10**6])
def test_batches_number_every_pair_of_words_that_co_occurs(cells, folder, tmp_path):
    source, target = random_bitext(0)
    chunks = [chunk(source[rows], target[rows], np.arange(40)[rows]) for rows in (slice(25), slice(25, None))]
    grid = CoOccurrence(chunks, 5, 7, cells, tmp_path if folder else None)
    assert sorted(np.concatenate([grid.rows(number) for number in range(len(grid.batches))])) == list(range(40))
    assert [number for batches in grid.chunks for number in batches] == list(range(len(grid.batches)))
    assert grid.batches_with([30]) == [number for number in grid.chunks[1] if 30 in grid.rows(number)]
    assert grid.lengths == {(len(s), len(t)) for s, t in zip(source, target, strict=True)}
    assert grid.cells == sum(len(s) * len(t) for s, t in zip(source, target, strict=True))
    assert grid.tokens == sum(map(len, source + target))
    met = {(e, f) for s, t in zip(source, target, strict=True) for e in s for f in t}
    pairs = list(zip(grid.words.source, grid.words.target, strict=True))
    assert sorted(pairs) == sorted(met)
    done = 0
    for batch in grid.batches:
        # Pairs that no batch before has come next, those of frequent words first.
        new = sorted({pair for pair in np.ravel(batch["pairs"]).tolist() if done <= pair < len(pairs)})
        assert new == list(range(done, done + len(new)))
        rarer = [min(grid.words.source_count[e], grid.words.target_count[f]) for e, f in pairs[done : done + len(new)]]
        assert rarer == sorted(rarer, reverse=True)
        done += len(new)
    assert done == len(pairs)
    for number, batch in enumerate(grid.batches):
        rows, batch = grid.rows(number), {name: np.asarray(values) for name, values in batch.items()}
        assert len(rows) == 1 or batch["pairs"].size <= cells
        there = np.concatenate([target[row] for row in rows])
        assert (batch["targets"][len(there) :] == 7).all()
        assert (batch["pairs"][len(there) :] == len(met)).all()
        assert (batch["sentences"][len(there) :] == len(rows) - 1).all()
        batch |= {name: batch[name][: len(there)] for name in ("targets", "sentences", "pairs")}
        assert batch["targets"].tolist() == there.tolist()
        for name, side in (("source_lengths", source), ("target_lengths", target)):
            assert batch[name].tolist() == [len(side[row]) for row in rows]
        for sentence, word, pairs in zip(batch["sentences"], batch["targets"], batch["pairs"], strict=True):
            there = source[rows[sentence]]
            assert batch["sources"][sentence].tolist() == [*there, *[5] * (len(pairs) - len(there))]
            assert grid.words.source[pairs[: len(there)]].tolist() == there.tolist()
            assert set(grid.words.target[pairs[: len(there)]]) == {word}
            assert (pairs[len(there) :] == len(met)).all()


def test_batches_have_few_shapes():
    """If `cells` has many divisors, padding fills batches up to it, and the last one to a part of it."""
    source, target = random_bitext(3, 400, longest=19)
    grid = CoOccurrence([chunk(source, target)], 5, 7, cells=5040)
    sizes = [int(np.size(batch["pairs"])) for batch in grid.batches]
    assert len(sizes) > 5
    assert set(sizes[:-1]) == {5040}
    assert 5040 % sizes[-1] == 0
    assert sum(sizes) < 1.3 * grid.cells


def test_class_pairs_are_the_classes_of_pairs_of_words():
    grid = CoOccurrence([chunk(*random_bitext(1))], 5, 7)
    classes = np.array([0, 0, 1, 1, 2], np.int32), np.array([0, 1, 0, 1, 2, 2, 2], np.int32)
    level = grid.class_pairs(*classes)
    np.testing.assert_array_equal(level.source[level.pair], classes[0][grid.words.source])
    np.testing.assert_array_equal(level.target[level.pair], classes[1][grid.words.target])
    np.testing.assert_array_equal(level.source_count, np.bincount(classes[0], grid.words.source_count))


def test_tokens_are_numbered_in_order_of_occurrence(tmp_path):
    pairs = TokenPairs(longest=3, folder=tmp_path, size=2)
    added = [("a b", "x"), ("a", "y x y"), ("a b c d", "x"), ("c", "x")]
    assert [pairs.add(s.split(), t.split()) for s, t in added] == [True, True, False, True]
    assert (pairs.count, pairs.skipped, pairs.words) == (4, 1, [8, 6])
    for _ in range(2):
        first, second = pairs.chunks()
        assert [each.tolist() for each in first] == [[0, 1], [0, 1, 0], [0, 1, 0, 1], [2, 1], [1, 3]]
        assert [each.tolist() for each in second] == [[3], [2], [0], [1], [1]]
    assert [list(each) for each in pairs.tokens] == [["a", "b", "c"], ["x", "y"]]


def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    """With a folder, ten times the sentences take no more memory, neither to number nor to read them."""
    monkeypatch.setattr(co_occurrence, "UNSORTED", 10_000)
    sentences = [
        [[str(word) for word in side] for side in pair]
        for pair in zip(*random_bitext(2, 500, (90, 90), 12), strict=True)
    ]

    def peak(times, folder):
        tracemalloc.start()
        pairs = TokenPairs(folder=folder, size=500)
        for _ in range(times):
            for source, target in sentences:
                pairs.add(source, target)
        grid = CoOccurrence(pairs.chunks(), *map(len, pairs.tokens), 4096, folder)
        assert sum(int(np.sum(batch["target_lengths"])) for batch in grid.batches) == pairs.words[1]
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1, tmp_path)
    once, ten = peak(2, tmp_path), peak(20, tmp_path)
    assert ten < 1.2 * once
    assert peak(20, None) > 3 * ten
    assert not list(tmp_path.iterdir())
