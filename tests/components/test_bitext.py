"""Readers of bitexts and gold alignments, and the numbering of words that meet."""

import gzip

import numpy as np
import pytest

from components.errors import InputError
from components.readers import bitext
from components.text.co_occurrence import CoOccurrence


def test_two_files_a_line_a_pair(write):
    source = write("a.en", "the house\n a  book \n")
    target = write("a.cs.gz", gzip.compress("dům\nkniha\u00a0má\u3000 x\n".encode()))
    pairs = bitext.read_parallel(source, target)
    assert [pair.source for pair in pairs] == [("the", "house"), ("a", "book")]
    # Split at the ASCII space alone, or links would count other words.
    assert pairs[1].target == ("kniha\u00a0má\u3000", "x")
    assert pairs[0].sure is None


def test_gold_of_sure_and_possible_files_counted_from_one(write):
    files = [write(name, text) for name, text in (("s", "a b\n"), ("t", "x y\n"), ("sure", "1-1\n"), ("pos", "2-1\n"))]
    (pair,) = bitext.read_parallel(*files, first=1)
    assert pair.sure == {(0, 0)}
    assert pair.possible == {(0, 0), (1, 0)}


def test_gold_in_one_field(write):
    bars = write("x.src-tgt", "a b ||| x y\n")
    (pair,) = bitext.read_bars(bars, write("x.gold", "1-1 2p1 2?2\n"), first=1)
    assert (pair.sure, pair.possible) == ({(0, 0)}, {(0, 0), (1, 0), (1, 1)})
    columns = write("x.tsv", "b a\tx\t0-0\n")
    (pair,) = bitext.read_columns(columns, gold_column=2)
    assert pair.sure == pair.possible == {(0, 0)}
    (pair,) = bitext.read_columns(write("y.tsv", "a\tx y\t1-0\n"), gold_column=2, swapped=True)
    assert pair.sure == {(0, 1)}


def test_naacl_2003(write):
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
            bitext.read_parallel(write("b.en", "a b\nd\nc\n"), files[1], naacl=write(name, text), strict=True)


def test_line_counts_that_differ(write):
    source, target = write("a.en", "a\nb\nc\n"), write("a.cs", "x\ny\n")
    with pytest.raises(InputError, match=r"a\.en has 3 lines, .*a\.cs has 2$"):
        bitext.read_parallel(source, target)


@pytest.mark.parametrize("strict", [False, True])
def test_empty_sides(write, caplog, strict):
    files = write("a.en", "a\n \nb\n"), write("a.cs", "x\ny\nz\n")
    if strict:
        with pytest.raises(InputError, match=r"a\.en:2: the source side is empty"):
            bitext.read_parallel(*files, strict=True)
        return
    assert [pair.target for pair in bitext.read_parallel(*files)] == [("x",), ("z",)]
    assert "1 pairs with an empty side left out" in caplog.text


@pytest.mark.parametrize("strict", [False, True])
def test_links_outside_their_sentences(write, caplog, strict):
    files = write("a.en", "a\nb c\n"), write("a.cs", "x\ny\n"), write("gold", "0-0\n1-0 1-1\n")
    if strict:
        with pytest.raises(InputError, match=r"gold:2: link 1-1 is outside its sentences \(2 and 1 words\)"):
            bitext.read_parallel(*files, strict=True)
        return
    assert bitext.read_parallel(*files)[1].sure == {(1, 0)}
    assert "gold:2: link 1-1 is outside its sentences; left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bars", "a ||| b\nc d\n", r"a\.bars:2: 0 × \|\|\|, expected source \|\|\| target"),
        ("a.bars", "a ||| b ||| c\n", r"a\.bars:1: 2 × \|\|\|"),
        ("a.tsv", "a b\n", r"a\.tsv:1: 1 columns, expected 2 at least"),
    ],
)
def test_bad_lines(write, name, content, message):
    read = bitext.read_bars if name.endswith("bars") else bitext.read_columns
    with pytest.raises(InputError, match=message):
        read(write(name, content))


def test_a_link_that_is_none(write):
    with pytest.raises(InputError, match=r"gold:1: '0_0' is not a link such as 3-4"):
        bitext.read_parallel(write("a", "a\n"), write("b", "b\n"), write("gold", "0_0\n"))


def random_bitext(seed, sentences=40, words=(5, 7)):
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, size, rng.integers(1, 7)) for _ in range(sentences)] for size in words]


@pytest.mark.parametrize("cells", [1, 60, 10**6])
def test_numbers_of_pairs(cells):
    source, target = random_bitext(0)
    grid = CoOccurrence(source, target, 5, 7, cells)
    assert sorted(np.concatenate(grid.rows)) == list(range(40))
    met = {(e, f) for s, t in zip(source, target, strict=True) for e in s for f in t}
    assert list(zip(grid.words.source, grid.words.target, strict=True)) == sorted(met)
    for rows, batch in zip(grid.rows, grid.batches, strict=True):
        assert len(rows) == 1 or batch["pairs"].size <= cells
        assert batch["targets"].tolist() == np.concatenate([target[row] for row in rows]).tolist()
        for sentence, word, pairs in zip(batch["sentences"], batch["targets"], batch["pairs"], strict=True):
            there = source[rows[sentence]]
            assert batch["sources"][sentence].tolist() == [*there, *[5] * (len(pairs) - len(there))]
            assert grid.words.source[pairs[: len(there)]].tolist() == there.tolist()
            assert set(grid.words.target[pairs[: len(there)]]) == {word}
            assert (pairs[len(there) :] == len(met)).all()


def test_classes_of_words():
    grid = CoOccurrence(*random_bitext(1), 5, 7)
    classes = np.array([0, 0, 1, 1, 2], np.int32), np.array([0, 1, 0, 1, 2, 2, 2], np.int32)
    level = grid.level(*classes)
    np.testing.assert_array_equal(level.source[level.pair], classes[0][grid.words.source])
    np.testing.assert_array_equal(level.target[level.pair], classes[1][grid.words.target])
    np.testing.assert_array_equal(level.source_count, np.bincount(classes[0], grid.words.source_count))
