"""Descriptions of text settings that several schemas share."""

CASE = "keep case, lowercase, or lowercase with Turkish rules (I → ı, İ → i)"
DIGITS = "keep digits, or replace each digit by 0"
TOKENIZER = "split texts into words (punctuation separate), at whitespace, at spaces (U+0020 only), or into characters"
