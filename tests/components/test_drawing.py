"""Drawings of lattices, alignments and EM: their numbers, by enumeration, and their scripts, in Chromium."""

import itertools
import json
import re
import shutil
import subprocess
import warnings

import keras
import numpy as np
import pytest

import trellis
from trellis.components.drawing.em_steps import em_steps
from trellis.components.drawing.lattice_drawing import draw_lattice
from trellis.components.drawing.lattice_messages import lattice_messages
from trellis.components.errors import InputError
from trellis.components.lattice.potentials import FORBIDDEN

RNG = np.random.default_rng(3)
TAGS = ["O", "B-PER", "I-PER"]


def lattice(time, tags=3, forbidden=False):
    unary, pairwise = RNG.normal(0, 2, (time, tags)), RNG.normal(0, 2, (time - 1, tags, tags))
    if forbidden:
        unary[0, 2], pairwise[:, 0, 2] = FORBIDDEN, -np.inf
    return unary, pairwise


def log_sum(scores):
    return np.logaddexp.reduce(scores)


@pytest.mark.slow
@pytest.mark.parametrize(("time", "forbidden"), [(1, False), (2, True), (4, False), (4, True)])
def test_every_number_on_the_lattice_is_that_of_the_enumeration_of_all_paths(time, forbidden):
    unary, pairwise = lattice(time, forbidden=forbidden)
    found = lattice_messages(unary, pairwise)

    def score(path, first=0, with_first=True):
        units = [unary[first + step, tag] for step, tag in enumerate(path)][0 if with_first else 1 :]
        pairs = [pairwise[first + step, a, b] for step, (a, b) in enumerate(itertools.pairwise(path))]
        return sum(units) + sum(pairs)

    whole = {path: score(path) for path in itertools.product(range(3), repeat=time)}
    possible = {path: value for path, value in whole.items() if value > -1e20}
    assert found.log_partition == pytest.approx(log_sum(list(possible.values())))
    assert tuple(found.path) == max(possible, key=possible.get)
    assert found.path_score == pytest.approx(max(possible.values()))
    shares = {path: np.exp(value - found.log_partition) for path, value in possible.items()}
    assert found.entropy == pytest.approx(-sum(share * np.log(share) for share in shares.values()))
    for step, tag in itertools.product(range(time), range(3)):
        before = [score((*path, tag)) for path in itertools.product(range(3), repeat=step)]
        if max(before) < -1e20:
            assert found.forward[step, tag] < -1e20 and found.best[step, tag] < -1e20
        else:
            assert found.forward[step, tag] == pytest.approx(log_sum([value for value in before if value > -1e20]))
            assert found.best[step, tag] == pytest.approx(max(before))
        rest = itertools.product(range(3), repeat=time - 1 - step)
        after = [score((tag, *path), step, with_first=False) for path in rest]
        assert found.backward[step, tag] == pytest.approx(log_sum([value for value in after if value > -1e20]))
        through = sum(share for path, share in shares.items() if path[step] == tag)
        assert found.posteriors[step, tag] == pytest.approx(through, abs=1e-12)
    for step, before, after in itertools.product(range(time - 1), range(3), range(3)):
        both = sum(share for path, share in shares.items() if path[step : step + 2] == (before, after))
        assert found.pair_posteriors[step, before, after] == pytest.approx(both, abs=1e-12)


@pytest.mark.parametrize("head", ["crf", "constrained", "memm", "hmm", "independent"])
def test_the_lattice_of_a_head_gives_its_tags_and_its_marginals(head):
    layers = {
        "crf": lambda: trellis.CRF(),
        "constrained": lambda: trellis.CRF(constraints="bio", tags=TAGS),
        "memm": lambda: trellis.MEMM(),
        "hmm": lambda: trellis.HMM(),
        "independent": lambda: trellis.IndependentTags(),
    }
    layer, emissions = layers[head](), RNG.normal(0, 2, (2, 4, 3)).astype("float32")
    layer(emissions)
    for weight in layer.weights:
        weight.assign(RNG.normal(0, 1, weight.shape))
    lengths = np.array([4, 2])
    unary, pairwise = (keras.ops.convert_to_numpy(scores) for scores in layer.lattice(emissions, lengths))
    tags, marginals = (
        keras.ops.convert_to_numpy(layer.decode(emissions, lengths)),
        layer.marginals(emissions, lengths),
    )
    assert not unary[1, 2:].any() and not pairwise[1, 1:].any()
    for row, length in enumerate(lengths):
        found = lattice_messages(unary[row, :length], pairwise[row, : length - 1])
        assert found.path.tolist() == tags[row, :length].tolist()
        np.testing.assert_allclose(found.posteriors, marginals[row, :length], atol=2e-6)


def tagger():
    words = keras.Input((None,), dtype="int32")
    scores = keras.layers.Embedding(10, 3, mask_zero=True)(words)
    return keras.Model(words, trellis.CRF(constraints="bio", tags=TAGS)(scores), name="small")


def test_a_keras_model_is_drawn_with_the_names_of_its_tags():
    drawing = trellis.show(tagger(), np.array([[4, 5, 0]]), tokens=["Ann", "<b>&"], threshold=0)
    numbers = json.loads(re.search(r'type="application/json">(.*?)</script>', drawing.html)[1])
    assert numbers["tokens"] == ["Ann", "<b>&"] and numbers["tags"] == TAGS
    assert numbers["unary"][0][2] is None  # a sentence cannot begin with I-PER
    assert "<b>&" not in drawing.html.replace("&lt;b&gt;&amp;", "") and drawing.html in repr_of(drawing)


def repr_of(drawing):
    return drawing._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="dense"), np.ones((1, 2))), {}, "dense"),
        ((tagger(), np.array([[1, 2], [1, 2]])), {}, "expected one sentence"),
        ((tagger(), np.array([[1, 2]])), {"tokens": ["one"]}, "1 tokens and 3 tags are named"),
        ((trellis.IBM1, "b c"), {}, r"takes a corpus"),
        ((trellis.IBM1, [("b", "")]), {}, "has no words"),
        ((trellis.IBM1, [("b", "x")]), {"iterations": 0}, "at least 1"),
        ((trellis.IBM1, [(" ".join(map(str, range(50))), "x")]), {}, "at most 40 words"),
        ((trellis.IBM1, [("b", "x")]), {"threshold": 0.5}, "threshold has no effect on trellis.IBM1"),
        ((tagger(), np.array([[1, 2]])), {"null": False}, "null has no effect on a Keras model"),
        ((3, "text"), {}, "neither an export"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(arguments, options, message):
    with pytest.raises(InputError, match=message) as raised:
        trellis.show(*arguments, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("null", [False, True])
def test_the_steps_of_em_are_those_that_one_computes_by_hand(null):
    pairs = [(["b", "c"], ["x", "y"]), (["b"], ["y"])]
    run = em_steps(pairs, 3, null)
    sources = ["b", "c", *(["NULL"] if null else [])]
    assert run.source_words == sources and run.target_words == ["x", "y"]
    t = np.full((len(sources), 2), 0.5)
    for iteration in run.iterations:
        np.testing.assert_allclose(iteration.translations, t, atol=1e-6)
        counts, nats = np.zeros_like(t), 0.0
        for (source, target), posteriors in zip(pairs, iteration.posteriors, strict=True):
            rows = [sources.index(word) for word in source] + [2] * null
            for column, word in enumerate(target):
                likely = t[rows, run.target_words.index(word)]
                np.testing.assert_allclose(posteriors[:, column], likely / likely.sum(), atol=1e-6)
                counts[rows, run.target_words.index(word)] += likely / likely.sum()
                nats += np.log(likely.sum() / len(rows))
        np.testing.assert_allclose(iteration.counts, counts, atol=1e-6)
        assert iteration.log_likelihood == pytest.approx(nats, abs=1e-5)
        t = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run.translations, t, atol=1e-6)


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """A function that opens a drawing in Chromium and returns the text that a script returns there."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        warnings.warn("NO CHROMIUM: the scripts of drawings are not tested", stacklevel=1)
        pytest.skip("Chromium is not installed")
    folder = tmp_path_factory.mktemp("pages")

    def browse(drawing, script):
        drawing.save(folder / "page.html")
        page = (folder / "page.html").read_text()
        check = f'document.getElementById("answer").textContent = (() => {{{script}}})()'
        check = f'<pre id="answer"></pre><script>{check}</script>'
        (folder / "page.html").write_text(page.replace("</body>", check + "</body>"))
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        command = [browser, *options, "--dump-dom", (folder / "page.html").as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        return re.search(r'<pre id="answer">(.*?)</pre>', dom, re.S)[1]

    return browse


def test_a_drawn_lattice_explains_each_number_by_its_terms(browse):
    messages = lattice_messages(*lattice(3, forbidden=True))
    drawing = draw_lattice(messages, ["Ann", "</script>", "!"], TAGS, threshold=0)
    answer = browse(
        drawing,
        """
        const texts = {};
        for (const button of document.querySelectorAll("button")) {
          button.click();
          document.querySelector('[data-node="1,1"]').dispatchEvent(new Event("click"));
          texts[button.textContent] = [...document.querySelectorAll(".node text")].map((text) => text.textContent);
          texts[button.textContent + " detail"] = document.querySelector(".detail").textContent;
        }
        return JSON.stringify(texts);
        """,
    )
    shown = json.loads(answer.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))

    def written(values):
        return ["−∞" if value < -1e20 else f"{value:.3f}".replace("-", "−") for value in values.ravel()]

    for view, values in (
        ("Scores", messages.unary),
        ("Forward", messages.forward),
        ("Backward", messages.backward),
        ("Posteriors", messages.posteriors),
        ("Best path", messages.best),
    ):
        assert shown[view] == written(values), view
    arrivals = log_sum(messages.forward[0, :2] + messages.pairwise[0, :2, 1])
    for text in (f"log Σ exp = {arrivals:.3f}", f"log α = {messages.forward[1, 1]:.3f}"):
        assert text.replace("-", "−") in shown["Forward detail"]
    assert f"= {messages.posteriors[1, 1]:.4f}" in shown["Posteriors detail"]


def test_the_slider_shows_one_iteration_of_em_at_a_time(browse):
    drawing = trellis.show(trellis.IBM1, [("b c", "x y"), ("b", "y")], iterations=2, null=False)
    answer = browse(
        drawing,
        """
        const slider = document.querySelector("input");
        const shown = () => [...document.querySelectorAll("section")].filter((section) => !section.hidden)
          .map((section) => section.querySelector("p").textContent);
        const before = shown();
        slider.value = 2;
        slider.dispatchEvent(new Event("input"));
        return JSON.stringify([before, shown()]);
        """,
    )
    (first,), (second,) = json.loads(answer)
    assert first.startswith("Iteration 1:") and second.startswith("Iteration 2:")
