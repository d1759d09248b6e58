"""What a language model writes and what surprises it: for reading in MLflow or in the run's `reports/`."""

import html
import json

import numpy as np
import tensorflow as tf

from trellis.components.text.stream import spelled
from trellis.pipelines import gradient_report

SHOWN = 60  # lines on the page of surprises
SAMPLES = 8


def write(folder, task):
    """Writes `samples.txt`, `surprise.html` and, where measured, the flow of gradients to a folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "samples.txt").write_text(_samples(task), encoding="utf-8")
    (folder / "surprise.html").write_text(_surprise(task), encoding="utf-8")
    if task.flow:
        flow = {"name": task.model.name, **task.flow}
        (folder / gradient_report.FILE).write_text(json.dumps(flow))
        gradient_report.draw(folder / "gradient_flow.png", {flow["name"]: flow})
    return folder


def _samples(task):
    if task.backwards:
        return "A model that reads backwards generates nothing to read.\n"
    module = task.module(task.model)
    settings = {name: tf.constant(value) for name, value in module._settings.items()}
    prompts, seeds = tf.fill([SAMPLES], ""), tf.range(SAMPLES, dtype=tf.int64)
    texts = module.generate(prompts, seeds, **settings)["text"].numpy()
    return "\n\n".join(text.decode("utf-8", "replace") for text in texts) + "\n"


def _surprise(task):
    part = "test" if "test" in task.parts else "dev"
    stream, found = task.streams[part], task.found[part]
    words = np.array(spelled(task.vectorizer), object)
    ends = [*stream.lines[1:], len(stream)]
    glue = "" if task.unit == "characters" else " "
    lines = []
    for first, end in list(zip(stream.lines, ends, strict=True))[:SHOWN]:
        marked = [
            f'<span style="background:hsl(8 85% {100 - 5 * min(-value, 10):.0f}%)" title="{-value:.2f} nats">'
            f"{html.escape(word) if word != chr(10) else '⏎'}</span>"
            for word, value in zip(words[stream.ids[first:end]], found[first:end], strict=True)
        ]
        lines.append(f"<p>{glue.join(marked)}</p>")
    return (
        "<!doctype html><meta charset=utf-8><title>Surprise</title><style>"
        "body{font:15px/1.8 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
        "p{margin:.2em 0;white-space:pre-wrap}</style><h1>Surprise</h1>"
        f"<p>The first lines of {part}. The redder a token, the less the model expected it; point at it for nats.</p>"
        + "\n".join(lines)
        + "\n"
    )
