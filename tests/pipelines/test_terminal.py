"""What a person sees while a run goes on, on a terminal and in a pipe."""

import os
import pty
import re
import sys

import pytest

from tests.pipelines.runs import ROOT, configured, python
from trellis.pipelines.terminal import headline

SCRIPT = """
import logging, sys, time
from trellis.components.quiet import captured_stderr
from trellis.pipelines.terminal import StderrHandler, Terminal

logging.getLogger("a").addHandler(StderrHandler())
with Terminal() as terminal:
    terminal.line("bilstm_crf on conll2003")
    terminal.phase("loading libraries")
    with captured_stderr():
        print("chatter of a library", file=sys.stderr, flush=True)
        time.sleep(0.4)
    terminal.phase("compiling the first step")
    time.sleep(0.4)
    for step in range(4):
        terminal.training("epoch 1/2", step / 8, f"loss {4 - step}.000")
        time.sleep(0.2)
    logging.getLogger("a").warning("3 tags are unknown")
    terminal.line("epoch 1/2  loss 1.000")
    terminal.phase("exporting")
    time.sleep(0.3)
print("finished")
"""


def on_a_terminal(script):
    """Return everything that a script writes to a terminal of 80 columns."""
    process, screen = pty.fork()
    if process == 0:
        size = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color"}
        os.environ |= {**size, "PYTHONPATH": os.pathsep.join(sys.path)}
        os.execv(sys.executable, [sys.executable, "-c", script])
    written = b""
    while True:
        try:
            chunk = os.read(screen, 65536)
        except OSError:
            break
        if not chunk:
            break
        written += chunk
    os.waitpid(process, 0)
    return written.decode()


def left_on_screen(written):
    """Return the lines that a terminal shows in the end, of what was written to it."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\?25[lh]|\x1b\[[\d;]*[A-Za-z]|\r\n|\n|\r|[^\x1b\r\n]+", written):
        if part in ("\n", "\r\n"):
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part not in ("\r",) and not part.startswith("\x1b"):
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture(scope="module")
def written():
    return on_a_terminal(SCRIPT)


@pytest.mark.parametrize("phase", ["loading libraries", "compiling the first step", "exporting"])
def test_a_phase_is_named_with_its_time_while_it_lasts(written, phase):
    assert re.search(rf"{phase}  \d+ s", written)


def test_training_shows_a_bar_with_the_time_left(written):
    assert re.search(r"epoch 1/2.*━.*loss 3\.000", written) and re.search(r"0:\d\d left", written)


def test_lines_stay_and_the_live_line_goes(written):
    lines = ["bilstm_crf on conll2003", "3 tags are unknown", "epoch 1/2  loss 1.000", "finished"]
    assert left_on_screen(written) == lines


def test_what_libraries_print_while_they_load_is_not_shown(written):
    assert "chatter" not in written


def test_a_pipe_gets_the_lines_that_stay_alone():
    done = python("-c", SCRIPT, cwd=ROOT.parent, PYTHONPATH=os.pathsep.join(sys.path))
    assert done.stderr.splitlines() == ["bilstm_crf on conll2003", "3 tags are unknown", "epoch 1/2  loss 1.000"]
    assert done.stdout == "finished\n"


def test_the_first_line_names_model_data_seed_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = headline(configured("model=hmm", "seed=3"), tmp_path / "outputs" / "now")
    assert shown == "hmm on sample_ner, seed 3 → outputs/now"
