"""The command `trellis`: train, use, serve and compare models."""

import importlib
import os
import sys
from typing import NamedTuple

from trellis import __version__
from trellis.components.command import output, prepare_streams, report_error
from trellis.components.quiet import captured_stderr


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: the module whose `main(arguments)` runs it and returns its exit status.
        extra: the optional dependencies that it needs; predict and generate need them for `--url`.
        help: what it does, for `trellis --help`.
    """

    module: str
    extra: str
    help: str


COMMANDS = {
    "train": Command("trellis.pipelines.command_line", "train", "train, track and export a model"),
    "launch": Command("trellis.pipelines.launch", "train", "train with several processes of this machine"),
    "predict": Command("trellis.serve.predict", "serve", "tag, align or classify texts with an export"),
    "generate": Command("trellis.serve.generate", "serve", "continue texts with the export of a language model"),
    "translate": Command("trellis.serve.translate", "serve", "translate texts with the export of a translator"),
    "convert": Command("trellis.serve.convert", "", "convert annotated texts between the formats of tools"),
    "label": Command("trellis.label", "train", "suggest texts to label, find wrong labels, forecast scores"),
    "search": Command("trellis.serve.search", "", "find the sentences of a file most similar to a query"),
    "project": Command("trellis.serve.project", "", "project labels to another language along word alignments"),
    "serve": Command("trellis.serve.local", "serve", "serve exports over TensorFlow Serving's REST and gRPC"),
    "verify": Command("trellis.serve.verify", "", "check that an export still gives its golden answers"),
    "promote": Command("trellis.serve.promote", "train", "copy a registered model to the folder that is served"),
    "score-translations": Command(
        "trellis.serve.score_translations", "train", "score translations: BLEU, chrF, TER, METEOR"
    ),
    "rescore": Command("trellis.serve.rescore", "train", "choose among translations by several models"),
    "compare": Command("trellis.pipelines.compare", "train", "compare finished runs: spread over seeds, paired tests"),
    "gradients": Command("trellis.pipelines.gradient_report", "train", "draw the gradient that reaches each time step"),
}

USAGE = """\
usage: trellis COMMAND [arguments]

{commands}

trellis COMMAND --help            explains a command
trellis --version                 prints the version
trellis --completion bash|zsh|fish
                                  prints a completion script:
  bash, zsh   eval "$(trellis --completion bash)"
  fish        trellis --completion fish | source
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; return its exit status."""
    prepare_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("", "-h", "--help", "help"):
        with output("trellis"):
            print(usage(), end="", file=sys.stdout if name else sys.stderr)
        return 0 if name else 2
    if name in ("-V", "--version"):
        with output("trellis"):
            print(f"trellis {__version__}")
        return 0
    if name == "--completion":
        return _completion(rest)
    if name not in COMMANDS:
        from trellis.components.errors import nearest

        report_error("trellis", f"{name}: no such command; did you mean {nearest(name, COMMANDS)}?")
        return 2
    command = COMMANDS[name]
    try:
        with captured_stderr():  # TensorFlow's start-up messages
            module = importlib.import_module(command.module)
        return module.main(rest) or 0
    except ModuleNotFoundError as error:
        return _missing(name, command, error)
    except KeyboardInterrupt:
        return 130


def usage() -> str:
    """Return the help page, with one line per command."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return USAGE.format(commands="\n".join(lines))


def _missing(name: str, command: Command, error: ModuleNotFoundError) -> int:
    """Report which extra a missing library belongs to; re-raise the error if the library is not an extra."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1" or (error.name or "").split(".")[0] == "trellis":
        raise error
    extra = command.extra or "all"
    report_error(f"trellis {name}", f"{error.name} is not installed; pip install 'trellis-sequence[{extra}]'")
    return 2


_BASH = """\
_trellis() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands} --help --version --completion" -- "$word"))
  elif [ "${{COMP_WORDS[1]}}" = train ]; then
    local line="${{COMP_LINE#* }}"
    COMPREPLY=($(COMP_LINE="$line" COMP_POINT="${{#line}}" trellis train -sc query=bash 2>/dev/null))
    [[ "${{COMPREPLY[0]}}" == *= || "${{COMPREPLY[0]}}" == *. ]] && compopt -o nospace 2>/dev/null
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=/}}
complete -o default -F _trellis trellis
"""
_ZSH = "autoload -U +X compinit && compinit -u; autoload -U +X bashcompinit && bashcompinit\n"
_FISH = "complete -c trellis -n __fish_use_subcommand -f -a '{commands}'\n"


def _completion(shells: list[str]) -> int:
    """Print the completion script of a shell."""
    scripts = {"bash": _BASH, "zsh": _ZSH + _BASH, "fish": _FISH}
    shell = shells[0] if shells else ""
    if shell not in scripts:
        report_error("trellis --completion", f"{shell or 'no shell'}; must be bash, zsh or fish")
        return 2
    with output("trellis"):
        print(scripts[shell].format(commands=" ".join(COMMANDS)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
