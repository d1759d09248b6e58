"""Split running text into tokens, in graph; the `from_text` signature of an export does it too."""

import tensorflow as tf

from trellis.components.types import Strings

APOSTROPHE = "’"  # read as '

# The first alternative that matches wins; whatever none of them matches (white space) separates tokens.
_TOKEN = "|".join(
    (
        r"https?://[^\s]*[^\s.,;:!?)\"'»”’\]]",
        r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
        r"(?:\pL\.){2,}",  # U.S.
        r"(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|Corp|vs)\.",
        r"[+-]?\d+(?:[.,:/]\d+)*%?",
        r"(?i:n't|'s|'re|'ve|'ll|'d|'m)\b",
        r"[\pL\pM\pN_]+(?:[-'’][\pL\pM\pN_]+)*",
        r"\.\.+|--+",
        r"[^\s\pL\pM\pN_]",
    )
)


def tokenize(text: Strings, kind: str = "words") -> Strings:
    """Split strings into tokens.

    Args:
        text: `(batch,)` strings.
        kind: `words` separates punctuation and English clitics (`does n't`, `Mary 's`) as the treebanks do, and keeps
            numbers, abbreviations, addresses and words with inner hyphens whole; `whitespace` splits at white space
            alone; `spaces` at the ASCII space alone; `characters` into Unicode characters.

    Returns:
        `(batch, time)` strings, padded with `""`, at least one time step wide.
    """
    if kind == "words":
        text = tf.strings.regex_replace(text, APOSTROPHE, "'")
        text = tf.strings.regex_replace(text, r"(?i)(\pL)(n't|'(?:s|re|ve|ll|d|m))\b", r"\1 \2 ")
        text = tf.strings.regex_replace(text, f"({_TOKEN})", r" \1 ")
    if kind == "characters":
        tokens = tf.strings.unicode_split(text, "UTF-8")
    elif kind == "spaces":
        tokens = split_at_spaces(text)
    else:
        tokens = tf.strings.split(text)
    tokens = tokens.to_tensor("")
    return tf.pad(tokens, [[0, 0], [0, tf.cast(tf.shape(tokens)[1] == 0, tf.int32)]], constant_values="")


def split_at_spaces(text: Strings) -> tf.RaggedTensor:
    """Split strings `(batch,)` at runs of the ASCII space; return ragged strings `(batch, time)`."""
    tokens = tf.strings.split(text, " ")
    return tf.ragged.boolean_mask(tokens, tokens != "")
