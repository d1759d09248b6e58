"""ARPA files: what is written means what the model says, and what is read means what the file says."""

import gzip
import itertools
import math
import re

import numpy as np
import pytest
import tensorflow as tf

from trellis.components.errors import InputError
from trellis.components.models import arpa
from trellis.components.models.ngram import NGram

LINES = ["the king sleeps", "the queen sings and the king sleeps", "and", "", "a king sings a song", "the king sings"]
WORDS = sorted({word for line in LINES[1:] for word in line.split()})
SPELLINGS = ["", "<unk>", "</s>", *WORDS]


def ids_of(line):
    return [*(SPELLINGS.index(word) if word in WORDS else 1 for word in line.split()), 2]


def counted(order, smoothing="kneser_ney"):
    lines = [ids_of(line.replace("sleeps", "<unk>")) for line in LINES]
    model = NGram(len(SPELLINGS), order, smoothing)
    model.adapt(np.concatenate(lines), np.cumsum([0, *map(len, lines[:-1])]))
    model.fit()
    return model


def score(model, line):
    """Log-probability of a line and its end, in nats."""
    ids = tf.constant([ids_of(line)])
    before = tf.concat([[[2]], ids[:, :-1]], axis=1)
    features, _ = model.read(before, model.initial_states(1))
    return float(tf.reduce_sum(model.token_log_probabilities(features, ids)))


def score_by_definition(text, line):
    """The same from an ARPA file, in the words of the format's definition."""
    table = {}
    for row in text.split("\n"):
        fields = row.split("\t")
        if len(fields) > 1:
            table[tuple(fields[1].split(" "))] = float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0
    order = max(map(len, table))

    def log_probability(words):
        if words in table:
            return table[words][0]
        return table.get(words[:-1], (0.0, 0.0))[1] + log_probability(words[1:])

    words = ["<s>", *(word if (word,) in table else "<unk>" for word in line.split()), "</s>"]
    ends = range(2, len(words) + 1)
    return sum(log_probability(tuple(words[max(0, end - order) : end])) for end in ends) * math.log(10)


TEXTS = [" ".join(words) for words in itertools.product(["the", "king", "zzz", "sings"], repeat=3)] + ["", *LINES]


@pytest.mark.parametrize("smoothing", ["kneser_ney", "witten_bell", "add_k"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_a_file_gives_every_line_the_probability_of_the_model(tmp_path, order, smoothing):
    model = counted(order, smoothing)
    arpa.write(tmp_path / "it.arpa", model, SPELLINGS)
    text = (tmp_path / "it.arpa").read_text()
    again = NGram(len(SPELLINGS), order)
    words, tables = arpa.read(tmp_path / "it.arpa")
    again.assign(tables)
    assert words == WORDS
    for line in TEXTS[:: 1 if order == 3 else 7]:
        expected = score(model, line)
        assert score_by_definition(text, line) == pytest.approx(expected, abs=1e-4)
        assert score(again, line) == pytest.approx(expected, abs=1e-4)


def test_the_loss_of_a_model_that_was_read_is_that_of_the_text(tmp_path):
    model = counted(3)
    arpa.write(tmp_path / "it.arpa", model, SPELLINGS)
    again, losses = NGram(len(SPELLINGS), 3), []
    again.assign(arpa.read(tmp_path / "it.arpa").tables)
    lines = [ids_of(line) for line in LINES]
    again.adapt(np.concatenate(lines), np.cumsum([0, *map(len, lines[:-1])]))

    class Kept(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            losses.append(logs["loss"])

    again.fit(callbacks=[Kept()])
    expected = -sum(score(again, line) for line in LINES) / sum(map(len, lines))
    assert losses == [pytest.approx(expected, rel=1e-5)]


PRUNED = """
made by hand

\\data\\
ngram 1=5
ngram 2=3
ngram  3 = 1

\\1-grams:
-1.0 <UNK>
-99\t<s>\t-0.5
-0.8\t</s>
-0.6\ta\u00a0b\t-0.25
-0.7\tc\t-0.125

\\2-grams:
-0.3\t<s> a\u00a0b\t-0.0625
-0.2\ta\u00a0b c
-0.1\tc </s>

\\3-grams:
-0.05\t<s> a\u00a0b a\u00a0b
\\end\\
""".replace("ngram  3", "ngram 3")


def test_files_of_other_programs_are_read_as_they_are_meant(tmp_path):
    """Pruned: a trigram whose last two words are not listed; spaces for tabs; white space that is part of a word."""
    with gzip.open(tmp_path / "it.arpa.gz", "wt", encoding="utf-8") as file:
        file.write(PRUNED)
    words, tables = arpa.read(tmp_path / "it.arpa.gz")
    assert words == ["a\u00a0b", "c"]
    model = NGram(5, 3)
    model.assign(tables)
    ids = tf.constant([[3, 3, 4, 1, 2]])
    features, _ = model.read(tf.constant([[2, 3, 3, 4, 1]]), model.initial_states(1))
    found = model.token_log_probabilities(features, ids)[0] / math.log(10)
    np.testing.assert_allclose(found, [-0.3, -0.05, -0.2, -0.125 - 1.0, -0.8], atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "\\date\\", "not an ARPA file"),
        ("ngram 2=3", "ngram 3=3", "it.arpa:6: expected ngram 2=NUMBER"),
        ("ngram 1=5", "ngram 1=6", "expected a log-probability, 1 words"),
        ("-0.7\tc", "-0,7\tc", "it.arpa:14: -0,7 or -0.125 is not a number"),
        ("-0.7\tc", "-0.7\ta\u00a0b", "it.arpa:14: a\u00a0b occurs twice"),
        ("c </s>", "c d", "it.arpa:19: d is not among the 1-grams"),
        ("c </s>", "</s> c", "it.arpa:19: </s> c: nothing comes before <s> or after </s>"),
        ("c </s>", "a\u00a0b c", "it.arpa:19: this n-gram occurs twice"),
        ("<s> a\u00a0b a\u00a0b", "c c c", "it.arpa:22: the n-gram without its last word is missing"),
        ("\\end\\", "", "expected \\end\\, found the end of the file"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(write, old, new, message):
    path = write("it.arpa", PRUNED.replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(message)):
        arpa.read(path)
