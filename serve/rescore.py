"""Choose among translations by several models: the noisy channel, `log p(translation) + log p(text | translation)`.

    trellis translate exports/en_de - --best 10 --width 10 < dev.en > dev.nbest
    trellis rescore dev.nbest dev.en --reverse exports/de_en --language-model exports/lm --tune dev.de --weights w.json
    trellis rescore test.nbest test.en --reverse exports/de_en --language-model exports/lm --weights w.json

The first file has translations in the format of Moses, `index ||| translation ||| score`, the second one the texts. A
translation's score is the weighted sum of its own score, of the other models' log-probabilities per token, and of its
number of words. `--tune` chooses the weights for the BLEU of these references, and writes them to the file that
`--weights` names; otherwise they are read from there. The output has one translation per line.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trellis.components.command import CommandParser, run_command
from trellis.components.errors import InputError, quoted
from trellis.components.files import atomic_write
from trellis.components.metrics.translation import translation_metric
from trellis.components.readers.lines import read_lines
from trellis.components.saved_model.versions import latest
from trellis.serve import inference
from trellis.serve.export_model import ExportModel, Kind, LocalModel

FEATURES = ("forward", "reverse", "language_model", "words")
STEPS = np.array([-0.5, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 0.5, 1.0])  # changes to try for a weight
ROUNDS = 20  # maximum passes over all weights


class _Hypotheses(NamedTuple):
    """The translations of all texts.

    Attributes:
        rows: which text each is of, `(hypotheses,)`, ascending.
        texts: the translations.
        features: their scores by `FEATURES`, `(hypotheses, features)`.
    """

    rows: np.ndarray
    texts: Sequence[str]
    features: np.ndarray


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis rescore", __doc__)
    parser.add_argument("translations", help="file of translations, `index ||| translation ||| score`")
    parser.add_argument("texts", help="file of the texts, one per line")
    parser.add_argument("--reverse", metavar="EXPORT", help="a translator of the other direction")
    parser.add_argument("--language-model", metavar="EXPORT", help="a language model of the translations")
    parser.add_argument("--weights", metavar="FILE", required=True, help="JSON file of the weights")
    parser.add_argument("--tune", metavar="FILE", help="file of references, to choose the weights by BLEU")
    parser.add_argument("--tokenized", action="store_true", help="with --tune: the files are tokens between spaces")
    return run_command(parser, _rescore, parser.parse_args(arguments))


def _rescore(options: argparse.Namespace) -> None:
    if not (options.reverse or options.language_model):
        raise InputError("rescore: no model to rescore with; add --reverse EXPORT or --language-model EXPORT")
    if options.tokenized and not options.tune:
        raise InputError("--tokenized: has no effect without --tune, which computes BLEU")
    sources = [line for _, line in read_lines(options.texts)]
    weights = None if options.tune else _read_weights(options.weights)
    references = [line for _, line in read_lines(options.tune)] if options.tune else []
    if options.tune and len(references) != len(sources):
        raise InputError(f"{options.tune} has {len(references)} lines, {options.texts} has {len(sources)}")
    found = _scored(options, sources)
    if weights is None:
        weights, before, after = tuned(found.rows, found.texts, found.features, references, options.tokenized)
        named = dict(zip(FEATURES, weights.tolist(), strict=True))
        with atomic_write(Path(options.weights)) as part:
            part.write_text(json.dumps(named) + "\n")
        print(f"BLEU {before:.2f} → {after:.2f} with {json.dumps(named)}", file=sys.stderr)
    chosen = best_of(found.rows, found.features @ weights, len(sources))
    for index in chosen:
        print(found.texts[index] if index >= 0 else "")


def _read_weights(path: str) -> np.ndarray:
    try:
        named = json.loads(Path(path).read_text(encoding="utf-8"))
        return np.array([float(named[name]) for name in FEATURES])
    except OSError:
        raise InputError(f"--weights: {path} does not exist; --tune REFERENCES chooses weights and writes it") from None
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: expected a JSON object with a number for each of {', '.join(FEATURES)}") from None


def _scored(options: argparse.Namespace, sources: Sequence[str]) -> _Hypotheses:
    """Return the translations with their features."""
    rows: list[int] = []
    texts: list[str] = []
    scores: list[float] = []
    for line_number, line in read_lines(options.translations):
        where = f"{options.translations}:{line_number}"
        fields = line.split(" ||| ")
        try:
            row, score = int(fields[0]), float(fields[2])
        except (IndexError, ValueError):
            raise InputError(f"{where}: {quoted(line)}, expected index ||| translation ||| score") from None
        if not 0 <= row < len(sources) or (rows and row < rows[-1]):
            last = rows[-1] if rows else 0
            raise InputError(f"{where}: index {row}, expected {last} to {len(sources) - 1}")
        rows.append(row)
        texts.append(fields[1])
        scores.append(score)
    if not rows:
        raise InputError(f"{options.translations}: no translations")
    features = np.zeros((len(rows), len(FEATURES)))
    features[:, 0] = scores
    features[:, 3] = [len(text.split()) for text in texts]
    if options.reverse:
        model = _model(options.reverse, Kind.TRANSLATOR)
        pairs = ((text.encode(), sources[row].encode()) for row, text in zip(rows, texts, strict=True))
        features[:, 1] = [nats / tokens for nats, tokens in inference.score_translations(model, pairs)]
    if options.language_model:
        model = _model(options.language_model, Kind.LANGUAGE_MODEL)
        scored = inference.score(model, (text.encode() for text in texts))
        features[:, 2] = [found.log_probability / found.tokens for found in scored]
    return _Hypotheses(np.array(rows), texts, features)


def _model(folder: str, kind: Kind) -> ExportModel:
    model = LocalModel(latest(folder))
    if model.kind is not kind:
        raise InputError(f"{folder}: {model.kind.value}, not {kind.value}")
    return model


def best_of(rows: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Return the index of the best hypothesis of each text, `(count,)`, the first of ties; -1 for a text without any.

    Args:
        rows: which text each hypothesis is of, ascending.
        scores: the scores of the hypotheses.
        count: the number of texts.
    """
    order = np.lexsort((np.arange(len(rows)), -scores, rows))
    first = np.unique(rows[order], return_index=True)[1]
    chosen = np.full(count, -1)
    chosen[rows[order][first]] = order[first]
    return chosen


def tuned(
    rows: np.ndarray, texts: Sequence[str], features: np.ndarray, references: Sequence[str], tokenized: bool
) -> tuple[np.ndarray, float, float]:
    """Return the weights that give the best BLEU; and the BLEU with the first feature alone, and with these weights.

    The weight of the first feature is 1. Weights are changed one at a time, by whatever step helps most, until none
    does.
    """
    metric = translation_metric("bleu_tok_lc" if tokenized else "bleu_13a", tokenized=tokenized)
    statistics = metric.statistics(texts, [[references[row] for row in rows]])

    def bleu(weights: np.ndarray) -> float:
        chosen = best_of(rows, features @ weights, len(references))
        return metric.score(statistics[chosen[chosen >= 0]].sum(axis=0))

    weights = np.zeros(len(FEATURES))
    weights[0] = 1.0
    before = best = bleu(weights)
    useful = [index for index in range(1, len(FEATURES)) if features[:, index].any()]
    for _ in range(ROUNDS):
        tries = [weights + step * np.eye(len(FEATURES))[index] for index in useful for step in STEPS]
        scores = [bleu(trial) for trial in tries]
        if max(scores) <= best:
            break
        best = max(scores)
        weights = tries[int(np.argmax(scores))]
    return weights, before, best


if __name__ == "__main__":
    sys.exit(main())
