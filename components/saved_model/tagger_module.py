"""A tagger as a SavedModel: strings in, tags out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trellis.components.saved_model.export_module import ExportModule, Requests
from trellis.components.saved_model.request_batching import batched
from trellis.components.text.tokenizer import tokenize
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.components.types import Emissions, Lengths, Strings, Tensor


class TaggerModule(ExportModule):
    """The signatures of a tagger.

    `serving_default` maps `tokens (batch, time)` strings, padded with `""` on the right, to `tags (batch, time)`
    strings and `confidence (batch, time)`, the posterior probability of each tag; `""` and 0 at padding.
    `from_text` maps `text (batch,)` strings to `tokens`, `tags` and `confidence`.
    `lattice` maps `tokens (batch, time)` to the scores that tags are chosen by: `unary (batch, time, tags)` and
    `pairwise (batch, time - 1, tags, tags)`, see `SequenceHead.lattice`, and the `names (batch, tags)` of the tags.
    Marginals, k best paths and samples follow from them by `trellis.lattice`.
    If feature templates refer to columns, a token is the word followed by its value in each column, with a tab before
    each value.

    Args:
        model: the model of `trellis.components.models.tagger`.
        vectorizer: the vectorizer it was trained with.
        tags: the tag to return for each tag id.
        tokenizer: how `from_text` splits texts, see `trellis.components.text.tokenizer`.
    """

    def __init__(self, model: keras.Model, vectorizer: TokenVectorizer, tags: Iterable[str], tokenizer: str) -> None:
        super().__init__(name="tagger")
        self.vectorizer = vectorizer
        head, scorer = model.get_layer("head"), keras.Model(model.inputs, model.get_layer("emissions").output)
        # Inside a function, so that Keras objects are not stored.
        self._layers: Callable[[], tuple[Any, keras.Model]] = lambda: (head, scorer)
        self.parameters = [variable.value for variable in model.variables]
        self._tags = tf.constant(["", *tags])
        self._tokenizer = tokenizer
        self.serving_default = tf.function(
            self._tag_tokens, input_signature=[tf.TensorSpec([None, None], tf.string, name="tokens")]
        )
        self.lattice = tf.function(self._score_tokens, input_signature=self.serving_default.input_signature)
        text = [tf.TensorSpec([None], tf.string, name="text")]
        self.from_text = tf.function(batched(self._tag_text, _trim), input_signature=text)

    def _emissions(self, tokens: Strings) -> tuple[Emissions, Lengths]:
        """Return the emissions of tokens `(batch, time)`, at least one time step, and the lengths."""
        # Pad to at least one time step: a single empty sentence would leave the recursions nothing to start from.
        time = tf.shape(tokens)[1]
        padded = tf.pad(tokens, [[0, 0], [0, tf.cast(time == 0, tf.int32)]], constant_values="")
        # Tokens up to the last non-empty one are real: an empty token between others is a token.
        ends = tf.where(padded != "", tf.range(1, tf.shape(padded)[1] + 1), 0)
        lengths = tf.reduce_max(ends, axis=1)
        mask = tf.sequence_mask(lengths, tf.shape(padded)[1])
        readable = tf.where(mask & (padded == ""), " ", padded)
        if self.vectorizer.columns:
            names = "".join(f" {name}" for name in self.vectorizer.columns)
            tabs = tf.strings.length(tf.strings.regex_replace(padded, "[^\t]", ""))
            tf.debugging.assert_equal(
                tabs,
                tf.where(padded == "", 0, len(self.vectorizer.columns)),
                f"a token is WORD{names}, with a tab before each column",
            )
        _, scorer = self._layers()
        return scorer(self.vectorizer(readable), training=False), lengths

    def _tag_tokens(self, tokens: Strings) -> dict[str, Tensor]:
        emissions, lengths = self._emissions(tokens)
        head, _ = self._layers()
        best = head.decode(emissions, lengths)
        confidence = tf.gather(head.marginals(emissions, lengths), best, batch_dims=2)
        mask = tf.sequence_mask(lengths, tf.shape(best)[1])
        tags = tf.gather(self._tags, tf.where(mask, best + 1, 0))
        time = tf.shape(tokens)[1]
        return {"tags": tags[:, :time], "confidence": confidence[:, :time]}

    def _score_tokens(self, tokens: Strings) -> dict[str, Tensor]:
        emissions, lengths = self._emissions(tokens)
        head, _ = self._layers()
        unary, pairwise = head.lattice(emissions, lengths)
        names = tf.repeat(self._tags[tf.newaxis, 1:], tf.shape(tokens)[0], axis=0)
        return {"unary": unary[:, : tf.shape(tokens)[1]], "pairwise": pairwise, "names": names}

    def _tag_text(self, text: Strings) -> dict[str, Tensor]:
        tokens = tokenize(text, self._tokenizer)
        return {"tokens": tokens, **self.serving_default(tokens)}  # called, not traced again

    def signatures(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return the function of each signature."""
        return {"serving_default": self.serving_default, "from_text": self.from_text, "lattice": self.lattice}

    def examples(self, texts: Sequence[str]) -> Requests:
        """Return a request to each signature about sentences with a space between tokens."""
        rows = [text.split(" ") for text in texts]
        width = max(map(len, rows))
        tokens = {"tokens": [row + [""] * (width - len(row)) for row in rows]}
        return {"serving_default": tokens, "from_text": {"text": texts}, "lattice": tokens}


def _trim(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut outputs `(batch, time)` to their own longest sentence."""
    tokens = outputs["tokens"]
    width = tf.reduce_max(tf.where(tokens != "", tf.range(1, tf.shape(tokens)[1] + 1), 0))
    return {name: values[:, :width] for name, values in outputs.items()}
