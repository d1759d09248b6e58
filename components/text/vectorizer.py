"""Turn tokens into ids, in graph: the one implementation that training, evaluation and exports share."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Self, get_args

import tensorflow as tf

from trellis.components import choices
from trellis.components.text.templates import Lookup, attribute, membership
from trellis.components.types import Strings, Tensor

PADDING, UNKNOWN = 0, 1
FEATURES = ("words", "characters", "casing", "attributes")
CASES = get_args(choices.Case)
CASING_PATTERNS = (
    # The first match decides. Id 0 is padding; the last id is for tokens that no pattern matches: mixed case.
    r"[0-9]+([.,:/%-]*[0-9]+)*[.,:/%-]*",  # number
    r"(?s).*[0-9].*",  # contains a digit
    r"(?s)\PL*",  # no letter
    r"(?s)\P{Lu}*",  # lower
    r"(?s)\P{Ll}*",  # UPPER
    r"(?s)\PL*\p{Lu}\P{Lu}*",  # Title
)
CASING_SIZE = len(CASING_PATTERNS) + 2
_NORMALIZED = 1 << 16  # words at a time


class TokenVectorizer(tf.Module):
    """Ids of words, characters and casing for tokens of any shape; the empty token is padding.

    Unknown words and characters have id 1. Words are looked up after normalisation, characters as they are. If
    templates refer to columns, a token is the word followed by its value in each column, with a tab before each value.

    Args:
        words: the vocabulary of words, without padding and the unknown word.
        characters: the vocabulary of characters, without padding and the unknown character.
        case: `keep`, `lower`, or `turkish` (lower, with İ to i and I to ı).
        digits: `keep`, or `zero`: replace every ASCII digit by 0.
        max_characters: use at most that many characters of a word: the first half and the last half of longer words.
        features: which of `FEATURES` to compute.
        attributes: the attributes of feature templates, see `trellis.components.text.templates`.
        values: the vocabulary of attributes, `name=value`.
        lists: word lists by name, for the attributes `in(NAME)`.
        columns: names of the columns that follow the word in a token, for the attributes `column(NAME)`.
    """

    def __init__(
        self,
        words: Iterable[str],
        characters: Iterable[str],
        case: str = "lower",
        digits: str = "zero",
        max_characters: int = 24,
        features: Iterable[str] = FEATURES[:3],
        attributes: Iterable[str] = (),
        values: Iterable[str] = (),
        lists: Mapping[str, Iterable[str]] | None = None,
        columns: Iterable[str] = (),
    ) -> None:
        super().__init__(name="vectorizer")
        self.columns = tuple(columns)
        self._lists = _list_tables(lists)
        self.attributes, self.values = tuple(attributes), list(values)
        self._value_table = _table(self.values, unknown=PADDING, first=1)
        self.features = tuple(features)
        self.words, self.characters = list(words), list(characters)
        self.case, self.digits, self.max_characters = case, digits, max_characters
        self._word_table = _table(self.words)
        self._character_table = _table(self.characters)

    @classmethod
    def adapt(
        cls,
        tokens: Iterable[str] | Mapping[str, int],
        case: str = "lower",
        digits: str = "zero",
        max_characters: int = 24,
        features: Iterable[str] = FEATURES[:3],
        min_count: int = 1,
        keep: Iterable[str] = (),
        attributes: Sequence[str] = (),
        min_value_count: int = 1,
        lists: Mapping[str, Iterable[str]] | None = None,
        columns: Sequence[str] = (),
    ) -> Self:
        """Return a vectorizer whose vocabularies are those of `tokens`, most frequent first.

        Args:
            tokens: every token of the training part, repeated as it occurs; or how often each one does.
            case: see the class.
            digits: see the class.
            max_characters: see the class.
            features: see the class.
            min_count: normalised words that occur less often become unknown words.
            keep: words to keep however rare they are (those with pretrained vectors).
            attributes: see the class.
            min_value_count: drop values of attributes that occur less often.
            lists: see the class.
            columns: see the class.
        """
        counts = Counter(tokens)
        distinct = list(counts)
        plain, fields = split_columns(tf.constant(distinct, tf.string), columns)
        words: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        for token, text in zip(distinct, plain.numpy(), strict=True):
            word = text.decode()
            words[word] += counts[token]
            for character in word:
                characters[character] += counts[token]
        ranked = ranked_words(words, case, digits, min_count, keep)
        values: Counter[str] = Counter()
        tables = _list_tables(lists)
        for name in attributes:
            of_tokens = attribute(name, plain, tables, fields).numpy()
            for token, value in zip(distinct, of_tokens, strict=True):
                if value or not name.startswith(("in(", "column(")):  # not being in a list is no feature
                    values[f"{name}={value.decode()}"] += counts[token]
        return cls(
            ranked,
            [character for character, _ in characters.most_common()],
            case,
            digits,
            max_characters,
            features,
            attributes,
            [value for value, count in values.most_common() if count >= min_value_count],
            lists,
            columns,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The number of ids of each feature, including padding and unknown."""
        return {
            "words": len(self.words) + 2,
            "characters": len(self.characters) + 2,
            "casing": CASING_SIZE,
            "attributes": len(self.values) + 1,
        }

    def word_ids(self, tokens: Strings) -> Tensor:
        """Return the ids of words, int32, in the shape of `tokens`."""
        return self._word_table.lookup(normalize(tokens, self.case, self.digits))

    def character_ids(self, tokens: Strings) -> Tensor:
        """Return the ids of characters, `tokens.shape + (characters,)` int32.

        The last axis is as wide as the longest word, at least 1 and at most `max_characters`.
        """
        characters = tf.strings.unicode_split(tf.reshape(tokens, [-1]), "UTF-8")
        ids = tf.concat([self._character_table.lookup(characters.values), [PADDING]], axis=0)
        starts, ends = characters.row_splits[:-1, tf.newaxis], characters.row_splits[1:, tf.newaxis]
        # The places of what is kept: from a column in the middle on, words that are too long go on with their ends.
        column = tf.range(tf.clip_by_value(tf.reduce_max(ends - starts), 1, self.max_characters))
        in_tail = column >= (self.max_characters + 1) // 2
        places = starts + column
        places += tf.where(in_tail, tf.maximum(ends - starts - self.max_characters, 0), 0)
        ids = tf.gather(ids, tf.where(places < ends, places, tf.size(ids, tf.int64) - 1))
        return tf.reshape(ids, tf.concat([tf.shape(tokens), tf.shape(ids)[1:]], axis=0))

    def casing_ids(self, tokens: Strings) -> Tensor:
        """Return the ids of casing patterns, int32, in the shape of `tokens`."""
        ids = tf.fill(tf.shape(tokens), CASING_SIZE - 1)
        for pattern_id, pattern in reversed(list(enumerate(CASING_PATTERNS, 1))):
            ids = tf.where(tf.strings.regex_full_match(tokens, pattern), pattern_id, ids)
        return tf.where(tokens == "", PADDING, ids)

    def attribute_ids(self, tokens: Strings, columns: Mapping[str, Strings] | None = None) -> Tensor:
        """Return the ids of attributes, `tokens.shape + (attributes,)` int32; 0 for unknown values and padding."""
        values = [
            tf.strings.join([f"{name}=", attribute(name, tokens, self._lists, columns)]) for name in self.attributes
        ]
        ids = self._value_table.lookup(tf.stack(values, axis=-1))
        return tf.where(tokens[..., tf.newaxis] == "", PADDING, ids)

    def __call__(self, tokens: Strings) -> dict[str, Tensor]:
        """Return the ids of each feature, by name."""
        words, columns = split_columns(tokens, self.columns)
        compute = {
            "words": lambda: self.word_ids(words),
            "characters": lambda: self.character_ids(words),
            "casing": lambda: self.casing_ids(words),
            "attributes": lambda: self.attribute_ids(words, columns),
        }
        return {name: compute[name]() for name in self.features}


def ranked_words(
    counts: Mapping[str, int], case: str, digits: str, min_count: int = 1, keep: Iterable[str] = ()
) -> list[str]:
    """Return the normalised words of a vocabulary, most frequent first; see `TokenVectorizer.adapt`.

    Args:
        counts: how often each word occurs as it is written, in the order of the text.
        case: see `TokenVectorizer`.
        digits: see `TokenVectorizer`.
        min_count: leave out normalised words that occur less often.
        keep: words to keep however rare they are.
    """
    words: Counter[str] = Counter()
    written = iter(counts.items())
    while batch := list(islice(written, _NORMALIZED)):
        normalized = normalize(tf.constant([word for word, _ in batch], tf.string), case, digits).numpy()
        for word, (_, count) in zip(normalized, batch, strict=True):
            words[word.decode()] += count
    kept = set(keep)
    ranked = [word for word, count in words.most_common() if count >= min_count or word in kept]
    return ranked + sorted(kept.difference(ranked))


def split_columns(tokens: Strings, names: Sequence[str]) -> tuple[Strings, dict[str, Strings]]:
    """Split tokens into words and the values of the columns that follow them.

    Args:
        tokens: strings of any shape, each a word and its value in each column, separated by tabs.
        names: the names of the columns; without any, tokens are words.

    Returns:
        the words, and `{name: values}`, all in the shape of `tokens`.
    """
    columns = {
        name: tf.strings.regex_replace(tokens, rf"(?s)^[^\t]*(?:\t[^\t]*){{{index}}}\t([^\t]*).*$", r"\1")
        for index, name in enumerate(names)
    }
    return (tf.strings.regex_replace(tokens, r"(?s)\t.*$", "") if names else tokens), columns


def normalize(tokens: Strings, case: str, digits: str) -> Strings:
    """Return the form under which tokens are looked up; see `TokenVectorizer` for the arguments."""
    if case == "turkish":
        tokens = tf.strings.regex_replace(tokens, "İ", "i")
        tokens = tf.strings.regex_replace(tokens, "I", "ı")
    if case != "keep":
        tokens = tf.strings.lower(tokens, encoding="utf-8")
    if digits == "zero":
        tokens = tf.strings.regex_replace(tokens, "[0-9]", "0")
    return tokens


def _list_tables(lists: Mapping[str, Iterable[str]] | None) -> dict[str, Lookup]:
    return {name: membership(words) for name, words in (lists or {}).items()}


def _table(entries: Sequence[str], unknown: int = UNKNOWN, first: int = 2) -> Lookup:
    """Return a lookup table from strings to ids, counted from `first`; the empty string is padding."""
    keys = tf.constant(["", *entries], tf.string)
    values = tf.constant([PADDING, *range(first, len(entries) + first)], tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), unknown)
