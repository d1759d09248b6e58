"""The MLflow flavour of an export. MLflow copies this file into the model, so it imports nothing of Trellis.

A tagger takes texts and returns tokens, tags and confidences; a word aligner takes sources and targets and returns
links; a language model takes prompts and returns texts; a classifier takes texts and returns labels and probabilities.
"""

from typing import Any

import mlflow
import numpy as np
import pandas
import tensorflow as tf
from mlflow.pyfunc import PythonModel, PythonModelContext


class Export(PythonModel):
    """Calls the signatures of the SavedModel that was logged with it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the SavedModel."""
        # The loaded object must live as long as its signatures are called.
        self.model = tf.saved_model.load(context.artifacts["export"])

    def predict(
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Answer the rows of a table; without a signature to enforce, MLflow passes lists of texts as they are."""
        rows = model_input if isinstance(model_input, pandas.DataFrame) else pandas.DataFrame({"text": model_input})
        if "target" in rows:
            answer = self._call("serving_default", rows, "source", "target")
            return pandas.DataFrame({"alignment": [links.decode() for links in answer["alignment"]]})
        if "prompt" in rows:
            answer = self._call("serving_default", rows, "prompt")
            return pandas.DataFrame({"text": [text.decode("utf-8", "replace") for text in answer["text"]]})
        if "embed" in self.model.signatures:
            answer = self._call("serving_default", rows, "text")
            labels = [label.decode() for label in answer["label"]]
            return pandas.DataFrame({"label": labels, "probability": answer["probability"].tolist()})
        answer = self._call("from_text", rows, "text")
        tagged = []
        for tokens, tags, confidence in zip(answer["tokens"], answer["tags"], answer["confidence"], strict=True):
            length = sum(token != b"" for token in tokens)
            tagged.append(
                {
                    "tokens": [token.decode("utf-8", "replace") for token in tokens[:length]],
                    "tags": [tag.decode() for tag in tags[:length]],
                    "confidence": [float(value) for value in confidence[:length]],
                }
            )
        return pandas.DataFrame(tagged, columns=["tokens", "tags", "confidence"])

    def _call(self, signature: str, rows: pandas.DataFrame, *columns: str) -> dict[str, np.ndarray]:
        inputs = {name: tf.constant(list(rows[name]), tf.string) for name in columns}
        return {name: value.numpy() for name, value in self.model.signatures[signature](**inputs).items()}


mlflow.models.set_model(Export())
