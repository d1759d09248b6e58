"""What a person types: composed early, without TensorFlow, and answered in one line where it is wrong."""

import logging
import os
import re
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from components.errors import InputError, nearest

log = logging.getLogger(__name__)


def run(task, conf):
    """Runs a Hydra application after checking its arguments; exit status 2 for what the user got wrong.

    Args:
        task: a function decorated with `hydra.main`.
        conf: folder of the configuration.
    """
    arguments, overrides = get_args_parser().parse_known_args()
    overrides = [*arguments.overrides, *(each for each in overrides if not each.startswith("-"))]
    plain = not (arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion)
    try:
        if plain and arguments.config_dir is None and arguments.config_name is None:
            check(overrides, conf, arguments.multirun)
            if arguments.multirun:
                overrides = _for_sweeps(overrides, conf)
                sys.argv[1:] = [*(each for each in sys.argv[1:] if each.startswith("-")), *overrides]
            if "resume=true" in overrides and not arguments.cfg:
                sys.argv += _where_it_stopped(overrides, conf, arguments.multirun)
    except InputError as error:
        stop(error)
    try:
        task()
    except KeyboardInterrupt:
        sys.exit(130)


def stop(error):
    """Says what is wrong in one line and ends with status 2; with HYDRA_FULL_ERROR=1, the traceback."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        raise error
    log.info("%s", error)
    print(f"train.py: error: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(2)


def check(overrides, conf, multirun=False):
    """Composes the configuration (for a sweep, with every choice of it) and raises InputError if it cannot be."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        raise InputError(f"{error.override}: {_first_line(error)}") from None
    plain, sweeps = [], []
    for override in parsed:
        if override.is_sweep_override():
            if not multirun:
                raise InputError(f"{override.input_line}: several values need -m (python train.py -m …)")
            sweeps.append([f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()])
        else:
            plain.append(override.input_line)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf), job_name="train"):
        _compose([*plain, *(choices[0] for choices in sweeps)])
        for index, choices in enumerate(sweeps):
            others = [c[0] for i, c in enumerate(sweeps) if i != index]
            for choice in choices[1:]:
                _compose([*plain, *others, choice])


def _for_sweeps(overrides, conf):
    """Overrides as Hydra takes them in a sweep over models.

    It composes the default model once before those of the sweep, and stops at a key that the default model has not,
    unless the key may be added. That it is a key of the models asked for has been checked by then.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf), job_name="train"):
        base, groups = compose("config"), {each.name for each in Path(conf).iterdir() if each.is_dir()}

    def rewritten(override):
        key = override.key_or_group
        plain = override.type is OverrideType.CHANGE and not override.is_sweep_override() and key not in groups
        if not plain or key.startswith("hydra.") or key in flatten(base) or OmegaConf.select(base, key) is not None:
            return override.input_line
        return f"++{override.input_line}"

    return [rewritten(override) for override in parsed]


def _compose(overrides):
    try:
        return compose("config", overrides=overrides)
    except MissingConfigException as error:
        missing = (error.missing_cfg_file or "").removesuffix(".yaml")
        group, _, choice = missing.rpartition("/")
        if not error.options:
            raise InputError(_unknown_key(overrides, group or missing)) from None
        raise InputError(
            f"{group}={choice}: no such choice; did you mean {nearest(choice, error.options)}? "
            "(python train.py --help lists them all)"
        ) from None
    except ConfigCompositionException as error:
        text = f"{error} {error.__cause__ or ''}"
        for override in OverridesParser.create().parse_overrides(overrides):
            if f"'{override.key_or_group}'" in text and re.search("Could not override|not in struct|No match", text):
                raise InputError(_unknown_key(overrides, override.key_or_group)) from None
        raise InputError(_first_line(error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_first_line(error)) from None


def _unknown_key(overrides, wrong):
    groups = [o for o in overrides if o.split("=")[0] in ("model", "data", "pipeline", "experiment")]
    try:
        config = compose("config", overrides=[o for o in groups if o.split("=")[0] != wrong])
    except HydraException:
        config = compose("config")
    keys = [*list(flatten(config)), "model", "data", "trainer", "optimizer", "schedule", "tracking", "export", "debug"]
    last = wrong.rpartition(".")[2]
    # A key typed without its section is as likely as a misspelt one.
    same = [key for key in keys if key.rpartition(".")[2] == last]
    return f"{wrong}: no such key; did you mean {', '.join(same[:3]) if same else nearest(wrong, keys)}?"


def _first_line(error):
    return re.sub(r"\s+", " ", str(error).strip().split("\n\n")[0])


def flatten(config, prefix=""):
    """`{"trainer.epochs": 30, …}` of a configuration, unresolved."""
    flat = {}
    for key in config:
        value = config._get_node(key)
        if OmegaConf.is_dict(value) and not value._is_none() and len(value):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value._value()
    return flat


def _at_least(low):
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v >= low, f"at least {low}"


def _above(low):
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and v > low, f"above {low}"


def _rate():
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < 1, "at least 0 and below 1"


def _whole(low):
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low, f"a whole number, at least {low}"


def _one_of(*choices):
    return lambda v: v in choices, " | ".join(map(str, choices))


STAGES = ("ibm1", "ibm2", "fast_align", "hmm")


def _iterations():
    def holds(v):
        return len(v) > 0 and all(k in STAGES and _whole(1)[0](n) for k, n in v.items())

    return holds, f"a whole number, at least 1, for each of some of {' | '.join(STAGES)}"


def _null_probability():
    def holds(v):
        return all(k in STAGES and (n is None or _rate()[0](n)) for k, n in v.items())

    return holds, f"at least 0 and below 1, for each of some of {' | '.join(STAGES)}"


# What a value may be, for the keys that a run would trip over later or, worse, not at all. None is checked by nobody:
# where a key may be null, null means "not used".
RULES = {
    "seed": _whole(0),
    "resume": _one_of(True, False),
    "transfer.parts": _one_of("both", "embeddings", "encoder"),
    "transfer.keep": _whole(0),
    "export.batching": _one_of(True, False),
    "export.weights": _one_of("float32", "bfloat16", "float16", "int8"),
    "transfer.frozen": _one_of(True, False),
    "transfer.rate": (lambda v: isinstance(v, int | float) and 0 < v <= 1, "above 0, at most 1"),
    "transfer.unfreeze_every": _whole(0),
    "limit.sentences": _whole(1),
    "trainer.epochs": _whole(1),
    "trainer.patience": _whole(1),
    "trainer.clip_norm": _above(0),
    "trainer.average": _rate(),
    "trainer.steps_per_call": _whole(1),
    "trainer.threads.intra_op": _whole(1),
    "trainer.threads.inter_op": _whole(1),
    "trainer.monitor": _one_of("auto", "dev/f1", "dev/accuracy", "dev/macro_f1", "dev/loss", "dev/perplexity"),
    "optimizer.learning_rate": _above(0),
    "schedule.warmup": _rate(),
    "batching.tokens": _whole(1),
    "batching.sentences": _whole(1),
    "batching.max_shapes": _whole(1),
    "batching.evaluation_tokens": _whole(1),
    "text.case": _one_of("keep", "lower", "turkish"),
    "text.digits": _one_of("keep", "zero"),
    "text.tokenizer": _one_of("words", "whitespace", "spaces", "characters"),
    "text.max_words": _whole(2),
    "text.min_count": _whole(1),
    "text.max_characters": _whole(1),
    "batching.cells": _whole(1),
    "report.lexicon_cutoff": _rate(),
    "report.posteriors": _one_of(True, False),
    "report.mixture": (lambda v: v in range(1, 7), "a whole number from 1 to 6"),
    "diagnostics.gradient_flow": _one_of(True, False),
    "batching.carry": _one_of(True, False),
    "batching.rows": _whole(1),
    "batching.length": _whole(1),
    "batching.evaluation_rows": _whole(1),
    "batching.evaluation_length": _whole(1),
    "generation.count": _whole(1),
    "generation.temperature": _at_least(0),
    "generation.top_k": _whole(0),
    "generation.top_p": (lambda v: isinstance(v, int | float) and 0 < v <= 1, "above 0, at most 1"),
    "generation.repetition": _at_least(0),
    "generation.unknown": _one_of(True, False),
    "data.task": _one_of("ner", "pos", "alignment", "language", "classes"),
    "data.unit": _one_of("words", "characters"),
    "data.case": _one_of("keep", "lower", "turkish"),
    "data.tokenizer": _one_of("words", "whitespace", "spaces", "characters"),
    "data.lines": _one_of("sentences", "text"),
    "data.strict": _one_of(True, False),
    "data.max_length": _whole(1),
    "data.scheme": _one_of("bio2", "iobes"),
    "model.cell": _one_of("rnn", "lstm", "gru", "peephole", "none"),
    "model.pooling": (
        lambda v: isinstance(v, str) and not set(v.split("+")) - {"last", "mean", "max", "sum", "attention"},
        "last, mean, max, sum or attention, or several with + between them",
    ),
    "model.class_weights": _one_of("none", "balanced"),
    "model.label_smoothing": _rate(),
    "model.head": _one_of("crf", "memm", "softmax"),
    "model.constraints": _one_of("decoding", "training"),
    "model.layers": _whole(1),
    "model.order": (lambda v: v in range(1, 7), "a whole number from 1 to 6"),
    "model.smoothing": (
        lambda v: not isinstance(v, str) or v in ("kneser_ney", "witten_bell", "add_k"),
        "kneser_ney | witten_bell | add_k",
    ),
    "model.k": _above(0),
    "model.context": _whole(1),
    "model.dim": _whole(0),
    "model.tied": _one_of(True, False),
    "model.backwards": _one_of(True, False),
    "model.softmax.kind": _one_of("full", "sampled", "adaptive"),
    "model.softmax.samples": _whole(1),
    "model.auxiliary": _at_least(0),
    "model.dropout.between": _rate(),
    "model.words": (lambda v: not isinstance(v, int) or v >= 1, "at least 1"),
    "model.units": _whole(1),
    "model.words.dim": _whole(1),
    "model.characters.kind": _one_of("cnn", "lstm", "none"),
    "model.characters.dim": _whole(1),
    "model.characters.units": _whole(1),
    "model.characters.window": _whole(1),
    "model.characters.dropout": _rate(),
    "model.casing.dim": _whole(0),
    "model.dropout.word": _rate(),
    "model.dropout.input": _rate(),
    "model.dropout.recurrent": _rate(),
    "model.dropout.output": _rate(),
    "model.vectors.keep": _whole(0),
    "model.min_count": _whole(1),
    "model.buckets": _whole(1),
    "model.labelled": (lambda v: isinstance(v, int | float) and 0 < v <= 1, "above 0, at most 1"),
    "model.smoothing.words": _at_least(0),
    "model.smoothing.transitions": _at_least(0),
    "model.l1": _at_least(0),
    "model.l2": _at_least(0),
    "model.iterations": _iterations(),
    "model.agreement": _one_of(True, False),
    "model.concentration": _at_least(0),
    "model.backoff.strength": _at_least(0),
    "model.null_probability": _null_probability(),
    "model.stepwise": (lambda v: isinstance(v, int | float) and 0.5 < v <= 1, "above 0.5, at most 1"),
    "model.symmetrization": _one_of(
        "posterior", "intersection", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and"
    ),
    "model.threshold": _rate(),
    "model.precision": _one_of("float32", "mixed_bfloat16"),
}


def validate(config):
    """Raises InputError for the first value that cannot be: key, value, and what it may be."""
    try:
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key or str(error)
        raise InputError(f"{key}: not given; set it on the command line: {key}=…") from None
    except OmegaConfBaseException as error:
        raise InputError(_first_line(error)) from None
    for key, (holds, expected) in RULES.items():
        value = OmegaConf.select(config, key)
        if value is not None and not holds(value):
            raise InputError(f"{key}={value}: must be {expected}")
    backoff = OmegaConf.select(config, "model.backoff.strength")
    if backoff and OmegaConf.select(config, "model.concentration"):
        raise InputError(f"model.backoff.strength={backoff}: cannot be with model.concentration, one of them must be 0")
    units = OmegaConf.select(config, "model.characters.units")
    if OmegaConf.select(config, "model.characters.kind") == "lstm" and units % 2:
        raise InputError(f"model.characters.units={units}: must be even for kind lstm")


def _where_it_stopped(overrides, conf, multirun):
    """Hydra's arguments for going on in the directory of the newest unfinished run with this configuration."""
    if any(each.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for each in overrides):
        return []
    wanted = sorted(each for each in overrides if each != "resume=true")
    if multirun:
        for past in sorted(Path("multirun").glob("*/*/multirun.yaml"), reverse=True):
            task = OmegaConf.load(past).hydra.overrides.task
            if sorted(each for each in task if each != "resume=true") == wanted:
                return [f"hydra.sweep.dir={past.parent}"]
        return []
    with initialize_config_dir(version_base="1.3", config_dir=str(conf), job_name="train"):
        config = comparable(compose("config", overrides=overrides))
    for past in sorted(Path("outputs").glob("*/*/.hydra/config.yaml"), reverse=True):
        folder = past.parents[1]
        unfinished = not (folder / "metrics.json").exists() and (folder / "checkpoints" / "last.npz").exists()
        if unfinished and comparable(OmegaConf.load(past)) == config:
            return [f"hydra.run.dir={folder}"]
    print("resume=true: no unfinished run with this configuration under outputs/; starting anew", file=sys.stderr)
    return []


def comparable(config):
    """A configuration as plain data, without what may differ between a run and its continuation."""
    plain = OmegaConf.to_container(config, resolve=False)
    plain.pop("resume", None)
    return plain
