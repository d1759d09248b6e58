"""The choices of options, which both the code and the schemas of the configuration take from here.

This module imports nothing: neither TensorFlow, which schemas must not load, nor pydantic, which layers do not need.
"""

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
