"""A language model as a SavedModel: text in, text and probabilities out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trellis.components import generation, transfer
from trellis.components.layers.stored_weights import restoring
from trellis.components.models.language_model import LanguageModel
from trellis.components.saved_model.export_module import ExportModule, Requests
from trellis.components.saved_model.request_batching import batched
from trellis.components.saved_model.scalar_inputs import check_in_graph
from trellis.components.text.stream import BOUNDARY, spellings
from trellis.components.text.tokenizer import split_at_spaces
from trellis.components.text.vectorizer import UNKNOWN, TokenVectorizer
from trellis.components.types import FilePath, Lengths, Strings, Tensor, TokenIds

_STEPS = 64  # time steps of a text that are scored at once


class LanguageModelModule(ExportModule):
    """The signatures of a language model.

    `serving_default` maps `prompt (batch,)` strings to `text (batch,)`, the continuation without the prompt but with
    the space between them, generated with the settings of the configuration.
    `generate` maps `prompt`, `seed (batch,)` int64 and the scalars `count` int32, `temperature`, `top_k` int32,
    `top_p` and `repetition` to `text`.
    `beam` maps `prompt` and the scalars `count` and `width` int32 to `text` and its `log_probability (batch,)`.
    `score` maps `text (batch,)` to `log_probability (batch,)` in nats, the number of `tokens (batch,)`, the end
    included, and how many of them are `unknown`.
    `next` maps `prompt` and the scalar `count` to the most probable `tokens (batch, count)` and their `probabilities`.

    Args:
        model: the language model.
        vectorizer: the vectorizer it was trained with.
        unit: `words` or `characters`.
        settings: the scalars of `generate` that `serving_default` uses.
        stops: whether generation stops at the end of a line.
        says_unknown: whether `<unk>` may be generated.
    """

    def __init__(
        self,
        model: LanguageModel,
        vectorizer: TokenVectorizer,
        unit: str,
        settings: Mapping[str, float],
        stops: bool = True,
        says_unknown: bool = False,
    ) -> None:
        super().__init__(name="language_model")
        self.vectorizer = vectorizer
        # Inside a function, so that Keras objects are not stored.
        self._model: Callable[[], LanguageModel] = lambda: model
        self.parameters = [variable.value for variable in model.variables]
        self._characters = unit == "characters"
        self._words = tf.constant(spellings(vectorizer))
        self._settings = dict(settings)
        self._end = BOUNDARY if stops else None
        self._banned = () if says_unknown else (UNKNOWN,)

        def scalar(name: str, dtype: tf.DType = tf.int32) -> tf.TensorSpec:
            return tf.TensorSpec([], dtype, name=name)

        prompt = tf.TensorSpec([None], tf.string, name="prompt")
        self.serving_default = tf.function(batched(self._continue), input_signature=[prompt], autograph=False)
        self.generate = tf.function(
            restoring(self._generate),
            autograph=False,
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
        self.beam = tf.function(self._beam, input_signature=[prompt, scalar("count"), scalar("width")], autograph=False)
        text = tf.TensorSpec([None], tf.string, name="text")
        self.score = tf.function(batched(self._score), input_signature=[text], autograph=False)
        self.next = tf.function(self._next, input_signature=[prompt, scalar("count")], autograph=False)

    def _encode(self, texts: Strings) -> tuple[TokenIds, Lengths]:
        """Return the ids `(batch, time)` of texts after the boundary, padded on the right, and their lengths."""
        tokens = tf.strings.unicode_split(texts, "UTF-8") if self._characters else split_at_spaces(texts)
        ids = tokens.with_values(self.vectorizer.word_ids(tokens.values))
        lengths = tf.cast(ids.row_lengths(), tf.int32) + 1
        return tf.pad(ids.to_tensor(0), [[0, 0], [1, 0]], constant_values=BOUNDARY), lengths

    def _decode(self, ids: TokenIds) -> Strings:
        """Return the texts of ids `(batch, time)`, 0 at padding."""
        if self._end is not None:
            ids = tf.where(ids == self._end, 0, ids)
        words = tf.gather(self._words, ids)
        words = tf.RaggedTensor.from_tensor(words, lengths=tf.math.count_nonzero(ids, axis=1))
        return tf.strings.reduce_join(words, axis=1, separator="" if self._characters else " ")

    def _continuation(self, prompt: Strings, ids: TokenIds) -> Strings:
        """Return the texts of ids as they follow a prompt: with a space first if words follow a word."""
        text = self._decode(ids)
        if self._characters:
            return text
        separated = (prompt == "") | tf.strings.regex_full_match(prompt, "(?s).* ") | (text == "")
        return tf.strings.join([tf.where(separated, "", " "), text])

    def _continue(self, prompt: Strings) -> dict[str, Tensor]:
        # Called, not traced again.
        return self.generate(prompt, tf.zeros_like(prompt, tf.int64), **self._typed_settings())

    def _generate(
        self,
        prompt: Strings,
        seed: Tensor,
        count: Tensor,
        temperature: Tensor,
        top_k: Tensor,
        top_p: Tensor,
        repetition: Tensor,
    ) -> dict[str, Tensor]:
        check_in_graph(count=count, temperature=temperature, top_k=top_k, top_p=top_p, repetition=repetition)
        ids, lengths = self._encode(prompt)
        generated = generation.sample(
            self._model(),
            ids,
            lengths,
            seed,
            count=count,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition=repetition,
            banned=self._banned,
            end=self._end,
        )
        return {"text": self._continuation(prompt, generated)}

    def _beam(self, prompt: Strings, count: Tensor, width: Tensor) -> dict[str, Tensor]:
        check_in_graph(count=count, width=width)
        ids, lengths = self._encode(prompt)
        generated, scores = generation.best_continuation(
            self._model(), ids, lengths, count=count, width=width, banned=self._banned, end=self._end
        )
        return {"text": self._continuation(prompt, generated), "log_probability": scores}

    def _score(self, text: Strings) -> dict[str, Tensor]:
        inputs, lengths = self._encode(text)
        targets = tf.pad(inputs[:, 1:], [[0, 0], [0, 1]])
        targets += BOUNDARY * tf.one_hot(lengths - 1, tf.shape(targets)[1], dtype=tf.int32)
        time = tf.shape(inputs)[1]
        inputs, targets = (tf.pad(ids, [[0, 0], [0, -time % _STEPS]]) for ids in (inputs, targets))

        def step(first: Tensor, states: Any, total: Tensor) -> tuple[Tensor, Any, Tensor]:
            step_inputs, step_targets = (ids[:, first : first + _STEPS] for ids in (inputs, targets))
            features, states = self._model().read(step_inputs, states)
            scores = self._model().token_log_probabilities(features, step_targets)
            return first + _STEPS, states, total + tf.reduce_sum(tf.where(step_targets == 0, 0.0, scores), axis=1)

        states = self._model().initial_states(tf.shape(text)[0])
        total = tf.zeros(tf.shape(text))
        _, _, total = tf.while_loop(lambda first, *_: first < time, step, (0, states, total))
        unknown = tf.math.count_nonzero(inputs == UNKNOWN, axis=1, dtype=tf.int32)
        return {"log_probability": total, "tokens": lengths, "unknown": unknown}

    def _next(self, prompt: Strings, count: Tensor) -> dict[str, Tensor]:
        check_in_graph(count=count)
        ids, lengths = self._encode(prompt)
        features, _ = generation.after(self._model(), ids, lengths)
        probabilities = tf.exp(self._model().log_probabilities(features))
        top = tf.math.top_k(probabilities, tf.minimum(count, self._model().vocabulary))
        return {"tokens": tf.gather(self._words, top.indices), "probabilities": top.values}

    def signatures(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return the function of each signature."""
        return {
            "serving_default": self.serving_default,
            "generate": self.generate,
            "beam": self.beam,
            "score": self.score,
            "next": self.next,
        }

    def examples(self, texts: Sequence[str]) -> Requests:
        """Return a request to each signature about texts."""
        settings = self._typed_settings()
        count, seeds = np.array(8, np.int32), np.arange(len(texts), dtype=np.int64)
        return {
            "serving_default": {"prompt": texts},
            "generate": {"prompt": texts, "seed": seeds, **settings, "count": count},
            "beam": {"prompt": texts, "count": count, "width": np.array(3, np.int32)},
            "score": {"text": texts},
            "next": {"prompt": texts, "count": count},
        }

    def _typed_settings(self) -> dict[str, np.ndarray]:
        """Return the settings of generation as the signatures take them."""
        return {
            name: np.array(value, np.float32 if name in ("temperature", "top_p", "repetition") else np.int32)
            for name, value in self._settings.items()
        }

    def save(self, path: FilePath) -> None:
        """Write the SavedModel, and next to it what `init_from` needs to start from this model."""
        super().save(path)
        plan = transfer.variable_plan(self._model(), self.vectorizer.words)
        if plan is not None:
            target = Path(path) / transfer.PRETRAINED
            target.parent.mkdir(exist_ok=True)
            target.write_text(json.dumps(plan, ensure_ascii=False), encoding="utf-8")
