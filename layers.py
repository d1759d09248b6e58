"""Every Keras object of Trellis under one name.

Importing this module registers them with Keras, so that a model of your own that contains one loads:

    import keras
    import trellis.layers

    model = keras.saving.load_model("tagger.keras")
"""

from trellis.components.layers.attention import Attention
from trellis.components.layers.auxiliary import AuxiliaryLanguageModel
from trellis.components.layers.character_encoder import CharacterEncoder
from trellis.components.layers.crf import CRF
from trellis.components.layers.feature_scores import FeatureScores
from trellis.components.layers.hmm import HMM, CategoricalEmissions
from trellis.components.layers.ibm1 import IBM1
from trellis.components.layers.memm import MEMM
from trellis.components.layers.peephole import PeepholeLSTM, PeepholeLSTMCell
from trellis.components.layers.pooling import Pooling
from trellis.components.layers.positions import Diagonal, Jumps, PositionTable, Uniform
from trellis.components.layers.recurrent import GRU, LSTM, SimpleRNN
from trellis.components.layers.sequence_head import IndependentTags, NegativeLogLikelihood
from trellis.components.layers.stored_weights import Embedding
from trellis.components.layers.word_dropout import WordDropout
from trellis.components.layers.word_softmax import WordSoftmax
from trellis.components.models.classifier import SmoothedCrossentropy
from trellis.components.models.hidden_markov import ExpectationMaximization
from trellis.components.models.language_model import (
    FeedForwardLanguageModel,
    MaximumEntropyLanguageModel,
    RecurrentLanguageModel,
)
from trellis.components.models.ngram import NGram
from trellis.components.models.translator import Translator
from trellis.components.models.vector_to_text import VectorToText
from trellis.components.models.word_aligner import WordAligner
from trellis.components.training.lbfgs import LBFGS

__all__ = [
    "CRF",
    "GRU",
    "HMM",
    "IBM1",
    "LBFGS",
    "LSTM",
    "MEMM",
    "Attention",
    "AuxiliaryLanguageModel",
    "CategoricalEmissions",
    "CharacterEncoder",
    "Diagonal",
    "Embedding",
    "ExpectationMaximization",
    "FeatureScores",
    "FeedForwardLanguageModel",
    "IndependentTags",
    "Jumps",
    "MaximumEntropyLanguageModel",
    "NGram",
    "NegativeLogLikelihood",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "Pooling",
    "PositionTable",
    "RecurrentLanguageModel",
    "SimpleRNN",
    "SmoothedCrossentropy",
    "Translator",
    "Uniform",
    "VectorToText",
    "WordAligner",
    "WordDropout",
    "WordSoftmax",
]
