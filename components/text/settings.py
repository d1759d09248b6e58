"""What settings of text mean, in the sections of several tasks and datasets."""

CASE = "letters: keep them, lower-case them, or lower-case them as Turkish does (I → ı, İ → i)"
DIGITS = "digits: keep them, or read every digit as 0"
TOKENIZER = "how texts are split: words (punctuation apart), whitespace, spaces (U+0020 alone), characters"
