"""A tagger as a SavedModel: strings in, tags out, and nothing but TensorFlow inside."""

import keras
import tensorflow as tf

from trellis.components.saved_model.request_batching import joined
from trellis.components.text.tokenizer import tokenize


class TaggerModule(tf.Module):
    """Signatures of a tagger.

    `serving_default`: `tokens (batch, time)` strings, padded with `""` on the right, to `tags (batch, time)` strings
    and `confidence (batch, time)`, the posterior probability of each tag; `""` and 0 at padded positions.
    `from_text`: `text (batch,)` strings to `tokens`, `tags` and `confidence`.
    Where feature templates ask for columns, a token is the word and what these say of it, with a tab before each.

    Args:
        model: the model of `trellis.components.models.tagger`.
        vectorizer: the `TokenVectorizer` it was trained with.
        tags: the tag to give out for each tag id.
        tokenizer: how `from_text` splits, see `trellis.components.text.tokenizer`.
    """

    def __init__(self, model, vectorizer, tags, tokenizer):
        super().__init__(name="tagger")
        self.vectorizer = vectorizer
        head, scorer = model.get_layer("head"), keras.Model(model.inputs, model.get_layer("emissions").output)
        # The variables by themselves: a SavedModel keeps no Keras objects, nor does it look into functions for them.
        self._layers = lambda: (head, scorer)
        self.parameters = [variable.value for variable in model.variables]
        self._tags = tf.constant(["", *tags])
        self._tokenizer = tokenizer

        self.serving_default = tf.function(
            self._tag_tokens, input_signature=[tf.TensorSpec([None, None], tf.string, name="tokens")]
        )
        text = [tf.TensorSpec([None], tf.string, name="text")]
        self.from_text = tf.function(joined(self._tag_text, _trimmed), input_signature=text)

    def _tag_tokens(self, tokens):
        # No time steps at all, as for one empty sentence, would leave the recursions nothing to start from.
        time = tf.shape(tokens)[1]
        padded = tf.pad(tokens, [[0, 0], [0, tf.cast(time == 0, tf.int32)]], constant_values="")
        # Real tokens are those before the last non-empty one: an empty token between others is a token.
        ends = tf.where(padded != "", tf.range(1, tf.shape(padded)[1] + 1), 0)
        lengths = tf.reduce_max(ends, axis=1)
        valid = tf.sequence_mask(lengths, tf.shape(padded)[1])
        readable = tf.where(valid & (padded == ""), " ", padded)
        if self.vectorizer.columns:
            missing = "a token is WORD{}, with a tab before each column".format(
                "".join(f" {name}" for name in self.vectorizer.columns)
            )
            tabs = tf.strings.length(tf.strings.regex_replace(padded, "[^\t]", ""))
            tf.debugging.assert_equal(tabs, tf.where(padded == "", 0, len(self.vectorizer.columns)), missing)
        head, scorer = self._layers()
        emissions = scorer(self.vectorizer(readable), training=False)
        best = head.decode(emissions, lengths)
        confidence = tf.gather(head.marginals(emissions, lengths), best, batch_dims=2)
        tags = tf.gather(self._tags, tf.where(valid, best + 1, 0))
        return {"tags": tags[:, :time], "confidence": confidence[:, :time]}

    def _tag_text(self, text):
        tokens = tokenize(text, self._tokenizer)
        return {"tokens": tokens, **self._tag_tokens(tokens)}

    def examples(self, texts):
        """Requests about tokenised sentences: `{signature: {input: value}}`."""
        rows = [text.split(" ") for text in texts]
        width = max(map(len, rows))
        return {
            "serving_default": {"tokens": [row + [""] * (width - len(row)) for row in rows]},
            "from_text": {"text": texts},
        }

    def save(self, path):
        """Writes the SavedModel; no XLA, no gradients and no Python ops go in."""
        signatures = {"serving_default": self.serving_default, "from_text": self.from_text}
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(self, str(path), signatures=signatures, options=options)


def _trimmed(outputs):
    """As wide as its own longest sentence."""
    tokens = outputs["tokens"]
    width = tf.reduce_max(tf.where(tokens != "", tf.range(1, tf.shape(tokens)[1] + 1), 0))
    return {name: values[:, :width] for name, values in outputs.items()}
