"""Continue texts with a language model: `trellis generate exports/lstm_lm "the market"`

Prompts are arguments, or lines of standard input with `-`; an empty one, "", starts from nothing. The output is the
prompt and its continuation; with --next or --score, it is what the model predicts about the prompt.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence

from trellis.components.errors import InputError
from trellis.components.types import JSON
from trellis.serve import inference
from trellis.serve.arguments import add_model_arguments, open_model, read_texts
from trellis.serve.exit_status import run_command
from trellis.serve.export_model import ExportModel, Kind
from trellis.serve.inference import Sampling


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="trellis generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_arguments(parser)
    parser.add_argument("prompt", nargs="+", help="the beginning of a text, or - for lines of standard input")
    default = Sampling()
    parser.add_argument("--count", type=_count, default=default.count, help="maximum tokens to generate (60)")
    parser.add_argument(
        "--temperature", type=_not_negative, default=default.temperature, help="0: always the most probable token (1)"
    )
    parser.add_argument(
        "--top-k", type=_count, default=default.top_k, help="draw from that many most probable tokens; 0: all (0)"
    )
    parser.add_argument(
        "--top-p", type=_share, default=default.top_p, help="draw from the tokens that together reach this (0.95)"
    )
    parser.add_argument(
        "--repetition", type=_not_negative, default=default.repetition, help="nats a token loses once generated (0)"
    )
    parser.add_argument("--beam", type=_count, default=0, help="beam search of this width instead of sampling")
    parser.add_argument("--seed", type=int, default=1, help="the same seed generates the same text (1)")
    parser.add_argument("--samples", type=_count, default=1, help="texts per prompt (1)")
    parser.add_argument("--next", type=_count, default=0, metavar="N", help="the N most probable next tokens instead")
    parser.add_argument("--score", action="store_true", help="log-probability and perplexity of each text instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line, for machines")
    return run_command("trellis generate", _generate, parser.parse_args(arguments))


def _generate(options: argparse.Namespace) -> None:
    model = open_model(options)
    if model.kind is not Kind.LANGUAGE_MODEL:
        raise InputError(f"{options.export}: {model.kind.value}, not a language model; use trellis predict")
    for prompt in read_texts(options.prompt):
        for answer in answers(model, prompt, options):
            print(json.dumps(answer, ensure_ascii=False) if options.json else readable(answer), flush=True)


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
        continuation, nats = inference.beam_search(model, prompt, options.count, options.beam)
        yield {"prompt": text, "text": continuation, "log_probability": nats}
    else:
        sampling = Sampling(options.count, options.temperature, options.top_k, options.top_p, options.repetition)
        for continuation in inference.generate(model, [prompt] * options.samples, sampling, options.seed):
            yield {"prompt": text, "text": continuation}


def readable(answer: JSON) -> str:
    """Return one of `answers` as a line for people."""
    if "next" in answer:
        return f"{answer['probability']:.4f}  {answer['next']!r}"
    if "perplexity" in answer:
        return f"{answer['log_probability']:.2f} nats, {answer['tokens']} tokens, perplexity {answer['perplexity']:.2f}"
    return f"{answer['prompt']}{answer['text']}"


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least 0")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0 and at most 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
