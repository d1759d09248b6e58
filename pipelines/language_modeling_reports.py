"""What a language model writes and what surprises it, in the run's `reports/` and in MLflow."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from trellis.components.saved_model.language_model_module import LanguageModelModule
from trellis.components.text.stream import TextStream, spellings
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.pipelines import gradient_report
from trellis.pipelines.pages import page

SHOWN = 60  # lines on the page of surprises
SAMPLES = 8


def write(folder: Path, samples: str | None, surprise: str, flow: Mapping[str, Any] | None = None) -> None:
    """Write `samples.txt`, `surprise.html` and, where it was measured, the flow of gradients.

    Args:
        samples: generated texts; None for a model that reads backwards.
        surprise: a page.
        flow: `{"name", "before", "after"}`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = "A model that reads backwards generates nothing to read.\n" if samples is None else samples
    (folder / "samples.txt").write_text(text, encoding="utf-8")
    (folder / "surprise.html").write_text(surprise, encoding="utf-8")
    if flow is not None:
        (folder / gradient_report.FILE).write_text(json.dumps(flow))
        gradient_report.draw(folder / "gradient_flow.png", {flow["name"]: flow})


def sampled(module: LanguageModelModule, settings: Mapping[str, Any]) -> str:
    """Return texts that a language model generates from nothing.

    Args:
        settings: scalars of the signature `generate`.
    """
    scalars = {name: tf.constant(value) for name, value in settings.items()}
    prompts, seeds = tf.fill([SAMPLES], ""), tf.range(SAMPLES, dtype=tf.int64)
    texts = module.generate(prompts, seeds, **scalars)["text"].numpy()
    return "\n\n".join(text.decode("utf-8", "replace") for text in texts) + "\n"


def surprise(
    run: str, part: str, stream: TextStream, vectorizer: TokenVectorizer, log_probabilities: np.ndarray, unit: str
) -> str:
    """Return a page of the first lines of a part, each token the redder the less it was expected.

    Args:
        run: the name of the run.
        log_probabilities: of each token of the stream, in nats.
        unit: `words` or `characters`.
    """
    words = np.array(spellings(vectorizer), dtype=np.object_)
    ends = [*stream.lines[1:], len(stream)]
    glue = "" if unit == "characters" else " "
    lines = []
    for first, end in list(zip(stream.lines, ends, strict=True))[:SHOWN]:
        marked = [
            f'<span style="background:hsl(8 85% {100 - 5 * min(-value, 10):.0f}%)" title="{-value:.2f} nats">'
            f"{html.escape(word) if word != chr(10) else '⏎'}</span>"
            for word, value in zip(words[stream.at(np.arange(first, end))], log_probabilities[first:end], strict=True)
        ]
        lines.append(f"<p>{glue.join(marked)}</p>")
    introduction = (
        f"The first lines of {part}. The redder a token, the less the model expected it; point at a token to see its "
        "negative log-probability in nats."
    )
    return page("Surprise", run, introduction, lines, "p{margin:.2em 0;white-space:pre-wrap}")
