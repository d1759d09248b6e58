"""Limits on what a request may ask for. They are checked before anything of that size is allocated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np

from trellis.components.errors import InputError, nearest
from trellis.components.saved_model.scalar_inputs import problem
from trellis.serve.server.requests import Arrays, Signature, brief, refuse

CELLS = 65_536  # a BiLSTM-CRF of 128 units takes about 12 KiB a cell, 0.7 GiB in all
SETTINGS = {"count": 4_096, "width": 64}  # inputs that multiply the work, and their default limits
BYTES = 16  # bytes of a text that count as a token: tokenizers read them, whatever they find
PAIRS = 16  # cells of a table of word pairs that cost as much as one token of a text
SCORES = 1 << 22  # rows × vocabulary of a model that scores every word at each step
FEWEST_ROWS = 64  # such a model takes at least that many rows

# Letters, digits, spaces, and everything else, of which every character may be a token of its own.
_CLASSES = bytes(
    ord("1" if chr(byte).isdigit() else "a" if chr(byte).isalpha() or chr(byte) == "_" else " " if byte == 32 else ".")
    if byte < 128
    else ord(".")
    for byte in range(256)
)
_CONTINUATIONS = bytes(range(0x80, 0xC0))  # bytes that begin no character of UTF-8


class Cost(NamedTuple):
    """How much a request asks for.

    Attributes:
        rows: the number of rows.
        width: the tokens of the widest row; of a text, the most that a tokenizer may find.
        cells: the tokens that are computed, padding included.
    """

    rows: int
    width: int
    cells: int


@dataclass(frozen=True)
class Limits:
    """The limits of one signature.

    Args:
        values: `{name: limit}`, of `cells`, `rows`, and of inputs.
        characters: whether every character of a text is a token.
        pairs: whether a table of the tokens of two texts is computed.
        beams: hypotheses or readings of each row, where no input says how many.
    """

    values: Mapping[str, int]
    characters: bool = False
    pairs: bool = False
    beams: int = 1

    @classmethod
    def of(cls, signature: Signature, options: Mapping[str, int], metadata: Mapping[str, Any]) -> Self:
        """Return the limits of a signature.

        Args:
            signature: the inputs and outputs.
            options: limits that replace the default ones, by name.
            metadata: the `metadata.json` of the export, `{}` if there is none.
        """
        config = _section(metadata, "config")
        data, text = _section(config, "data"), _section(config, "text")
        unit = data.get("unit")  # of a language model
        values = {"cells": CELLS, "rows": options.get("cells", CELLS), **SETTINGS}
        decoding = _section(config, "decoding")  # of a translator
        size_of = "target" if decoding else unit
        vocabulary = _section(metadata, "vocabulary").get(size_of) if isinstance(size_of, str) else None
        if isinstance(vocabulary, int) and vocabulary > 0:
            values["rows"] = max(SCORES // vocabulary, FEWEST_ROWS)
        pairs = sum(spec.dtype == "string" for spec in signature.inputs.values()) > 1
        width = decoding.get("width", 1)
        beams = 1 if pairs or not isinstance(width, int) or "width" in signature.inputs else width
        return cls(
            {**values, **options},
            "characters" in (unit, text.get("tokenizer") or data.get("tokenizer")),
            pairs,
            max(beams, _readings(signature)),
        )

    def cost(self, inputs: Arrays) -> Cost:
        """Return what a request asks for.

        Args:
            inputs: the inputs by name.

        Raises:
            Refused: it is more than the limits allow, or a setting is invalid.
        """
        rows, width, pairs, beams, steps = 1, 1, 1, self.beams, 0
        for name, array in inputs.items():
            if array.ndim:
                rows = len(array)
                self.check_shape(name, array.shape)
            elif array.dtype != object:
                self._check_setting(name, array[()])
                beams *= int(array) if name == "width" else 1
                steps += int(array) if name == "count" else 0
                continue
            own = self._width(name, array)
            width, pairs = max(width, own), pairs * own
        if self.pairs:
            cells = -(-rows * pairs // PAIRS)
            if cells > self.values["cells"]:
                self._refuse("cells", cells, f"{rows} rows × {pairs:,} pairs of words / {PAIRS}")
            return Cost(rows, width, cells)
        cells = rows * beams * (width + steps)
        if rows * beams > self.values["rows"]:
            self._refuse("rows", rows * beams, f"{rows} rows" + (f" × width {beams}" if beams > 1 else ""))
        if cells > self.values["cells"]:
            shown = f"({width:,} tokens in the widest + count {steps})" if steps else f"{width:,} tokens in the widest"
            self._refuse("cells", cells, f"{rows} rows × {f'width {beams} × ' if beams > 1 else ''}{shown}")
        return Cost(rows, width, cells)

    @property
    def largest(self) -> int:
        """The maximum rows × columns of an input."""
        return self.values["cells"] * (PAIRS if self.pairs else 1)

    def check_shape(self, name: str, shape: Sequence[int]) -> None:
        """Check the shape of an input before its values are there.

        Raises:
            Refused: it has more rows × columns than the limits allow.
        """
        cells = max(shape[0], 1) * (max(shape[1], 1) if len(shape) > 1 else 1)
        if cells > self.values["cells"]:
            self._refuse("cells", cells, f"input {name!r} of shape {brief(str(list(shape)))}")

    def _check_setting(self, name: str, value: Any) -> None:
        wrong = problem(name, value)
        if wrong:
            refuse(wrong)
        if name in self.values and value > self.values[name]:
            self._refuse(name, value, f"input {name!r}: {value}")

    def _refuse(self, name: str, value: Any, shown: str) -> NoReturn:
        total = "" if shown.endswith(str(value)) else f" are {value:,} {name}"
        refuse(f"{shown}{total}, above the limit of {self.values[name]:,} (--limit {name}=…)")

    def _width(self, name: str, array: np.ndarray) -> int:
        """Return the most tokens that a row may have."""
        columns = max(array.shape[1], 1) if array.ndim > 1 else 1
        if array.dtype != object or (array.ndim > 1 and name != "text"):
            return columns
        # A document has as many rows of tokens as sentences.
        count = characters if self.characters else tokens
        return columns * max([max(count(text), len(text) // BYTES) for text in array.reshape(-1)], default=1)


def tokens(text: bytes) -> int:
    """Return the most tokens that a tokenizer of words can make of a text; at least 1."""
    classes = b" " + _one_byte_each(text).translate(_CLASSES)
    count = classes.count
    # Where words and numbers begin; a number ends where letters begin.
    starts = count(b" a") + count(b" 1") + count(b".a") + count(b".1") + count(b"1a")
    # Spaces that follow a space leave empty strings behind, which are dropped later.
    return count(b".") + starts + count(b"  ") or 1


def characters(text: bytes) -> int:
    """Return the number of characters of a text; at least 1."""
    return max(len(_one_byte_each(text)), 1)


def _one_byte_each(text: bytes) -> bytes:
    """Return one byte for each character, or for each byte if the text is not UTF-8."""
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        return text
    return text.translate(None, _CONTINUATIONS)


def _readings(signature: Signature) -> int:
    """Return how many sequences of tags a signature returns for each row, `tags (batch, readings, time)`."""
    shape = signature.outputs["tags"].shape if "tags" in signature.outputs else None
    return shape[1] if shape is not None and len(shape) == 3 and shape[1] > 0 else 1


class Options:
    """Limits that replace the default ones: of all signatures, of one, or of one of one model.

    Args:
        arguments: `[[MODEL/]SIGNATURE/]NAME=N`, later ones first.

    Raises:
        InputError: an argument has another form.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self._options: list[tuple[list[str], int]] = []
        for argument in arguments:
            path, _, value = argument.partition("=")
            parts = path.split("/")
            if len(parts) > 3 or not all(parts) or not value.isascii() or not value.isdigit() or not int(value[:18]):
                raise InputError(f"--limit {argument}: expected [[MODEL/]SIGNATURE/]NAME=N, such as beam/width=16")
            if len(parts) == 1 and path not in ("cells", "rows", *SETTINGS):
                names = ", ".join(("cells", "rows", *SETTINGS))
                raise InputError(f"--limit {argument}: expected {names}, or SIGNATURE/INPUT")
            self._options.append((parts, int(value[:18])))

    def check(self, models: Mapping[str, Mapping[str, Signature]]) -> None:
        """Check that each option for a signature is for one that there is.

        Args:
            models: the signatures of each model that is served; if it is empty, nothing is checked.

        Raises:
            InputError: there is no such model or signature, or it has no such limit.
        """
        for (*scope, name), value in self._options if models else ():
            if not scope:
                continue
            argument = f"--limit {'/'.join([*scope, name])}={value}"
            *chosen, signature = scope
            if chosen and chosen[0] not in models:
                raise InputError(f"{argument}: no such model; did you mean {nearest(chosen[0], models)}?")
            named = [models[model] for model in chosen or models]
            inputs = [signatures[signature].inputs for signatures in named if signature in signatures]
            if not inputs:
                known = nearest(signature, set().union(*named))
                raise InputError(f"{argument}: no such signature; did you mean {known}?")
            limited = ["cells", "rows"]
            limited += [
                key for specs in inputs for key, spec in specs.items() if spec.shape == () and "int" in spec.dtype
            ]
            if name not in limited:
                raise InputError(f"{argument}: expected {', '.join(dict.fromkeys(limited))}")

    def of(self, model: str, signature: str) -> dict[str, int]:
        """Return the options for a signature of a model, by name; the most specific ones win."""
        chosen = {}
        for parts, value in sorted(self._options, key=lambda option: len(option[0])):
            *scope, name = parts
            if [model, signature][len(scope) == 1 :][: len(scope)] == scope:
                chosen[name] = value
        return chosen


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, dict) else {}
