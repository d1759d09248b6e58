"""How many of the labels that `trellis label errors` lists first are wrong, beside cleanlab, on spoilt labels.

python -m benchmarks.label_errors --data FOLDER [--skip 0] [--sentences 4000] [--share 0.05] [--seed 1]
                                  [--cleanlab PYTHON] [key=value …]

As many labels of a part of CoNLL-2003 as a share of its entities are spoilt: an entity gets another type, loses its
label, begins or ends a token too early or too late, or a capitalized word outside of entities becomes one. `trellis
label errors` then looks for them. cleanlab gets the same posteriors of the same models (`token_classification`: issues
in its order, neighbouring tokens as one place; and its scores of sentences). PYTHON has cleanlab. A place counts as
right if one of its tags was spoilt; CoNLL-2003 has errors of its own, which count as wrong. It takes ten
minutes of two cores. Further arguments are those of `trellis train`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trellis.components.annotation.records import read_records
from trellis.components.layers.sequence_head import scoring_of
from trellis.components.readers import conll
from trellis.components.readers.sentence import Sentence
from trellis.components.text.batching import Buckets, ordered_batches
from trellis.components.text.tag_schemes import Scheme, entities
from trellis.pipelines.left_out import PART
from trellis.pipelines.tagging import EncodedSentences, Tagging, TaggingOutcome

TYPES = ("LOC", "MISC", "ORG", "PER")
SIZES = (50, 100, 200, 400)
CLEANLAB = """
import json, sys
import numpy as np
from cleanlab.token_classification.filter import find_label_issues
from cleanlab.token_classification.rank import get_label_quality_scores
known = np.load(sys.argv[1])
ends = np.cumsum(known["lengths"])[:-1]
labels = [each.tolist() for each in np.split(known["labels"], ends)]
posteriors = np.split(known["posteriors"], ends)
issues = find_label_issues(labels, posteriors)
scores, _ = get_label_quality_scores(labels, posteriors)
print(json.dumps({"issues": [list(map(int, each)) for each in issues], "sentences": np.argsort(scores).tolist()}))
"""


class TaggingWithPosteriors(Tagging):
    """Also writes the posterior of every tag of the fold that is left out."""

    def report(
        self,
        folder: Path,
        model: keras.Model,
        encoded: EncodedSentences,
        outcome: TaggingOutcome,
        diagnosis: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the reports, and `posteriors.npz`."""
        super().report(folder, model, encoded, outcome, diagnosis)
        if encoded.data.left_out is None:
            return
        corpus = encoded.held_out[PART]
        posteriors: dict[int, np.ndarray] = {}
        for rows, features, _ in ordered_batches(corpus, Buckets(corpus.lengths, 8192)):
            scoring = scoring_of(model(features, training=False))
            values = scoring.head.marginals(scoring.emissions, scoring.lengths).numpy()
            for row, own in zip(rows.numpy(), values, strict=True):
                if row >= 0:
                    posteriors[row] = own[: corpus.lengths[row]]
        joined = np.concatenate([posteriors[row] for row in range(len(posteriors))])
        np.savez(folder / "posteriors.npz", posteriors=joined, tags=encoded.data.output_tags)


def spoil(sentences: Sequence[Sentence], share: float, rng: np.random.Generator) -> list[Sentence]:
    """Return sentences with as many wrong labels as a share of their entities, each in one of four ways."""
    spoilt = []
    for sentence in sentences:
        tags = list(sentence.tags)
        for kind, start, stop in entities(sentence.tags, Scheme("BIO2")):
            if rng.random() >= share:
                continue
            way = rng.choice(["type", "missing", "extent", "invented"])
            if way == "invented":
                words = [index for index, tag in enumerate(tags) if tag == "O" and sentence.tokens[index][0].isupper()]
                if words:
                    tags[rng.choice(words)] = f"B-{rng.choice(TYPES)}"
                continue
            before, after = start, stop
            if way == "type":
                kind = str(rng.choice([each for each in TYPES if each != kind]))
            elif way == "extent":
                free = [(start, stop - 1), (start + 1, stop)] if stop - start > 1 else []
                free += [(start, stop + 1)] if stop < len(tags) and tags[stop] == "O" else []
                free += [(start - 1, stop)] if start > 0 and tags[start - 1] == "O" else []
                before, after = free[rng.integers(len(free))] if free else (start, stop)
            tags[start:stop] = ["O"] * (stop - start)
            if way != "missing":
                tags[before:after] = [f"B-{kind}", *[f"I-{kind}"] * (after - before - 1)]
        spoilt.append(replace(sentence, tags=tuple(tags)))
    return spoilt


def write(path: Path, sentences: Sequence[Sentence]) -> None:
    """Write a CoNLL file, with its documents."""
    with open(path, "w", encoding="utf-8") as file:
        for before, sentence in pairwise([None, *sentences]):
            if before is None or before.document != sentence.document:
                file.write("-DOCSTART- O\n\n")
            file.writelines(map("{} {}\n".format, sentence.tokens, sentence.tags))
            file.write("\n")


def cleanlab(
    python: str, folder: Path, folds: Sequence[Path], row_at: Callable[[str, int], int]
) -> tuple[list[tuple[int, list[int]]], list[int], list[int]]:
    """Return the places, `(sentence, tokens)`, and the sentences in the order of cleanlab; and the row of each."""
    records = [[record.value for record in read_records(fold / "reports" / "left_out.jsonl")] for fold in folds]
    rows = [row_at(record["places"][0], 0) for fold in records for record in fold]
    names = sorted({tag for fold in records for record in fold for tag in record["tags"]})
    posteriors = []
    for fold in folds:
        known = np.load(fold / "reports" / "posteriors.npz")
        values = np.zeros((len(known["posteriors"]), len(names)))
        for column, tag in enumerate(known["tags"]):
            values[:, names.index(tag)] += known["posteriors"][:, column]
        posteriors.append(values / values.sum(axis=1, keepdims=True))
    tags = [record["tags"] for fold in records for record in fold]
    np.savez(
        folder / "known.npz",
        posteriors=np.concatenate(posteriors),
        labels=[names.index(tag) for each in tags for tag in each],
        lengths=[len(each) for each in tags],
    )
    done = subprocess.run([python, "-c", CLEANLAB, folder / "known.npz"], stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    flagged = {tuple(issue) for issue in found["issues"]}
    places, seen = [], set()
    for sentence, token in map(tuple, found["issues"]):
        if (sentence, token) in seen:
            continue
        first = last = token
        while (sentence, first - 1) in flagged:
            first -= 1
        while (sentence, last + 1) in flagged:
            last += 1
        own = list(range(first, last + 1))
        seen |= {(sentence, each) for each in own}
        places.append((sentence, own))
    return places, found["sentences"], rows


def report(name: str, right: Sequence[bool], total: int) -> None:
    """Print the share of wrong labels among the first of a list."""
    shares = "  ".join(f"{np.mean(right[:size]):.3f} at {size}" for size in SIZES if len(right) >= size)
    print(f"{name:<24}{shares}  ({sum(right):,} of {total:,} found in {len(right):,})", flush=True)


def main() -> None:
    """Print the precision of the first labels and sentences of each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--data", type=Path, required=True, help="folder of conll2003")
    parser.add_argument("--skip", type=int, default=0, help="sentences before the part")
    parser.add_argument("--sentences", type=int, default=4000, help="sentences of the part")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--cleanlab", metavar="PYTHON")
    parser.add_argument("--folder", type=Path, help="keep what is written here")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    source = options.data / "conll2003"
    gold = conll.read(source / "train.conll.gz")[options.skip :][: options.sentences]
    labelled = spoil(gold, options.share, np.random.default_rng(options.seed))
    write(corpus / "train.conll", labelled)
    for part in ("dev", "test"):
        sentences = conll.read(next(source.glob(f"{part}.conll*")))
        write(corpus / f"{part}.conll", sentences[: options.sentences // 2])
    common = ["data=conll", f"data.path={corpus}", *options.overrides]
    run = [sys.executable, "-m", "trellis", "label", "errors", *common]
    run += ["pipeline._target_=benchmarks.label_errors.TaggingWithPosteriors"]
    subprocess.run([*run, f"--folds={options.folds}", f"--folder={folder / 'errors'}"], check=True)

    row_of_line = {sentence.lines[0]: row for row, sentence in enumerate(conll.read(corpus / "train.conll"))}
    wrong = [
        [before != after for before, after in zip(old.tags, new.tags, strict=True)]
        for old, new in zip(gold, labelled, strict=True)
    ]
    spoilt = sum(each and not before for own in wrong for before, each in pairwise([False, *own]))
    print(f"{spoilt:,} places of {len(gold):,} sentences are spoilt")

    def row_at(place: str, token: int) -> int:
        return row_of_line[int(place.rpartition(":")[2]) - token]

    records = [record.value for record in read_records(folder / "errors" / "errors.jsonl")]
    rows = [row_at(record["place"], record["start"]) for record in records]
    right = [any(wrong[row][each["start"] : each["end"]]) for row, each in zip(rows, records, strict=True)]
    report("label errors, places", right, spoilt)
    report("label errors, sentences", [any(wrong[row]) for row in dict.fromkeys(rows)], sum(map(any, wrong)))
    if options.cleanlab:
        folds = [folder / "errors" / f"leave_out={each}of{options.folds}" for each in range(1, options.folds + 1)]
        places, sentences, rows = cleanlab(options.cleanlab, folder, folds, row_at)
        report("cleanlab, places", [any(wrong[rows[s]][t] for t in tokens) for s, tokens in places], spoilt)
        report("cleanlab, sentences", [any(wrong[rows[each]]) for each in sentences], sum(map(any, wrong)))


if __name__ == "__main__":
    main()
