"""Draw what a model computes: `trellis.show(trellis.load("exports/bilstm_crf"), "Mary flew to Lima.")`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from trellis.components.drawing.alignment_drawing import draw_alignment
from trellis.components.drawing.drawing import Drawing
from trellis.components.errors import InputError
from trellis.components.types import FilePath
from trellis.serve.export_model import Kind
from trellis.serve.model import Export, load

if TYPE_CHECKING:
    import keras

    from trellis.components.layers.ibm1 import IBM1

Pair: TypeAlias = tuple[str, str]

WORDS = 40  # maximum distinct words of a side that EM is drawn with


def show(
    model: "Export | FilePath | keras.Model | type[IBM1]",
    sentence: Any,
    *,
    tokenized: bool | None = None,
    tokens: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    threshold: float | None = None,
    iterations: int | None = None,
    null: bool | None = None,
) -> Drawing:
    """Draw what a model computes for a sentence, as an interactive page without outside addresses.

    A tagger's lattice: the score of each tag and of each pair of tags, forward and backward messages, posteriors, and
    Viterbi's best path, each number with the terms it is made of. A word aligner's posteriors for a sentence pair. The
    iterations of EM for IBM Model 1 on a small corpus.

    Args:
        model: the export of a tagger or of a word aligner, loaded or as its folder; a Keras model whose output is that
            of a `CRF`, `MEMM`, `HMM` or `IndependentTags`; or the class `trellis.IBM1`.
        sentence: for a tagger a text; for a word aligner `(source, target)`; for a Keras model its inputs, a batch of
            one sentence; for `trellis.IBM1` the corpus, `[(source, target), …]`. Words of sentence pairs are separated
            by spaces.
        tokenized: whether a text is tokens separated by single spaces (taggers; by default not).
        tokens: what to write over the time steps (Keras models).
        tags: the name of each tag (Keras models).
        threshold: leave out tags whose posterior is lower at every token (taggers and Keras models; 0.001).
        iterations: the number of iterations to draw (`trellis.IBM1`; 5).
        null: whether NULL generates words too (`trellis.IBM1`; by default it does).

    Returns:
        A `Drawing`, which a notebook displays, and whose `save(path)` writes a page.

    Raises:
        InputError: the model has no lattice, the sentence no tokens, or an argument is for other models.

    Example:

        trellis.show("exports/bilstm_crf", "Mary Smith flew from Oslo to Lima.")
        trellis.show("exports/ibm1", ("the red house", "la casa roja"))
        trellis.show(trellis.IBM1, [("b c", "x y"), ("b", "y")], iterations=3, null=False)
    """
    arguments = {
        "tokenized": tokenized, "tokens": tokens, "tags": tags, "threshold": threshold, "iterations": iterations,
        "null": null,
    }  # fmt: skip

    def allow(kind: str, *names: str) -> None:
        for name, value in arguments.items():
            if value is not None and name not in names:
                raise InputError(f"show: {name} has no effect on {kind}")

    threshold = 0.001 if threshold is None else threshold
    if isinstance(model, str | Path):
        model = load(model)
    if isinstance(model, Export):
        if model.kind is Kind.TAGGER:
            allow("the export of a tagger", "tokenized", "threshold")
            return _show_tagger(model, sentence, bool(tokenized), threshold)
        if model.kind is Kind.ALIGNER:
            allow("a word aligner")
            return _show_aligner(model, sentence)
        raise InputError(f"{model.version}: show draws taggers and word aligners, not {model.kind.value}")
    import keras

    from trellis.components.layers.ibm1 import IBM1

    if model is IBM1:
        allow("trellis.IBM1", "iterations", "null")
        return _show_em(sentence, 5 if iterations is None else iterations, null is not False)
    if isinstance(model, keras.Model):
        allow("a Keras model", "tokens", "tags", "threshold")
        return _show_keras(model, sentence, tokens, tags, threshold)
    raise InputError(f"show: {model!r} is neither an export, nor a Keras model, nor trellis.IBM1")


def _show_tagger(export: Export, sentence: str, tokenized: bool, threshold: float) -> Drawing:
    from trellis.components.drawing.lattice_drawing import draw_lattice
    from trellis.components.drawing.lattice_messages import lattice_messages

    if not isinstance(sentence, str):
        raise InputError(f"show: a tagger takes one text, not {sentence!r}")
    lattice = export.lattice(sentence, tokenized)
    if not lattice.tokens:
        raise InputError(f"show: {sentence!r} has no tokens")
    return draw_lattice(lattice_messages(lattice.unary, lattice.pairwise), lattice.tokens, lattice.tags, threshold)


def _show_keras(
    model: "keras.Model", inputs: Any, tokens: Sequence[str] | None, tags: Sequence[str] | None, threshold: float
) -> Drawing:
    from keras import ops

    from trellis.components.drawing.lattice_drawing import draw_lattice
    from trellis.components.drawing.lattice_messages import lattice_messages
    from trellis.components.layers.sequence_head import scoring_of

    scoring = scoring_of(model(inputs, training=False))
    if scoring is None:
        raise InputError(f"show: the output of {model.name} is not that of a CRF, MEMM, HMM or IndependentTags layer")
    unary, pairwise = map(ops.convert_to_numpy, scoring.head.lattice(scoring.emissions, scoring.lengths))
    lengths = ops.convert_to_numpy(scoring.lengths)
    if len(lengths) != 1 or not lengths[0]:
        raise InputError(
            f"show: the inputs are {len(lengths)} sentences of {lengths.sum()} tokens, expected one sentence"
        )
    length, size = int(lengths[0]), unary.shape[-1]
    tokens = list(tokens) if tokens is not None else [str(step + 1) for step in range(length)]
    tags = list(tags if tags is not None else scoring.head.tag_names or map(str, range(size)))
    if (len(tokens), len(tags)) != (length, size):
        raise InputError(
            f"show: {len(tokens)} tokens and {len(tags)} tags are named, the lattice has {length} and {size}"
        )
    return draw_lattice(lattice_messages(unary[0, :length], pairwise[0, : length - 1]), tokens, tags, threshold)


def _show_aligner(export: Export, pair: Pair) -> Drawing:
    if not _is_pair(pair):
        raise InputError(f"show: a word aligner takes (source, target), not {pair!r}")
    aligned = export.align(*pair)
    if aligned.forward is None or aligned.reverse is None or not aligned.forward.size:
        raise InputError("show: a side has no words, or too many")
    return draw_alignment(aligned.source, aligned.target, aligned.forward, aligned.reverse, aligned.links)


def _show_em(pairs: Sequence[Pair], iterations: int, null: bool) -> Drawing:
    from trellis.components.drawing.em_drawing import draw_em
    from trellis.components.drawing.em_steps import em_steps

    if isinstance(pairs, str) or not pairs or not all(map(_is_pair, pairs)):
        raise InputError("show: trellis.IBM1 takes a corpus, [(source, target), …]")
    if iterations < 1:
        raise InputError(f"show: iterations={iterations}: must be at least 1")
    corpus = [(source.split(), target.split()) for source, target in pairs]
    for source, target in corpus:
        if not source or not target:
            raise InputError(f"show: a side of {(' '.join(source), ' '.join(target))} has no words")
    for side in (0, 1):
        distinct = len({word for pair in corpus for word in pair[side]})
        if distinct > WORDS:
            raise InputError(f"show: EM is drawn for at most {WORDS} words of a side; these pairs have {distinct}")
    return draw_em(em_steps(corpus, iterations, null))


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(side, str) for side in value)
