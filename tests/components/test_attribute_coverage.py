"""Attributes of the E2E challenge in texts."""

import csv
import gzip
import re

import pytest

from trellis.components.metrics.attribute_coverage import attribute_coverage, coverage
from trellis.components.readers.lines import read_lines


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("name", "The Rice Boat", "the rice boat is a pub ."),
        ("near", "Café Rouge", "It is near cafe  rouge."),
        ("eatType", "coffee shop", "a coffee-shop near Burger King"),
        ("food", "Fast food", "It serves fast - food."),
        ("food", "English", "British food"),
        ("area", "city centre", "in the center of the city"),
        ("area", "riverside", "by the river"),
        ("priceRange", "less than £20", "cheap food"),
        ("priceRange", "less than £20", "for under £ 20"),
        ("priceRange", "£20-25", "a £20-£25 price range"),
        ("priceRange", "£20-25", "moderately priced"),
        ("priceRange", "moderate", "The price range is average."),
        ("priceRange", "high", "an expensive pub"),
        ("priceRange", "more than £30", "prices are rather high"),
        ("customer rating", "5 out of 5", "a five-star pub"),
        ("customer rating", "1 out of 5", "poorly rated"),
        ("customer rating", "low", "customers rated it 1 out of 5"),
        ("customer rating", "average", "It has an average customer rating."),
        ("familyFriendly", "yes", "It welcomes children."),
        ("familyFriendly", "no", "It isn’t family-friendly."),
        ("familyFriendly", "no", "Kids are not welcome."),
        ("familyFriendly", "no", "for adults only"),
        ("terrace", "heated", "Its terrace is heated."),
    ],
)
def test_a_value_is_found_by_the_words_people_use(name, value, text):
    assert coverage({name: value}, text) == ((name,), ())


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("familyFriendly", "yes", "It isn’t family-friendly."),
        ("familyFriendly", "no", "It is child friendly with cheap dishes."),
        ("customer rating", "high", "a high price"),
        ("priceRange", "cheap", "an expensive pub"),
        ("priceRange", "high", "an inexpensive pub"),
        ("eatType", "pub", "open to the public"),
        ("name", "Ranch", "a branch"),
    ],
)
def test_other_values_are_not_mistaken_for_it(name, value, text):
    assert coverage({name: value}, text) == ((), (name,))


def test_a_name_says_nothing_about_other_attributes():
    attributes = {"name": "The Mill", "food": "Indian", "eatType": "coffee shop", "near": "Raja Indian Cuisine"}
    assert coverage(attributes, "The Mill is near Raja Indian Cuisine.") == (("name", "near"), ("food", "eatType"))


def test_coverage_of_a_corpus_counts_attributes():
    pairs = [({"name": "Zizzi", "area": "riverside"}, "Zizzi is a pub."), ({"name": "Zizzi"}, "Zizzi")]
    assert attribute_coverage(pairs) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no attributes to find"):
        attribute_coverage([({}, "a")])


# By the script of Dušek et al. (2019), INLG, as an error rate: missing and wrong values.
PUBLISHED_SCRIPT = {"slug": 0.9887, "tgen": 0.9681, "zhang": 0.8527, "dangnt": 0.9825, "chen": 0.7654, "tuda": 1.0}


@pytest.mark.real
@pytest.mark.parametrize("system", PUBLISHED_SCRIPT)
def test_coverage_of_the_systems_of_the_challenge_is_that_of_the_published_script(system, real):
    with gzip.open(real / "e2e" / "test.csv.gz", "rt", encoding="utf-8", newline="") as file:
        representations = dict.fromkeys(row["mr"] for row in csv.DictReader(file))
    texts = [text for _, text in read_lines(real / "e2e" / "systems" / f"{system}.txt.gz")]
    attributes = [dict(re.findall(r"([^,\[\]]*\w)\[([^\]]*)\]", each.replace(", ", ","))) for each in representations]
    assert attribute_coverage(zip(attributes, texts, strict=True)) == pytest.approx(PUBLISHED_SCRIPT[system], abs=5e-5)
