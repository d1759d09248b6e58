"""Which process does something, and whether it is still there."""

import os
import socket


def this_process() -> str:
    """Return `HOST:ID` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def has_ended(process: str) -> bool:
    """Return whether a process, written as `this_process` does, ran on this machine and runs no longer.

    False for a process of another machine, about which nothing can be known here.
    """
    host, _, number = process.rpartition(":")
    return host == socket.gethostname() and number.isdigit() and not is_alive(int(number))


def is_alive(process: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
