"""Schemas of the sections of translators."""

from typing import Annotated, Literal

from pydantic import Field

from trellis.components.choices import Case
from trellis.components.settings import (
    Count,
    CountOrZero,
    PositiveOrZero,
    Schema,
    described,
)
from trellis.components.text.settings import CASE
from trellis.pipelines.sections import Batching, Sections


class SubwordText(Schema):
    """Text preprocessing."""

    case: Case = described(CASE)
    subwords: Count = described("number of subwords of a vocabulary; a small corpus may have fewer")
    byte_fallback: bool = described("spell unseen characters as their bytes; false: they are unknown")
    max_length: Count = described("skip training pairs with more subwords on a side")


class TranslationText(SubwordText):
    """Text preprocessing."""

    vocabulary: Literal["joint", "separate"] = described("one vocabulary of subwords for both languages, or two")


class TranslationBatching(Batching):
    """Batches of sentence pairs."""

    tokens: Count | None = described(
        "cells (sentences × target subwords) of a training batch; null: a hundredth of an epoch, at most 2400"
    )


class Decoding(Schema):
    """Beam search, in the scores of the held-out parts and in the export's default signature."""

    width: Count = described("open hypotheses of the beam; 1: greedy")
    alpha: PositiveOrZero = described("divide log-probabilities by length to this power; 0: favour short translations")
    coverage: PositiveOrZero = described("weight of the penalty for source words without attention")
    minimum: CountOrZero = described("minimum subwords of a translation")
    count: Count = described("maximum subwords of a translation; also limited to 1.5 × those of the source + 10")
    no_repeat: CountOrZero = described("no sequence of this many subwords occurs twice in a translation; 0: it may")


class AttributesDecoding(Decoding):
    """Beam search for texts about attributes."""

    channel: PositiveOrZero = described(
        "weight of the log-probability of the attributes given the text, by a classifier of training texts"
    )


class Guide(Schema):
    """Attention that learns from word alignments (Chen et al. 2016)."""

    run: str | None = described(
        "run folder of a word aligner on the same data, with report.posteriors=true; null: no guidance"
    )
    weight: PositiveOrZero = described("weight of the cost of attention, beside the loss of words")
    decay: Annotated[float, Field(gt=0, le=1)] = described("factor of the weight after each epoch")
    cost: Literal["cross_entropy", "squared"] = described("distance of attention to the posteriors of the aligner")


class TranslationReport(Schema):
    """Reports of translators."""

    pictures: CountOrZero = described("sentences whose attention is drawn")


class TranslationSections(Sections):
    """Sections of translators."""

    needs = "sentence pairs"
    accepts = ("alignment",)
    sample = "sample_translation"
    distributes = True

    text: TranslationText = described("text preprocessing")
    batching: TranslationBatching = described("batches")
    guide: Guide = described("attention that learns from word alignments")
    decoding: Decoding = described("beam search")
    report: TranslationReport = described("reports")


class AttributesToTextSections(Sections):
    """Sections of models that put attributes into words."""

    needs = "attributes with texts"
    accepts = ("attributes",)
    sample = "sample_attributes"
    distributes = True

    text: SubwordText = described("text preprocessing")
    batching: TranslationBatching = described("batches")
    decoding: AttributesDecoding = described("beam search")
    report: TranslationReport = described("reports")
