"""Schemas of models: what the functions and classes of this folder take, and what is theirs in the pipelines."""

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from trellis.components.choices import AlignmentModel, Cell, Head, Pooling, Smoothing, Symmetrization, WordSoftmax
from trellis.components.settings import (
    Count,
    CountOrZero,
    Positive,
    PositiveOrZero,
    Rate,
    Schema,
    Share,
    described,
    matching,
    optional,
)

Precision = Literal["float32", "mixed_bfloat16"]
Order = Annotated[int, Field(ge=1, le=6)]

_CONSTRAINTS = (
    "tag sequences that data.scheme rules out: never given out at decoding, or not learned in training either"
)
_HEAD = "crf scores whole tag sequences, memm each tag given the one before, softmax each on its own"
_PRECISION = "of activations; weights stay float32"
_LISTS = "{NAME: a file of words}, for the template in(NAME)"
_TIED = "the softmax shares the embeddings"
_BUCKETS = "rows of the table that conjunctions are hashed into"
_POOLINGS = "|".join(get_args(Pooling))
_LABEL_SMOOTHING = "share of each label that goes to all classes alike"


class Model(Schema):
    """What all models have.

    Attributes:
        by_gradients: whether an optimizer trains it, rather than EM or counting.
    """

    by_gradients: ClassVar[bool] = True

    name: str = matching(
        r"^[\w.+-]+$", "a name of letters, digits and ._+-", "name of the model, of its export and of its runs"
    )
    target: str = Field(alias="_target_", description="the function or class that builds it")
    schema_: str | None = Field(alias="_schema_", default=None, description="where these keys are described")
    precision: Precision = described(_PRECISION)


# Taggers


class Words(Schema):
    """Word vectors."""

    dim: Count = described("width of the word vectors")
    tune: bool = described("train them; false: they stay as they are")


class Characters(Schema):
    """How words are spelled."""

    kind: Literal["cnn", "lstm", "none"] = described("encoder of the characters of a word")
    dim: Count = described("width of the character vectors")
    units: Count = described("width of the encoder's output; even for lstm")
    window: Count = described("characters that a cnn sees at once")
    dropout: Rate = described("dropout of the character vectors")

    @model_validator(mode="after")
    def _even_for_lstm(self) -> Self:
        if self.kind == "lstm" and self.units % 2:
            raise ValueError(f"model.characters.units={self.units}: must be even for kind lstm")
        return self


class Casing(Schema):
    """The case of the letters of a word."""

    dim: CountOrZero = described("width of the casing vectors; 0: no casing feature")


class Dropout(Schema):
    """Dropout rates."""

    word: Rate = optional("of whole words, which are then read as unknown")
    input: Rate = optional("before each recurrent or hidden layer")
    between: Rate = optional("between recurrent layers")
    recurrent: Rate = optional("on the hidden state inside the recurrent product")
    output: Rate = optional("after the last layer")


class Vectors(Schema):
    """Pretrained word vectors."""

    path: str | None = described("GloVe or word2vec text file, plain or .gz; its width is model.words.dim")
    keep: CountOrZero = described("first words of the file that are kept beside those of the training part")


class Tagger(Model):
    """A recurrent tagger: words, characters and casing, recurrent layers, a head."""

    cell: Cell = described("recurrent cell")
    bidirectional: bool = described("read sentences in both directions")
    layers: Count = described("recurrent layers, one above the other")
    units: Count = described("width of a layer, in each direction")
    head: Head = described(
        "crf scores whole tag sequences, memm each tag given the one before, softmax each on its own"
    )
    constraints: Literal["decoding", "training"] | None = described(_CONSTRAINTS)
    words: Words = described("word vectors")
    characters: Characters = described("character encoder")
    casing: Casing = described("casing feature")
    dropout: Dropout = described("dropout rates")
    vectors: Vectors = described("pretrained word vectors")


class LogLinearTagger(Model):
    """A tagger with feature templates and no hidden layer."""

    head: Head = described(
        "crf scores whole tag sequences, memm each tag given the one before, softmax each on its own"
    )
    constraints: Literal["decoding", "training"] | None = described(_CONSTRAINTS)
    templates: list[str] = described("feature templates: attribute[offsets], joined by & for conjunctions")
    lists: dict[str, str] | None = described(_LISTS)
    min_count: Count = described("values of attributes that occur less often are no features")
    buckets: Count = described(_BUCKETS)
    l1: PositiveOrZero = described("weight of the sum of absolute weights in the loss")
    l2: PositiveOrZero = described("weight of the sum of squared weights in the loss")


class HiddenMarkovSmoothing(Schema):
    """What is added to counts."""

    words: PositiveOrZero = described("added to every count of a word and a tag")
    transitions: PositiveOrZero = described("added to every count of two tags")


class HiddenMarkovTagger(Model):
    """A hidden Markov model, by counting or by EM."""

    by_gradients: ClassVar[bool] = False

    templates: list[str] = described("attributes of unknown words: the shape, then the endings, the longest first")
    lists: dict[str, str] | None = described(_LISTS)
    min_count: Count = described("endings and shapes that occur less often are not told apart")
    smoothing: HiddenMarkovSmoothing = described("counts that are added")
    labelled: Share = described("share of the training sentences whose tags are used; EM learns from the others")


# Word alignment


class Backoff(Schema):
    """Classes of words from which rare words learn."""

    strength: PositiveOrZero = described("counts that the word's classes are worth; 0: no back-off")
    classes: list[str] = described("attributes, from coarse to fine, as in feature templates: prefix4, suffix2, …")


class Aligner(Model):
    """Word alignment by EM in both directions."""

    by_gradients: ClassVar[bool] = False

    iterations: dict[AlignmentModel, Count] = Field(
        min_length=1, description="EM iterations of each model, one model after the other: {ibm1: 5, hmm: 5}"
    )
    agreement: bool = described("count only links that both directions see")
    concentration: PositiveOrZero = described("of a Dirichlet prior on translations, by variational Bayes; 0: none")
    backoff: Backoff = described("classes of words that rare words back off to")
    null_probability: dict[AlignmentModel, Rate | None] = described(
        "probability that a word has no counterpart, by model; where it is missing, the model's own"
    )
    stepwise: Annotated[float, Field(gt=0.5, le=1)] | None = described(
        "power with which later batches count less; null: full-batch EM"
    )
    symmetrization: Symmetrization = described("how the alignments of both directions become one")
    threshold: Rate = described("mean posterior from which a pair is a link, with posterior")

    @model_validator(mode="after")
    def _one_prior(self) -> Self:
        if self.backoff.strength and self.concentration:
            raise ValueError(
                f"model.backoff.strength={self.backoff.strength}: cannot be with model.concentration, "
                "one of them must be 0"
            )
        return self


# Language models


class Softmax(Schema):
    """The distribution over words."""

    kind: WordSoftmax = described("over all words, over a sample in training, or in groups")
    samples: Count = described("words that sampled draws in training")
    cutoffs: list[Count] = described("of adaptive: the first id of each group of rarer words")


class RecurrentLM(Model):
    """A recurrent language model."""

    cell: Literal["rnn", "lstm", "gru", "peephole"] = described(
        "recurrent cell; peephole: an LSTM whose gates see the cell"
    )
    layers: Count = described("recurrent layers, one above the other")
    units: Count = described("width of each layer")
    dim: Count = described("width of the embeddings")
    dropout: Dropout = described("dropout rates")
    tied: bool = described(_TIED)
    softmax: Softmax = described("the distribution over words")
    backwards: bool = described("read texts from their ends")


class FeedForwardLM(Model):
    """The neural probabilistic language model of Bengio et al. 2003."""

    context: Count = described("words that are looked at")
    units: Count = described("width of the hidden layer")
    dim: Count = described("width of the embeddings")
    dropout: Dropout = described("dropout rates")
    tied: bool = described(_TIED)
    softmax: Softmax = described("the distribution over words")


class MaximumEntropyLM(Model):
    """A log-linear language model over the words of the context."""

    templates: list[str] = described("words of the context that are features: word[0] is the last word read")
    words: Count = described("the most frequent words, which are told apart in contexts")
    buckets: Count = described(_BUCKETS)
    l1: PositiveOrZero = described("weight of the sum of absolute weights in the loss")
    l2: PositiveOrZero = described("weight of the sum of squared weights in the loss")


class NGramLM(Model):
    """An n-gram model by counting."""

    by_gradients: ClassVar[bool] = False

    order: Order = described("words of an n-gram")
    smoothing: Smoothing = described("modified interpolated Kneser-Ney, Witten-Bell, or add-k")
    k: Positive = described("what add_k adds to every count")


# Classifiers


class Classifier(Model):
    """A classifier of sentences: word vectors, recurrent layers or none, a pooling."""

    cell: Literal["rnn", "lstm", "gru", "none"] = described("recurrent cell; none: a bag of words")
    bidirectional: bool = described("read texts in both directions")
    layers: Count = described("recurrent layers, one above the other")
    units: Count = described("width of a layer, in each direction")
    pooling: str = matching(
        rf"^({_POOLINGS})(\+({_POOLINGS}))*$",
        "last, mean, max, sum or attention, or several with + between them",
        "how states become one vector: the last one, the mean, …; several stand side by side: last+max",
    )
    dim: CountOrZero = described("width of the word vectors; 0: a score for each class instead")
    dropout: Dropout = described("dropout rates")
    auxiliary: PositiveOrZero = described("weight of a language-model loss on the same states; 0: none")
    label_smoothing: Rate = described(_LABEL_SMOOTHING)
    class_weights: Literal["none", "balanced"] = described("balanced: rare classes count as much as frequent ones")
