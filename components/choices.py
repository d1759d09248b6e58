"""The choices of options, which both the code and the schemas of the configuration take from here.

It imports the standard library alone: neither TensorFlow, which schemas must not load, nor pydantic, which layers do
not need.
"""

from collections.abc import Sequence
from typing import Literal

Case = Literal["keep", "lower", "turkish"]
Digits = Literal["keep", "zero"]
Tokenizer = Literal["words", "whitespace", "spaces", "characters"]
Unit = Literal["words", "characters"]

AnnotationFormat = Literal[
    "conll", "conllu", "word_tag", "csv", "huggingface", "spacy", "prodigy", "doccano", "label_studio", "brat"
]
OffsetUnit = Literal["code_points", "utf16"]
Misfits = Literal["error", "snap", "drop"]

Cell = Literal["rnn", "lstm", "gru"]
Head = Literal["crf", "memm", "softmax"]
Attention = Literal["additive", "general", "dot"]
Pooling = Literal["last", "mean", "max", "sum", "attention"]
WordSoftmax = Literal["full", "sampled", "adaptive"]
StoredWeights = Literal["bfloat16", "float16", "int8"]

AlignmentModel = Literal["ibm1", "ibm2", "fast_align", "hmm"]
Symmetrization = Literal["posterior", "intersection", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and"]
Smoothing = Literal["kneser_ney", "witten_bell", "add_k"]

PRUNING = "must begin with 0, must not descend, and has at most {order} numbers, the order"


def can_prune(least: Sequence[int], order: int) -> bool:
    """Return whether counts up to which n-grams of length 1, 2, … are dropped keep all parts of what is kept."""
    return list(least) == sorted(least) and not any(least[:1]) and len(least) <= order
