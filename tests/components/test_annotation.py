"""Formats of annotated texts: what each tool writes, round trips, and one clear line for what cannot be read."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trellis.components.annotation import formats, tokens
from trellis.components.annotation.annotated_text import AnnotatedText, Span
from trellis.components.annotation.formats import WritingOptions
from trellis.components.errors import InputError
from trellis.components.readers.sentence import Sentence
from trellis.components.text import tag_schemes

TEXT = "Mary Smith flew to Lima."
SPANS = (Span(0, 10, "PER"), Span(19, 23, "LOC"))
TAGS = ("B-PER", "I-PER", "O", "O", "B-LOC", "O")
WORDS = ("Mary", "Smith", "flew", "to", "Lima", ".")


def lines(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


LABEL_STUDIO_VALUES = [
    {"start": 0, "end": 10, "text": "Mary Smith", "labels": ["PER"]},
    {"start": 19, "end": 23, "text": "Lima", "labels": ["LOC"]},
]
# What each tool writes, by the name of the file and the format that is recognized.
WRITTEN = {
    "spacy pair": ("a.jsonl", "spacy", lines([TEXT, {"entities": [[0, 10, "PER"], [19, 23, "LOC"]]}])),
    "spacy list": ("a.json", "spacy", json.dumps([[TEXT, {"entities": [[0, 10, "PER"], [19, 23, "LOC"]]}]])),
    "spacy entities": ("a.jsonl", "spacy", lines({"text": TEXT, "entities": [[0, 10, "PER"], [19, 23, "LOC"]]})),
    "Doc.to_json": (
        "a.json",
        "spacy",
        json.dumps(
            {
                "text": TEXT,
                "ents": [{"start": 0, "end": 10, "label": "PER"}, {"start": 19, "end": 23, "label": "LOC"}],
                "sents": [{"start": 0, "end": 24}],
            },
            indent=1,
        ),
    ),
    "trellis predict": (
        "a.jsonl",
        "spacy",
        lines(
            {
                "text": TEXT,
                "entities": [
                    {"type": "PER", "text": "Mary Smith", "start": 0, "end": 10, "probability": 0.9},
                    {"type": "LOC", "text": "Lima", "start": 19, "end": 23, "probability": 0.9},
                ],
            }
        ),
    ),
    "prodigy": (
        "a.jsonl",
        "prodigy",
        lines(
            {"text": "x", "spans": [], "answer": "reject", "_task_hash": 1},
            {
                "text": TEXT,
                "_input_hash": 3,
                "_task_hash": 4,
                "spans": [
                    {"start": 0, "end": 10, "label": "PER", "token_start": 0, "token_end": 1},
                    {"start": 19, "end": 23, "label": "LOC"},
                ],
                "answer": "accept",
            },
        ),
    ),
    "doccano": ("a.jsonl", "doccano", lines({"id": 1, "text": TEXT, "label": [[0, 10, "PER"], [19, 23, "LOC"]]})),
    "doccano labels": (
        "a.jsonl",
        "doccano",
        lines({"id": 1, "data": TEXT, "labels": [[0, 10, "PER"], [19, 23, "LOC"]]}),
    ),
    "doccano relations": (
        "a.jsonl",
        "doccano",
        lines(
            {
                "id": 1,
                "text": TEXT,
                "entities": [
                    {"id": 5, "label": "PER", "start_offset": 0, "end_offset": 10},
                    {"id": 6, "label": "LOC", "start_offset": 19, "end_offset": 23},
                ],
                "relations": [],
                "Comments": [],
            }
        ),
    ),
    "label studio": (
        "a.json",
        "label_studio",
        json.dumps(
            [
                {"id": 1, "data": {"text": "x"}, "annotations": []},
                {
                    "id": 2,
                    "data": {"text": TEXT},
                    "annotations": [
                        {"was_cancelled": True, "result": []},
                        {
                            "result": [
                                {"value": value, "from_name": "label", "to_name": "text", "type": "labels"}
                                for value in LABEL_STUDIO_VALUES
                            ]
                            + [{"type": "relation", "from_id": "a", "to_id": "b"}]
                        },
                    ],
                    "predictions": [],
                },
            ],
            indent=2,
        ),
    ),
    "label studio, JSON-MIN": (
        "a.json",
        "label_studio",
        json.dumps([{"id": 1, "my_text": TEXT, "ner": LABEL_STUDIO_VALUES, "annotation_id": 1, "created_at": "2026"}]),
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_what_a_tool_writes_is_recognized_and_read(write, case):
    name, form, content = WRITTEN[case]
    path = write(name, content)
    assert formats.recognize(path) == form
    (text,) = formats.read(path)
    assert (text.text, text.spans) == (TEXT, SPANS)
    assert formats.as_sentences(path, [text], "words", "error") == [Sentence(WORDS, TAGS)]
    # Byte order mark, Windows line ends, compression, and the name of the format.
    changed = write(f"{name}.gz", gzip.compress(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode()))
    assert formats.read(changed) == formats.read(changed, form) == [text]


def test_spacy_records_are_those_of_doc_to_json(tmp_path):
    # `Doc(nlp.vocab).from_json` of spaCy 3.8 reads this record, and finds the entities of `ents` alone.
    path = tmp_path / "a.jsonl"
    formats.write(path, "spacy", "x", [Sentence(("São", "Paulo", "!"), ("B-LOC", "I-LOC", "O"))], WritingOptions())
    assert json.loads(path.read_text()) == {
        "text": "São Paulo !",
        "ents": [{"start": 0, "end": 9, "label": "LOC"}],
        "tokens": [{"id": 0, "start": 0, "end": 3}, {"id": 1, "start": 4, "end": 9}, {"id": 2, "start": 10, "end": 11}],
    }


def test_prodigy_and_spacy_keep_their_tokens(write):
    record = {
        "text": "ab\n\ncd",
        "tokens": [
            {"text": "a", "start": 0, "end": 1, "id": 0, "ws": False},
            {"text": "b", "start": 1, "end": 2, "id": 1, "ws": False},
            {"text": "\n\n", "start": 2, "end": 4, "id": 2, "ws": False},
            {"text": "cd", "start": 4, "end": 6, "id": 3, "ws": False},
        ],
        "spans": [{"start": 1, "end": 6, "label": "X"}],
    }
    path = write("a.jsonl", lines(record))
    assert formats.as_sentences(path, formats.read(path), "words", "error") == [
        Sentence(("a", "b", "cd"), ("O", "B-X", "I-X"))
    ]


def test_offsets_are_code_points_or_on_request_utf16_units(write):
    record = {"id": 1, "text": "😀 Mary 😀 x", "label": [[3, 7, "PER"], [8, 10, "E"]]}
    path = write("a.jsonl", lines(record))
    assert [(span.start, span.end) for span in formats.read(path, offsets="utf16")[0].spans] == [(2, 6), (7, 8)]
    texts = formats.read(path)
    with pytest.raises(
        InputError, match=r"a.jsonl:1: span 3-7 PER 'ary ' begins inside of the token 'Mary' \(if .*--offsets utf16\)"
    ):
        formats.as_sentences(path, texts, "words", "error")
    path = write("b.jsonl", lines(["😀a", {"entities": [[1, 2, "X"]]}]))
    with pytest.raises(InputError, match=r"b.jsonl:1: offset 1 of a span is inside of a character"):
        formats.read(path, offsets="utf16")
    value = {"start": 3, "end": 7, "text": "Mary", "labels": ["PER"]}
    record = {"id": 1, "data": {"text": "😀 Mary"}, "annotations": [{"result": [{"value": value}]}]}
    path = write("c.json", json.dumps([record]))
    with pytest.raises(InputError, match=r"c.json:1: offset 7 .* outside .* 6 characters .*--offsets utf16"):
        formats.read(path)
    (text,) = formats.read(path, offsets="utf16")
    out = path.with_name("d.json")
    formats.write(out, "label_studio", path, [text], WritingOptions(offsets="utf16"))
    assert formats.read(out, offsets="utf16") == [text]
    assert json.loads(out.read_text())[0]["annotations"][0]["result"][0]["value"] == value


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", lines({"text": "ab", "entities": []}, {"text": "ab", "entities": [[0, 9, "X"]]}),
         r"a.jsonl:2: offset 9 of a span is outside of the text, which has 2 characters"),
        ("a.jsonl", lines({"text": "ab", "entities": [[-1, 1, "X"]]}), r"a.jsonl:1: offset -1 of a span is outside"),
        ("a.jsonl", lines({"text": "ab", "entities": [[2, 1, "X"]]}), r"a.jsonl:1: span 2-1 ends before it begins"),
        ("a.jsonl", lines({"text": "ab", "entities": [[0, 1.5, "X"]]}), r"an offset of a span is 1.5, expected"),
        ("a.jsonl", lines({"text": "ab", "entities": [[0, 1, ""]]}), r"the label of span 0-1 is '', expected a name"),
        ("a.jsonl", lines({"text": 3, "entities": [[0, 1, "X"]]}), r"a.jsonl:1: the text is 3, expected a string"),
        ("a.jsonl", lines({"text": "ab", "entities": [[0, 1, "X"]]}) + "{oops\n", r"a.jsonl:2: not JSON"),
        ("a.jsonl", '{"text": "\\ud800", "entities": []}', r"a.jsonl:1: character 0 of the text is half of"),
        ("a.json", '[\n {"text": "a", "entities": []},\n {"text": "b" "x"}\n]', r"a.json:3: not JSON"),
        ("a.json", '[\n {"text": "a", "entities": []},\n\n {"text": "b", "entities": [[3, 4, "X"]]}\n]',
         r"a.json:4: offset 3"),
        ("a.json", '[{"text": "a", "entities": []}, {"text": "b", "entities": [[3, 4, "X"]]}]',
         r"a.json:1 \(record 2\): offset 3"),
        ("a.jsonl", lines({"text": "ab", "annotations": [{"label": 2, "start_offset": 0, "end_offset": 1}]}),
         r"a.jsonl:1: label 2 is the number of a label"),
        ("a.json", json.dumps([{"data": {"text": "ab"}, "annotations": [{"result": [
            {"value": {"start": 0, "end": 1, "text": "b", "labels": ["X"]}}]}]}]),
         r"a.json:1: span 0-1 is 'a' in the text, but 'b' according to the file"),
        ("a.jsonl", lines({"text": "ab", "spans": [], "tokens": [{"start": 1, "end": 2}, {"start": 0, "end": 1}]}),
         r"a.jsonl:1: token 0-1 is empty, or not after the one before it"),
        ("a.jsonl", lines({"sentence": "a"}), r"a.jsonl:1: format not recognized \(its fields are sentence\); name it"),
        ("a.jsonl", "", r"a.jsonl: no records in this file"),
        ("a.jsonl", lines({"tokens": ["a"], "ner_tags": ["O", "O"]}), r"a.jsonl:1: 1 tokens, but 2 ner_tags"),
        ("a.jsonl", lines({"tokens": ["a"], "ner_tags": [1]}), r"a.jsonl:1: ner_tags are numbers without names"),
        ("a.csv", "word,tag\na,O\nb\n", r"a.csv:3: 1 columns, expected 2"),
        ("a.csv", "word,tag\na,O\n,O\n", r"a.csv:3: the word is empty"),
        ("a.csv", "x,y\na,O\n", r"a.csv:1: the first line names no column of words"),
        ("a.spacy", "x", r"a.spacy: spaCy's binary format"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_with_its_place(write, name, content, message):
    path = write(name, content)
    with pytest.raises(InputError, match=message) as caught:
        formats.as_sentences(path, formats.read(path), "words", "error")
    assert "\n" not in str(caught.value)


MISFITS = [[0, 4, "PER"], [2, 6, "ORG"], [9, 14, "LOC"], [5, 5, "E"], [9, 14, "LOC"]]


def test_spans_that_do_not_fit_are_reported_snapped_or_dropped(write, caplog):
    path = write(
        "a.jsonl", lines(["Mary is in Lima now", {"entities": []}], ["Mary is in Lima now", {"entities": MISFITS}])
    )
    texts = formats.read(path)
    assert len(texts[1].spans) == 4  # the same one twice is one
    with pytest.raises(InputError) as caught:
        formats.as_sentences(path, texts, "words", "error")
    assert "a.jsonl:2: span 2-6 ORG 'ry i' begins inside of the token 'Mary'; 3 more such spans" in str(caught.value)
    snapped = formats.as_sentences(path, texts, "words", "snap")[1]
    assert snapped.tags == ("B-ORG", "I-ORG", "B-LOC", "I-LOC", "O")
    assert "2 misaligned (extended to whole tokens), 1 empty (left out), 1 overlapping (" in caplog.text
    dropped = formats.as_sentences(path, texts, "words", "drop")[1]
    assert dropped.tags == ("B-PER", "O", "O", "O", "O")
    assert "2 misaligned (left out), 1 empty (left out)" in caplog.text


def test_texts_without_words_are_left_out_and_counted(write, caplog):
    path = write("a.jsonl", lines(["", {"entities": []}], [" \n", {"entities": []}], ["a", {"entities": []}]))
    assert len(formats.as_sentences(path, formats.read(path), "words", "error")) == 1
    assert "2 texts left out: without words" in caplog.text


def test_lines_are_sentences_unless_an_entity_goes_on():
    text = AnnotatedText("New\nYork is\nbig .", (Span(0, 8, "LOC"),))
    found = tokens.sentences_of("a", [text], "words", "error", by_line=True)
    assert [sentence.tokens for sentence in found] == [("New", "York", "is"), ("big", ".")]


# Brat


def test_brat_collections_are_read_with_what_is_left_out(write, caplog):
    write("c/b.txt", "Mary's home\r\nis New\nYork\xa0City.")
    write(
        "c/b.ann",
        "T1\tPER 0 4\tMary\r\nR1\tLives Arg1:T1 Arg2:T2\r\n#1\tNote T1\tx\r\nT2\tLOC 16 19;20 29\tNew York\xa0City\r\n",
    )
    write("c/x.txt", "not annotated")
    (text,) = formats.read(write("c/a.txt", "").parent)
    assert text.id == "b" and [text.text[span.start : span.end] for span in text.spans] == ["Mary", "New\nYork\xa0City"]
    assert "2 texts left out: without annotations" in caplog.text
    assert "only entities are read, not 1 relations, 1 notes" in caplog.text


def test_an_entity_of_brat_that_leaves_words_out_is_refused_filled_or_dropped(write):
    write("a.txt", "North and South America")
    path = write("a.ann", "T1\tLOC 0 5;16 23\tNorth America\nT2\tLOC 10 23\tSouth America\n")
    texts = formats.read(path)
    with pytest.raises(InputError, match=r"a.ann:1: span 0-23 LOC 'North.*' leaves out words"):
        formats.as_sentences(path, texts, "words", "error")
    assert formats.as_sentences(path, texts, "words", "snap")[0].tags == ("B-LOC", "I-LOC", "I-LOC", "I-LOC")
    assert formats.as_sentences(path, texts, "words", "drop")[0].tags == ("O", "O", "B-LOC", "I-LOC")
    with pytest.raises(InputError, match="leaves out words"):
        formats.write(path.with_name("b.jsonl"), "spacy", path, texts, WritingOptions())
    assert not path.with_name("b.jsonl").exists()


@pytest.mark.parametrize(
    ("ann", "message"),
    [
        ("T1\tLOC 0 5\tNorth\nT2\tLOC 0 99\tNorth", r"a.ann:2: offset 99 of a span is outside"),
        ("T1\tLOC 0 5\tSouth", r"a.ann:1: span 0-5 is 'North' in the text, but 'South'"),
        ("T1\tLOC 0\tNorth", r"a.ann:1: expected T1<TAB>TYPE START END<TAB>words"),
        ("x", r"a.ann:1: expected T1<TAB>TYPE"),
    ],
)
def test_broken_annotations_of_brat_are_named_with_their_line(write, ann, message):
    write("a.txt", "North and South America")
    with pytest.raises(InputError, match=message):
        formats.read(write("a.ann", ann))
    write("b.ann", "")
    with pytest.raises(InputError, match=r"b.txt: no such file; brat needs a text"):
        formats.read(write("b.ann", ""))


# Tokens with tags


SENTENCES = [
    Sentence(("EU", "rejects"), ("B-ORG", "O")),
    Sentence(("Peter", "Black\u00a0burn", '"', ","), ("B-PER", "I-PER", "O", "O")),
]


def test_the_well_known_table_is_read(write):
    table = "Sentence #,Word,POS,Tag\nSentence: 1,EU,NNP,B-ORG\n,rejects,VBZ,O\nSentence: 2,Peter,NNP,B-PER\n"
    table += ',Black\u00a0burn,NNP,I-PER\n,"""",``,O\n,",",",",O\n'
    path = write("a.csv", table)
    assert formats.read(path) == SENTENCES
    assert [list(sentence.lines) for sentence in formats.read(path)] == [[2, 3], [4, 5, 6, 7]]
    assert formats.read(path, tag="POS")[0].tags == ("NNP", "VBZ")
    with pytest.raises(InputError, match=r"a.csv:1: no column tag=Pos; did you mean POS"):
        formats.read(path, tag="Pos")
    semicolons = write("b.csv", "token;label;sent_id\nEU;B-ORG;7\nrejects;O;7\nPeter;B-PER;8\n")
    assert [sentence.tokens for sentence in formats.read(semicolons)] == [("EU", "rejects"), ("Peter",)]
    blank = write("c.tsv", "word\ttag\nEU\tB-ORG\nrejects\tO\n\n\nPeter\tB-PER\n")
    assert [sentence.tokens for sentence in formats.read(blank)] == [("EU", "rejects"), ("Peter",)]
    latin = write("d.csv", "word,tag\nM\xe9ry,B-PER\n".encode("latin-1"))
    assert formats.read(latin, encoding="latin-1")[0].tokens == ("M\xe9ry",)


def test_numbers_of_tags_get_their_names(write):
    numbers = lines({"id": "0", "tokens": ["EU", "rejects"], "ner_tags": [1, 0], "pos_tags": [3, 4]})
    path = write("x/a.jsonl", numbers)
    assert formats.read(path, names=["O", "B-ORG"]) == SENTENCES[:1]
    with pytest.raises(InputError, match=r"a.jsonl:1: ner_tags has 1, but names go from 0 to 0"):
        formats.read(path, names=["O"])
    for feature in (
        {"feature": {"names": ["O", "B-ORG"], "_type": "ClassLabel"}, "_type": "Sequence"},
        [{"names": ["O", "B-ORG"], "_type": "ClassLabel"}],
    ):
        write("x/dataset_info.json", json.dumps({"features": {"ner_tags": feature}}))
        assert formats.read(path) == SENTENCES[:1]


def test_parquet_has_the_names_of_tags_where_datasets_looks_for_them(tmp_path):
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    formats.write(path, "huggingface", "x", SENTENCES, WritingOptions())
    assert formats.recognize(path) == "huggingface" and formats.read(path) == SENTENCES
    schema = pyarrow.parquet.read_schema(path)
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["ner_tags"]["feature"]["names"] == ["O", "B-ORG", "B-PER", "I-PER"]
    assert str(schema.field("ner_tags").type.value_type) == "int64"
    path.write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(InputError, match=r"a.parquet: cannot be read"):
        formats.read(path)


# Round trips

WORD = st.text(st.characters(exclude_characters="\t\r\n \f\v\x00", exclude_categories=["Cs"]), min_size=1, max_size=4)
TYPES = st.sampled_from(["PER", "LOC", "B-X", "O"])


@st.composite
def sentences(draw):
    words = draw(st.lists(WORD.filter(lambda word: word.strip("\ufeff") == word), min_size=1, max_size=6))
    tags, index = [], 0
    while index < len(words):
        length = draw(st.integers(1, 3))
        kind = draw(st.none() | TYPES)
        tags += ["O"] if kind is None else [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
        index = len(tags)
    return Sentence(tuple(words), tuple(tags[: len(words)]))


@st.composite
def texts(draw):
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
    spans = draw(
        st.lists(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)), TYPES), max_size=4, unique=True)
    )
    return AnnotatedText(
        text,
        tuple(
            Span(min(a, b), max(a, b), kind)
            for a, b, kind in dict.fromkeys((min(a, b), max(a, b), kind) for a, b, kind in spans)
        ),
    )


FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.json", "a.parquet", "a.txt"])
@FEW
@given(content=st.lists(sentences(), min_size=1, max_size=3))
def test_sentences_come_back_as_they_were(tmp_path, name, content):
    form = {"csv": "csv", "txt": "word_tag"}.get(name.split(".")[1], "huggingface")
    path = tmp_path / name
    assert formats.write(path, form, "x", content, WritingOptions()) == len(content)
    assert formats.read(path, form) == content


@pytest.mark.parametrize("form", ["spacy", "prodigy"])
@FEW
@given(content=st.lists(sentences(), min_size=1, max_size=3))
def test_sentences_come_back_from_tools_that_keep_tokens(tmp_path, form, content):
    path = tmp_path / "a.jsonl"
    formats.write(path, form, "x", content, WritingOptions())
    scheme = tag_schemes.recognize(sentence.tags for sentence in content)
    expected = [Sentence(s.tokens, tag_schemes.convert(s.tags, "bio2", scheme)) for s in content]
    assert formats.as_sentences(path, formats.read(path, form), "words", "error") == expected


@pytest.mark.parametrize("form", ["spacy", "prodigy", "doccano", "label_studio"])
@pytest.mark.parametrize("unit", ["code_points", "utf16"])
@FEW
@given(content=st.lists(texts(), min_size=1, max_size=3))
def test_texts_come_back_as_they_were(tmp_path, form, unit, content):
    path = tmp_path / "a.jsonl"
    formats.write(path, form, "x", content, WritingOptions(offsets=unit))
    read = formats.read(path, form, offsets=unit)
    assert [(text.text, text.spans) for text in read] == [(text.text, text.spans) for text in content]


@FEW
@given(content=st.lists(texts(), min_size=1, max_size=3))
def test_texts_come_back_from_brat(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("brat") / "c"
    formats.write(folder, "brat", "x", content, WritingOptions())
    read = formats.read(folder)
    assert [text.text for text in read] == [text.text for text in content]
    for before, after in zip(content, read, strict=True):
        # White space at the ends of a span, and at line ends in it, is not written.
        surfaces = ({(text.text[s.start : s.end].strip(), s.label) for s in text.spans} for text in (before, after))
        assert len({frozenset(found) for found in surfaces}) == 1


def test_conll_is_written_and_read_again(tmp_path):
    path = tmp_path / "a.conll"
    formats.write(path, "conll", "x", SENTENCES, WritingOptions())
    assert formats.read(path) == SENTENCES
    for bad in ("a\tb", "-DOCSTART-"):
        with pytest.raises(InputError, match=r"sentence 1: .* cannot be written as CoNLL"):
            formats.write(path, "conll", "x", [Sentence((bad,), ("O",))], WritingOptions())
    with pytest.raises(InputError, match=r"sentence 1: 'a b' 'O' cannot be written as word\|TAG"):
        formats.write(path, "word_tag", "x", [Sentence(("a b",), ("O",))], WritingOptions())
    assert formats.read(path) == SENTENCES
