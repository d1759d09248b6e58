"""Pages among the reports, in a browser: whatever is in the data, they fit a phone and show it as text."""

import numpy as np
import pytest

from trellis.components.readers.conll import Sentence
from trellis.components.readers.labelled import Labelled
from trellis.pipelines import classification_reports, label_errors, tagging_reports

LONG = "https://example.org/" + "x" * 300
HOSTILE = "<img src=x onerror=document.title='run'>"
TOKENS = ("Mary", LONG, HOSTILE, "שלום", "👩🏽‍🚀")
TAGS = ("B-PER", "O", "O", "O", "B-LOC")


def improbable_labels():
    spans = [{"type": "PER", "start": 0, "end": 2, "probability": 0.01}]
    certain = [0.9] * len(TOKENS)
    sentence = {
        "places": [f"{'folder/' * 40}train.conll:{line}" for line in range(len(TOKENS))], "tokens": TOKENS,
        "tags": TAGS, "predicted_tags": TAGS, "probabilities": certain, "predicted_probabilities": certain,
        "gold": spans, "predicted": [],
    }  # fmt: skip
    return label_errors._page("data=conll", [label_errors.Place(0.01, 0.9, 0, 2, spans, [], sentence)], 1)


def worst_errors():
    sentences = [Sentence(TOKENS, TAGS)]
    return tagging_reports._errors("run", sentences, [("O", "B-" + "T" * 200, "O", "O", "B-LOC")], np.array([3.0]))


def confident_errors():
    return classification_reports._errors("run", [Labelled(" ".join(TOKENS), "a")], ["b"], np.array([[0.1, 0.9]]))


@pytest.mark.parametrize("write", [improbable_labels, worst_errors, confident_errors])
def test_a_page_fits_a_phone_and_shows_data_as_text(chromium, tmp_path, write):
    path = tmp_path / "page.html"
    path.write_text(write(), encoding="utf-8")
    chromium.log.clear()
    chromium.size(360, 800)
    chromium.open(path.as_uri())
    assert chromium.run("document.documentElement.scrollWidth") <= 360
    assert chromium.run("document.images.length") == 0 and chromium.run("document.title") != "run"
    shown = chromium.run("document.body.innerText")
    assert HOSTILE in shown and LONG in shown.replace("\n", "")
    assert chromium.log == []
