"""Text from a language model's export: `trellis generate exports/lstm_lm "the market"`

Prompts are arguments, or lines of standard input with `-`; an empty one, "", starts from nothing. What is written is
the prompt and how the model goes on; or, with --next and --score, what the model thinks of the prompt.
"""

import argparse
import json
import math
import sys

from trellis.components.errors import InputError
from trellis.components.quiet import captured_stderr
from trellis.serve.exit_status import ended
from trellis.serve.predict import opened, texts_of


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="trellis generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", help="an export folder (its newest version), one version of it; with --url, a name")
    parser.add_argument("--url", help="ask the server there, http://… or grpc://…, instead of loading the export")
    parser.add_argument("prompt", nargs="+", help="how the text begins, or - for lines of standard input")
    parser.add_argument("--count", type=_whole, default=60, help="tokens to generate at most (60)")
    parser.add_argument("--temperature", type=_positive, default=1.0, help="0: always the most probable word (1)")
    parser.add_argument("--top-k", type=_whole, default=0, help="draw from so many most probable words; 0: all (0)")
    parser.add_argument("--top-p", type=_share, default=0.95, help="draw from words that reach this together (0.95)")
    parser.add_argument("--repetition", type=_positive, default=0.0, help="nats a word loses once generated (0)")
    parser.add_argument("--beam", type=_whole, default=0, help="beam search of this width instead of drawing")
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same text (1)")
    parser.add_argument("--samples", type=_whole, default=1, help="texts for each prompt (1)")
    parser.add_argument("--next", type=_whole, default=0, metavar="N", help="the N most probable next tokens instead")
    parser.add_argument("--score", action="store_true", help="log-probability and perplexity of each text instead")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    return ended("trellis generate", _answer, parser.parse_args(arguments))


def _answer(options):
    model = opened(options)
    if "generate" not in model.signatures:
        raise InputError(f"{options.export}: not a language model; trellis predict asks the others")
    for prompt in texts_of(options.prompt):
        for line in answers(model, prompt, options):
            print(json.dumps(line, ensure_ascii=False) if options.json else readable(line), flush=True)


def answers(model, prompt, options):
    """Yields what is asked of a prompt (bytes), as dictionaries."""
    with captured_stderr():
        import tensorflow as tf
    text = prompt.decode("utf-8", "replace")
    prompts = tf.constant([prompt])
    signatures = model.signatures
    asked = signatures["score"](text=prompts)
    unknown = int(asked["unknown"][0])
    if unknown:
        total = int(asked["tokens"][0]) - 1
        print(f"trellis generate: {unknown} of {total} tokens are unknown to the model: {text[:80]}", file=sys.stderr)
    if options.score:
        nats, tokens = float(asked["log_probability"][0]), int(asked["tokens"][0])
        yield {"text": text, "log_probability": nats, "tokens": tokens, "perplexity": math.exp(-nats / tokens)}
    elif options.next:
        found = signatures["next"](prompt=prompts, count=tf.constant(options.next))
        for token, share in zip(found["tokens"][0].numpy(), found["probabilities"][0].numpy(), strict=True):
            yield {"prompt": text, "next": token.decode("utf-8", "replace"), "probability": float(share)}
    elif options.beam:
        found = signatures["beam"](prompt=prompts, count=tf.constant(options.count), width=tf.constant(options.beam))
        score = float(found["log_probability"][0])
        yield {"prompt": text, "text": found["text"][0].numpy().decode("utf-8", "replace"), "log_probability": score}
    else:
        found = signatures["generate"](
            prompt=tf.repeat(prompts, options.samples),
            seed=tf.range(options.seed, options.seed + options.samples, dtype=tf.int64),
            count=tf.constant(options.count),
            temperature=tf.constant(options.temperature),
            top_k=tf.constant(options.top_k),
            top_p=tf.constant(options.top_p),
            repetition=tf.constant(options.repetition),
        )
        for each in found["text"].numpy():
            yield {"prompt": text, "text": each.decode("utf-8", "replace")}


def readable(line):
    """A dictionary of `answers` as a person reads it."""
    if "next" in line:
        return f"{line['probability']:.4f}  {line['next']!r}"
    if "perplexity" in line:
        return f"{line['log_probability']:.2f} nats, {line['tokens']} tokens, perplexity {line['perplexity']:.2f}"
    return f"{line['prompt']}{line['text']}"


def _whole(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least 0")
    return value


def _positive(text):
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 0")
    return value


def _share(text):
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0, at most 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
