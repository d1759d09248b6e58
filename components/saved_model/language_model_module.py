"""A language model as a SavedModel: text in, text and probabilities out, and nothing but TensorFlow inside."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from trellis.components import generation, transfer
from trellis.components.saved_model.request_batching import joined
from trellis.components.text.stream import BOUNDARY, spelled
from trellis.components.text.vectorizer import UNKNOWN

_STEPS = 64  # of a text that are scored at once


class LanguageModelModule(tf.Module):
    """Signatures of a language model.

    `serving_default`: `prompt (batch,)` strings to `text (batch,)`, how the model goes on (without the prompt, with
    the space between), with the settings of the configuration.
    `generate`: `prompt`, `seed (batch,)` int64 and the scalars `count` int32, `temperature`, `top_k` int32, `top_p`,
    `repetition` to `text`.
    `beam`: `prompt` and the scalars `count`, `width` int32 to `text` and its `log_probability (batch,)`.
    `score`: `text (batch,)` to `log_probability (batch,)`, in nats, `tokens (batch,)`, the end included, and how many
    of them are `unknown`.
    `next`: `prompt` and the scalar `count` to the most probable `tokens (batch, count)` and `probabilities`.

    Args:
        reader: a language model of `trellis.components.models`.
        vectorizer: the `TokenVectorizer` it was trained with.
        unit: `words` or `characters`.
        settings: of `serving_default`, the scalars of `generate`.
        stops: whether the end of a line ends what is generated.
        says_unknown: whether `<unk>` may be generated.
    """

    def __init__(self, reader, vectorizer, unit, settings, stops=True, says_unknown=False):
        super().__init__(name="language_model")
        self.vectorizer = vectorizer
        # The variables by themselves: a SavedModel keeps no Keras objects, nor does it look into functions for them.
        self._reader = lambda: reader
        self.parameters = [variable.value for variable in reader.variables]
        self._characters = unit == "characters"
        self._words = tf.constant(spelled(vectorizer))
        self._settings = dict(settings)
        self._end = BOUNDARY if stops else None
        self._banned = () if says_unknown else (UNKNOWN,)

        def scalar(name, dtype=tf.int32):
            return tf.TensorSpec([], dtype, name=name)

        prompt = tf.TensorSpec([None], tf.string, name="prompt")
        self.serving_default = tf.function(joined(self._go_on), input_signature=[prompt])
        self.generate = tf.function(
            self._generate,
            input_signature=[
                prompt,
                tf.TensorSpec([None], tf.int64, name="seed"),
                scalar("count"),
                scalar("temperature", tf.float32),
                scalar("top_k"),
                scalar("top_p", tf.float32),
                scalar("repetition", tf.float32),
            ],
        )
        self.beam = tf.function(self._beam, input_signature=[prompt, scalar("count"), scalar("width")])
        text = tf.TensorSpec([None], tf.string, name="text")
        self.score = tf.function(joined(self._score), input_signature=[text])
        self.next = tf.function(self._next, input_signature=[prompt, scalar("count")])

    def _encoded(self, texts):
        """Ids `(batch, time)` of texts after the boundary, padded on the right, and their lengths."""
        if self._characters:
            tokens = tf.strings.unicode_split(texts, "UTF-8")
        else:
            tokens = tf.strings.split(texts, " ")
            tokens = tf.ragged.boolean_mask(tokens, tokens != "")
        ids = tokens.with_values(self.vectorizer.word_ids(tokens.values))
        lengths = tf.cast(ids.row_lengths(), tf.int32) + 1
        return tf.pad(ids.to_tensor(0), [[0, 0], [1, 0]], constant_values=BOUNDARY), lengths

    def _written(self, ids):
        """Texts of ids `(batch, time)`, 0 at padding."""
        if self._end is not None:
            ids = tf.where(ids == self._end, 0, ids)
        words = tf.gather(self._words, ids)
        words = tf.RaggedTensor.from_tensor(words, lengths=tf.math.count_nonzero(ids, axis=1))
        return tf.strings.reduce_join(words, axis=1, separator="" if self._characters else " ")

    def _continued(self, prompt, ids):
        """Texts of ids as they follow a prompt: after a space, where words follow a word."""
        text = self._written(ids)
        if self._characters:
            return text
        apart = (prompt == "") | tf.strings.regex_full_match(prompt, "(?s).* ") | (text == "")
        return tf.strings.join([tf.where(apart, "", " "), text])

    def _go_on(self, prompt):
        return self._generate(prompt, tf.zeros_like(prompt, tf.int64), **self._settings)

    def _generate(self, prompt, seed, count, temperature, top_k, top_p, repetition):
        ids, lengths = self._encoded(prompt)
        settings = {"count": count, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        generated = generation.sample(
            self._reader(), ids, lengths, seed, **settings, repetition=repetition, banned=self._banned, end=self._end
        )
        return {"text": self._continued(prompt, generated)}

    def _beam(self, prompt, count, width):
        ids, lengths = self._encoded(prompt)
        generated, scores = generation.beam_search(
            self._reader(), ids, lengths, count=count, width=width, banned=self._banned, end=self._end
        )
        return {"text": self._continued(prompt, generated), "log_probability": scores}

    def _score(self, text):
        before, lengths = self._encoded(text)
        targets = tf.pad(before[:, 1:], [[0, 0], [0, 1]])
        targets += BOUNDARY * tf.one_hot(lengths - 1, tf.shape(targets)[1], dtype=tf.int32)
        time = tf.shape(before)[1]
        rest = -time % _STEPS
        before, targets = (tf.pad(each, [[0, 0], [0, rest]]) for each in (before, targets))

        def step(first, states, total):
            inputs, wanted = (each[:, first : first + _STEPS] for each in (before, targets))
            features, states = self._reader().read(inputs, states)
            found = self._reader().token_log_probabilities(features, wanted)
            return first + _STEPS, states, total + tf.reduce_sum(tf.where(wanted == 0, 0.0, found), axis=1)

        states = self._reader().initial_states(tf.shape(text)[0])
        total = tf.zeros(tf.shape(text))
        _, _, total = tf.while_loop(lambda first, *_: first < time, step, (0, states, total))
        unknown = tf.math.count_nonzero(before == UNKNOWN, axis=1, dtype=tf.int32)
        return {"log_probability": total, "tokens": lengths, "unknown": unknown}

    def _next(self, prompt, count):
        ids, lengths = self._encoded(prompt)
        features, _ = generation.after(self._reader(), ids, lengths)
        top = tf.math.top_k(
            tf.exp(self._reader().log_probabilities(features)), tf.minimum(count, self._reader().vocabulary)
        )
        return {"tokens": tf.gather(self._words, top.indices), "probabilities": top.values}

    def examples(self, texts):
        """Requests about texts: `{signature: {input: value}}`."""
        settings = {
            name: np.array(value, np.float32 if name in ("temperature", "top_p", "repetition") else np.int32)
            for name, value in self._settings.items()
        }
        few, seeds = np.array(8, np.int32), np.arange(len(texts), dtype=np.int64)
        return {
            "serving_default": {"prompt": texts},
            "generate": {"prompt": texts, "seed": seeds, **settings, "count": few},
            "beam": {"prompt": texts, "count": few, "width": np.array(3, np.int32)},
            "score": {"text": texts},
            "next": {"prompt": texts, "count": few},
        }

    def save(self, path):
        """Writes the SavedModel, and beside it what `init_from` wants; no XLA, no gradients, no Python ops go in."""
        names = ("serving_default", "generate", "beam", "score", "next")
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(self, str(path), signatures={name: getattr(self, name) for name in names}, options=options)
        plan = transfer.described(self._reader(), self.vectorizer.words)
        if plan is not None:
            target = Path(path) / transfer.PRETRAINED
            target.parent.mkdir(exist_ok=True)
            target.write_text(json.dumps(plan, ensure_ascii=False), encoding="utf-8")
