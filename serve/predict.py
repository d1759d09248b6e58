"""Asks an export: `trellis predict exports/bilstm_crf "Mary Smith flew from Oslo to Lima."`

Texts are arguments, or lines of standard input with `-`; `--tokens` takes them as already split at spaces. An aligner
is asked with `source ||| target`, split at spaces, and answers with links, `0-0 1-2`, a line a pair; a classifier
answers with the label and its probability. Language models: `trellis generate`.
"""

import argparse
import json
import sys

from trellis.components.errors import InputError, one_line
from trellis.components.quiet import captured_stderr
from trellis.components.saved_model.versions import latest
from trellis.serve.exit_status import ended
from trellis.serve.remote import RemoteModel

BATCH = 64
CELLS = 2**18  # source words × target words of a batch of sentence pairs
LONGEST = 1000  # words of a side of a sentence pair: memory grows with their square, an HMM's time with their cube


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="trellis predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", help="an export folder (its newest version), one version of it; with --url, a name")
    parser.add_argument("--url", help="ask the server there, http://… or grpc://…, instead of loading the export")
    parser.add_argument("text", nargs="+", help="a text, or - for lines of standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a text, for machines")
    parser.add_argument("--tokens", action="store_true", help="texts are tokens already, one space between two")
    parser.add_argument(
        "--posteriors", action="store_true", help="of an aligner, with --json: probabilities of all links"
    )
    return ended("trellis predict", _answer, parser.parse_args(arguments))


def _answer(options):
    texts = texts_of(options.text)
    model = opened(options)
    if "generate" in model.signatures:
        raise InputError(f"{options.export}: a language model; trellis generate asks it")
    if is_aligner(model):
        for source, target, links, *posteriors in align(model, texts):
            line = {"source": source, "target": target, "alignment": links}
            if options.posteriors and posteriors[0] is not None:
                line |= {"forward": posteriors[0].round(4).tolist(), "reverse": posteriors[1].round(4).tolist()}
            text = " ".join(f"{i}-{j}" for i, j in links)
            print(json.dumps(line, ensure_ascii=False) if options.json else text, flush=True)
        return
    if "embed" in model.signatures:
        for text, label, probabilities in classify(model, texts):
            line = {"text": text, "label": label, "probabilities": probabilities}
            print(json.dumps(line, ensure_ascii=False) if options.json else f"{label}  {probabilities[label]:.2f}")
        return
    for tokens, tags, confidence in predict(model, texts, options.tokens):
        if options.json:
            line = {"tokens": tokens, "tags": tags, "confidence": [round(c, 4) for c in confidence]}
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(readable(tokens, tags, confidence), end="\n\n", flush=True)


def opened(options):
    """The model that the arguments `export` and `url` name, here or on a server."""
    return RemoteModel(options.url, options.export) if options.url else load(latest(options.export))


def texts_of(arguments):
    """The texts that a person gives: arguments, or lines of standard input for `-`, as bytes."""
    if arguments == ["-"]:
        # Not text mode: a line may hold characters that Python takes for line ends, or bytes that are not UTF-8.
        return (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
    return (text.encode("utf-8", "surrogateescape") for text in arguments)


def load(folder):
    """The export in a folder, a version of it.

    Raises:
        InputError: the folder holds no export that can be loaded.
    """
    with captured_stderr():
        import tensorflow as tf
    try:
        with captured_stderr():
            model = tf.saved_model.load(str(folder))
        model.signatures["serving_default"]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: not an export ({str(error).splitlines()[0]})") from None
    return model


def is_aligner(model):
    """Whether an export takes a source and a target."""
    return "target" in model.signatures["serving_default"].structured_input_signature[1]


def align(model, texts):
    """Yields source tokens, target tokens, links `[(source, target), …]`, and the posteriors of both directions.

    A pair with a side of over `LONGEST` words has no links and, for posteriors, None; standard error has a line on it.

    Args:
        model: a loaded export of a word aligner.
        texts: iterable of bytes, `source ||| target`.

    Raises:
        InputError: a text is not of that form.
    """
    import tensorflow as tf

    for batch in _pairs(texts):
        sides = ([b"" if _too_long(pair) else b" ".join(pair[side]) for pair in batch] for side in (0, 1))
        source, target = (tf.constant(side, tf.string) for side in sides)
        outputs = model.signatures["serving_default"](source=source, target=target)
        rows = (outputs[name].numpy() for name in ("alignment", "forward", "reverse"))
        for pair, links, forward, reverse in zip(batch, *rows, strict=True):
            source, target = ([token.decode("utf-8", "replace") for token in side] for side in pair)
            links = [tuple(map(int, link.split(b"-"))) for link in links.split()]
            cells = (each[: len(source), : len(target)] for each in (forward, reverse))
            yield source, target, links, *((None, None) if _too_long(pair) else cells)


def _pairs(texts):
    """Batches of `(source tokens, target tokens)` whose longest sentences do not fill the memory."""
    batch, source, target, place = [], 0, 0, 0
    for texts_together in batches_of(texts):
        for text in texts_together:
            place += 1
            sides = text.split(b"|||")
            if len(sides) != 2:
                raise InputError(f"text {place}: {len(sides) - 1} × |||, expected source ||| target")
            pair = [[token for token in side.split(b" ") if token] for side in sides]
            sizes = [len(side) for side in pair]
            if _too_long(pair):
                words = "{} and {}".format(*sizes)
                print(f"text {place}: {words} words, over {LONGEST}; left without links", file=sys.stderr)
                sizes = 0, 0
            wider, longer = max(source, sizes[0]), max(target, sizes[1])
            if batch and (len(batch) + 1) * wider * longer > CELLS:
                yield batch
                batch, wider, longer = [], *sizes
            batch.append(pair)
            source, target = wider, longer
        yield batch
        batch, source, target = [], 0, 0


def _too_long(pair):
    return max(map(len, pair)) > LONGEST


def classify(model, texts):
    """Yields each text, its most probable label, and `{label: probability}`.

    Args:
        model: a loaded export of a classifier.
        texts: iterable of bytes.
    """
    import tensorflow as tf

    for batch in batches_of(texts):
        outputs = model.signatures["serving_default"](text=tf.constant(batch, tf.string))
        labels = [label.decode() for label in outputs["labels"][0].numpy()]
        for text, label, row in zip(
            batch, outputs["label"].numpy(), outputs["probabilities"].numpy().tolist(), strict=True
        ):
            probabilities = {name: round(value, 4) for name, value in zip(labels, row, strict=True)}
            yield text.decode("utf-8", "replace"), label.decode(), probabilities


def predict(model, texts, tokenized=False):
    """Yields `(tokens, tags, confidences)` of each text.

    Args:
        model: a loaded export of a tagger.
        texts: iterable of bytes.
        tokenized: texts are tokens separated by single spaces.
    """
    import tensorflow as tf

    tag = model.signatures["serving_default" if tokenized else "from_text"]
    for batch in batches_of(texts):
        if tokenized:
            split = [[token for token in text.split(b" ") if token] for text in batch]
            width = max(1, *map(len, split))
            split = [row + [b""] * (width - len(row)) for row in split]
        asked = {"tokens": tf.constant(split, tf.string)} if tokenized else {"text": tf.constant(batch, tf.string)}
        try:
            outputs = {**asked, **tag(**asked)}
        except tf.errors.InvalidArgumentError as error:
            raise InputError(one_line(error)) from None
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
    tokens = [token.replace("\t", " ") for token in tokens]
    width = max((len(token) for token in tokens), default=0)
    tag_width = max((len(tag) for tag in tags), default=0)
    return "\n".join(
        f"{token:<{width}}  {tag if tag != 'O' else '·':<{tag_width}}  {value:.2f}"
        for token, tag, value in zip(tokens, tags, confidence, strict=True)
    )


def batches_of(texts):
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
