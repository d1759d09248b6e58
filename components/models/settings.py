"""Schemas of models."""

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from trellis.components.choices import (
    PRUNING,
    AlignmentModel,
    Attention,
    Cell,
    Head,
    Pooling,
    Smoothing,
    Symmetrization,
    WordSoftmax,
    can_prune,
)
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

_CONSTRAINTS = "forbid tag sequences that data.scheme rules out: when decoding, or also in training"
_HEAD = "crf scores whole tag sequences, memm each tag given the previous one, softmax each tag independently"
_PRECISION = "dtype of activations; weights stay float32"
_LISTS = "word lists for the template in(NAME): {NAME: FILE}"
_TIED = "share the embeddings with the softmax"
_BUCKETS = "rows of the table that feature conjunctions are hashed into"
_POOLINGS = "|".join(get_args(Pooling))
_LABEL_SMOOTHING = "share of each label that is spread evenly over all classes"
_WORD_SMOOTHING = "share of the probability of each target that is spread evenly over the vocabulary"


class Model(Schema):
    """Keys of every model.

    Attributes:
        by_gradients: whether an optimizer trains it, rather than EM or counting.
        distributes: whether several workers can train it together.
    """

    by_gradients: ClassVar[bool] = True
    distributes: ClassVar[bool] = True

    name: str = matching(
        r"^[\w.+-]+$", "a name of letters, digits and ._+-", "name of the model, its export and its runs"
    )
    target: str = Field(alias="_target_", description="function or class that builds the model")
    schema_: str | None = Field(alias="_schema_", default=None, description="schema of these keys")
    precision: Precision = described(_PRECISION)


# Taggers


class Words(Schema):
    """Word vectors."""

    dim: Count = described("width of the word vectors")
    tune: bool = described("train the word vectors; false: keep them fixed")


class Characters(Schema):
    """The character encoder."""

    kind: Literal["cnn", "lstm", "none"] = described("encoder of the characters of a word")
    dim: Count = described("width of the character vectors")
    units: Count = described("width of the encoder's output; even for lstm")
    window: Count = described("characters in a convolution window (cnn)")
    dropout: Rate = described("dropout of the character vectors")

    @model_validator(mode="after")
    def _even_for_lstm(self) -> Self:
        if self.kind == "lstm" and self.units % 2:
            raise ValueError(f"model.characters.units={self.units}: must be even for kind lstm")
        return self


class Casing(Schema):
    """The casing feature."""

    dim: CountOrZero = described("width of the casing vectors; 0: no casing feature")


class Dropout(Schema):
    """Dropout rates."""

    word: Rate = optional("rate of replacing whole words by the unknown word")
    input: Rate = optional("rate before each recurrent or hidden layer")
    between: Rate = optional("rate between recurrent layers")
    recurrent: Rate = optional("rate on the hidden state in the recurrent product")
    output: Rate = optional("rate after the last layer")


class Vectors(Schema):
    """Pretrained word vectors."""

    path: str | None = described("GloVe or word2vec text file, plain or .gz, with vectors of width model.words.dim")
    keep: CountOrZero = described("number of words from the top of the file to keep besides those of the training data")


class Tagger(Model):
    """A recurrent tagger: words, characters and casing, recurrent layers, a head."""

    cell: Cell = described("recurrent cell")
    bidirectional: bool = described("run layers in both directions")
    layers: Count = described("number of stacked recurrent layers")
    units: Count = described("width of each layer, per direction")
    head: Head = described(
        "crf scores whole tag sequences, memm each tag given the previous one, softmax each tag independently"
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
        "crf scores whole tag sequences, memm each tag given the previous one, softmax each tag independently"
    )
    constraints: Literal["decoding", "training"] | None = described(_CONSTRAINTS)
    templates: list[str] = described("feature templates: attribute[offsets], joined by & for conjunctions")
    lists: dict[str, str] | None = described(_LISTS)
    min_count: Count = described("ignore attribute values that occur less often")
    buckets: Count = described(_BUCKETS)
    l1: PositiveOrZero = described("weight of the L1 penalty in the loss")
    l2: PositiveOrZero = described("weight of the L2 penalty in the loss")


class HiddenMarkovSmoothing(Schema):
    """Additive smoothing."""

    words: PositiveOrZero = described("constant added to each emission count")
    transitions: PositiveOrZero = described("constant added to each transition count")


class HiddenMarkovTagger(Model):
    """A hidden Markov model, by counting or by EM."""

    by_gradients: ClassVar[bool] = False

    templates: list[str] = described("attributes that stand for unknown words: the shape, then endings, longest first")
    lists: dict[str, str] | None = described(_LISTS)
    min_count: Count = described("merge endings and shapes that occur less often")
    smoothing: HiddenMarkovSmoothing = described("additive smoothing")
    labelled: Share = described("share of the training sentences whose tags are used; EM infers the tags of the others")


# Word alignment


class Backoff(Schema):
    """Back-off of rare words to word classes."""

    strength: PositiveOrZero = described("weight of the class distribution, in counts; 0: no back-off")
    classes: list[str] = described("attributes that define the classes, from coarse to fine: prefix4, suffix2, …")


class Aligner(Model):
    """Word alignment by EM in both directions."""

    by_gradients: ClassVar[bool] = False

    iterations: dict[AlignmentModel, Count] = Field(
        min_length=1, description="EM iterations of each model, in order: {ibm1: 5, hmm: 5}"
    )
    agreement: bool = described("train both directions to agree on links")
    concentration: PositiveOrZero = described(
        "concentration of a Dirichlet prior on translations (variational Bayes); 0: no prior"
    )
    backoff: Backoff = described("back-off of rare words to word classes")
    null_probability: dict[AlignmentModel, Rate | None] = described(
        "probability that a word is unaligned, per model; by default the model's own"
    )
    stepwise: Annotated[float, Field(gt=0.5, le=1)] | None = described(
        "decay exponent of stepwise EM; null: full-batch EM"
    )
    symmetrization: Symmetrization = described("how to combine the alignments of both directions")
    threshold: Rate = described("minimum mean posterior of a link, for model.symmetrization=posterior")

    @model_validator(mode="after")
    def _one_prior(self) -> Self:
        if self.backoff.strength and self.concentration:
            raise ValueError(
                f"model.backoff.strength={self.backoff.strength}: cannot be combined with "
                "model.concentration; set one of them to 0"
            )
        return self


# Language models


class Softmax(Schema):
    """The distribution over words."""

    kind: WordSoftmax = described("full: all words; sampled: a sample of words in training; adaptive: frequency groups")
    samples: Count = described("sampled: number of words drawn in training")
    cutoffs: list[Count] = described("adaptive: first word id of each rarer group")


class RecurrentLM(Model):
    """A recurrent language model."""

    cell: Literal["rnn", "lstm", "gru", "peephole"] = described(
        "recurrent cell; peephole: an LSTM whose gates also read the cell state"
    )
    layers: Count = described("number of stacked recurrent layers")
    units: Count = described("width of each layer")
    dim: Count = described("width of the embeddings")
    dropout: Dropout = described("dropout rates")
    tied: bool = described(_TIED)
    softmax: Softmax = described("the distribution over words")
    backwards: bool = described("predict the previous token instead of the next one")


class FeedForwardLM(Model):
    """The neural probabilistic language model of Bengio et al. 2003."""

    context: Count = described("number of preceding words the model reads")
    units: Count = described("width of the hidden layer")
    dim: Count = described("width of the embeddings")
    dropout: Dropout = described("dropout rates")
    tied: bool = described(_TIED)
    softmax: Softmax = described("the distribution over words")


class MaximumEntropyLM(Model):
    """A log-linear language model over the words of the context."""

    templates: list[str] = described("feature templates over the context; word[0] is the last word read")
    words: Count = described("number of most frequent words that contexts distinguish")
    buckets: Count = described(_BUCKETS)
    l1: PositiveOrZero = described("weight of the L1 penalty in the loss")
    l2: PositiveOrZero = described("weight of the L2 penalty in the loss")


class NGramLM(Model):
    """An n-gram model by counting."""

    by_gradients: ClassVar[bool] = False
    distributes: ClassVar[bool] = False

    order: Order = described("length of the n-grams")
    smoothing: Smoothing = described("kneser_ney (modified, interpolated), witten_bell, or add_k")
    k: Positive = described("add_k: constant added to each count")
    prune: list[CountOrZero] | None = described(
        "drop n-grams of length 1, 2, … that occur at most this often, as [0, 0, 1]; the last number also counts for "
        "longer ones, the first is 0; null: keep all"
    )
    arpa: str | None = described("ARPA file of a model to use instead of counting; its order must be model.order")

    @model_validator(mode="after")
    def _prunable(self) -> Self:
        if self.prune and self.arpa:
            raise ValueError(f"model.prune={self.prune}: not with model.arpa, whose n-grams are all used")
        if not can_prune(self.prune or (), self.order):
            raise ValueError(f"model.prune={self.prune}: {PRUNING.format(order=self.order)} (model.order={self.order})")
        return self


# Classifiers


class Classifier(Model):
    """A classifier of sentences: word vectors, recurrent layers or none, a pooling."""

    cell: Literal["rnn", "lstm", "gru", "none"] = described("recurrent cell; none: a bag of words")
    bidirectional: bool = described("run layers in both directions")
    layers: Count = described("number of stacked recurrent layers")
    units: Count = described("width of each layer, per direction")
    pooling: str = matching(
        rf"^({_POOLINGS})(\+({_POOLINGS}))*$",
        "last, mean, max, sum or attention, or several joined by +",
        "how to pool states into one vector; join several by +, as in last+max, to concatenate them",
    )
    dim: CountOrZero = described("width of the word vectors; 0: score each class directly from word counts")
    dropout: Dropout = described("dropout rates")
    auxiliary: PositiveOrZero = described("weight of an auxiliary language-model loss on the same states; 0: none")
    label_smoothing: Rate = described(_LABEL_SMOOTHING)
    class_weights: Literal["none", "balanced"] = described("balanced: weight classes inversely to their frequency")


# Encoder-decoders


class Encoder(Schema):
    """The encoder of texts."""

    cell: Cell = described("recurrent cell")
    layers: Count = described("number of stacked recurrent layers")
    units: Count = described("width of each layer, per direction")
    bidirectional: bool = described("run layers in both directions")


class Decoder(Schema):
    """The decoder."""

    cell: Cell = described("recurrent cell")
    layers: Count = described("number of stacked recurrent layers")
    units: Count = described("width of each layer")
    attend_after: Literal["first", "last"] = described(
        "layer whose states are the queries of attention; with first, the layers after it also read the context"
    )
    input_feeding: bool = described("also read the features of the previous step; training is then a loop over time")


class AttentionOfDecoder(Schema):
    """Attention of the decoder to the encoder."""

    kind: Attention | Literal["none"] = described(
        "how to score positions: additive (Bahdanau), general or dot (Luong); none: no attention (Sutskever)"
    )
    units: Count = described("additive: width of the hidden layer")
    window: Count | None = described("local attention to this many positions on each side; null: global")


class VectorToTextModel(Model):
    """A decoder of texts about attributes."""

    units: Count = described("width of the vector, the sum of the embeddings of attributes")
    decoder: Decoder = described("decoder")
    attention: AttentionOfDecoder = described("attention of the decoder to the attributes")
    dim: Count = described("width of the embeddings")
    dropout: Dropout = described("dropout rates")
    tied: bool = described(_TIED)
    label_smoothing: Rate = described(_WORD_SMOOTHING)


class TranslationModel(Model):
    """An encoder-decoder of texts."""

    encoder: Encoder = described("encoder")
    decoder: Decoder = described("decoder")
    attention: AttentionOfDecoder = described("attention of the decoder to the encoder")
    dim: Count = described("width of the embeddings")
    dropout: Dropout = described("dropout rates")
    tied: bool = described(_TIED)
    label_smoothing: Rate = described(_WORD_SMOOTHING)
