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
    assert capsys.readouterr().err == "trellis: error: trian: no such command; did you mean train, translate?\n"
    assert main([]) == 2


def test_a_missing_library_is_answered_with_its_extra(capsys, monkeypatch):
    import trellis.pipelines

    monkeypatch.setitem(sys.modules, "hydra", None)
    monkeypatch.setattr(trellis, "pipelines", trellis.pipelines)  # so that it is the same package afterwards
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


WRONG = {
    "predict exports hi": "exports: a folder of exports; name one: exports/tagger, exports/tiger",
    "predict exports/tager hi": "exports/tager: no such export; did you mean exports/tagger?",
    "predict exports/x hi": "exports/x: no such export; trellis train writes exports under exports/",
    "predict exports/tagger hi --jsn": "--jsn: no such option (did you mean --json?)",
    "predict exports/tagger": "the following arguments are required: text",
    "generate exports/tagger hi --temperature hot": "--temperature: 'hot' must be a number of at least 0",
    "generate exports/tagger hi --temperature nan": "--temperature: 'nan' must be a number of at least 0",
    "generate exports/tagger hi --top-p 0": "--top-p: '0' must be a number above 0 and at most 1",
    "generate exports/tagger hi --count 2.5": "--count: '2.5' must be a whole number of at least 0",
    "generate exports/tagger hi --samples 0": "--samples: '0' must be a whole number of at least 1",
    "generate exports/tagger hi --beam 4 --temperature 2": "--temperature has no effect with --beam; use one of them",
    "generate exports/tagger hi --beam 4 --seed 0": "--seed has no effect with --beam; use one of them",
    "generate exports/tagger hi --score --count 9": "--count has no effect with --score; use one of them",
    "generate exports/tagger hi --temperature 0 --seed 3": "--seed has no effect with --temperature 0",
    "generate exports/tagger hi --temperature 0 --top-p 0.5": "--top-p has no effect with --temperature 0",
    "generate exports/tagger hi --beam 4 --next 2": "--next: not allowed with argument --beam",
    "search exports/tagger file query --count 0": "--count: '0' must be a whole number of at least 1",
    "serve exports --port 80": "--port: no such option (did you mean --rest-port or --grpc-port?)",
    "serve exports --rest-port 99999": "--rest-port: '99999' must be a port from 0 to 65535",
    "serve exports here": "here: one argument too many; quote a text that has spaces",
    "promote ner exports": "ner: must be NAME@ALIAS, such as ner@champion, or NAME/VERSION",
    "promote ner exports --roll-back --tracking-uri x": "--tracking-uri: has no effect with --roll-back",
    "promote ner/3 exports --roll-back": "--roll-back: takes the name of a served model, such as ner, not ner/3",
    "promote ner exports --roll-back --name tagger": "--roll-back: takes the name of a served model, such as tagger",
    "project exports/tagger a b -o c --unlinked Y": "--unlinked: has no effect on entities; use it with --task pos",
    "rescore a b --reverse c --weights w --tokenized": "--tokenized: has no effect without --tune",
    "score-translations a b --metric chrf --language en": "--language en: has no effect without METEOR",
    "compare": "the following arguments are required: runs",
    "compare nowhere": "nowhere: no such folder",
    "compare exports": "exports: no finished runs here (no metrics.json)",
    "compare --jsn exports": "--jsn: no such option",
    "promote ner@champion exports": "mlflow.db: no such database; run this where trellis train ran",
    "gradients here": "here: no reports/gradient_flow.json; run with diagnostics.gradient_flow=true",
}


@pytest.mark.parametrize("command", WRONG)
def test_a_mistake_is_answered_in_one_line(command, tmp_path, monkeypatch, capsys):
    for name in ("tagger", "tiger"):
        (tmp_path / "exports" / name / "1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    try:
        status = main(command.split())
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert status == 2
    assert said.out == ""
    name = command.split()[0]
    assert said.err.replace(f"{tmp_path}/", "").startswith(f"trellis {name}: error: {WRONG[command]}")
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exports"]
