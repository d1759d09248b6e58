"""Errors that users can act on, and the wording of their messages."""

import difflib
import re
from collections.abc import Iterable


class InputError(Exception):
    """A file, a setting or a request is wrong; the message is one line: where, what, what to do."""


def nearest(wrong: object, valid: Iterable[object], count: int = 3) -> str:
    """Return the valid names closest to a wrong one, or all of them if none is close: `a, b, c`."""
    names = sorted(map(str, valid))
    matches = difflib.get_close_matches(str(wrong), names, n=count, cutoff=0.5)
    return ", ".join(matches or names)


def one_line(error: BaseException) -> str:
    """Return the essence of a TensorFlow error: the message of the failed assertion, or the first line."""
    assertion = re.search(r"assertion failed: \[(.*?)\]", str(error))
    return assertion[1] if assertion else first_line(error, 500)


def first_line(error: BaseException, limit: int | None = None) -> str:
    """Return the first line of an error's message, cut to `limit` characters; the error's class if it has none."""
    lines = str(error).splitlines()
    return lines[0][:limit] if lines else type(error).__name__
