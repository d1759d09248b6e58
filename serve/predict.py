"""Asks an export: `python -m serve.predict exports/bilstm_crf "Mary Smith flew from Oslo to Lima."`

Texts are arguments, or lines of standard input with `-`; `--tokens` takes them as already split at spaces.
"""

import argparse
import json
import sys

from components.errors import InputError
from components.quiet import held_back
from components.saved_model.versions import latest

BATCH = 64


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m serve.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", help="an export folder (its newest version) or one version of it")
    parser.add_argument("text", nargs="+", help="a text, or - for lines of standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a text, for machines")
    parser.add_argument("--tokens", action="store_true", help="texts are tokens already, one space between two")
    options = parser.parse_args(arguments)
    try:
        folder = latest(options.export)
        if options.text == ["-"]:
            # Not text mode: a line may hold characters that Python takes for line ends, or bytes that are not UTF-8.
            texts = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
        else:
            texts = (text.encode("utf-8", "surrogateescape") for text in options.text)
        for tokens, tags, confidence in predict(folder, texts, options.tokens):
            if options.json:
                line = {"tokens": tokens, "tags": tags, "confidence": [round(c, 4) for c in confidence]}
                print(json.dumps(line, ensure_ascii=False), flush=True)
            else:
                print(readable(tokens, tags, confidence), end="\n\n", flush=True)
    except InputError as error:
        print(f"serve.predict: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has seen enough (| head).
        sys.stderr.close()
        return 0
    return 0


def predict(folder, texts, tokenized=False):
    """Yields `(tokens, tags, confidences)` of each text.

    Args:
        folder: a version of an export.
        texts: iterable of bytes.
        tokenized: texts are tokens separated by single spaces.

    Raises:
        InputError: the folder holds no tagger that can be loaded.
    """
    with held_back():
        import tensorflow as tf
    try:
        with held_back():
            model = tf.saved_model.load(str(folder))
        tag = model.signatures["serving_default" if tokenized else "from_text"]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: not a tagger's export ({str(error).splitlines()[0]})") from None
    for batch in _batches(texts):
        if tokenized:
            split = [[token for token in text.split(b" ") if token] for text in batch]
            width = max(1, *map(len, split))
            split = [row + [b""] * (width - len(row)) for row in split]
            outputs = tag(tokens=tf.constant(split, tf.string))
            outputs["tokens"] = tf.constant(split, tf.string)
        else:
            outputs = tag(text=tf.constant(batch, tf.string))
        rows = (outputs[name].numpy() for name in ("tokens", "tags", "confidence"))
        for tokens, tags, confidence in zip(*rows, strict=True):
            length = sum(token != b"" for token in tokens)
            yield (
                [token.decode("utf-8", "replace") for token in tokens[:length]],
                [name.decode("utf-8") for name in tags[:length]],
                [float(value) for value in confidence[:length]],
            )


def readable(tokens, tags, confidence):
    """Three aligned columns: token, tag, confidence; what is outside every entity is left blank."""
    width = max((len(token) for token in tokens), default=0)
    tag_width = max((len(tag) for tag in tags), default=0)
    return "\n".join(
        f"{token:<{width}}  {tag if tag != 'O' else '·':<{tag_width}}  {value:.2f}"
        for token, tag, value in zip(tokens, tags, confidence, strict=True)
    )


def _batches(texts):
    """Batches of a list; of a stream, each text as it comes, or a person typing would wait for the others."""
    if sys.stdin.isatty():
        yield from ([text] for text in texts)
        return
    batch = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


if __name__ == "__main__":
    sys.exit(main())
