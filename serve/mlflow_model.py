"""The MLflow face of an export; MLflow copies this file into the model.

A tagger: text in, tokens, tags and confidences out. An aligner: source and target in, links out.
A language model: prompt in, text out. A classifier: text in, label and probability out.
"""

import mlflow
import pandas
import tensorflow as tf


class Export(mlflow.pyfunc.PythonModel):
    """Calls the signatures of the SavedModel that was logged with it."""

    def load_context(self, context):
        # The loaded object has to live as long as its signatures are called.
        self.model = tf.saved_model.load(context.artifacts["export"])

    def predict(self, context, model_input, params=None):
        if "target" in getattr(model_input, "columns", ()):
            sides = {name: tf.constant(list(model_input[name]), tf.string) for name in ("source", "target")}
            links = self.model.signatures["serving_default"](**sides)["alignment"].numpy()
            return pandas.DataFrame({"alignment": [each.decode() for each in links]})
        if "prompt" in getattr(model_input, "columns", ()):
            prompts = tf.constant(list(model_input["prompt"]), tf.string)
            texts = self.model.signatures["serving_default"](prompt=prompts)["text"].numpy()
            return pandas.DataFrame({"text": [each.decode("utf-8", "replace") for each in texts]})
        texts = model_input["text"] if hasattr(model_input, "columns") else model_input
        if "embed" in self.model.signatures:
            outputs = self.model.signatures["serving_default"](text=tf.constant(list(texts), tf.string))
            label, probability = (outputs[name].numpy() for name in ("label", "probability"))
            return pandas.DataFrame({"label": [each.decode() for each in label], "probability": probability.tolist()})
        outputs = self.model.signatures["from_text"](text=tf.constant(list(texts), tf.string))
        rows = []
        for tokens, tags, confidence in zip(
            *(outputs[k].numpy() for k in ("tokens", "tags", "confidence")), strict=True
        ):
            length = sum(token != b"" for token in tokens)
            rows.append(
                {
                    "tokens": [token.decode("utf-8", "replace") for token in tokens[:length]],
                    "tags": [tag.decode() for tag in tags[:length]],
                    "confidence": [float(value) for value in confidence[:length]],
                }
            )
        return pandas.DataFrame(rows, columns=["tokens", "tags", "confidence"])


mlflow.models.set_model(Export())
