"""Errors that users can act on, and the wording of their messages."""

import difflib
import re
from collections.abc import Iterable

_GRAPH_ERROR, _NO_TRACES = "Graph execution error:", "<stack traces unavailable>"


class InputError(Exception):
    """A file, a setting or a request is wrong; the message is one line: where, what, what to do."""


def nearest(wrong: object, valid: Iterable[object], count: int = 3) -> str:
    """Return the valid names closest to a wrong one, or all of them if none is close: `a, b, c`."""
    names = sorted(map(str, valid))
    matches = difflib.get_close_matches(str(wrong), names, n=count, cutoff=0.5)
    return ", ".join(matches or names)


def quoted(text: str, limit: int = 60) -> str:
    """Return a piece of a file for a message: in quotes, without line breaks, and no more than its beginning."""
    return repr(text if len(text) <= limit else f"{text[: limit - 1]}…")


def one_line(error: BaseException) -> str:
    """Return the essence of a TensorFlow error: the message of the assertion or of the operation that failed."""
    text = re.sub(r"^\{\{function_node .*?\}\} ", "", str(error))
    assertion = re.search(r"assertion failed: \[(.*?)\]", text)
    if assertion:
        return assertion[1]
    if text.startswith(_GRAPH_ERROR):
        # Then where the operation was defined, indented or not known, its message, and the nodes in brackets.
        *_, message = text.partition("\n\n" if _NO_TRACES not in text else _NO_TRACES)
        lines = [line for line in message.splitlines() if line.strip() and not line.startswith((" ", "\t", "Detected"))]
        if lines:
            return lines[0][:500]
    return first_line(error, 500, text)


def first_line(error: BaseException, limit: int | None = None, text: str | None = None) -> str:
    """Return the first line of an error's message; the error's class if it has none.

    Args:
        error: the error.
        limit: the maximum number of characters.
        text: the message; by default that of the error.
    """
    lines = [line for line in (str(error) if text is None else text).splitlines() if line.strip()]
    return lines[0][:limit] if lines else type(error).__name__
