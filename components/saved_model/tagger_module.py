"""A tagger as a SavedModel: strings in, tags and entities out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from trellis.components.layers.stored_weights import restoring
from trellis.components.metrics.calibration import Calibration
from trellis.components.models.second_reading import Lattice, SecondReading
from trellis.components.saved_model.entity_reader import EntityReader, widest
from trellis.components.saved_model.export_module import ExportModule, Requests
from trellis.components.saved_model.request_batching import batched
from trellis.components.text.document_evidence import document_evidence
from trellis.components.text.offsets import Offsets, joined, token_offsets
from trellis.components.text.tag_schemes import segments
from trellis.components.text.tokenizer import tokenize
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.components.types import Emissions, Lengths, Strings, Tensor

READINGS = 10  # of `n_best`


class TaggerModule(ExportModule):
    """The signatures of a tagger.

    `serving_default` maps `tokens (batch, time)` strings, padded with `""` on the right, to `tags (batch, time)`
    strings and `confidence (batch, time)`, the posterior probability of each tag; `""` and 0 at padding.
    `from_text` maps `text (batch,)` strings to `tokens`, `tags` and `confidence`, and to the place of each token:
    `start` and `end` in Unicode code points, `start_byte` and `end_byte`.
    `lattice` maps `tokens (batch, time)` to the scores that tags are chosen by: `unary (batch, time, tags)` and
    `pairwise (batch, time - 1, tags, tags)`, see `SequenceHead.lattice`, and the `names (batch, tags)` of the tags.
    Marginals, k best paths and samples follow from them by `trellis.lattice`.
    `n_best` maps `text (batch,)` to `tokens`, to the most probable `tags (batch, readings, time)`, best first, and to
    the `probability (batch, readings)` of each reading; `""` and 0 where there are fewer.
    `entities`, for tags of entities, maps `text (batch,)` and `threshold (batch,)` to the entities of the best tags,
    see `EntityReader.read`; `token_entities` takes `tokens` instead of `text`.
    `document`, for taggers with a second reading, maps `text (batch, sentences)`, a document in each row, padded with
    `""`, to `tokens`, `tags` and `confidence (batch, sentences, time)`, and to the places of tokens in their sentences.
    If feature templates refer to columns, a token is the word followed by its value in each column, with a tab before
    each value.

    Args:
        model: the model of `trellis.components.models.tagger`.
        vectorizer: the vectorizer it was trained with.
        tags: the tag to return for each tag id.
        tokenizer: how texts are split, see `trellis.components.text.tokenizer`.
        calibration: for tags of entities, in BIO2: turns posteriors into probabilities; None for other tags.
        second: reads sentences again, knowing the rest of their document.
    """

    def __init__(
        self,
        model: keras.Model,
        vectorizer: TokenVectorizer,
        tags: Sequence[str],
        tokenizer: str,
        calibration: Calibration | None = None,
        second: SecondReading | None = None,
    ) -> None:
        super().__init__(name="tagger")
        self.vectorizer = vectorizer
        head, scorer = model.get_layer("head"), keras.Model(model.inputs, model.get_layer("emissions").output)
        # Inside a function, so that Keras objects are not stored.
        self._layers: Callable[[], tuple[Any, keras.Model]] = lambda: (head, scorer)
        self.parameters = [variable.value for variable in model.variables]
        self._tags = tf.constant(["", *tags])
        self._tokenizer = tokenizer
        tokens = [tf.TensorSpec([None, None], tf.string, name="tokens")]
        text = [tf.TensorSpec([None], tf.string, name="text")]
        threshold = [tf.TensorSpec([None], tf.float32, name="threshold")]
        # All signatures call one function: the network is traced once.
        self._emissions = tf.function(restoring(self._score), input_signature=tokens, autograph=False)
        self.serving_default = tf.function(restoring(self._tag_tokens), input_signature=tokens, autograph=False)
        self.lattice = tf.function(self._score_tokens, input_signature=tokens, autograph=False)
        self.from_text = tf.function(batched(self._tag_text, _trim), input_signature=text, autograph=False)
        self.n_best = tf.function(batched(self._read_text, _trim), input_signature=text, autograph=False)
        self._of_entities: dict[str, Callable[..., dict[str, Any]]] = {}
        if calibration is not None:
            reader = EntityReader(segments(tags), calibration)
            self._reader: Callable[[], EntityReader] = lambda: reader
            places = [tf.TensorSpec([None, None], tf.int32)] * len(Offsets._fields)
            of_texts = [*tokens, *text, *threshold, *places]
            self._entities = tf.function(restoring(self._find_entities), input_signature=of_texts, autograph=False)
            self._of_entities = {
                "entities": tf.function(
                    batched(self._entities_of_text, widest), input_signature=[*text, *threshold], autograph=False
                ),
                "token_entities": tf.function(
                    self._entities_of_tokens, input_signature=[*tokens, *threshold], autograph=False
                ),
            }

        self._of_documents: dict[str, Callable[..., dict[str, Any]]] = {}
        if second is not None:
            self._second: Callable[[], SecondReading] = lambda: second
            self._read_again = tf.function(
                restoring(self._tag_again), input_signature=[*tokens, tf.TensorSpec([None], tf.int32)], autograph=False
            )
            documents = [tf.TensorSpec([None, None], tf.string, name="text")]
            self._of_documents = {
                "document": tf.function(self._tag_documents, input_signature=documents, autograph=False)
            }

    def _score(self, tokens: Strings) -> tuple[Emissions, Lengths]:
        """Return the emissions of tokens `(batch, time)`, at least one time step, and the lengths."""
        # Pad to at least one time step: a single empty sentence would leave the recursions nothing to start from.
        time = tf.shape(tokens)[1]
        padded = tf.pad(tokens, [[0, 0], [0, tf.cast(time == 0, tf.int32)]], constant_values="")
        lengths = _lengths(padded)
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
        offsets = token_offsets(text, tokens, self._tokenizer)
        return {"tokens": tokens, **self.serving_default(tokens), **offsets._asdict()}  # called, not traced again

    def _read_text(self, text: Strings) -> dict[str, Tensor]:
        tokens = tokenize(text, self._tokenizer)
        emissions, lengths = self._emissions(tokens)
        head, _ = self._layers()
        best, probabilities = head.readings(emissions, lengths, READINGS)
        real = tf.sequence_mask(lengths, tf.shape(best)[2])[:, tf.newaxis] & (probabilities > 0)[:, :, tf.newaxis]
        return {
            "tokens": tokens,
            "tags": tf.gather(self._tags, tf.where(real, best + 1, 0)),
            "probability": probabilities,
        }

    def _tag_documents(self, text: Strings) -> dict[str, Tensor]:
        shape = tf.shape(text)
        sentences = tf.reshape(text, [-1])
        tokens = tokenize(sentences, self._tokenizer)
        tags, confidence = self._read_again(tokens, tf.repeat(tf.range(shape[0]), shape[1]))
        offsets = token_offsets(sentences, tokens, self._tokenizer)
        outputs = {"tokens": tokens, "tags": tags, "confidence": confidence, **offsets._asdict()}
        return {name: tf.reshape(each, [*tf.unstack(shape), tf.shape(tokens)[1]]) for name, each in outputs.items()}

    def _tag_again(self, tokens: Strings, documents: Tensor) -> tuple[Tensor, Tensor]:
        """Return tags and confidence of the tokens of sentences `(sentences, time)`, each in a document."""
        emissions, lengths = self._emissions(tokens)
        head, _ = self._layers()
        unary, pairwise = head.lattice(emissions, lengths)
        real = tf.sequence_mask(lengths, tf.shape(unary)[1])
        time = tf.shape(tokens)[1]
        words = tf.strings.regex_replace(tf.boolean_mask(tokens, real[:, :time]), "\t.*", "")  # without columns
        of_words = document_evidence(
            tf.boolean_mask(head.marginals(emissions, lengths), real), words, tf.repeat(documents, lengths)
        )
        places = tf.cast(tf.where(real), tf.int32)
        evidence = tf.scatter_nd(places, of_words, [*tf.unstack(tf.shape(real)), of_words.shape[1]])
        lattice = self._second().lattice(Lattice(unary, pairwise, lengths), evidence)
        best = lattice.best()
        confidence = tf.gather(lattice.posteriors(), best, batch_dims=2)
        return tf.gather(self._tags, tf.where(real, best + 1, 0))[:, :time], confidence[:, :time]

    def _find_entities(self, tokens: Strings, text: Strings, threshold: Tensor, *places: Tensor) -> dict[str, Tensor]:
        head, _ = self._layers()
        emissions, lengths = self._emissions(tokens)
        return self._reader().read(head, emissions, lengths, text, Offsets(*places), threshold)

    def _entities_of_text(self, text: Strings, threshold: Tensor) -> dict[str, Tensor]:
        tokens = tokenize(text, self._tokenizer)
        found: dict[str, Tensor] = self._entities(
            tokens, text, threshold, *token_offsets(text, tokens, self._tokenizer)
        )
        return found

    def _entities_of_tokens(self, tokens: Strings, threshold: Tensor) -> dict[str, Tensor]:
        text, offsets = joined(tokens, _lengths(tokens))
        found = self._entities(tokens, text, threshold, *offsets)
        # As wide as the tokens: servers cut the answers of a batch to the widths of its requests.
        time = tf.shape(tokens)[1]
        missing = tf.maximum(time - tf.shape(found["type"])[1], 0)

        def widened(values: Tensor) -> Tensor:
            padded = tf.pad(values, [[0, 0], [0, missing]], constant_values=tf.zeros((), values.dtype))
            return padded[:, :time]

        return {name: values if name == "count" else widened(values) for name, values in found.items()}

    def signatures(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return the function of each signature."""
        return {
            "serving_default": self.serving_default,
            "from_text": self.from_text,
            "lattice": self.lattice,
            "n_best": self.n_best,
            **self._of_entities,
            **self._of_documents,
        }

    def examples(self, texts: Sequence[str]) -> Requests:
        """Return a request to each signature about sentences with a space between tokens."""
        rows = [text.split(" ") for text in texts]
        width = max(map(len, rows))
        tokens = {"tokens": [row + [""] * (width - len(row)) for row in rows]}
        threshold = {"threshold": [-1.0] * len(texts)}
        requests: Requests = {
            "serving_default": tokens,
            "from_text": {"text": texts},
            "lattice": tokens,
            "n_best": {"text": texts},
            "entities": {"text": texts, **threshold},
            "token_entities": {**tokens, **threshold},
            "document": {"text": [[text, other] for text, other in zip(texts, [*texts[1:], ""], strict=True)]},
        }
        return {name: requests[name] for name in self.signatures()}


def _lengths(tokens: Strings) -> Lengths:
    """Return the lengths of sentences, `(batch,)`: an empty token between others is a token."""
    ends = tf.where(tokens != "", tf.range(1, tf.shape(tokens)[1] + 1), 0)
    return tf.maximum(tf.reduce_max(ends, axis=1), 0)


def _trim(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut outputs with a last axis of tokens to their own longest sentence."""
    width = tf.reduce_max(_lengths(outputs["tokens"]))
    return {name: values if name == "probability" else values[..., :width] for name, values in outputs.items()}
