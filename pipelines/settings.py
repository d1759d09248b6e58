"""What a value of the configuration may be."""

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from trellis.components.errors import InputError
from trellis.pipelines.configuration import first_line


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
        raise InputError(first_line(error)) from None
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
