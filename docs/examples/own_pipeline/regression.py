"""A task of one's own: a number for each text, for `trellis train --config-dir conf model=bow_regressor`.

The whole task is this file, `conf/pipeline/regression.yaml` and `conf/model/bow_regressor.yaml`.
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from trellis.components.errors import InputError
from trellis.components.readers import labelled
from trellis.components.saved_model.export_module import ExportModule
from trellis.components.text.batching import sample_across_lengths
from trellis.components.text.tokenizer import tokenize
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.pipelines.task import Batches, Data, Encoded, Evaluator, Loss, Outcome, Package, Task


@dataclass(frozen=True, kw_only=True)
class Scored(Data):
    """Texts and the number of each, by part."""

    texts: dict
    numbers: dict


@dataclass(frozen=True, kw_only=True)
class EncodedTexts(Encoded):
    """Word ids `(texts, time)`, 0 at padding, by part."""

    data: Scored
    vectorizer: TokenVectorizer
    ids: dict


class Regression(Task[Scored, EncodedTexts, Outcome]):
    """A number for each text: `number<TAB>text` files with a header, whose column `label` is the number."""

    needs = "texts with a number each"
    accepts = ("classes",)
    sample = "labelled"
    monitors = ("dev/loss",)

    def read(self):
        path = self.config.data.path
        examples = labelled.read(path, **self.plain("data")["columns"])
        order = np.random.default_rng(self.config.data.split_seed).permutation(len(examples))
        tenth = max(1, len(examples) // 10)
        parts = np.split(order, [len(examples) - 2 * tenth, len(examples) - tenth])
        texts, numbers = {}, {}
        for part, rows in zip(("train", "dev", "test"), parts, strict=True):
            try:
                numbers[part] = np.array([float(examples[row].label) for row in rows], np.float32)
            except ValueError as error:
                raise InputError(f"{path}: {error}") from None
            texts[part] = [examples[row].text for row in rows]
        texts = self.limited(texts)
        sizes = ", ".join(f"{part} {len(rows)}" for part, rows in texts.items())
        return Scored(files={"examples": path}, description=f"{path}: {sizes} texts", texts=texts, numbers=numbers)

    def encode(self, data, keep=()):
        tokens = {part: tokenize(tf.constant(texts), self.config.text.tokenizer) for part, texts in data.texts.items()}
        known = [token.decode() for row in tokens["train"].numpy() for token in row if token]
        vectorizer = TokenVectorizer.adapt(known, case=self.config.text.case, features=["words"], keep=keep)
        ids = {part: vectorizer(each)["words"] for part, each in tokens.items()}
        return EncodedTexts(words=vectorizer.words, data=data, vectorizer=vectorizer, ids=ids)

    def batch(self, encoded):
        ids, numbers, rows = encoded.ids["train"], encoded.data.numbers["train"], self.config.batching.sentences
        dataset = tf.data.Dataset.from_tensor_slices((ids, numbers[: len(ids)]))

        def epoch_dataset(epoch):
            return dataset.shuffle(len(ids), seed=self.config.seed, reshuffle_each_iteration=False).batch(rows)

        return Batches(steps=-(-len(ids) // rows), tokens=int(tf.math.count_nonzero(ids)), epoch_dataset=epoch_dataset)

    def build(self, encoded, batches):
        words = keras.Input((None,), dtype="int32", name="words")
        x = keras.layers.Embedding(encoded.vectorizer.sizes["words"], self.config.model.dim)(words)
        x = keras.layers.Dense(1)(x)[:, :, 0]
        numbers = keras.ops.sum(keras.ops.where(words != 0, x, 0.0), axis=1)
        return keras.Model(words, numbers, name=self.config.model.name)

    def loss(self, encoded, batches):
        return Loss(keras.losses.MeanSquaredError())

    def evaluator(self, model, encoded):
        def score(part):
            predicted = model(encoded.ids[part], training=False).numpy()
            gold = encoded.data.numbers[part][: len(predicted)]
            return {f"{part}/loss": float(np.mean((predicted - gold) ** 2))}

        return Evaluator(dev=lambda: score("dev"), held_out=lambda: Outcome(metrics=score("dev") | score("test")))

    def report(self, folder, model, encoded, outcome, diagnosis=None):
        folder.mkdir(parents=True, exist_ok=True)
        predicted = model(encoded.ids["test"], training=False).numpy()
        lines = (f"{number:.3f}\t{text}\n" for number, text in zip(predicted, encoded.data.texts["test"], strict=True))
        (folder / "predictions.tsv").write_text("".join(lines))

    def package(self, model, encoded):
        texts = encoded.data.texts["dev"]
        return Package(
            module=RegressionModule(model, encoded.vectorizer, self.config.text.tokenizer),
            texts=sample_across_lengths(texts),
            facts={"vocabulary": {"words": encoded.vectorizer.sizes["words"]}},
            example=texts[0],
            request={"text": texts[0]},
            response={"number": "number"},
        )


class RegressionModule(ExportModule):
    """Signature `serving_default`: `text (batch,)` to `number (batch,)`."""

    def __init__(self, model, vectorizer, tokenizer):
        super().__init__(name="regression")
        self.vectorizer = vectorizer
        self.parameters = [variable.value for variable in model.variables]
        self._number = lambda text: model(vectorizer(tokenize(text, tokenizer))["words"], training=False)
        spec = [tf.TensorSpec([None], tf.string, name="text")]
        self.serving_default = tf.function(lambda text: {"number": self._number(text)}, input_signature=spec)

    def signatures(self):
        return {"serving_default": self.serving_default}

    def examples(self, texts):
        return {"serving_default": {"text": texts}}
