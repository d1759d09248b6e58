"""How reliable the entities of a tagger are: their calibration on dev, and the threshold for a precision."""

import csv
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from trellis.components.metrics import calibration
from trellis.components.metrics.calibration import Calibration, Operating
from trellis.components.readers.sentence import Sentence
from trellis.components.text.tag_schemes import Scheme, entities
from trellis.pipelines.pictures import figure
from trellis.pipelines.task import Metrics

log = logging.getLogger(__name__)

POINTS = 200  # of a curve in a file
SHOWN = 8  # types in the picture of curves
ALL = "all"  # stands for all types in files


@dataclass(frozen=True)
class FoundEntities:
    """The entities that a tagger finds in a part.

    Attributes:
        kinds: the type of each.
        posteriors: the posterior probability of each.
        correct: whether each is among the gold entities.
        gold: the number of gold entities by type.
    """

    kinds: Sequence[str]
    posteriors: np.ndarray
    correct: np.ndarray
    gold: Mapping[str, int]

    @classmethod
    def of(
        cls, sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]], posteriors: Sequence[np.ndarray]
    ) -> Self:
        """Compare predictions with the gold tags.

        Args:
            sentences: with gold tags, in BIO2.
            predicted: the predicted tags of each sentence.
            posteriors: the probability of the entity that begins at each token of each sentence.
        """
        bio2, gold = Scheme("BIO2"), Counter[str]()
        kinds, values, correct = [], [], []
        for sentence, tags, own in zip(sentences, predicted, posteriors, strict=True):
            expected = set(entities(sentence.tags, bio2))
            gold.update(entity.kind for entity in expected)
            for entity in entities(tags, bio2):
                kinds.append(entity.kind)
                values.append(own[entity.start])
                correct.append(entity in expected)
        return cls(kinds, np.array(values, float), np.array(correct, bool), gold)

    def curve(self, calibrated: Calibration, kind: str | None = None) -> list[Operating]:
        """Return precision and recall at every threshold of the calibrated probability, of a type or of all."""
        own = np.array([kind in (None, each) for each in self.kinds], bool)
        probabilities = calibrated.probabilities(self.kinds, self.posteriors)
        gold = sum(self.gold.values()) if kind is None else self.gold.get(kind, 0)
        return calibration.precision_recall(probabilities[own], self.correct[own], gold)


def calibrate(dev: FoundEntities, precision: float | None) -> Calibration:
    """Fit a calibration on dev, with the threshold that gives a precision there; 0 without a precision."""
    fitted = calibration.fit(dev.kinds, dev.posteriors, dev.correct)
    if precision is None:
        return fitted
    reached = calibration.threshold_for(precision, dev.curve(fitted))
    if reached is None:
        log.warning("export.precision=%g: no entities are found on dev, so none is dropped", precision)
        return fitted
    if reached.precision < precision:
        log.warning(
            "export.precision=%g: no threshold gives it on dev; the highest precision there is %.3f",
            precision,
            reached.precision,
        )
    # Rounded down: exports compute in float32, and the entity at the threshold is to be kept.
    return replace(fitted, threshold=math.floor(reached.threshold * 1e6) / 1e6)


def scores(part: str, found: FoundEntities, calibrated: Calibration) -> Metrics:
    """Return the calibration error of a part, and precision and recall of its entities above the threshold."""
    if not len(found.posteriors):
        return {}
    probabilities = calibrated.probabilities(found.kinds, found.posteriors)
    metrics = {
        f"{part}/calibration_error": calibration.calibration_error(probabilities, found.correct),
        f"{part}/calibration_error/uncalibrated": calibration.calibration_error(found.posteriors, found.correct),
    }
    if calibrated.threshold:
        kept = found.correct[probabilities >= calibrated.threshold]
        gold = sum(found.gold.values())
        metrics[f"{part}/kept_precision"] = float(kept.mean()) if len(kept) else 0.0
        metrics[f"{part}/kept_recall"] = float(kept.sum() / gold) if gold else 0.0
    return metrics


def facts(calibrated: Calibration, precision: float | None) -> dict[str, Any]:
    """Return the facts about probabilities for the metadata of an export."""
    return {
        "calibration": {
            **calibrated.scale._asdict(),
            "types": {kind: scale._asdict() for kind, scale in calibrated.types.items()},
        },
        "threshold": calibrated.threshold,
        "precision": precision,
    }


def write(folder: Path, found: FoundEntities, calibrated: Calibration) -> None:
    """Write `calibration.csv`, `precision_recall.csv` and a picture of both, `calibration.png`."""
    probabilities = calibrated.probabilities(found.kinds, found.posteriors)
    bins = calibration.reliability(probabilities, found.correct)
    with open(folder / "calibration.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("from", "to", "entities", "probability", "correct"))
        for low, high, size, probability, correct in bins:
            means = ("", "") if not size else (f"{probability:.4f}", f"{correct:.4f}")
            table.writerow((f"{low:.1f}", f"{high:.1f}", size, *means))
    kinds = [kind for kind, _ in Counter(found.gold).most_common()]
    curves = {ALL: found.curve(calibrated), **{kind: found.curve(calibrated, kind) for kind in kinds}}
    with open(folder / "precision_recall.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("type", "threshold", "precision", "recall"))
        for kind, curve in curves.items():
            for point in _thinned(curve):
                table.writerow((kind, *(f"{value:.4f}" for value in point)))
    _draw(folder / "calibration.png", bins, curves, calibrated.threshold)


def _thinned(curve: Sequence[Operating]) -> Sequence[Operating]:
    """Return at most `POINTS` points of a curve, its ends among them."""
    if len(curve) <= POINTS:
        return curve
    return [curve[index] for index in np.linspace(0, len(curve) - 1, POINTS).round().astype(int)]


def _draw(
    path: Path, bins: Sequence[calibration.Bin], curves: Mapping[str, Sequence[Operating]], threshold: float
) -> None:
    """Draw the reliability diagram, and precision against recall."""
    picture, (left, right) = figure(1, 2, (9.0, 4.0))
    left.plot((0, 1), (0, 1), color="gray", linewidth=1, linestyle="--")
    filled = [each for each in bins if each.size]
    left.bar([(each.low + each.high) / 2 for each in filled], [each.correct for each in filled], 0.09, color="#9ec5e8")
    left.plot([each.probability for each in filled], [each.correct for each in filled], marker="o", color="#1c62b5")
    for each in filled:
        left.annotate(
            str(each.size), (each.probability, each.correct), fontsize=7, xytext=(2, -10), textcoords="offset points"
        )
    left.set_xlabel("probability")
    left.set_ylabel("share of correct entities")
    left.set_xlim(0, 1)
    left.set_ylim(0, 1.02)
    for kind, curve in list(curves.items())[: SHOWN + 1]:
        points = _thinned(curve)
        width = 2.0 if kind == ALL else 1.0
        right.plot([p.recall for p in points], [p.precision for p in points], linewidth=width, label=kind)
    kept = [point for point in curves[ALL] if point.threshold >= threshold > 0]
    if kept:
        right.plot(kept[-1].recall, kept[-1].precision, marker="o", color="black", label=f"threshold {threshold:.2f}")
    right.set_xlabel("recall")
    right.set_ylabel("precision")
    right.set_xlim(0, 1)
    right.set_ylim(0, 1.02)
    right.legend(fontsize=8, loc="lower left")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    picture.savefig(path, dpi=130)
