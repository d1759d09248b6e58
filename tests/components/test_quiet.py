"""What is captured from standard error, and what is not."""

import logging
import os
import sys

import pytest

from trellis.components.quiet import captured_stderr


def test_native_and_python_output_is_captured(capfd):
    with captured_stderr():
        print("chatter", file=sys.stderr)
        os.write(2, b"native chatter\n")
    print("kept", file=sys.stderr)
    assert capfd.readouterr().err == "kept\n"


def test_captured_output_is_replayed_before_an_error(capfd):
    with pytest.raises(ImportError), captured_stderr():
        print("no such library", file=sys.stderr)
        raise ImportError
    assert capfd.readouterr().err == "no such library\n"


def test_a_logger_set_up_within_the_block_reaches_standard_error_afterwards(capfd):
    with captured_stderr():
        handler = logging.StreamHandler()
        handler.handle(logging.makeLogRecord({"msg": "within"}))
    handler.handle(logging.makeLogRecord({"msg": "afterwards"}))
    assert capfd.readouterr().err == "afterwards\n"
