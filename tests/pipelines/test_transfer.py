"""From language models into classifiers and taggers: every weight where it belongs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import warm_python
from tests.pipelines.runs import configured, run
from trellis.components import transfer
from trellis.components.errors import InputError
from trellis.components.training.rates import PretrainedRates
from trellis.pipelines.language_modeling import LanguageModeling
from trellis.pipelines.pretraining import Pretraining
from trellis.pipelines.tracking import registry

LM = ("model=lstm_lm", "model.units=12", "model.dim=8", "model.layers=1", "trainer.epochs=1", "report.mixture=null",
      "limit.sentences=200")  # fmt: skip
CLASSIFIER = ("model=lstm_classifier", "model.units=12", "model.dim=8", "trainer.epochs=1", "tracking=off",
              "export=off", "limit.sentences=60")  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory, database):
    folder = tmp_path_factory.mktemp("transfer")
    uri = f"tracking.uri={database(folder)}"
    run(folder / "forwards", *LM, uri, f"export.dir={folder}/exports", "tracking.register=sample-lm")
    run(folder / "backwards", *LM, "tracking=off", "export=off", "model.backwards=true")
    return folder, uri


def built(task_class, *overrides):
    """The model of a configuration as it is before the first step, what it was built for, and its callbacks."""
    config = configured(*overrides)
    task = task_class(config)
    pretraining = Pretraining(config, task.embeds_words)
    encoded = task.encode(task.read(), pretraining.words)
    keras.utils.set_random_seed(1)
    model = task.build(encoded, task.batch(encoded))
    return model, encoded, pretraining.apply(model, encoded)


def classification(*overrides):
    from trellis.pipelines.classification import Classification

    return built(Classification, *CLASSIFIER, *overrides)


def source(folder):
    reader = keras.saving.load_model(folder / "checkpoints" / "best.keras")
    return reader, json.loads((folder / "vocabulary.json").read_text())


def test_run_export_and_registered_model_are_the_same(models):
    folder, uri = models
    forms = [str(folder / "forwards"), str(folder / "exports"), str(folder / "exports" / "1")]
    found = [transfer.read(each) for each in forms]
    config = configured("model=lstm_classifier", uri)
    found.append(transfer.read(registry.fetched("models:/sample-lm@champion", config.tracking.uri)))
    for each in found[1:]:
        assert (each.words, each.cell, each.backwards) == (found[0].words, "lstm", False)
        np.testing.assert_array_equal(each.embeddings, found[0].embeddings)
        for one, other in zip(each.layers[0], found[0].layers[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_process_that_has_made_no_language_model_reads_one(models, tmp_path):
    code = "import sys; from trellis.components import transfer; print(transfer.read(sys.argv[1]).embeddings.shape[1])"
    done = warm_python.python("-c", code, models[0] / "forwards", cwd=tmp_path)
    assert done.stdout.strip() == "8", done.stderr


def test_vectors_go_by_word(models, caplog):
    folder, _ = models
    plain, encoded, _ = classification()
    model, _, _ = classification(f"init_from={folder}/forwards", "transfer.parts=embeddings")
    reader, words = source(folder / "forwards")
    matched = set(words) & set(encoded.vectorizer.words)
    assert matched and f"{len(matched)} words have pretrained vectors, " in caplog.text
    before, after = (m.get_layer("word_embedding").get_weights()[0] for m in (plain, model))
    for row, word in enumerate(encoded.vectorizer.words, 2):
        wanted = reader.embedding.get_weights()[0][words.index(word) + 2] if word in matched else before[row]
        np.testing.assert_array_equal(after[row], wanted)
    np.testing.assert_array_equal(*(m.get_layer("lstm_1").get_weights()[1] for m in (plain, model)))


def test_words_that_only_the_language_model_knows_are_kept(models):
    folder, _ = models
    start = f"init_from={folder}/forwards"
    reader, words = source(folder / "forwards")
    _, without, _ = classification(start)
    for keep, wanted in ((3, words[1:4]), ("null", words[1:])):
        model, encoded, _ = classification(start, f"transfer.keep={keep}")
        assert set(encoded.vectorizer.words) == {*without.vectorizer.words, *wanted}
        table = model.get_layer("word_embedding").get_weights()[0]
        for word in wanted:
            np.testing.assert_array_equal(
                table[encoded.vectorizer.words.index(word) + 2],
                reader.embedding.get_weights()[0][words.index(word) + 2],
            )
    assert len(encoded.vectorizer.words) > len(without.vectorizer.words)


def test_states_are_those_of_the_language_model(models):
    folder, _ = models
    model, encoded, _ = classification(f"init_from={folder}/forwards")
    reader, words = source(folder / "forwards")
    common = [word for word in encoded.vectorizer.words if word in words][:5]
    ours = tf.constant([[encoded.vectorizer.words.index(word) + 2 for word in common]])
    theirs = tf.constant([[words.index(word) + 2 for word in common]])
    states = keras.Model(model.inputs, model.get_layer("lstm_1").output)({"words": ours})
    wanted = reader.recurrent[0](reader.embedding(theirs))[0]
    np.testing.assert_allclose(states, wanted, atol=1e-6)


def test_both_directions_into_a_tagger(models):
    from trellis.pipelines.tagging import Tagging

    folder, _ = models
    model, encoded, _ = built(
        Tagging, "model=bilstm_crf", "model.units=12", "model.words.dim=16", "limit.sentences=60",
        f"init_from=[{folder}/backwards,{folder}/forwards]",
    )  # fmt: skip
    layer = model.get_layer("bilstm_1")
    (forwards, words), (backwards, _) = source(folder / "forwards"), source(folder / "backwards")
    common = [word for word in encoded.vectorizer.words if word in words][:4]
    ours = [encoded.vectorizer.words.index(word) + 2 for word in common]
    vectors = model.get_layer("word_embedding")(tf.constant([ours]))
    theirs = tf.constant([[words.index(word) + 2 for word in common]])
    # Characters and casing are inputs too: where they are nothing, states are those of the language models.
    width = layer.forward_layer.cell.kernel.shape[0]
    inputs = tf.pad(vectors, [[0, 0], [0, 0], [0, width - 16]])
    np.testing.assert_allclose(
        layer.forward_layer(inputs), forwards.recurrent[0](forwards.embedding(theirs))[0], atol=1e-6
    )
    read_backwards = backwards.recurrent[0](backwards.embedding(theirs[:, ::-1]))[0]
    np.testing.assert_allclose(layer.backward_layer(inputs), read_backwards, atol=1e-6)


def test_the_whole_pipeline(models, tmp_path):
    folder, _ = models
    metrics = run(tmp_path / "run", *CLASSIFIER, f"init_from={folder}/exports", "transfer.rate=0.5")
    assert metrics["test/accuracy"] > 0.3


def test_frozen_weights_are_those_of_the_language_model(models, tmp_path):
    folder, _ = models
    run(tmp_path / "run", *CLASSIFIER, f"init_from={folder}/forwards", "transfer.frozen=true")
    trained = keras.saving.load_model(tmp_path / "run" / "checkpoints" / "best.keras")
    reader, _ = source(folder / "forwards")
    for one, other in zip(trained.get_layer("lstm_1").get_weights(), reader.recurrent[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(trained.get_layer("scores").get_weights()[1]).max() > 0


def moved(callback, epochs):
    """How far each group of weights and a new weight move in each epoch."""
    old, new = (keras.Variable(np.ones(3), name=name) for name in ("old", "new"))
    older = keras.Variable(np.ones(3), name="older")
    callback = callback([[old], [older]])
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1))
    callback.set_model(model)
    callback.on_train_begin()
    steps = []
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        before = [float(each.value[0]) for each in (new, old, older)]
        model.optimizer.apply([tf.ones(3)] * 3, [new, old, older])
        steps.append([round(b - float(each.value[0]), 4) for b, each in zip(before, (new, old, older), strict=True)])
    return steps


def test_rates_of_pretrained_weights():
    assert moved(lambda groups: PretrainedRates(groups), 1) == [[0.1, 0.1, 0.1]]
    assert moved(lambda groups: PretrainedRates(groups, frozen=True), 2) == [[0.1, 0, 0]] * 2
    assert moved(lambda groups: PretrainedRates(groups, rate=0.5), 1) == [[0.1, 0.05, 0.025]]
    gradual = [[0.1, 0, 0], [0.1, 0.1, 0], [0.1, 0.1, 0.1]]
    assert moved(lambda groups: PretrainedRates(groups, every=1), 3) == gradual


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.dim=9",), r"layer word_embedding is \(\d+, 9\) here and \(\d+, 8\) there; set its width to 8"),
        (
            ("model.units=10",),
            r"layer lstm_1 is \(8, 40\) \(10, 40\) \(40,\) here and \(8, 48\) \(12, 48\) \(48,\) there",
        ),
        (("model.cell=gru",), "no recurrent layer of the kind lstm"),
        (("init_from=/nowhere",), "init_from=/nowhere: neither a run's folder nor an export"),
        (("init_from=models:/nobody@champion",), "init_from=models:/nobody@champion"),
    ],
)
def test_what_does_not_fit(models, tmp_path, database, overrides, message):
    folder, _ = models
    tracking = f"tracking=mlflow tracking.uri={database(tmp_path)}".split(" ")
    with pytest.raises(InputError, match=message):
        classification(f"init_from={folder}/forwards", *tracking, *overrides)


def language_modeling(*overrides):
    from trellis.pipelines.language_modeling import LanguageModeling

    return built(LanguageModeling, *LM, *overrides)


@pytest.mark.parametrize("options", [(), ("model.tied=false",), ("model.backwards=true", "model.cell=gru")])
def test_a_language_model_goes_on_where_another_stopped(models, tmp_path, options):
    folder = models[0] if not options else tmp_path
    if options:
        run(folder / "forwards", *LM, *options, "tracking=off", f"export.dir={folder}/exports")
    found = json.loads((folder / "forwards" / "metrics.json").read_text())["dev/loss"]
    for place in ("forwards", "exports"):
        model, encoded, _ = language_modeling(*options, f"init_from={folder}/{place}")
        evaluator = LanguageModeling(configured(*LM, *options)).evaluator(model, encoded)
        assert evaluator.dev()["dev/loss"] == pytest.approx(found, rel=1e-6)


def test_a_language_model_goes_on_with_other_words(models, write):
    folder, _ = models
    own = write("own/train.txt", "the zzz house\nthe zzz market\n" * 3).parent
    for part in ("dev", "test"):
        write(f"own/{part}.txt", "the zzz house\n")
    text = ("data=text", "data.lines=sentences", f"data.path={own}")
    start = f"init_from={folder}/forwards"
    plain, encoded, _ = language_modeling(*text)
    model, _, _ = language_modeling(*text, start)
    reader, words = source(folder / "forwards")
    assert "zzz" not in words and "zzz" in encoded.vectorizer.words and "the" in words
    for before, after, theirs in (
        (plain.embedding.get_weights()[0], model.embedding.get_weights()[0], reader.embedding.get_weights()[0]),
        (plain.softmax.get_weights()[0], model.softmax.get_weights()[0], reader.softmax.get_weights()[0]),
    ):
        np.testing.assert_array_equal(after[1], theirs[1])
        for row, word in enumerate(encoded.vectorizer.words, 2):
            wanted = theirs[words.index(word) + 2] if word in words else before[row]
            np.testing.assert_array_equal(after[row], wanted)
    for one, other in zip(model.projection.get_weights(), reader.projection.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    _, encoded, _ = language_modeling(*text, start, "transfer.keep=null")
    assert set(encoded.vectorizer.words) == {*words, "the", "zzz", "house", "market"}
    model, _, _ = language_modeling(*text, start, "transfer.parts=encoder")
    np.testing.assert_array_equal(model.embedding.get_weights()[0].shape, plain.embedding.get_weights()[0].shape)
    assert not np.array_equal(model.embedding.get_weights()[0][1], reader.embedding.get_weights()[0][1])
    np.testing.assert_array_equal(model.recurrent[0].get_weights()[1], reader.recurrent[0].get_weights()[1])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.backwards=true",), "starts from a single one that reads in the same direction"),
        (("model.tied=false",), r"layer softmax is \(\d+, 12\) \(\d+,\) here and \(\d+,\) \(12, 8\) \(8,\) there"),
        (("model.dim=9",), r"layer embedding is \(\d+, 9\) here and \(\d+, 8\) there; set its width to 8"),
        (("model.units=10",), r"layer lstm_1 is .* set the same number of units"),
    ],
)
def test_a_language_model_that_does_not_fit(models, overrides, message):
    with pytest.raises(InputError, match=message):
        language_modeling(f"init_from={models[0]}/forwards", *overrides)


def test_a_model_without_word_vectors_starts_from_nothing(models, tmp_path):
    for model in ("ngram", "maxent_lm", "feature_crf"):
        options = (f"model={model}", "limit.sentences=50", "tracking=off", "export=off")
        with pytest.raises(InputError, match=f"model={model} has no word vectors to set"):
            run(tmp_path / model, *options, f"init_from={models[0]}/forwards")


def test_an_ngram_model_has_nothing_to_give(tmp_path):
    run(tmp_path / "run", "model=ngram", "tracking=off", f"export.dir={tmp_path}/exports", "limit.sentences=50")
    for place in (tmp_path / "run", tmp_path / "exports"):
        with pytest.raises(InputError, match=r"no embeddings to start from|no language model to start from"):
            transfer.read(place)
