"""Meaning representations: attributes of a thing, such as `name[Blue Spice], eatType[coffee shop]`."""

import re

_ATTRIBUTE = re.compile(r"\s*([^\[\],]+?)\s*\[([^\]]*)\]\s*(?:,|$)")


def parse(text: str) -> dict[str, str]:
    """Return the attributes of a meaning representation, `{name: value}`.

    Raises:
        ValueError: the text has another form.
    """
    attributes, end = {}, 0
    while end < len(text.rstrip()):
        match = _ATTRIBUTE.match(text, end)
        if match is None:
            raise ValueError(f"{text[end:].strip()[:40]!r} is not an attribute such as name[value]")
        attributes[match[1]], end = match[2].strip(), match.end()
    return attributes
