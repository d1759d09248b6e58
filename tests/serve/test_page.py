"""The page of the local server: its files and headers, and in a browser every kind of export."""

import fnmatch
import json
import re
import shlex
import tomllib
import urllib.error
import urllib.request
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import tensorflow as tf

from tests.pipelines.runs import ROOT
from tests.serve.test_local import Server, put
from trellis.components.models.translator import Translator
from trellis.components.saved_model import package
from trellis.components.saved_model.export_module import ExportModule
from trellis.components.saved_model.translator_module import TranslatorModule
from trellis.components.text.subwords import Subwords, learn
from trellis.serve.server.page import Page
from trellis.serve.server.requests import Refused

FILES = {"index.html": "text/html", "page.css": "text/css"}
FILES |= dict.fromkeys(("elements.js", "page.js", "views.js"), "text/javascript")
KINDS = ("bilstm_crf", "ibm1", "lstm_classifier", "gru_lm", "translator", "echo")
HOSTILE = "<img src=x onerror=console.log(1)><script>console.log(2)</script>"
ANSWERED = "document.querySelector('#status').textContent.startsWith('Answered')"
FAILED = "!document.querySelector('#error').hidden"


class Hostile(ExportModule):
    """A tagger whose labels are HTML."""

    def __init__(self):
        super().__init__()
        text = [tf.TensorSpec([None], tf.string, name="text")]
        self.from_text = tf.function(self._tag, input_signature=text)

    def _tag(self, text):
        tokens = text[:, None]
        return {"tokens": tokens, "tags": tf.fill(tf.shape(tokens), HOSTILE), "confidence": tf.ones(tf.shape(tokens))}

    def signatures(self):
        return {"serving_default": self.from_text, "from_text": self.from_text}

    def examples(self, texts):
        return {"from_text": {"text": texts}}


def write_translator(folder):
    """Write the export of a translator that has learned nothing."""
    texts = ["a box is here .", "una caja está aquí ."]
    subwords = Subwords(learn(texts, 320))
    shape = {"cell": "gru", "layers": 1, "units": 4}
    model = Translator(
        subwords.size,
        encoder=shape | {"bidirectional": False},
        decoder=shape | {"attend_after": "first", "input_feeding": False},
        attention={"kind": "general", "units": 4, "window": None},
        dim=4,
        dropout=dict.fromkeys(("word", "input", "between", "recurrent", "output"), 0.0),
        tied=True,
        label_smoothing=0.0,
    )
    settings = {"width": 2, "alpha": 1.0, "coverage": 0.0, "minimum": 0, "count": 20, "no_repeat": 0}
    package.write(folder, TranslatorModule(model, subwords, subwords, settings), "translator", [tuple(texts)], {})


@pytest.fixture(scope="module")
def server(tmp_path_factory, tagger, aligner, classifier, language_model):
    folder = tmp_path_factory.mktemp("served")
    for export in (tagger, aligner, classifier, language_model):
        (folder / export.name).symlink_to(export)
    put(folder / "echo", 3)
    (folder / "translator" / "1").mkdir(parents=True)
    write_translator(folder / "translator" / "1")
    (folder / "hostile" / "1").mkdir(parents=True)
    package.write(folder / "hostile" / "1", Hostile(), HOSTILE, [HOSTILE], {"labels": [HOSTILE]})
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "saved_model.pb").write_bytes(b"nonsense")
    made = Server(folder)
    yield made
    assert made.stop() == 0


@pytest.fixture
def browser(chromium):
    """A browser of which every test finds the same state, and may find no violation of a policy and no error."""
    chromium.size(1280, 900)
    chromium.prefer(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    chromium.log.clear()
    yield chromium
    # Requests that the server refuses are errors in the eyes of Chromium.
    assert [entry for entry in chromium.log if "Failed to load resource" not in entry] == []


def fetch(server, path, method="GET"):
    """Return the status, the headers and the body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(server.rest + path, method=method)) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def show(browser, server, model, until=ANSWERED, **values):
    """Open the page with a model and values of its fields."""
    fragment = "".join(f"&{name}={quote(str(value))}" for name, value in values.items())
    browser.open(f"{server.rest}/#model={model}{fragment}")
    browser.wait(until)


def replace(browser, selector, text):
    """Replace what a field holds by what a person types, and wait for the answer."""
    browser.run(f"document.querySelector({json.dumps(selector)}).select()")
    browser.run("document.querySelector('#status').textContent = ''")
    browser.type(text)
    browser.wait(ANSWERED)


# Files and headers


@pytest.mark.parametrize("name", FILES)
def test_files_have_their_types_and_a_strict_policy(server, name):
    path = "/" if name == "index.html" else f"/page/{name}"
    status, headers, text = fetch(server, path)
    assert status == 200 and headers["content-type"] == f"{FILES[name]}; charset=utf-8"
    assert text == (ROOT / "serve" / "page" / name).read_text("utf-8")
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert fetch(server, path, "HEAD")[::2] == (200, "")


def test_files_hold_no_inline_code_no_outside_address_and_never_parse_html():
    assert {path.name for path in (ROOT / "serve" / "page").iterdir()} == set(FILES)
    for name in FILES:
        text = (ROOT / "serve" / "page" / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[\w-]+\.|@import|url\(", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", text), name
    page = (ROOT / "serve" / "page" / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)


def test_files_are_package_data():
    globs = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["trellis"]
    for path in (ROOT / "serve" / "page").iterdir():
        assert any(fnmatch.fnmatch(str(path.relative_to(ROOT)), glob) for glob in globs), path


@pytest.mark.parametrize(
    "path", ["/page/", "/page/absent.js", "/page/index.html", "/page/../server/rest.py", "/page/%2e%2e/server/rest.py"]
)
def test_unknown_files_are_not_found(server, path):
    status, headers, text = fetch(server, path)
    assert status == 404 and headers["content-type"] == "application/json"
    assert json.loads(text)["error"].startswith("the page has no file /page/")


def test_other_methods_and_other_paths_are_refused_as_before(server):
    assert server.send("/", {"instances": ["a"]}) == (400, {"error": "Malformed request: POST /"})
    assert server.send("/page/models", None, "DELETE")[0] == 400
    assert server.send("/index.html") == (400, {"error": "Malformed request: GET /index.html"})


def test_models_are_listed_with_their_facts_and_examples(server):
    status, answer = server.send("/page/models")
    models = {model["name"]: model for model in answer["models"]}
    assert status == 200 and list(models) == sorted([*KINDS, "broken", "hostile"])
    assert models["broken"]["problem"].startswith("cannot be loaded (")
    tagger = models["bilstm_crf"]
    assert (tagger["version"], tagger["data"]) == ("1", "sample_ner") and "B-PER" in tagger["labels"]
    assert 0 <= tagger["scores"]["test/f1"] <= 1
    assert len(tagger["examples"]["from_text"]) == 8
    for model in models.values():
        for signature, examples in model.get("examples", {}).items():
            body = {"signature_name": signature, "inputs": examples[0]}
            assert server.predict(body, model=model["name"])[0] == 200


def test_facts_of_another_form_are_left_out(tmp_path):
    (tmp_path / "assets.extra").mkdir()
    facts = {"config": ["data"], "metrics": {"test/f1": "high", "test/loss": 1, "dev/f1": 1}}
    (tmp_path / "assets.extra" / "metadata.json").write_text(json.dumps(facts))
    version = SimpleNamespace(number=1, folder=tmp_path, examples={})
    models = SimpleNamespace(names=lambda: ["it"], find=lambda name: version)
    expected = {"name": "it", "version": "1", "data": None, "unit": None, "labels": []}
    shown = json.loads(Page(models).find("GET", "/page/models").content)
    assert shown == {"models": [{**expected, "scores": {"test/loss": 1}, "examples": {}}]}
    assert Page(models).find("GET", "/v1/models/it") is None
    with pytest.raises(Refused):
        Page(models).find("PUT", "/")


# In a browser


def test_tokens_have_their_tags_and_probabilities(browser, server):
    show(browser, server, "bilstm_crf", text="Mary  Smith flew from Oslo to Lima.")
    tokens = ["Mary", "Smith", "flew", "from", "Oslo", "to", "Lima", "."]
    assert browser.texts(".tokens .token") == tokens
    assert all(0 <= float(value) <= 1 for value in browser.texts(".tokens .number"))
    answer = server.predict(
        {"signature_name": "from_text", "inputs": ["Mary  Smith flew from Oslo to Lima."]}, "bilstm_crf"
    )
    tags = [tag.replace("O", "·") if tag == "O" else tag for tag in answer[1]["outputs"]["tags"][0]]
    assert browser.texts(".tokens .tag") == tags
    shown = browser.run("document.querySelector('#answer .text').textContent")
    assert re.sub("\xa0\\w+\xa0[\\d.]+", "", shown) == "Mary  Smith flew from Oslo to Lima."
    assert "tagger, version 1 · trained on sample_ner · test/f1 0." in browser.text("#about")


def test_entities_are_those_of_conlleval_and_other_tags_are_none(browser, server):
    show(browser, server, "bilstm_crf")

    def entities(*tags, labels=()):
        call = f"views.entities({json.dumps(tags)}, {json.dumps(labels)})"
        found = browser.run(f"import('./page/views.js').then((views) => {call})")
        return found and [(each["type"], each["begin"], each["end"]) for each in found]

    assert entities("B-A", "I-A", "B-A", "I-B", "O", "I-B") == [("A", 0, 2), ("A", 2, 3), ("B", 3, 4), ("B", 5, 6)]
    assert entities("O", labels=["B-A", "O"]) == []
    assert entities("NN", "VB") is None and entities("O", labels=["NN"]) is None
    assert entities("B-A\nB") == [("A\nB", 0, 1)]
    located = (
        "import('./page/views.js').then((views) => [views.locate('a  b', ['a', 'b']), views.locate('ab c', ['x'])])"
    )
    assert browser.run(located) == [[[0, 1], [3, 4]], None]


def test_entities_are_highlighted_with_the_lowest_probability_of_their_tags(browser, server):
    show(browser, server, "bilstm_crf")
    tags = ["B-LOC", "O", "B-PER", "I-PER", "O", "B-LOC"]
    answer = {
        "tokens": [["Lima", ",", "Mary", "Smith", "(", "Oslo", ""]],
        "tags": [[*tags, "O"]],
        "confidence": [[1, 1, 0.9, 0.75, 1, 0.004, 1]],
    }
    call = f"draw({{from_text: {json.dumps(answer)}}}, {{text: 'Lima,  Mary Smith (Oslo'}}, {{model: {{}}}})"
    marks = "[...made[0].querySelectorAll('mark')].map((each) => [each.textContent, each.className])"
    view = "VIEWS.find(({kind}) => kind === 'tagger')"
    drawn = f"import('./page/views.js').then(({{VIEWS}}) => {{ const made = {view}.{call}; return {marks}; }})"
    assert browser.run(drawn) == [
        ["Lima\xa0LOC\xa01.00", "entity hue-0"],
        ["Mary Smith\xa0PER\xa00.75", "entity hue-1"],
        ["Oslo\xa0LOC\xa0< 0.01", "entity hue-0"],
    ]


def test_entities_have_their_own_probabilities_where_the_export_knows_them(browser, server):
    show(browser, server, "bilstm_crf")
    tagged = {"tokens": [["Mary", "Smith"]], "tags": [["B-PER", "I-PER"]], "confidence": [[0.9, 0.75]]}
    kept = {"count": [1], "type": [["PER"]], "start_token": [[0]], "end_token": [[2]], "probability": [[0.6789]]}
    dropped = {name: [[value[0] and 0]] for name, value in kept.items()} | {"count": [0]}
    view = "VIEWS.find(({kind}) => kind === 'tagger')"
    for answer, marks in ((kept, ["Mary Smith\xa0PER\xa00.68"]), (dropped, [])):
        answers = json.dumps({"from_text": tagged, "entities": answer})
        call = f"draw({answers}, {{text: 'Mary Smith'}}, {{model: {{}}}})"
        texts = "[...made[0].querySelectorAll('mark')].map((each) => each.textContent)"
        drawn = f"import('./page/views.js').then(({{VIEWS}}) => {{ const made = {view}.{call}; return {texts}; }})"
        assert browser.run(drawn) == marks


def test_several_lines_are_several_texts(browser, server):
    show(browser, server, "bilstm_crf", text="Oslo\n\nLima is cold.\n")
    assert len(browser.run("[...document.querySelectorAll('#answer > .text')].map((each) => each.textContent)")) == 2


def test_a_pair_of_words_lights_up_by_mouse_and_by_arrow_keys(browser, server):
    show(browser, server, "ibm1", source="the red house", target="la casa roja .")
    assert browser.run("document.querySelectorAll('[role=gridcell]').length") == 12
    outputs = server.predict({"inputs": {"source": ["the red house"], "target": ["la casa roja ."]}}, "ibm1")[1][
        "outputs"
    ]
    links = {tuple(map(int, link.split("-"))) for link in outputs["alignment"][0].split()}
    linked = browser.run(
        "[...document.querySelectorAll('[role=gridcell]')].map((cell) => cell.classList.contains('linked'))"
    )
    assert {(index // 4, index % 4) for index, value in enumerate(linked) if value} == links
    lit = "document.querySelectorAll('[role=gridcell].lit').length"
    assert browser.run(lit) == 0
    browser.point("document.querySelectorAll('[role=gridcell]')[5]")
    assert browser.wait(lit) == 6
    assert browser.texts(".word.pointed") == ["red", "casa"]
    assert browser.text(".reading").startswith("red – casa ") and ": mean " in browser.text(".reading")
    browser.point("document.querySelectorAll('.word')[2]")
    browser.wait("document.querySelector('.reading').innerText.startsWith('house: ')")
    browser.point("document.querySelector('h1')")
    browser.run("document.querySelector('[role=gridcell]').focus()")
    browser.press("ArrowRight", "ArrowDown", "End", "ArrowRight")
    assert browser.texts(".word.pointed") == ["red", "."]
    mean = (outputs["forward"][0][1][3] + outputs["reverse"][0][1][3]) / 2
    label = browser.run("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("red, .: ") and (
        mean < 0.005 or float(label.split()[2].strip(",")) == pytest.approx(mean, abs=0.006)
    )
    assert browser.run("document.querySelectorAll('[role=gridcell][tabindex=\"0\"]').length") == 1


def test_classes_have_probabilities_and_sentences_are_ranked(browser, server):
    show(browser, server, "lstm_classifier", text="a slow film", sentences="a slow film\na slow but moving film\nfine")
    numbers = [float(value) for value in browser.texts(".bars:not(.wide) .number")]
    assert sum(numbers) == pytest.approx(1, abs=0.002) and numbers == sorted(numbers, reverse=True)
    assert set(browser.texts(".bars:not(.wide) .name")) == {"negative", "positive"}
    assert sorted(browser.texts(".bars.wide .name")) == ["a slow but moving film", "fine"]  # not itself
    cosines = [float(value.replace("−", "-")) for value in browser.texts(".bars.wide .number")]
    assert cosines == sorted(cosines, reverse=True) and all(-1 <= value <= 1 for value in cosines)


def test_text_is_generated_with_alternatives_that_can_be_appended(browser, server):
    show(browser, server, "gru_lm", prompt="the old man", count=5)
    assert browser.texts("h2") == ["Most probable", "Next token", "The text itself"]
    texts = browser.run("[...document.querySelectorAll('#answer .text')].map((each) => each.textContent)")
    assert len(texts) >= 2 and all(text.startswith("the old man") for text in texts)
    assert len(browser.texts(".bars .number")) == 10 and "perplexity" in browser.text("#answer .remark")
    token = browser.text(".bars button")
    browser.run("document.querySelector('#status').textContent = ''")
    browser.run("document.querySelector('.bars button').click()")
    browser.wait(ANSWERED)
    assert browser.run("document.querySelector('#field-prompt').value") == f"the old man {token}"


def test_translations_have_scores_and_attention_that_lights_up(browser, server):
    show(browser, server, "translator", text="a box is\nhere .", width=4)
    numbers = [float(value.replace("−", "-")) for value in browser.texts("#answer .text > .number")]
    assert len(numbers) == 3 and all(number < 0 for number in numbers)
    assert browser.texts("h2") == ["Attention"]
    rows = browser.run("document.querySelectorAll('table.pairs tbody tr').length")
    assert rows == len(browser.texts("table.pairs tbody th")) and browser.texts("table.pairs tbody th")[-1] == "</s>"


def test_other_models_are_asked_in_json(browser, server):
    show(browser, server, "echo")
    replace(browser, "#field-inputs", '{"text": ["ab"]}')
    assert json.loads(browser.text("#answer pre"))["upper"] == ["AB"]
    browser.run("document.querySelector('#field-inputs').select()")
    browser.type("{")
    browser.wait(FAILED)
    assert browser.text("#error").startswith("inputs: not JSON (")


def test_labels_and_texts_are_never_html(browser, server):
    show(browser, server, "hostile", text=HOSTILE)
    assert browser.texts(".tokens .token") == browser.texts(".tokens .tag") == [HOSTILE]
    show(browser, server, "bilstm_crf", text=HOSTILE)
    assert browser.run("document.querySelector('#answer .text').textContent").startswith("<img")
    assert browser.run("document.querySelectorAll('main img, main script').length") == 0


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (
            "nobody",
            {},
            "The server has no model nobody; it has bilstm_crf, echo, gru_lm, hostile, ibm1, lstm_classifier, "
            "translator.",
        ),
        ("broken", {}, "broken: cannot be loaded ("),
        ("gru_lm", {"count": 99999}, "input 'count': 99999, above the limit of 4,096 (--limit count=…)"),
        ("gru_lm", {"count": ""}, "input 'count': null is not a int32"),
        ("echo", {"signature": "tokens", "inputs": '{"text": []}'}, "input 'tokens' is missing; expected tokens"),
    ],
    ids=["unknown", "broken", "limit", "empty", "inputs"],
)
def test_errors_are_shown_as_the_server_says_them(browser, server, model, values, message):
    show(browser, server, model, FAILED, **values)
    assert browser.text("#error").startswith(message)
    assert browser.text("#answer") == ""


def test_the_page_works_with_the_keyboard_alone_and_its_address_keeps_what_was_typed(browser, server):
    show(browser, server, "bilstm_crf")
    reached = []
    for _ in range(6):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.id || document.activeElement.innerText"))
    assert reached == ["model", "field-text", "Ask", "example", "Every token", "The request as code"]
    browser.run("document.querySelector('#model').focus()")
    browser.press("Tab")
    replace(browser, "#field-text", "Oslo & Lima + 1 %")
    address = browser.run("location.href")
    browser.open(address)
    browser.wait(ANSWERED)
    assert browser.run("document.querySelector('#field-text').value") == "Oslo & Lima + 1 %"
    browser.run("document.querySelector('#status').textContent = ''")
    browser.run("document.querySelector('#field-text').focus()")
    browser.press("Ctrl+Enter")
    browser.wait(ANSWERED)
    browser.press("Shift+Tab")
    browser.press("ArrowDown")  # another model
    browser.wait("document.title === 'echo – Trellis'")


def test_requests_can_be_copied_as_curl_and_python(browser, server):
    text = 'it\'s "quoted" \\ $HOME `ls` 🙂 é'
    show(browser, server, "bilstm_crf", text=text)
    codes = {}
    for form in ("curl", "python", "answer"):
        browser.run(f"document.querySelector('[value={form}]').click()")
        codes[form] = browser.run("document.querySelector('#code').textContent")
    command = shlex.split(codes["curl"])
    assert command[:2] == ["curl", "-d"] and command[3] == f"{server.rest}/v1/models/bilstm_crf:predict"
    answer = server.predict(json.loads(command[2]), "bilstm_crf")[1]["outputs"]
    assert json.loads(codes["answer"].split("\n\n")[0])["from_text"] == answer
    printed = []
    exec(codes["python"], {"print": printed.append})
    assert printed[0]["tokens"].tolist() == answer["tokens"]


@pytest.mark.parametrize("model", KINDS)
def test_every_kind_fits_a_phone_and_dark_and_has_no_violation(browser, server, model):
    browser.size(390, 844)
    browser.prefer(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    show(browser, server, model)
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    moving = "[...document.querySelectorAll('*')].filter((each) => getComputedStyle(each).transitionDuration !== '0s')"
    assert browser.run(f"{moving}.length") == 0
    unnamed = "[...document.querySelectorAll('textarea, select, input')].filter((each) => !each.labels.length)"
    assert browser.run(f"{unnamed}.length") == 0
    browser.prefer(prefers_color_scheme="light")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
