"""How the commands here end: with what they were asked for, or with one line and status 2."""

import sys

from trellis.components.errors import InputError


def ended(program, answer, options):
    """Calls `answer(options)`; returns the exit status.

    Args:
        program: its name, as `trellis predict`.
    """
    try:
        answer(options)
    except InputError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has seen enough (| head).
        sys.stderr.close()
    return 0
