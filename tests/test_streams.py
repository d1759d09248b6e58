"""What commands print, in any encoding, into full disks, closed streams and pipes that nobody reads."""

import io
import json
import os
import re
import sys
from types import SimpleNamespace

import pytest

from trellis.__main__ import COMMANDS, main
from trellis.components import command
from trellis.pipelines.terminal import OutputConsole

TEXT = "Éva flew from Oslo to Łódź."


@pytest.fixture(scope="module")
def commands(tmp_path_factory, tagger, classifier, language_model):
    """A command line for each command that prints what users or models write."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "corpus.txt").write_text(f"{TEXT}\nein schöner Film\n", encoding="utf-8")
    for seed in (1, 2):
        run = folder / "runs" / str(seed)
        (run / ".hydra").mkdir(parents=True)
        (run / "metrics.json").write_text(json.dumps({"test/f1": 0.5 + seed / 10, "dev/f1": 0.5}))
        (run / ".hydra" / "config.yaml").write_text(f"seed: {seed}\nmodel: {{name: hmm}}\n")
        (run / ".hydra" / "overrides.yaml").write_text("- data.path=über\n")
    return {
        "predict": [str(tagger), TEXT],
        "predict --json": [str(tagger), TEXT, "--json"],
        "generate": [str(language_model), "Łódź", "--count", "2"],
        "search": [str(classifier), str(folder / "corpus.txt"), "Éva"],
        "search --json": [str(classifier), str(folder / "corpus.txt"), "Éva", "--json"],
        "compare": [str(folder / "runs")],
        "score-translations": [str(folder / "corpus.txt"), str(folder / "corpus.txt"), "--metric", "chrf", "--json"],
    }


PRINTED = {  # with characters that ASCII does not have
    "predict": r"^\\xc9va .*\\xb7",
    "predict --json": r'"\\xc9va"',
    "generate": r"^\\u0141\\xf3d\\u017a",
    "search": r"ein sch\\xf6ner Film",
    "search --json": r'"query": "\\xc9va"',
    "compare": r"data.path=\\xfcber.* 0\.6500 \\xb1 0\.0707",
    "score-translations": r'"chrf": 100\.0',
}


@pytest.mark.parametrize("name", PRINTED)
def test_characters_that_the_encoding_does_not_have_are_escaped(name, commands, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert main([name.split()[0], *commands[name]]) == 0
    printed = sys.stdout.buffer.getvalue().decode("ascii")
    assert re.search(PRINTED[name], printed, re.DOTALL), printed


def exit_status(arguments):
    try:
        return main(arguments)
    except SystemExit as stopped:
        return stopped.code


FULL = "error: standard output: cannot be written (No space left on device)\n"


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("name", PRINTED)
def test_a_full_disk_behind_standard_output_is_one_line(name, commands, monkeypatch, capsys, buffered):
    device = open("/dev/full", "wb", buffering=-1 if buffered else 0)  # noqa: SIM115
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(device, "utf-8", write_through=not buffered))
    assert exit_status([name.split()[0], *commands[name]]) == 2
    sys.stdout.close()  # as at the end of the process, where another error would be another line
    said = capsys.readouterr().err.splitlines(keepends=True)
    assert said[-1] == f"trellis {name.split()[0]}: {FULL}"
    assert said[:-1] == ["trellis generate: 1 of 1 tokens are unknown to the model: Łódź\n"] * (name == "generate")


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_for_a_full_disk_is_one_line(arguments, monkeypatch, capsys, buffered):
    monkeypatch.setattr("sys.argv", ["trellis"])
    monkeypatch.setattr("logging.raiseExceptions", True)
    monkeypatch.setattr("trellis.components.termination.end_at_once", lambda: None)
    device = open("/dev/full", "wb", buffering=-1 if buffered else 0)  # noqa: SIM115
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(device, "utf-8", write_through=not buffered))
    assert exit_status(arguments) == 2
    sys.stdout.close()
    said = capsys.readouterr().err
    assert said.endswith(FULL) and said.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error(commands, monkeypatch, capsys):
    for name in ("predict", "compare"):
        read, write = os.pipe()
        os.close(read)
        monkeypatch.setattr("sys.stdout", open(write, "w", encoding="utf-8"))  # noqa: SIM115
        assert exit_status([name, *commands[name]]) == 0
        sys.stdout.close()
    assert capsys.readouterr().err == ""


def test_a_console_leaves_a_broken_pipe_to_the_command():
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream:
        with pytest.raises(BrokenPipeError):
            OutputConsole(file=stream).print("text")
        command._discard(stream)


def test_streams_that_are_closed_are_replaced(monkeypatch, capsys):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    command.prepare_streams()
    assert sys.stdin.read() == ""
    print("lost")
    command.report_error("trellis", "lost")
    assert main(["--version"]) == 0 and main(["nonsense"]) == 2


def test_an_error_that_cannot_be_printed_still_has_its_status(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stderr", open("/dev/full", "w"))  # noqa: SIM115
    assert main(["predict", str(tmp_path / "nothing"), TEXT]) == 2
    sys.stderr.close()


@pytest.mark.parametrize(
    "error", [PermissionError(13, "denied", "w.json"), IsADirectoryError(21, "a folder", "w.json")]
)
def test_a_file_that_cannot_be_written_is_named(error, capsys):
    def fail(options):
        raise error

    parser = command.CommandParser("trellis rescore", None)
    assert command.run_command(parser, fail, SimpleNamespace()) == 2
    assert capsys.readouterr().err == f"trellis rescore: error: w.json: {error.strerror}\n"
    with pytest.raises(ConnectionResetError):  # no mistake of the user
        command.run_command(parser, lambda options: (_ for _ in ()).throw(ConnectionResetError(104, "reset")), None)
