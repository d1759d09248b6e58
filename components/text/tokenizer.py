"""Running text to tokens, in graph; for the export's `from_text` signature."""

import tensorflow as tf

# Leftmost alternative first; what none of them matches (white space) separates.
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


def tokenize(text, kind="words"):
    """Splits strings into tokens.

    `words` separates punctuation and English clitics (`does n't`, `Mary 's`) as the treebanks do, and keeps numbers,
    abbreviations, addresses and words with inner hyphens whole; `whitespace` splits at white space alone; `spaces` at
    the ASCII space alone; `characters` are those of Unicode.

    Args:
        text: `(batch,)` strings.

    Returns:
        `(batch, time)` strings, padded with `""`, at least one time step wide.
    """
    if kind == "words":
        text = tf.strings.regex_replace(text, "’", "'")
        text = tf.strings.regex_replace(text, r"(?i)(\pL)(n't|'(?:s|re|ve|ll|d|m))\b", r"\1 \2 ")
        text = tf.strings.regex_replace(text, f"({_TOKEN})", r" \1 ")
    if kind == "characters":
        tokens = tf.strings.unicode_split(text, "UTF-8")
    elif kind == "spaces":
        tokens = tf.strings.split(text, " ")
        tokens = tf.ragged.boolean_mask(tokens, tokens != "")
    else:
        tokens = tf.strings.split(text)
    tokens = tokens.to_tensor("")
    return tf.pad(tokens, [[0, 0], [0, tf.cast(tf.shape(tokens)[1] == 0, tf.int32)]], constant_values="")
