"""`trellis predict`, and the version folders of an export."""

import io
import json
import os
import socket
import subprocess
import sys

import pytest

from tests.pipelines.runs import ROOT
from trellis.components.errors import InputError
from trellis.components.saved_model import versions
from trellis.serve import predict


def test_a_text_is_printed_readably(tagger, capsys):
    assert predict.main([str(tagger), "Mary Smith flew from Oslo to Lima."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line] == ["Mary", "Smith", "flew", "from", "Oslo", "to", "Lima", "."]
    columns = {line.index(line.split()[1]) for line in lines if line}
    assert len(columns) == 1
    assert all(0 <= float(line.split()[2]) <= 1 for line in lines if line)


def test_json_and_standard_input(tagger, capsys, monkeypatch):
    lines = "Oslo is cold.\n\nx\u2028y \x85\r\n".encode() + b"bad \xff byte\n" + b"last"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert predict.main([str(tagger), "-", "--json"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    assert [len(each["tokens"]) for each in results[:2]] == [4, 0] and len(results) == 5
    assert all(len(r["tokens"]) == len(r["tags"]) == len(r["confidence"]) for r in results)
    assert results[3]["tokens"] == ["bad", "\ufffd", "byte"]


def test_tokens_are_not_split_further(tagger, capsys):
    assert predict.main([str(tagger), "--tokens", "--json", "do n't split:me"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == ["do", "n't", "split:me"]


def test_mistakes_are_one_line(tagger, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken/1").mkdir(parents=True)
    (tmp_path / "broken/1/saved_model.pb").write_bytes(b"nonsense")
    for name, message in (("absent", "no such export"), ("empty", "no SavedModel here"), ("broken", "not an export")):
        assert predict.main([str(tmp_path / name), "text"]) == 2
        said = capsys.readouterr()
        assert not said.out and said.err.startswith("trellis predict: error: ") and message in said.err
        assert said.err.count("\n") == 1


def test_versions_count_upwards_and_appear_atomically(tmp_path):
    folder = tmp_path / "it"
    seen = []

    def write(path):
        seen.append(versions.versions(folder))
        (path / "saved_model.pb").write_text("x")

    for number in (1, 2):
        assert versions.write_version(folder, write) == folder / str(number)
    (folder / "10").mkdir()
    assert versions.write_version(folder, write) == folder / "11"
    assert seen == [[], [1], [1, 2, 10]]
    assert versions.latest(folder) == folder / "11" and versions.latest(folder / "2") == folder / "2"
    with pytest.raises(ZeroDivisionError):
        versions.write_version(folder, lambda path: 1 / 0)
    assert sorted(each.name for each in folder.iterdir()) == ["1", "10", "11", "2"]
    with pytest.raises(InputError, match="no such export"):
        versions.latest(tmp_path / "absent")


def test_what_killed_processes_were_writing_is_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folders = {
        process: tmp_path / f"{versions.ASIDE}{host}-{process}-abc"
        for host, process in ((socket.gethostname(), gone.pid), (socket.gethostname(), os.getpid()), ("elsewhere", 1))
    }
    for folder in folders.values():
        folder.mkdir()
        (folder / "half").write_text("x")
    versions.write_version(tmp_path, lambda path: (path / "whole").write_text("x"))
    assert {process for process, folder in folders.items() if folder.exists()} == {os.getpid(), 1}


def test_two_processes_write_versions_1_and_2(tmp_path):
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from train import use_clone; use_clone()
import time
from trellis.components.saved_model.versions import write_version
def write(path):
    (path / "whole").write_text("x"); time.sleep(0.5)
print(write_version({str(tmp_path)!r}, write).name)
"""
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(process.communicate()[0].strip() for process in running) == ["1", "2", "3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "3"]
