"""How the commands end: with status 0, or with one line on standard error and status 2."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable

from trellis.components.errors import InputError


def run_command(program: str, command: Callable[[Namespace], object], options: Namespace) -> int:
    """Run a command and return its exit status.

    Args:
        program: its name, as in `trellis predict`.
        command: takes the options; raises `InputError` for mistakes of the user.
        options: the parsed command line.
    """
    try:
        command(options)
        sys.stdout.flush()
    except InputError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does; without this Python would fail again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
