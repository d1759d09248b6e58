"""Every public layer does what a Keras layer does, or says why not."""

import inspect

import keras
import numpy as np
import pytest

from tests.components.layer_checks import CHECKS, LayerCase, run_layer_test
from trellis import layers

RNG = np.random.default_rng(0)
LENGTHS = np.array([5, 3, 1, 4])
MASK = np.arange(5) < LENGTHS[:, None]
STATES = RNG.normal(size=(4, 5, 6)).astype("float32")
EMISSIONS = RNG.normal(size=(4, 5, 4)).astype("float32") * 3
WORDS = (RNG.integers(1, 9, (4, 5)) * MASK).astype("int32")
ATTRIBUTES = (RNG.integers(0, 7, (4, 5, 3)) * MASK[..., None]).astype("int32")
CHARACTERS = RNG.integers(1, 12, (4, 5, 7)) * (np.arange(7) < RNG.integers(1, 8, (4, 5))[..., None])
CHARACTERS = (CHARACTERS * MASK[..., None]).astype("int32")

NLL = layers.NegativeLogLikelihood()

NO_DROPOUT = {"input": 0.0, "between": 0.0, "output": 0.0, "recurrent": 0.0}
SOFTMAX = {"kind": "full", "samples": 4, "cutoffs": []}


def head(make, **options):
    return LayerCase(make, (EMISSIONS,), MASK, loss=lambda outputs: NLL(WORDS % 4, outputs[0]), **options)


def recurrent(make, **options):
    return LayerCase(
        lambda **kwargs: make(3, return_sequences=True, return_state=False, **kwargs), (STATES,), MASK, **options
    )


def pooling(kind, **options):
    return LayerCase(lambda **kwargs: layers.Pooling(kind, **options, **kwargs), (STATES,), MASK, output_time=False)


NO_CALL = "has no call: WordAligner asks for its posteriors, see test_alignment.py"
NO_BATCH_AXIS = "takes batches of a bitext, whose arrays have no batch axis in common, see test_alignment.py"
UNIQUE = "finds the distinct words of a batch by tf.unique, whose size XLA cannot know"


def part_of_aligner(make):
    """A layer that is not called."""
    checks = {check: NO_CALL for check in CHECKS if check != "config"}
    return LayerCase(make, (), not_by_design=checks)


def counted_ngrams(model):
    ids = np.array([3, 4, 2, 5, 3, 4, 3, 2, 8, 7, 2])
    model.adapt(ids, np.array([0, 3, 8]))
    model.fit()


PAIRS = {
    "source": WORDS,
    "target": (RNG.integers(1, 9, (4, 3)) * (np.arange(3) < [[3], [2], [1], [3]])).astype("int32"),
}
RECURRENT = {"cell": "gru", "layers": 2, "units": 4}
NOT_ONE_SEQUENCE = "takes two sequences of different lengths, see test_translator.py"


CASES = {
    "Attention": LayerCase(
        lambda **kwargs: layers.Attention(units=5, **kwargs),
        (STATES[:, :3], STATES),
        not_by_design={"masks": NOT_ONE_SEQUENCE},
    ),
    "Attention local": LayerCase(
        lambda **kwargs: layers.Attention("general", units=5, window=2, **kwargs),
        (STATES[:, :3], STATES),
        not_by_design={"masks": NOT_ONE_SEQUENCE},
    ),
    "AuxiliaryLanguageModel": LayerCase(
        lambda **kwargs: layers.AuxiliaryLanguageModel(9, 0.1, bidirectional=True, **kwargs), (STATES, WORDS)
    ),
    "CRF": head(layers.CRF),
    "CRF with constraints": head(
        lambda **kwargs: layers.CRF(constraints="bio", tags=["O", "B-A", "I-A", "B-B"], **kwargs)
    ),
    "CategoricalEmissions": LayerCase(
        lambda **kwargs: layers.CategoricalEmissions(9, 7, 4, **kwargs),
        (WORDS, ATTRIBUTES),
        float_output="float32",
    ),
    "CharacterEncoder cnn": LayerCase(
        lambda **kwargs: layers.CharacterEncoder(12, "cnn", 5, 6, **kwargs),
        (CHARACTERS,),
        not_by_design={"jit": UNIQUE},
    ),
    "CharacterEncoder lstm": LayerCase(
        lambda **kwargs: layers.CharacterEncoder(12, "lstm", 5, 6, **kwargs),
        (CHARACTERS,),
        not_by_design={"jit": UNIQUE},
    ),
    "Diagonal": part_of_aligner(layers.Diagonal),
    "Embedding": LayerCase(lambda **kwargs: layers.Embedding(9, 3, **kwargs), (WORDS,)),
    "FeatureScores": LayerCase(
        lambda **kwargs: layers.FeatureScores(
            7, ["lower[-1:1]", "suffix3", "shape[0]&suffix3[1]"], 4, buckets=50, **kwargs
        ),
        (ATTRIBUTES,),
    ),
    "GRU": recurrent(layers.GRU),
    "HMM": head(layers.HMM),
    "IBM1": part_of_aligner(lambda **kwargs: layers.IBM1(5, 3, 4, levels=[(2, 2)], strength=1.0, **kwargs)),
    "IndependentTags": head(layers.IndependentTags),
    "Jumps": part_of_aligner(layers.Jumps),
    "LSTM": recurrent(layers.LSTM),
    "MEMM": head(layers.MEMM),
    "PeepholeLSTM": recurrent(layers.PeepholeLSTM),
    "PeepholeLSTMCell": LayerCase(
        lambda **kwargs: layers.PeepholeLSTMCell(3, **kwargs),
        (STATES[:, 0], [STATES[:, 1, :3], STATES[:, 2, :3]]),
        time=False,
        not_by_design={"masks": "computes one time step; PeepholeLSTM has the mask"},
    ),
    "Pooling attention": pooling("attention"),
    "Pooling last": pooling("last", bidirectional=True),
    "Pooling several": pooling("mean+max+sum"),
    "PositionTable": part_of_aligner(lambda **kwargs: layers.PositionTable([(2, 3), (1, 1)], True, **kwargs)),
    "SimpleRNN": recurrent(layers.SimpleRNN),
    "Uniform": part_of_aligner(lambda **kwargs: layers.Uniform(0.2, **kwargs)),
    "WordDropout": LayerCase(lambda **kwargs: layers.WordDropout(0.5, seed=1, **kwargs), (WORDS,)),
    "WordSoftmax": LayerCase(
        lambda **kwargs: layers.WordSoftmax(9, **kwargs), (STATES,), float_output="float32", tolerance=0.1
    ),
    "WordSoftmax adaptive": LayerCase(
        lambda **kwargs: layers.WordSoftmax(9, "adaptive", cutoffs=[4, 7], **kwargs),
        (STATES,),
        float_output="float32",
        tolerance=0.2,
    ),
    # Models
    "FeedForwardLanguageModel": LayerCase(
        lambda **kwargs: layers.FeedForwardLanguageModel(
            9, context=3, units=5, dim=4, dropout=NO_DROPOUT, tied=True, softmax=SOFTMAX, **kwargs
        ),
        (WORDS,),
        float_output="float32",
        tolerance=0.1,
    ),
    "MaximumEntropyLanguageModel": LayerCase(
        lambda **kwargs: layers.MaximumEntropyLanguageModel(
            9, templates=["word[-1:0]", "word[-1]&word[0]"], words=9, buckets=64, **kwargs
        ),
        (WORDS,),
        float_output="float32",
        tolerance=0.1,
    ),
    "RecurrentLanguageModel": LayerCase(
        lambda **kwargs: layers.RecurrentLanguageModel(
            9, cell="peephole", layers=2, units=5, dim=4, dropout=NO_DROPOUT, tied=True, softmax=SOFTMAX, **kwargs
        ),
        (WORDS,),
        float_output="float32",
        tolerance=0.1,
    ),
    "NGram": LayerCase(
        lambda **kwargs: layers.NGram(9, 3, **kwargs), (WORDS,), prepare=counted_ngrams, float_output="float32"
    ),
    "Translator": LayerCase(
        lambda **kwargs: layers.Translator(
            9,
            encoder=RECURRENT | {"bidirectional": True},
            decoder=RECURRENT | {"attend_after": "first", "input_feeding": False},
            attention={"kind": "additive", "units": 4, "window": None},
            dim=4,
            dropout=NO_DROPOUT | {"word": 0.0},
            tied=True,
            label_smoothing=0.1,
            **kwargs,
        ),
        (PAIRS,),
        float_output="float32",
        tolerance=0.1,
    ),
    "VectorToText": LayerCase(
        lambda **kwargs: layers.VectorToText(
            9,
            9,
            units=5,
            decoder=RECURRENT | {"attend_after": "last", "input_feeding": False},
            attention={"kind": "general", "units": 4, "window": None},
            dim=4,
            dropout=NO_DROPOUT | {"word": 0.0},
            tied=True,
            label_smoothing=0.1,
            **kwargs,
        ),
        (PAIRS,),
        float_output="float32",
        tolerance=0.1,
    ),
    "WordAligner": LayerCase(
        lambda **kwargs: layers.WordAligner(5, 3, 4, {"ibm1": 2, "hmm": 1}, **kwargs),
        (),
        not_by_design={check: NO_BATCH_AXIS for check in CHECKS if check != "config"},
    ),
}


def parameter(name, case, check):
    reason = case.not_by_design.get(check)
    marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
    return pytest.param(case, check, id=f"{name}-{check}", marks=marks)


PARAMETERS = [parameter(name, case, check) for name, case in CASES.items() for check in CHECKS]


@pytest.mark.parametrize(("case", "check"), PARAMETERS)
def test_layer(case, check, tmp_path):
    run_layer_test(case, check, tmp_path)


def test_every_public_layer_has_a_case():
    public = {
        name
        for name in layers.__all__
        if inspect.isclass(getattr(layers, name)) and issubclass(getattr(layers, name), keras.layers.Layer)
    }
    # A functional model of two layers that have cases of their own; test_classical.py saves, loads and trains it.
    assert public - {name.split()[0] for name in CASES} == {"ExpectationMaximization"}
