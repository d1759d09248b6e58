"""Which attributes of a meaning representation a text realizes: what BLEU hardly sees and readers do.

The attributes are those of the E2E challenge (restaurants). Names, places and foods are found as they are written;
other values by the words that people use for them, such as "cheap" for `less than £20`. A value of an attribute that is
not known here is found as it is written. On the systems of the challenge, figures are those of the published script
(Dušek et al. 2019) to 0.005, but for two systems whose "higher priced" and "£20-£25" it does not know.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping

# Texts are normalized first: lower case, no accents, a single space for spaces and hyphens. Names and places are
# replaced before other attributes are looked for: the Raja Indian Cuisine says nothing about the food.
LITERAL = ("name", "near")

_CHILDREN = r"(?:child(?:ren)?s?|kids?|famil(?:y|ies)|all ages)"
_NOT = r"(?:\b(?:no|not|non|never|without|unsuitable|unfriendly|unwelcom\w+|discourag\w+|disallow\w*)|n't)"
_NOT_FOR_CHILDREN = (
    rf"{_NOT} (?:\w+ ){{0,4}}{_CHILDREN}\b"
    rf"|\b{_CHILDREN} (?:\w+ ){{0,2}}?{_NOT}"
    r"|\b(?:adults?|grown ups?)\b"
)

_PRICE = r"(?:pric\w*|cost\w*)"
_CHEAP = rf"\b(?:cheap\w*|inexpensive\w*|affordabl\w+|budget|low(?:er)? {_PRICE})|{_PRICE} (?:\w+ ){{0,3}}low"
_MODERATE = (
    rf"\bmoderate\w*|\b(?:reasonabl\w+|average\w*|medium|fair\w*|mid\w*|ok(?:ay)?|decent\w*) (?:range )?{_PRICE}"
    rf"|\bmid (?:range|priced?)|{_PRICE} (?:\w+ ){{0,3}}(?:average|reasonable|ok|medium|mid)|not cheap|\baffordabl\w+"
)
_HIGH = (
    rf"\b(?:expensive\w*|pric(?:e)?y|costly|upscale|high\w* (?:\w+ )?{_PRICE})|{_PRICE} (?:\w+ ){{0,3}}high|not cheap"
)

_RATING = r"(?:rat(?:ed?|es|ing|ings)|review\w*|scor\w+|reputation|recommend\w*|quality|standards?)"


def _rated(words: str, digit: str, number: str) -> str:
    """Return the pattern of a rating: by adjectives within three words of a noun, by stars, or out of five."""
    return (
        rf"\b(?:{words}) (?:\w+ ){{0,3}}{_RATING}|\b{_RATING} (?:\w+ ){{0,3}}(?:{words})\b"
        rf"|\b(?:{digit}|{number}) (?:stars?|(?:out )?of (?:a possible )?(?:5|five))\b|\b{digit} ?/ ?5"
    )


_LOW_RATING = _rated(
    r"low(?:ly|er|est)?|poor(?:ly)?|bad(?:ly)?|terrible|not (?:\w+ )?(?:good|high|well)\w*", "1", "one"
)
_AVERAGE_RATING = _rated(r"average|decent|mediocre|ok(?:ay)?|moderate(?:ly)?|fair(?:ly)?|good|well", "3", "three")
_HIGH_RATING = _rated(r"high(?:ly|er|est)?|excellent|great|very good|well|top|outstanding|good", "5", "five")

PATTERNS: Mapping[str, Mapping[str, str]] = {
    "eatType": {"coffee shop": r"\b(?:coffee|cafe)\b", "pub": r"\bpubs?\b", "restaurant": r"\brestaurants?\b"},
    "food": {"English": r"\b(?:english|british)\b"},
    "area": {
        "city centre": r"\b(?:city|town|down ?town|cent(?:re|er)|central\w*)\b",
        "riverside": r"\briver\w*",
    },
    "priceRange": {
        "cheap": _CHEAP,
        "less than £20": rf"{_CHEAP}|(?:under|below|less(?:er)? th[ae]n|up to|cheaper th[ae]n) £? ?20",
        "moderate": _MODERATE,
        "£20-25": rf"{_MODERATE}|£? ?20 ?(?:to|and|-|£)? ?£? ?25",
        "high": _HIGH,
        "more than £30": rf"{_HIGH}|(?:over|above|more th[ae]n|higher th[ae]n|at least|from) £? ?30",
    },
    "customer rating": {
        "low": _LOW_RATING,
        "1 out of 5": _LOW_RATING,
        "average": _AVERAGE_RATING,
        "3 out of 5": _AVERAGE_RATING,
        "high": _HIGH_RATING,
        "5 out of 5": _HIGH_RATING,
    },
    "familyFriendly": {"no": _NOT_FOR_CHILDREN, "yes": rf"\b{_CHILDREN}\b"},
}


def coverage(attributes: Mapping[str, str], text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the attributes that a text realizes, and of those that it omits or gives another value.

    Args:
        attributes: `{name: value}`, such as `{"name": "Zizzi", "area": "riverside"}`.
        text: a description, raw or tokenized.

    Returns:
        `(realized, missing)`, each in the order of `attributes`.
    """
    text = _normalize(text)
    realized = {name for name in attributes if name in LITERAL and _pattern(name, attributes[name]).search(text)}
    for name in realized:
        text = _pattern(name, attributes[name]).sub(f"x{name}", text)
    for name in attributes.keys() - set(LITERAL):
        searched = text
        if (name, attributes[name]) == ("familyFriendly", "yes"):
            searched = _compiled(_NOT_FOR_CHILDREN).sub(" ", text)
        if _pattern(name, attributes[name]).search(searched):
            realized.add(name)
    return tuple(name for name in attributes if name in realized), tuple(
        name for name in attributes if name not in realized
    )


def attribute_coverage(pairs: Iterable[tuple[Mapping[str, str], str]]) -> float:
    """Return the share of all attributes that texts realize, from 0 to 1; the slot error rate is the rest.

    What a text adds to its meaning representation does not count.

    Args:
        pairs: `(attributes, text)` of each meaning representation.

    Raises:
        ValueError: there are no attributes.
    """
    realized = total = 0
    for attributes, text in pairs:
        realized += len(coverage(attributes, text)[0])
        total += len(attributes)
    if not total:
        raise ValueError("no attributes to find")
    return realized / total


@functools.cache
def _pattern(name: str, value: str) -> re.Pattern[str]:
    """Return the pattern of a value; for one that has none, the value itself as whole words."""
    return _compiled(PATTERNS.get(name, {}).get(value) or rf"(?<!\w){re.escape(_normalize(value))}(?!\w)")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _normalize(text: str) -> str:
    """Return a text in lower case, without accents, with a single space for spaces and hyphens."""
    letters = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    return re.sub(r"[\s\-–—]+", " ", "".join(letter for letter in letters if not unicodedata.combining(letter)))
