"""A translator as a SavedModel: text in, its translations out, with scores, attention and alignments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trellis.components.layers.stored_weights import restoring
from trellis.components.models import decoding
from trellis.components.models.encoder_decoder import EncoderDecoder, Memory
from trellis.components.saved_model.export_module import ExportModule, Requests
from trellis.components.saved_model.request_batching import batched
from trellis.components.saved_model.scalar_inputs import check_in_graph
from trellis.components.text.subwords import END, PAD, UNKNOWN, Subwords
from trellis.components.text.vocabulary import Vocabulary
from trellis.components.text.word_membership import word_membership
from trellis.components.types import Lengths, States, Strings, Tensor, TokenIds

FLOATS = ("alpha", "coverage", "channel", "temperature", "top_p")


class TranslatorModule(ExportModule):
    """The signatures of a translator.

    `serving_default` maps `text (batch,)` strings to `text (batch,)`, the best translation with the settings of the
    configuration.
    `translate` maps `text` and the scalars `width`, `best`, `count`, `minimum`, `no_repeat` int32, `alpha` and
    `coverage` float32 (see `decoding.translate`) to the `best` translations, best first: `text (batch, best)`, `score
    (batch, best)` that they are ordered by, `log_probability (batch, best)` in nats, the subwords `pieces (batch, best,
    time)` with the end, padded with "", and `piece_log_probability (batch, best, time)`. With attention there are also
    `source_pieces (batch, source)`, `attention (batch, best, time, source)` and `alignment (batch, best)`: for each
    word of the translation the source word that was attended to most, `0-0 2-1`, source first.
    `sample` maps `text`, `seed (batch,)` int64 and the scalars `count`, `temperature`, `top_k` and `top_p` to `text`,
    drawn from the model.
    `score` maps `text` and `translation (batch,)` to `log_probability (batch,)` and the number of `tokens (batch,)`,
    the end included.
    `align`, with attention, maps `text` and `translation` to `source_pieces`, `pieces (batch, time)`, `attention
    (batch, time, source)` and `alignment (batch,)`.

    Words are separated by spaces. The translation of a text without words is empty. No translation has more subwords
    than 1.5 × those of its text + 10, except in `sample`, where only `count` limits them.

    Args:
        model: a model of texts.
        source: what turns texts into ids.
        target: subwords of the translations.
        settings: the scalars of `translate` that `serving_default` uses, without `best`.

    Attributes:
        SETTINGS: the scalars of `translate`.
    """

    SETTINGS: tuple[str, ...] = ("width", "best", "count", "minimum", "no_repeat", "alpha", "coverage")

    def __init__(
        self,
        model: EncoderDecoder,
        source: Vocabulary,
        target: Subwords,
        settings: Mapping[str, float],
    ) -> None:
        super().__init__(name="translator")
        self.source, self.target = source, target
        # Inside a function, so that Keras objects are not stored.
        self._model: Callable[[], EncoderDecoder] = lambda: model
        self.parameters = [variable.value for variable in model.variables]
        self._attends = model.attention is not None
        self._settings = dict(settings)
        # The unknown piece has no text, so it is never generated.
        self._banned = () if target.model.byte_fallback else (UNKNOWN,)

        def scalars(*names: str) -> list[tf.TensorSpec]:
            return [tf.TensorSpec([], tf.float32 if name in FLOATS else tf.int32, name=name) for name in names]

        text, translation = (tf.TensorSpec([None], tf.string, name=name) for name in ("text", "translation"))
        seed = tf.TensorSpec([None], tf.int64, name="seed")
        self.serving_default = tf.function(self._checked(batched(self._best)), input_signature=[text], autograph=False)
        self.translate = tf.function(
            self._checked(self._translate), input_signature=[text, *scalars(*self.SETTINGS)], autograph=False
        )
        self.sample = tf.function(
            self._checked(self._sample),
            input_signature=[text, seed, *scalars("count", "temperature", "top_k", "top_p")],
            autograph=False,
        )
        self.score = tf.function(
            self._checked(batched(self._score)), input_signature=[text, translation], autograph=False
        )
        # Traced once for all signatures that need them.
        self._read = tf.function(restoring(self._read_texts), input_signature=[text], autograph=False)
        self._target_ids = tf.function(self._read_translations, input_signature=[text, translation], autograph=False)
        self._force = tf.function(
            restoring(lambda encoded, target: decoding.force(self._model(), encoded, target)), autograph=False
        )
        if self._attends:  # every function of a module is traced when it is saved
            self.align = tf.function(self._checked(self._align), input_signature=[text, translation], autograph=False)

    # What differs between texts and attributes

    def _checked(self, function: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
        """Return a function that refuses texts that the model cannot read; any text can be read as subwords."""
        return function

    def _limits(self, source: TokenIds, count: Tensor) -> Lengths | Tensor:
        """Return the maximum length of the translation of each source."""
        return decoding.longest(source, count)

    def _abstract(self, text: Strings, translation: Strings) -> Strings:
        """Return translations as the model writes them."""
        del text
        return translation

    def _finished(self, text: Strings, found: Strings) -> Strings:
        """Return what the model wrote, `(batch, …)` strings, as translations."""
        del text
        return found

    def _source_words(self, source: TokenIds) -> Tensor:
        """Return which word each source piece belongs to, `(batch, source, words)`, 1 or 0."""
        return word_membership(self.source, source)

    def _encode(self, texts: Strings, subwords: Vocabulary) -> TokenIds:
        """Return the ids of texts with their ends, `(batch, time)`."""
        ids = subwords.encode(texts)
        return tf.concat([ids, tf.fill([tf.shape(texts)[0], 1], END)], axis=1).to_tensor(PAD)

    def _read_texts(self, text: Strings) -> tuple[TokenIds, tuple[Memory, States]]:
        """Return the ids of texts, and what the model computes of them."""
        ids = self._encode(text, self.source)
        return ids, self._model().encode(ids)

    def _read_translations(self, text: Strings, translation: Strings) -> TokenIds:
        return self._encode(self._abstract(text, translation), self.target)

    def _texts(self, text: Strings, ids: TokenIds) -> Strings:
        """Return the texts of ids `(batch, …, time)`; "" where there is nothing to translate."""
        found = self._finished(text, self.target.decode(ids))
        empty = tf.strings.strip(text) == ""
        return tf.where(tf.reshape(empty, [-1] + [1] * (found.shape.rank - 1)), "", found)

    def _best(self, text: Strings) -> dict[str, Tensor]:
        source, encoded = self._read(text)
        settings = self._settings | {"count": self._limits(source, self._settings["count"])}
        found = decoding.translate(self._model(), encoded, banned=self._banned, **settings)
        return {"text": self._texts(text, found.ids[:, 0])}

    def _translate(self, text: Strings, *scalars: Tensor) -> dict[str, Tensor]:
        settings = dict(zip(self.SETTINGS, scalars, strict=True))
        check_in_graph(**settings)
        tf.debugging.Assert(settings["best"] <= settings["width"], ["input 'best' must be at most 'width'"])
        source, encoded = self._read(text)
        settings["count"] = self._limits(source, settings["count"])
        found = decoding.translate(self._model(), encoded, banned=self._banned, **settings)
        forced = self._force(encoded, found.ids)
        answer = {
            "text": self._texts(text, found.ids),
            "score": found.scores,
            "log_probability": found.log_probabilities,
            "pieces": self.target.pieces_of(found.ids),
            "piece_log_probability": forced.log_probabilities,
        }
        if forced.weights is not None:
            answer |= {
                "source_pieces": self.source.pieces_of(source),
                "attention": forced.weights,
                "alignment": self._alignment(source, found.ids, forced.weights),
            }
        return answer

    def _sample(
        self, text: Strings, seed: Tensor, count: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor
    ) -> dict[str, Tensor]:
        check_in_graph(count=count, temperature=temperature, top_k=top_k, top_p=top_p)
        ids = decoding.sample(
            self._model(),
            self._read(text)[1],
            seed,
            count=count,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            banned=self._banned,
        )
        return {"text": self._texts(text, ids)}

    def _score(self, text: Strings, translation: Strings) -> dict[str, Tensor]:
        (_, encoded), target = self._read(text), self._target_ids(text, translation)
        forced = self._force(encoded, target)
        return {
            "log_probability": tf.reduce_sum(forced.log_probabilities, axis=1),
            "tokens": tf.math.count_nonzero(target, axis=1, dtype=tf.int32),
        }

    def _align(self, text: Strings, translation: Strings) -> dict[str, Tensor]:
        (source, encoded), target = self._read(text), self._target_ids(text, translation)
        weights = self._force(encoded, target).weights
        return {
            "source_pieces": self.source.pieces_of(source),
            "pieces": self.target.pieces_of(target),
            "attention": weights,
            "alignment": self._alignment(source, target[:, tf.newaxis], weights[:, tf.newaxis])[:, 0],
        }

    def links(self, text: Strings, translation: Strings, shift: int = 0) -> Strings:
        """Return the alignment of translations, `(batch,)` strings, by the attention when words are generated.

        Args:
            shift: 1 takes the attention of the step after each piece, which plain attention often lags to.
        """
        (source, encoded), target = self._read(text), self._target_ids(text, translation)
        forced = self._force(encoded, target)
        weights = forced.weights_after if shift else forced.weights
        return self._alignment(source, target[:, tf.newaxis], weights[:, tf.newaxis])[:, 0]

    def _alignment(self, source: TokenIds, target: TokenIds, weights: Tensor) -> Strings:
        """Return for each target word the source word with the highest attention, `(batch, best)` strings.

        Args:
            source: `(batch, source)`.
            target: `(batch, best, time)`.
            weights: `(batch, best, time, source)`.
        """
        source_words, target_words = self._source_words(source), word_membership(self.target, target)
        # The attention of words: from all pieces of the one to all pieces of the other.
        of_words = tf.einsum("bktw,bkts,bsv->bkwv", target_words, weights, source_words)
        attended = tf.argmax(of_words, axis=-1, output_type=tf.int32)
        has_link = (tf.reduce_max(target_words, axis=2) > 0) & (tf.reduce_max(of_words, axis=-1) > 0)
        positions = tf.broadcast_to(tf.range(tf.shape(attended)[2]), tf.shape(attended))
        links = tf.strings.join([tf.strings.as_string(attended), tf.strings.as_string(positions)], "-")
        ragged = tf.ragged.boolean_mask(links, has_link)
        flat = tf.strings.reduce_join(ragged.values, axis=-1, separator=" ")
        return tf.reshape(flat, tf.shape(attended)[:2])

    def signatures(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return the function of each signature."""
        functions: dict[str, Callable[..., dict[str, Any]]] = {
            "serving_default": self.serving_default,
            "translate": self.translate,
            "sample": self.sample,
            "score": self.score,
        }
        return functions | ({"align": self.align} if self._attends else {})

    def examples(self, texts: Sequence[tuple[str, str]]) -> Requests:
        """Return a request to each signature about pairs of a text and its translation."""
        text, translation = ([pair[side] for pair in texts] for side in (0, 1))
        settings = self._settings | {"best": min(2, int(self._settings["width"]))}
        scalars = {
            name: np.array(value, np.float32 if name in FLOATS else np.int32) for name, value in settings.items()
        }
        sampling = {"count": np.array(20, np.int32), "temperature": np.array(0.7, np.float32)}
        sampling |= {"top_k": np.array(0, np.int32), "top_p": np.array(0.9, np.float32)}
        both = {"text": text, "translation": translation}
        requests: Requests = {
            "serving_default": {"text": text},
            "translate": {"text": text, **scalars},
            "sample": {"text": text, "seed": np.arange(len(text), dtype=np.int64), **sampling},
            "score": both,
        }
        return requests | ({"align": both} if self._attends else {})
