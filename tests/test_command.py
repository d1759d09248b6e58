"""The command `trellis` and the package as somebody meets them who has installed it."""

import re
import subprocess
import sys

import pytest

import trellis
from tests.pipelines.runs import ROOT, python
from trellis.__main__ import COMMANDS, main


def test_help_has_a_line_for_each_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help)}$", shown, re.M)
    assert max(map(len, shown.splitlines())) <= 80


def test_the_version_is_the_one_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trellis {trellis.__version__}\n"


def test_a_misspelt_command_is_answered_with_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "trellis: error: trian: no such command; did you mean train?\n"
    assert main([]) == 2


def test_a_missing_library_is_answered_with_its_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra", None)
    for module in [name for name in sys.modules if name.startswith("trellis.pipelines")]:
        monkeypatch.delitem(sys.modules, module)
    assert main(["train"]) == 2
    expected = "trellis train: error: hydra is not installed; pip install 'trellis-sequence[train]'\n"
    assert capsys.readouterr().err == expected


def test_importing_the_package_loads_no_library():
    code = "import sys, trellis; print(sorted({'tensorflow', 'keras', 'numpy', 'hydra', 'mlflow'} & set(sys.modules)))"
    assert python("-c", code, cwd=ROOT).stdout == "[]\n"


@pytest.mark.parametrize("name", trellis.__all__)
def test_every_public_name_is_there(name):
    assert getattr(trellis, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'trellis' has no attribute 'CFR'"):
        _ = trellis.CFR


def test_bash_completes_commands_and_overrides():
    script = 'eval "$({python} -m trellis --completion bash)"; trellis() {{ {python} -m trellis "$@"; }}; {ask}'
    ask = (
        'COMP_WORDS=({words}); COMP_CWORD={at}; COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}; _trellis; '
        'echo "${{COMPREPLY[@]}}"'
    )

    def completed(words, at):
        command = script.format(python=sys.executable, ask=ask.format(words=words, at=at))
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT).stdout.split()

    assert completed("trellis pr", 1) == ["predict", "project", "promote"]
    assert completed("trellis train model=bilstm_c", 2) == ["model=bilstm_classifier", "model=bilstm_crf"]


def test_completion_for_an_unknown_shell(capsys):
    assert main(["--completion", "tcsh"]) == 2
    assert "must be bash, zsh or fish" in capsys.readouterr().err
