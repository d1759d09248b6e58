"""Meaning representations as ids, and names as placeholders in texts."""

import pytest
import tensorflow as tf

from trellis.components.metrics.attribute_coverage import attribute_coverage
from trellis.components.readers.attributes import parse
from trellis.components.text.attributes import AttributeVocabulary

TRAIN = ["name[Blue Spice], eatType[pub], near[Café Sicilia]", "name[Zizzi],food[Fast food] , eatType[coffee shop]"]


@pytest.fixture(scope="module")
def vocabulary():
    return AttributeVocabulary.of(TRAIN, ["name", "near"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a[b]", {"a": "b"}),
        (" a [ b ],c[d, e]", {"a": "b", "c": "d, e"}),
        ("a[b], c[]", {"a": "b", "c": ""}),
        ("", {}),
    ],
)
def test_attributes_are_names_with_values(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["a", "a[b", "a[b]]", "[b]", "a[b] c", "a[b], , c[d]"])
def test_other_forms_are_refused(text):
    with pytest.raises(ValueError, match=r"is not an attribute such as name\[value\]"):
        parse(text)


def test_values_of_open_classes_share_an_id(vocabulary):
    assert vocabulary.names == ("eatType[coffee shop]", "eatType[pub]", "food[Fast food]", "name", "near")
    rows = ["name[Anything at all], eatType[pub]", "eatType[ pub ],near[x]", "", "name[a, b]"]
    ids = vocabulary.encode(tf.constant(rows))
    assert [vocabulary.pieces_of(tf.constant(row, tf.int32)).numpy().tolist() for row in ids.to_list()] == [
        [b"name", b"eatType[pub]"], [b"eatType[pub]", b"near"], [], [b"name"],
    ]  # fmt: skip


def test_what_is_not_in_the_vocabulary_is_named(vocabulary):
    found = vocabulary.unknown(tf.constant(["name[x], eatType[pubb]", "eatType[pub], size[1, 2]", ""]))
    assert found.numpy().tolist() == [b"eatType[pubb]", b"size[1, 2]"]


@pytest.mark.parametrize("name", ["Blue Spice", "A \\1 (b) [", "$&^.*+?|{}", "café ☕", "x" * 500])
def test_names_are_put_into_texts_as_they_are(vocabulary, name):
    # A closing bracket ends a value; nothing else in it means anything.
    name = name.replace("]", "")
    rows = tf.constant([f"name[{name}], eatType[pub]", "eatType[pub], near[Z]"])
    texts = tf.constant([f"{name} is a pub; {name.upper()}!", "Near Z is a pub."])
    abstract = vocabulary.abstract(texts, rows)
    assert abstract.numpy()[0].decode() == "\ue000 is a pub; \ue000!" or name != name.upper().lower()
    filled = vocabulary.fill(abstract, rows).numpy()
    assert filled[0].decode().startswith(f"{name} is a pub") and filled[1].decode() == "Near Z is a pub."
    several = vocabulary.fill(tf.constant([["\ue000 and \ue001.", ""]] * 2), rows).numpy()
    assert several[0][0].decode() == f"{name} and ." and several[1][0].decode() == " and Z."


def test_placeholders_do_not_change_what_texts_realize():
    pairs = [(parse(TRAIN[0]), "Blue Spice is a pub near Café Sicilia."), (parse(TRAIN[1]), "Zizzi has fast food.")]
    assert attribute_coverage(pairs) == pytest.approx(5 / 6)
