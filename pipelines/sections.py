"""Schemas of the sections of tasks, other than translation: what their text, batches and reports may be."""

from typing import ClassVar, Literal

from pydantic import Field

from trellis.components.choices import Case, Digits, Tokenizer
from trellis.components.models.settings import Order
from trellis.components.settings import (
    Count,
    CountOrZero,
    PositiveOrZero,
    Rate,
    Schema,
    Share,
    described,
)
from trellis.components.text.settings import CASE, DIGITS, TOKENIZER


class Sections(Schema):
    """The sections of a task, and what its models learn from.

    Attributes:
        needs, accepts, sample: as in `trellis.pipelines.task.Task`.
        distributes: whether several workers can train one model together. They share the rows of its batches, and its
            loss divides by counts over all workers, see `trellis.components.workers`.
    """

    needs: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]]
    sample: ClassVar[str]
    distributes: ClassVar[bool] = False


Storage = Literal["auto", "memory", "disk"]
CACHE = "folder for what is kept on disk; null: $TRELLIS_CACHE/tokens, by default ~/.cache/trellis/tokens"


class Batching(Schema):
    """Batches, in any task."""

    max_shapes: Count = described("maximum number of distinct training batch shapes")
    evaluation_tokens: Count = described("cells (sentences × time steps) of an evaluation batch")


class TaggingText(Schema):
    """Text preprocessing."""

    case: Case = described(CASE)
    digits: Digits = described(DIGITS)
    min_count: Count = described("replace words that occur less often by the unknown word")
    max_characters: Count = described("maximum characters of a word to read; of longer words, half from each end")
    tokenizer: Tokenizer = described(TOKENIZER)
    storage: Storage = described(
        "where sentences of training are kept: in memory, or on disk in text.cache, if they do not fit into memory; "
        "auto: on disk if the files have more than 50 MB and are CoNLL or CoNLL-U"
    )
    cache: str | None = described(CACHE)


class TaggingBatching(Batching):
    """Batches of sentences."""

    tokens: Count = described("cells (sentences × time steps) of a training batch")
    sentences: Count | None = described("sentences of a training batch; null: use batching.tokens")


class TaggingSections(Sections):
    """Sections of taggers."""

    needs = "tagged sentences"
    accepts = ("ner", "pos")
    sample = "sample_ner"
    distributes = True

    text: TaggingText = described("text preprocessing")
    batching: TaggingBatching = described("batches")


class ClassificationText(Schema):
    """Text preprocessing."""

    case: Case | None = described(f"{CASE}; null: data.case")
    digits: Digits = described(DIGITS)
    min_count: Count = described("replace words that occur less often by the unknown word")
    tokenizer: Tokenizer | None = described(f"{TOKENIZER}; null: data.tokenizer")


class ClassificationBatching(Batching):
    """Batches of texts."""

    sentences: Count = described("texts of a training batch")


class ClassificationSections(Sections):
    """Sections of classifiers."""

    needs = "labelled texts"
    accepts = ("classes",)
    sample = "sample_sentiment"
    distributes = True

    text: ClassificationText = described("text preprocessing")
    batching: ClassificationBatching = described("batches")


class AlignmentText(Schema):
    """Text preprocessing."""

    case: Case = described(CASE)
    max_words: int | None = Field(
        ge=2, description="number of most frequent words of each side to keep, all others are merged; null: keep all"
    )


class AlignmentBatching(Schema):
    """Batches of sentence pairs."""

    cells: Count | None = described(
        "cells (source words × target words) of a batch; null: 80640 with an HMM or stepwise EM, else 1774080"
    )
    folder: str | None = described(
        "folder for batches of a corpus that does not fit in memory; null: keep them in memory"
    )


class AlignmentReport(Schema):
    """Reports of aligners."""

    lexicon_cutoff: Rate = described("minimum probability of a translation in the lexicon")
    posteriors: bool = described("also write the probability of every link to posteriors.npz")


class AlignmentSections(Sections):
    """Sections of aligners."""

    needs = "sentence pairs"
    accepts = ("alignment",)
    sample = "sample_bitext"
    distributes = True

    text: AlignmentText = described("text preprocessing")
    batching: AlignmentBatching = described("batches")
    report: AlignmentReport = described("reports")


class LanguageText(Schema):
    """Text preprocessing."""

    case: Case = described(CASE)
    digits: Digits = described(DIGITS)
    min_count: Count | None = described(
        "replace words that occur less often by the unknown word; null: 2, or 1 for characters and texts with <unk>"
    )
    storage: Storage = described(
        "where tokens are kept: in memory, or on disk in text.cache, for texts that do not fit into memory; auto: on "
        "disk if the files have more than 100 MB"
    )
    cache: str | None = described(CACHE)


class LanguageBatching(Batching):
    """Batches of segments or lines."""

    carry: bool | None = described(
        "carry states from segment to segment of running text; false: each line stands alone; null: by data.lines"
    )
    rows: Count = described("parallel streams of a batch, if states are carried")
    length: Count = described("tokens of a segment, through which gradients are propagated")
    tokens: Count = described("cells of a training batch of lines")
    evaluation_rows: Count = described("parallel streams in evaluation")
    evaluation_length: Count = described("tokens of a segment in evaluation")


class Generation(Schema):
    """Text generation, in the export's default signature and in reports."""

    count: Count = described("maximum tokens to generate")
    temperature: PositiveOrZero = described("divide log-probabilities by this; 0: always take the most probable token")
    top_k: CountOrZero = described("sample from this many most probable tokens; 0: all")
    top_p: Share = described("sample from the most probable tokens that together reach this probability")
    repetition: PositiveOrZero = described("penalty, in nats, for tokens that were generated before")
    unknown: bool = described("allow generating the unknown word")


class LanguageReport(Schema):
    """Reports of language models."""

    mixture: Order | None = described(
        "order of the n-gram model whose mixture with this model is also scored; null: none"
    )
    arpa: bool = described("model=ngram: write the model as reports/model.arpa, for KenLM, SRILM and others")


class Diagnostics(Schema):
    """Measurements for teaching."""

    gradient_flow: bool = described("measure the gradient that reaches each time step, before and after training")


class LanguageModelingSections(Sections):
    """Sections of language models."""

    needs = "running text"
    accepts = ("language",)
    sample = "sample_text"
    distributes = True

    text: LanguageText = described("text preprocessing")
    batching: LanguageBatching = described("batches")
    generation: Generation = described("how texts are generated")
    report: LanguageReport = described("reports")
    diagnostics: Diagnostics = described("measurements")
