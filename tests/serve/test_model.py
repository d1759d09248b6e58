"""`trellis.load`: every kind of export, single texts and several, and the same answers as the commands give."""

import json

import numpy as np
import pytest
import tensorflow as tf

import trellis
from trellis.components.errors import InputError
from trellis.serve import generate, predict
from trellis.serve.model import Aligned, Classified, Scored, Tagged


@pytest.fixture
def ask(capsys):
    """A function that runs a command with --json and returns its answers."""

    def ask(command, export, *arguments):
        assert command.main([str(export), *arguments, "--json"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return ask


TEXTS = ["Mary Smith flew from Oslo to Lima.", "", "Bad \udcff byte and a very long second sentence, too."]


def test_tagger_answers_as_the_command_does(tagger, ask):
    model = trellis.load(tagger)
    several = model.tag(TEXTS)
    assert all(isinstance(tagged, Tagged) for tagged in several)
    for tagged, answer in zip(several, ask(predict, tagger, *TEXTS), strict=True):
        assert (tagged.tokens, tagged.tags) == (answer["tokens"], answer["tags"])
        np.testing.assert_allclose(tagged.confidence, answer["confidence"], atol=1e-4)
    single = model.tag(TEXTS[0])
    assert (single.tokens, single.tags) == several[0][:2]
    assert model.tag([]) == []
    assert model.tag("do n't split:me", tokenized=True).tokens == ["do", "n't", "split:me"]
    assert model.tag(("Oslo",))[0].tokens == ["Oslo"]


def test_more_texts_than_a_batch_are_answered_in_order(tagger):
    texts = [f"Oslo {number}" for number in range(150)]
    assert [tagged.tokens for tagged in trellis.load(tagger).tag(texts)] == [text.split() for text in texts]


def test_aligner_answers_as_the_command_does(aligner, ask):
    model = trellis.load(aligner)
    source, target = ["the house", "", "a ||| b"], ["la casa", "la casa", "c"]
    several = model.align(source, target)
    assert all(isinstance(aligned, Aligned) for aligned in several)
    pairs = ["the house ||| la casa", " ||| la casa", "a | b ||| c"]  # three bars would separate the sides
    for aligned, answer in zip(several, ask(predict, aligner, *pairs, "--posteriors"), strict=True):
        assert (aligned.source, aligned.target) == (answer["source"], answer["target"])
        assert [list(link) for link in aligned.links] == answer["alignment"]
        np.testing.assert_allclose(aligned.forward, np.reshape(answer["forward"], aligned.forward.shape), atol=1e-4)
        np.testing.assert_allclose(aligned.posteriors, (aligned.forward + aligned.reverse) / 2)
    assert model.align("the house", "la casa").links == several[0].links
    assert model.align([], []) == []
    with pytest.raises(InputError, match="2 source sentences, but 1 target sentences"):
        model.align(["a", "b"], ["c"])


def test_a_sentence_that_is_too_long_has_no_posteriors(aligner):
    aligned = trellis.load(aligner).align("a " * 2000, "b")
    assert (len(aligned.source), aligned.links, aligned.posteriors) == (2000, [], None)


def test_classifier_answers_as_the_command_does(classifier, ask):
    model = trellis.load(classifier)
    several = model.classify(TEXTS)
    assert all(isinstance(classified, Classified) for classified in several)
    for classified, answer in zip(several, ask(predict, classifier, *TEXTS), strict=True):
        assert classified.label == answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
        assert classified.probabilities == pytest.approx(answer["probabilities"], abs=1e-4)
    assert model.classify(TEXTS[0]).label == several[0].label
    assert model.classify([]) == []
    vectors = model.embed(TEXTS)
    assert vectors.shape == (3, model.embed(TEXTS[0]).size)
    np.testing.assert_allclose(model.embed(TEXTS[0]), vectors[0], atol=1e-5)
    assert len(model.embed([])) == 0


def test_language_model_answers_as_the_command_does(language_model, ask):
    model = trellis.load(language_model)
    prompts = ["the king", "zzz"]
    assert model.generate("the king", count=5) == ask(generate, language_model, "the king", "--count", "5")[0]["text"]
    sampled = ask(generate, language_model, "the king", "--samples", "2", "--seed", "7")
    assert model.generate(["the king"] * 2, seed=7) == [answer["text"] for answer in sampled]
    scores = model.score(prompts)
    assert all(isinstance(score, Scored) for score in scores)
    for score, answer in zip(scores, ask(generate, language_model, *prompts, "--score"), strict=True):
        assert score.log_probability == pytest.approx(answer["log_probability"], abs=1e-4)
        assert score.tokens == answer["tokens"]
    assert scores[1].unknown == 1
    assert model.score("the king").tokens == 3
    answers = ask(generate, language_model, "the king", "--next", "3")
    assert model.next("the king", 3) == pytest.approx({each["next"]: each["probability"] for each in answers})
    assert [len(tokens) for tokens in model.next(prompts)] == [10, 10]
    assert model.generate([]) == model.score([]) == model.next([]) == []
    assert isinstance(model.generate(count=3), str)


def test_wrong_methods_are_refused_with_the_right_ones(tagger, aligner, classifier, language_model):
    for export, wrong, methods in (
        (tagger, "classify", "a tagger cannot classify; it has tag"),
        (aligner, "tag", "a word aligner cannot tag; it has align"),
        (classifier, "generate", "a classifier cannot generate; it has classify, embed"),
        (language_model, "embed", "a language model cannot embed; it has generate, score, next"),
    ):
        model = trellis.load(export)
        with pytest.raises(InputError, match=methods):
            getattr(model, wrong)("text")
        assert all(callable(getattr(model, method)) and method in repr(model) for method in model.methods)


def test_folders_without_an_export_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such export"):
        trellis.load(tmp_path / "absent")
    with pytest.raises(InputError, match="no SavedModel here"):
        trellis.load(tmp_path)


def test_other_models_are_refused(tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.double})
    with pytest.raises(InputError, match=r"1: not an export of Trellis .* ask it with tf\.saved_model\.load"):
        trellis.load(tmp_path)


def test_a_version_or_the_newest_one_is_loaded(tagger):
    assert trellis.load(tagger / "1").version == trellis.load(str(tagger)).version == tagger / "1"


def test_the_lattice_of_an_export_gives_its_tags_and_confidences(tagger):
    export = trellis.load(tagger)
    for text, tokenized in ((TEXTS[0], False), ("Mary Smith , Lima", True), ("Oslo", False)):
        tagged, lattice = export.tag(text, tokenized=tokenized), export.lattice(text, tokenized=tokenized)
        assert lattice.tokens == tagged.tokens and lattice.pairwise.shape[0] == len(lattice.tokens) - 1
        zeros, chain = np.zeros(len(lattice.tags)), (lattice.unary[None], np.array([len(lattice.tokens)]))
        path, _ = trellis.lattice.viterbi(*chain, lattice.pairwise[None], zeros, zeros)
        assert [lattice.tags[tag] for tag in np.asarray(path)[0]] == tagged.tags
        best = trellis.lattice.marginals(*chain, lattice.pairwise[None], zeros, zeros)
        confidence = np.take_along_axis(np.asarray(best)[0], np.asarray(path)[0][:, None], axis=1)[:, 0]
        np.testing.assert_allclose(confidence, tagged.confidence, atol=1e-5)
    assert export.lattice("").tokens == [] and export.lattice("").unary.shape == (0, len(lattice.tags))


def test_exports_of_taggers_and_aligners_are_drawn_and_others_refused(tagger, aligner, classifier):
    html = trellis.show(tagger, TEXTS[0])._repr_html_()
    assert "Smith" in html and "B-PER" in html and "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "llave" in trellis.show(aligner, ("our key", "nuestra llave")).html
    for export, sentence, message in (
        (classifier, "fine", "show draws taggers and word aligners, not a classifier"),
        (tagger, "", "has no tokens"),
        (tagger, ("a", "b"), "a tagger takes one text"),
        (aligner, "a b", "a word aligner takes"),
        (aligner, ("", "b"), "no words"),
    ):
        with pytest.raises(InputError, match=message):
            trellis.show(export, sentence)


def test_an_export_without_a_lattice_is_not_drawn(tagger):
    model = trellis.load(tagger)
    del model._model.inputs["lattice"]  # as in exports of version 0.2
    assert model.tag(TEXTS[0]).tokens[0] == "Mary"
    with pytest.raises(InputError, match=r"1: this export has no signature `lattice`; train the model again"):
        trellis.show(model, TEXTS[0])
