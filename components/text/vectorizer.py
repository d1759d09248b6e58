"""Tokens to ids, in graph: the one implementation that training, evaluation and the export share."""

from collections import Counter

import tensorflow as tf

from trellis.components.text.templates import attribute, membership

PADDING, UNKNOWN = 0, 1
FEATURES = ("words", "characters", "casing", "attributes")
CASES = ("keep", "lower", "turkish")
CASING_PATTERNS = (
    # The first that matches decides; 0 is padding, and a token that no pattern matches is of mixed case.
    r"[0-9]+([.,:/%-]*[0-9]+)*[.,:/%-]*",  # a number
    r"(?s).*[0-9].*",  # a number inside
    r"(?s)\PL*",  # no letter
    r"(?s)\P{Lu}*",  # lower
    r"(?s)\P{Ll}*",  # UPPER
    r"(?s)\PL*\p{Lu}\P{Lu}*",  # Title
)
CASING_SIZE = len(CASING_PATTERNS) + 2


class TokenVectorizer(tf.Module):
    """Ids of words, characters and casing for tokens of any shape; the empty token is padding.

    Unknown words and characters have id 1. Words are looked up after normalisation, characters as they are. Where
    templates ask for columns, a token is the word and what these say of it, with a tab before each.

    Args:
        words, characters: vocabularies, without padding and unknown.
        case: `keep`, `lower`, or `turkish` (lower, with İ to i and I to ı).
        digits: `keep`, or `zero`: every ASCII digit becomes 0.
        max_characters: characters of a word that are looked at; the first half and the last half of longer words.
        features: which of `FEATURES` to compute.
        attributes: of feature templates, by name; see `trellis.components.text.templates`.
        values: the vocabulary of attributes, `name=value`.
        lists: words by the name of a list, for the attributes `in(NAME)`.
        columns: names of what follows the word in a token, for the attributes `column(NAME)`.
    """

    def __init__(
        self,
        words,
        characters,
        case="lower",
        digits="zero",
        max_characters=24,
        features=FEATURES[:3],
        attributes=(),
        values=(),
        lists=None,
        columns=(),
    ):
        super().__init__(name="vectorizer")
        self.columns = tuple(columns)
        self._lists = {name: membership(words) for name, words in (lists or {}).items()}
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
        tokens,
        case="lower",
        digits="zero",
        max_characters=24,
        features=FEATURES[:3],
        min_count=1,
        keep=(),
        attributes=(),
        min_value_count=1,
        lists=None,
        columns=(),
    ):
        """A vectorizer whose vocabularies are those of `tokens`, most frequent first.

        Args:
            tokens: every token of the training part, repeated as it occurs.
            min_count: normalised words that occur less often are unknown words.
            keep: words to keep however rare they are (those with pretrained vectors).
            min_value_count: values of attributes that occur less often are left out.
            lists: words by the name of a list.
            columns: names of what follows the word in a token.
        """
        counts = Counter(tokens)
        distinct = list(counts)
        plain, fields = split_columns(tf.constant(distinct, tf.string), columns)
        normalized = normalize(plain, case, digits)
        words, characters = Counter(), Counter()
        for token, text, word in zip(distinct, plain.numpy(), normalized.numpy(), strict=True):
            words[word.decode()] += counts[token]
            for character in text.decode():
                characters[character] += counts[token]
        keep = set(keep)
        ranked = [word for word, count in words.most_common() if count >= min_count or word in keep]
        known = set(ranked)
        ranked += sorted(keep - known)
        values, tables = Counter(), {name: membership(words) for name, words in (lists or {}).items()}
        for name in attributes:
            found = attribute(name, plain, tables, fields).numpy()
            for token, value in zip(distinct, found, strict=True):
                if value or not name.startswith(("in(", "column(")):  # to be in no list is no feature
                    values[f"{name}={value.decode()}"] += counts[token]
        values = [value for value, count in values.most_common() if count >= min_value_count]
        ranked_characters = [character for character, _ in characters.most_common()]
        return cls(
            ranked, ranked_characters, case, digits, max_characters, features, attributes, values, lists, columns
        )

    @property
    def sizes(self):
        """Number of ids of each feature, padding and unknown included."""
        return {
            "words": len(self.words) + 2,
            "characters": len(self.characters) + 2,
            "casing": CASING_SIZE,
            "attributes": len(self.values) + 1,
        }

    def word_ids(self, tokens):
        """Same shape as `tokens`, int32."""
        return self._word_table.lookup(normalize(tokens, self.case, self.digits))

    def character_ids(self, tokens):
        """`tokens.shape + (characters,)`, int32; as wide as the longest word, at least 1, at most max_characters."""
        flat = tf.strings.unicode_split(tf.reshape(tokens, [-1]), "UTF-8")
        head = (self.max_characters + 1) // 2
        tail = self.max_characters - head
        flat = tf.cond(
            tf.reduce_max(tf.concat([flat.row_lengths(), [0]], 0)) > self.max_characters,
            lambda: tf.concat([flat[:, :head], flat[:, head:][:, -tail:]], axis=1) if tail else flat[:, :head],
            lambda: flat,
        )
        ids = flat.with_values(self._character_table.lookup(flat.values)).to_tensor(PADDING)
        ids = tf.pad(ids, [[0, 0], [0, tf.cast(tf.shape(ids)[1] == 0, tf.int32)]])
        return tf.reshape(ids, tf.concat([tf.shape(tokens), tf.shape(ids)[1:]], axis=0))

    def casing_ids(self, tokens):
        """Same shape as `tokens`, int32."""
        ids = tf.fill(tf.shape(tokens), CASING_SIZE - 1)
        for number, pattern in reversed(list(enumerate(CASING_PATTERNS, 1))):
            ids = tf.where(tf.strings.regex_full_match(tokens, pattern), number, ids)
        return tf.where(tokens == "", PADDING, ids)

    def attribute_ids(self, tokens, columns=None):
        """`tokens.shape + (attributes,)`, int32; 0 for values that the vocabulary lacks, and for padding."""
        values = [
            tf.strings.join([f"{name}=", attribute(name, tokens, self._lists, columns)]) for name in self.attributes
        ]
        ids = self._value_table.lookup(tf.stack(values, axis=-1))
        return tf.where(tokens[..., tf.newaxis] == "", PADDING, ids)

    def __call__(self, tokens):
        """The ids of each feature, by name."""
        tokens, columns = split_columns(tokens, self.columns)
        compute = {
            "words": self.word_ids,
            "characters": self.character_ids,
            "casing": self.casing_ids,
            "attributes": lambda tokens: self.attribute_ids(tokens, columns),
        }
        return {name: compute[name](tokens) for name in self.features}


def split_columns(tokens, names):
    """Words, and `{name: what follows the word}`, of tokens of any shape; without names tokens are words."""
    columns = {
        name: tf.strings.regex_replace(tokens, rf"(?s)^[^\t]*(?:\t[^\t]*){{{place}}}\t([^\t]*).*$", r"\1")
        for place, name in enumerate(names)
    }
    return (tf.strings.regex_replace(tokens, r"(?s)\t.*$", "") if names else tokens), columns


def normalize(tokens, case, digits):
    """The form under which tokens are looked up; see `TokenVectorizer` for the arguments."""
    if case == "turkish":
        tokens = tf.strings.regex_replace(tokens, "İ", "i")
        tokens = tf.strings.regex_replace(tokens, "I", "ı")
    if case != "keep":
        tokens = tf.strings.lower(tokens, encoding="utf-8")
    if digits == "zero":
        tokens = tf.strings.regex_replace(tokens, "[0-9]", "0")
    return tokens


def _table(entries, unknown=UNKNOWN, first=2):
    keys = tf.constant(["", *entries], tf.string)
    values = tf.constant([PADDING, *range(first, len(entries) + first)], tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), unknown)
