"""Nearest sentences: `trellis search exports/bilstm_classifier corpus.txt "a slow but moving film"`

Each line of the corpus and each query becomes a classifier's sentence vector; the lines nearest to the query by cosine
are shown, the nearest first. `-` reads queries from standard input.
"""

import argparse
import json
import sys

import numpy as np

from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.saved_model.versions import latest
from trellis.serve.exit_status import ended
from trellis.serve.predict import batches_of, load, texts_of


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="trellis search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", help="an export folder (its newest version) or one version of it")
    parser.add_argument("corpus", help="a text file, a sentence a line, plain or gzip")
    parser.add_argument("query", nargs="+", help="what to look for, or - for lines of standard input")
    parser.add_argument("--count", type=int, default=5, help="sentences to show (5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a sentence, for machines")
    return ended("trellis search", _answer, parser.parse_args(arguments))


def _answer(options):
    model = load(latest(options.export))
    if "embed" not in model.signatures:
        raise InputError(f"{options.export}: makes no sentence vectors; a classifier's export does")
    lines = [(number, line) for number, line in read_lines(options.corpus) if not is_blank(line)]
    if not lines:
        raise InputError(f"{options.corpus}: no sentences in it")
    corpus = vectors(model, [line.encode() for _, line in lines])
    for query in texts_of(options.query):
        for place, similarity in nearest(corpus, vectors(model, [query])[0], options.count):
            number, line = lines[place]
            if options.json:
                found = {"query": query.decode("utf-8", "replace"), "line": number, "text": line}
                print(json.dumps(found | {"similarity": round(similarity, 4)}, ensure_ascii=False), flush=True)
            else:
                print(f"{similarity:.3f}  {number:>6}  {line}", flush=True)
        if not options.json:
            print(flush=True)


def vectors(model, texts):
    """Sentence vectors of unit length, `(texts, dim)`; zeros for a text without words."""
    import tensorflow as tf

    found = [model.signatures["embed"](text=tf.constant(batch))["vector"].numpy() for batch in batches_of(texts)]
    found = np.concatenate(found)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def nearest(corpus, query, count):
    """`(row, cosine)` of the rows most like a query, the nearest first; equals in their order."""
    similarities = corpus @ query
    rows = np.argsort(-similarities, kind="stable")[:count]
    return [(int(row), float(similarities[row])) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
