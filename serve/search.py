"""Find the most similar sentences: `trellis search exports/bilstm_classifier corpus.txt "a slow but moving film"`

Each line of the corpus and each query is represented by a classifier's sentence vector; the output is the lines with
the highest cosine similarity to the query, in descending order. `-` reads queries from standard input.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from trellis.components.command import CommandParser, positive_int, run_command
from trellis.components.errors import InputError
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.saved_model.versions import latest
from trellis.serve import inference
from trellis.serve.arguments import read_texts
from trellis.serve.export_model import ExportModel, Kind, LocalModel


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis search", __doc__)
    parser.add_argument("export", help="an export folder of a classifier (its newest version), or one version")
    parser.add_argument("corpus", help="a text file, one sentence per line, plain or gzip")
    parser.add_argument("query", nargs="+", help="what to look for, or - for lines of standard input")
    parser.add_argument("--count", type=positive_int, default=5, help="sentences to show (5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per sentence, for machines")
    return run_command(parser, _search, parser.parse_args(arguments))


def _search(options: argparse.Namespace) -> None:
    model = LocalModel(latest(options.export))
    if model.kind is not Kind.CLASSIFIER:
        raise InputError(f"{options.export}: {model.kind.value}, which has no sentence vectors; use a classifier")
    lines = [(line_number, line) for line_number, line in read_lines(options.corpus) if not is_blank(line)]
    if not lines:
        raise InputError(f"{options.corpus}: no sentences in it")
    corpus = unit_vectors(model, [line.encode() for _, line in lines])
    for query in read_texts(options.query):
        for row, similarity in nearest(corpus, unit_vectors(model, [query])[0], options.count):
            line_number, line = lines[row]
            if options.json:
                answer = {
                    "query": query.decode("utf-8", "replace"),
                    "line": line_number,
                    "text": line,
                    "similarity": round(similarity, 4),
                }
                print(json.dumps(answer, ensure_ascii=False), flush=True)
            else:
                print(f"{similarity:.3f}  {line_number:>6}  {line}", flush=True)
        if not options.json:
            print(flush=True)


def unit_vectors(model: ExportModel, texts: Iterable[bytes]) -> np.ndarray:
    """Return sentence vectors of unit length, `(texts, dim)`; zeros for a text without words."""
    vectors = inference.embed(model, texts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def nearest(corpus: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Return `(row, cosine)` of the rows most similar to a query, in descending order; ties keep their order."""
    similarities = corpus @ query
    rows = np.argsort(-similarities, kind="stable")[:count]
    return [(int(row), float(similarities[row])) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
