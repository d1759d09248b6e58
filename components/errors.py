"""What is said when something that the user gave cannot be used."""

import difflib
import re


class InputError(Exception):
    """A file, a setting or a request is wrong; the message is one line: where, what, what to do."""


def nearest(wrong, valid, count=3):
    """The valid names most like a wrong one, or all of them if none is like it: `a, b, c`."""
    valid = sorted(map(str, valid))
    matches = difflib.get_close_matches(str(wrong), valid, n=count, cutoff=0.5)
    return ", ".join(matches or valid)


def one_line(error):
    """What an error of TensorFlow says: the message of the assertion that failed, or its first line."""
    failed = re.search(r"assertion failed: \[(.*?)\]", str(error))
    return failed[1] if failed else str(error).splitlines()[0][:500]
