"""Continue texts with a language model: `trellis generate exports/lstm_lm "the market"`

Prompts are arguments, or lines of standard input with `-`; an empty one, "", starts from nothing. The output is the
prompt and its continuation; with --next or --score, it is what the model predicts about the prompt.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence

from trellis.components.command import (
    CommandParser,
    non_negative_float,
    non_negative_int,
    positive_int,
    probability,
    run_command,
)
from trellis.components.errors import InputError
from trellis.components.types import JSON
from trellis.serve import inference
from trellis.serve.arguments import add_model_arguments, open_model, read_texts
from trellis.serve.export_model import ExportModel, Kind
from trellis.serve.inference import Sampling


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis generate", __doc__)
    add_model_arguments(parser)
    parser.add_argument("prompt", nargs="+", help="the beginning of a text, or - for lines of standard input")
    parser.add_argument("--count", type=non_negative_int, help="maximum tokens to generate (60)")
    parser.add_argument("--temperature", type=non_negative_float, help="0: always the most probable token (1)")
    parser.add_argument("--top-k", type=non_negative_int, help="draw from that many most probable tokens; 0: all (0)")
    parser.add_argument("--top-p", type=probability, help="draw from the tokens that together reach this (0.95)")
    parser.add_argument("--repetition", type=non_negative_float, help="nats a token loses once generated (0)")
    parser.add_argument("--seed", type=int, help="the same seed generates the same text (1)")
    parser.add_argument("--samples", type=positive_int, help="texts per prompt (1)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--beam", type=positive_int, help="beam search of this width instead of sampling")
    instead.add_argument("--next", type=positive_int, metavar="N", help="the N most probable next tokens instead")
    instead.add_argument("--score", action="store_true", help="log-probability and perplexity of each text instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line, for machines")
    return run_command(parser, _generate, parser.parse_args(arguments))


def _generate(options: argparse.Namespace) -> None:
    _check_combination(options)
    model = open_model(options)
    if model.kind is not Kind.LANGUAGE_MODEL:
        raise InputError(f"{options.export}: {model.kind.value}, not a language model; use trellis predict")
    for prompt in read_texts(options.prompt):
        for answer in answers(model, prompt, options):
            print(json.dumps(answer, ensure_ascii=False) if options.json else readable(answer), flush=True)


def _check_combination(options: argparse.Namespace) -> None:
    """Raise InputError for an option that the chosen kind of answer would ignore."""
    sampling = ("temperature", "top_k", "top_p", "repetition", "seed", "samples")
    modes = {"--beam": sampling, "--next": ("count", *sampling), "--score": ("count", *sampling)}
    for mode, ignored in modes.items():
        if getattr(options, mode[2:]):
            for name in ignored:
                if getattr(options, name) is not None:
                    raise InputError(f"--{name.replace('_', '-')} has no effect with {mode}; use one of them")
    if options.temperature == 0:
        for name in ("top_k", "top_p", "seed", "samples"):
            if getattr(options, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} has no effect with --temperature 0, which always takes the best token")


def answers(model: ExportModel, prompt: bytes, options: argparse.Namespace) -> Iterator[JSON]:
    """Yield the answers to a prompt as JSON objects."""
    text = prompt.decode("utf-8", "replace")
    scored = next(inference.score(model, [prompt]))
    if scored.unknown:
        message = f"{scored.unknown} of {scored.tokens - 1} tokens are unknown to the model: {text[:80]}"
        print(f"trellis generate: {message}", file=sys.stderr)
    if options.score:
        nats, tokens = scored.log_probability, scored.tokens
        yield {"text": text, "log_probability": nats, "tokens": tokens, "perplexity": math.exp(-nats / tokens)}
    elif options.next:
        for token, probability in next(inference.next_tokens(model, [prompt], options.next)).items():
            yield {"prompt": text, "next": token, "probability": probability}
    elif options.beam:
        continuation, nats = inference.beam_search(model, prompt, _sampling(options).count, options.beam)
        yield {"prompt": text, "text": continuation, "log_probability": nats}
    else:
        prompts, seed = [prompt] * (options.samples or 1), 1 if options.seed is None else options.seed
        for continuation in inference.generate(model, prompts, _sampling(options), seed):
            yield {"prompt": text, "text": continuation}


def _sampling(options: argparse.Namespace) -> Sampling:
    names = (field.name for field in dataclasses.fields(Sampling))
    return Sampling(**{name: value for name in names if (value := getattr(options, name)) is not None})


def readable(answer: JSON) -> str:
    """Return one of `answers` as a line for people."""
    if "next" in answer:
        return f"{answer['probability']:.4f}  {answer['next']!r}"
    if "perplexity" in answer:
        return f"{answer['log_probability']:.2f} nats, {answer['tokens']} tokens, perplexity {answer['perplexity']:.2f}"
    return f"{answer['prompt']}{answer['text']}"


if __name__ == "__main__":
    sys.exit(main())
