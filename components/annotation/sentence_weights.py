"""The weight of each sentence in training, from the file that `trellis label errors` writes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trellis.components.annotation.records import read_records
from trellis.components.errors import InputError
from trellis.components.readers.sentence import Sentence
from trellis.components.types import FilePath


def read(path: FilePath, sentences: Sequence[Sentence]) -> np.ndarray:
    """Return the weight of each sentence, `(sentences,)`.

    It is the lowest `probability` of the records that have the `tokens` and `tags` of the sentence, or 1 without such a
    record.

    Args:
        path: a file of JSON lines or JSON.
        sentences: the sentences of the training part, entities in BIO2.

    Raises:
        InputError: a field of a record is missing or wrong (names the file and line), or no record is of a sentence.
    """
    lowest: dict[tuple[Any, ...], float] = {}
    for place, _, record in read_records(path):
        fields = record if isinstance(record, dict) else {}
        tokens, tags, probability = (fields.get(name) for name in ("tokens", "tags", "probability"))
        if not (_is_texts(tokens) and _is_texts(tags)):
            raise InputError(f"{place}: data.weights needs tokens and tags, lists of texts, in each record")
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise InputError(f"{place}: probability is {probability!r}, expected a number from 0 to 1")
        key = tuple(fields["tokens"]), tuple(fields["tags"])
        lowest[key] = min(probability, lowest.get(key, 1.0))
    weights = np.array([lowest.get((sentence.tokens, tuple(sentence.tags)), 1.0) for sentence in sentences], np.float32)
    if not any((sentence.tokens, tuple(sentence.tags)) in lowest for sentence in sentences):
        raise InputError(f"{path}: no record has the tokens and tags of a sentence of the training part")
    return weights


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
