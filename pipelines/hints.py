"""Guess what the user meant by an argument that cannot be read, or by a name that does not exist."""

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

FEW = 8  # choices that are listed where none is similar

# Keys by the names that other tools have for them.
SYNONYMS = {
    "lr": "optimizer.learning_rate",
    "learning_rate": "optimizer.learning_rate",
    "batch_size": "batching.sentences",
    "batch": "batching.sentences",
    "num_epochs": "trainer.epochs",
    "max_epochs": "trainer.epochs",
    "n_epochs": "trainer.epochs",
    "hidden_size": "model.units",
    "hidden_dim": "model.units",
    "hidden": "model.units",
    "embedding_dim": "model.words.dim",
    "num_layers": "model.layers",
    "n_layers": "model.layers",
    "early_stopping": "trainer.patience",
    "grad_clip": "trainer.clip_norm",
    "clip": "trainer.clip_norm",
    "output_dir": "hydra.run.dir",
    "out": "export.dir",
    "optim": "optimizer",
    "scheduler": "schedule",
    "dataset": "data",
}
# Choices by other names.
OTHER_CHOICES = {
    ("schedule", "none"): "constant",
    ("tracking", "false"): "off",
    ("tracking", "none"): "off",
    ("export", "false"): "off",
    ("export", "none"): "off",
    ("debug", "true"): "fast",
}


def for_argument(argument: str, following: Sequence[str], keys: Iterable[str]) -> str:
    """Return one line on an argument that is not an override.

    Args:
        argument: what was typed.
        following: the arguments after it.
        keys: the keys and groups that exist.
    """
    after = following[0] if following else ""
    if argument in ("help", "-help", "--h", "?"):
        return f"{argument}: trellis train --help lists all choices and keys"
    if argument.startswith("--"):
        name, _, value = argument.lstrip("-").partition("=")
        name = name.replace("-", "_")
        value = value or (after if after and "=" not in after and not after.startswith("-") else "…")
        return f"{argument}: keys are set without dashes; write {key_like(name, keys) or name}={value}"
    if argument.startswith("-"):
        return f"{argument}: no such flag; trellis train --help lists them"
    if argument.endswith("=") and after and "=" not in after:
        return f"{argument} {after}: write {argument}{after}, without a space"
    if after == "=":
        value = following[1] if len(following) > 1 else "…"
        return f"{argument} = {value}: write {argument}={value}, without spaces"
    if after.startswith("=") and len(after) > 1:
        return f"{argument} {after}: write {argument}{after}, without a space"
    if "=" not in argument and (argument in keys or key_like(argument, keys)):
        value = after if after and "=" not in after else "…"
        return f"{argument}: write {key_like(argument, keys) or argument}={value}"
    if "=" not in argument:
        return f"{argument}: expected group=choice or key=value"
    return _unreadable(argument)


def _unreadable(override: str) -> str:
    """Return how to quote an override that Hydra cannot read."""
    key, _, value = override.partition("=")
    quoted = f'{key}="{value}"'
    if value.startswith(("[", "{")):
        elements = re.split(r"(\s*[\[\]{},]\s*|(?<=\w):\s*)", value)
        quoted = f"{key}={''.join(_quote(text) if i % 2 == 0 else text for i, text in enumerate(elements))}"
    if value.strip("[]{}()") and is_readable(quoted):
        return f"{override}: cannot be read; quote the value, for the shell too: {shlex.quote(quoted)}"
    return f"{override}: cannot be read; expected group=choice or key=value"


def _quote(text: str) -> str:
    return text if re.fullmatch(r"[\w.+-]*|\".*\"|'.*'", text) else f'"{text}"'


def is_readable(override: str) -> bool:
    """Return whether Hydra can read an override."""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def key_like(name: str, keys: Iterable[str]) -> str | None:
    """Return the key that a name without its section, or from another tool, stands for; None if there is none."""
    known = list(keys)
    if name in known:
        return name
    ending = [key for key in known if key.rpartition(".")[2] == name]
    if ending:
        return min(ending, key=lambda key: (key.count("."), known.index(key)))
    synonym = SYNONYMS.get(name.lower())
    return synonym if synonym in known else None


def for_key(wrong: str, keys: Sequence[str]) -> str:
    """Return one line on a key that does not exist."""
    last = wrong.rpartition(".")[2]
    same = [key for key in keys if key.rpartition(".")[2] == last and key != wrong]
    synonym = key_like(wrong, keys)
    similar = same[:3] or ([synonym] if synonym else difflib.get_close_matches(wrong, keys, n=3, cutoff=0.6))
    if not similar:
        return f"{wrong}: no such key; trellis train --explain lists all keys"
    return f"{wrong}: no such key; did you mean {', '.join(similar)}?"


def for_choice(group: str, choice: str, choices: Sequence[str]) -> str:
    """Return one line on a choice that does not exist."""
    head = f"{group}={choice}: no such choice"
    other = OTHER_CHOICES.get((group, choice.lower()))
    if other in choices:
        return f"{head}; did you mean {group}={other}?"
    similar = difflib.get_close_matches(choice, choices, n=3, cutoff=0.5)
    if similar:
        return f"{head}; did you mean {', '.join(similar)}?"
    if len(choices) <= FEW:
        return f"{head}; there are {', '.join(choices)}"
    return f"{head} among {len(choices)}; trellis train --help lists them, and --config-dir FOLDER adds your own"
