"""The real corpora, where they are at hand: no token lost, tags converted rightly, little padding in batches."""

import gzip

import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.runs import configured, run
from trellis.components.errors import InputError
from trellis.components.metrics.tagging_scores import entity_scores
from trellis.components.text import tag_schemes
from trellis.components.text.batching import Buckets, EncodedCorpus, ordered_batches
from trellis.components.text.vectorizer import TokenVectorizer
from trellis.pipelines.alignment import Alignment
from trellis.pipelines.classification import Classification
from trellis.pipelines.language_modeling import LanguageModeling
from trellis.pipelines.tagging import Tagging

pytestmark = pytest.mark.real

# sentences and tokens of train, dev and test, as the corpora's own documentation counts them
SIZES = {
    "conll2003": ((14041, 203621), (3250, 51362), (3453, 46435)),
    "wnut17": ((3394, 62730), (1009, 15733), (1287, 23394)),
    "wikiner": ((10000, 248038), (1696, 39007)),
    "ud_english_ewt": ((12544, 204577), (2001, 25147), (2077, 25094)),
    "ud_turkish_imst": ((3435, 37522), (1100, 10542), (1100, 10032)),
}
ENTITIES = {"conll2003": (23499, 5942, 5648), "wnut17": (1975, 836, 1079)}


@pytest.fixture(scope="module", autouse=True)
def corpora(real, request):
    import os

    former = os.environ.get("TRELLIS_DATA")
    os.environ["TRELLIS_DATA"] = str(real)
    yield
    os.environ.pop("TRELLIS_DATA") if former is None else os.environ.update(TRELLIS_DATA=former)


@pytest.fixture(scope="module")
def read():
    kept = {}

    def task(name):
        if name not in kept:
            kept[name] = Tagging(configured(f"data={name}")).read()
        return kept[name]

    return task


@pytest.mark.parametrize("name", SIZES)
def test_every_sentence_and_token_is_read(read, name):
    parts = read(name).parts.values()
    assert tuple((len(part), sum(len(s.tokens) for s in part)) for part in parts) == SIZES[name]
    assert all(token for part in parts for s in part for token in s.tokens)


@pytest.mark.parametrize("name", ENTITIES)
def test_every_entity_is_found(read, name):
    parts = read(name).parts.values()
    assert tuple(sum(len(tag_schemes.entities(s.tags)) for s in part) for part in parts) == ENTITIES[name]
    gold = [s.tags for s in read(name).parts["test"]]
    assert entity_scores(gold, gold)["f1"] == 1.0


def test_wikiner_is_iob1_and_becomes_bio2(read, real):
    text = gzip.decompress((real / "wikiner" / "train.txt.gz").read_bytes()).decode()
    raw = [tuple(f.rpartition("|")[2] for f in line.split(" ") if f) for line in text.split("\n") if line.strip(" ")]
    assert tag_schemes.detect(raw) == "iob1"
    assert sum(tag.startswith("B-") for tags in raw for tag in tags) == 47
    converted = [s.tags for s in read("wikiner").parts["train"]]
    for before, after in zip(raw, converted, strict=True):
        assert tag_schemes.entities(before) == tag_schemes.entities(after)
        assert all(after[each.start].startswith("B-") for each in tag_schemes.entities(after))


def test_odd_tokens_come_out_as_they_went_in(read):
    tokens = {token for s in read("wnut17").parts["dev"] for token in s.tokens}
    assert any("\u200b" in token for token in tokens) and any("\ufeff" in token for token in tokens)
    turkish = [token for s in read("ud_turkish_imst").parts["train"] for token in s.tokens]
    assert 0.36 < np.mean([not token.isascii() for token in turkish]) < 0.38


def test_little_padding_and_few_shapes(read):
    lengths = [len(s.tokens) for s in read("conll2003").parts["train"]]
    for options in ({"tokens": 512}, {"sentences": 32}):
        buckets = Buckets(lengths, max_shapes=16, **options)
        assert buckets.padding < 0.15
        assert len(set(buckets.shapes)) < 20


def test_no_token_is_lost_on_the_way_to_the_model(read):
    sentences = read("ud_turkish_imst").parts["train"]
    vectorizer = TokenVectorizer.adapt([t for s in sentences for t in s.tokens], case="turkish", features=["words"])
    corpus = EncodedCorpus(sentences, vectorizer, read("ud_turkish_imst").tags)
    total = 0
    for rows, features, _ in ordered_batches(corpus, Buckets(corpus.lengths, 4096)):
        total += int(tf.math.count_nonzero(features["words"]))
        lengths = [len(sentences[row].tokens) if row >= 0 else 0 for row in rows.numpy()]
        assert tf.math.count_nonzero(features["words"], axis=1).numpy().tolist() == lengths
    assert total == corpus.tokens


# pairs, sure links and links that are possible only, as the corpora's own documentation counts them
ALIGNED = {
    "czenali": (2501, 44292, 23131),  # and one outside of its sentences
    "hansards_en_fr": (447, 4038, 13400),
    "wpt03_ro_en": (248, 6198, 0),
    "kftt_ja_en": (582, 13562, 0),
}


@pytest.mark.parametrize("name", ALIGNED)
def test_no_gold_link_is_lost(name):
    strict = str(name != "czenali").lower()
    data = Alignment(configured("model=ibm1", f"data={name}", f"data.strict={strict}")).read()
    gold = [data.pairs[row] for rows in data.scored.values() for row in rows]
    sure = sum(len(pair.sure) for pair in gold)
    assert (data.tokens.count, sure, sum(len(pair.possible) for pair in gold) - sure) == ALIGNED[name]


@pytest.mark.parametrize("name", ["xlwa_es", "xlwa_it", "xlwa_nl", "xlwa_hu", "tanaka", "multi30k_en_cs"])
def test_bitexts(name):
    data = Alignment(configured("model=ibm1", f"data={name}", "data.strict=true")).read()
    assert data.tokens.count == {"tanaka": 11_000, "multi30k_en_cs": 31_014}.get(name, data.tokens.count)
    if name.startswith("xlwa"):
        # The links of the training part are automatic: none of them is gold.
        assert set(data.scored) == {"dev", "test"}
        assert data.tokens.count - sum(map(len, data.scored.values())) == 1002


def test_a_link_outside_its_sentences_is_named():
    with pytest.raises(InputError, match=r"gold\.sure\.gz:1431: link 60-44 is outside its sentences"):
        Alignment(configured("model=ibm1", "data=czenali", "data.strict=true")).read()


@pytest.mark.parametrize(
    ("experiment", "highest"),
    [
        ("czenali_fast_align", 0.36),
        ("czenali_hmm", 0.27),
        ("czenali_agreement", 0.149),
    ],
)
def test_alignment_error_rates(tmp_path, experiment, highest):
    metrics = run(tmp_path / "run", f"experiment={experiment}", "tracking=off", "export=off")
    assert metrics["test/aer"] < highest


# tokens with line ends, and kinds, as the corpora's own documentation counts them
TEXTS = {
    "ptb": ({"train": 929_589, "dev": 73_760, "test": 82_430}, 10_000),
    "wikitext2": ({"train": 2_088_628, "dev": 217_646, "test": 245_569}, 33_278),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_token_of_a_text_is_read(name):
    task = LanguageModeling(configured("model=lstm_lm", f"data={name}"))
    encoded = task.encode(task.read())
    sizes, kinds = TEXTS[name]
    assert {part: len(stream) for part, stream in encoded.streams.items()} == sizes
    # The unknown word is a kind too.
    assert len(encoded.vectorizer.words) + 1 == kinds


def test_every_letter_of_shakespeare_is_read(real):
    task = LanguageModeling(configured("model=lstm_lm", "data=tinyshakespeare"))
    encoded = task.encode(task.read())
    text = (real / "tinyshakespeare" / "input.txt").read_text()
    letters = np.array(["", "?", *encoded.vectorizer.words], object)
    assert "".join("".join(letters[stream.ids]) for stream in encoded.streams.values()) == text
    assert len(encoded.vectorizer.words) == 65
    assert len(encoded.streams["test"]) / len(text) == pytest.approx(0.1, abs=0.001)


def test_kneser_ney_on_the_penn_treebank(tmp_path):
    """The literature's figure for a 5-gram model is 141.2 (Mikolov 2012)."""
    metrics = run(tmp_path / "run", "model=ngram", "data=ptb", "tracking=off", "export=off")
    assert metrics["test/perplexity"] == pytest.approx(141.2, abs=0.1)


def test_labelled_corpora():
    def sizes(name):
        task = Classification(configured("model=bow", f"data={name}"))
        encoded = task.encode(task.read())
        data = encoded.data
        return {part: len(examples) for part, examples in data.parts.items()}, len(data.labels), encoded

    parts, classes, encoded = sizes("sst5")
    assert (parts, classes) == ({"train": 8544, "dev": 1101, "test": 2210}, 5)
    assert encoded.corpora["test"].tokens == 42_405
    parts, classes, _ = sizes("names")
    assert (sum(parts.values()), classes) == (20_050, 18)
    assert parts["test"] == pytest.approx(0.2 * 20_050, abs=18)
