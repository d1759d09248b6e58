"""Project labels from one language to another along word alignments (Yarowsky, Ngai and Wicentowski 2001)."""

from collections import Counter
from collections.abc import Iterable, Sequence

from trellis.components.text.tag_schemes import entities
from trellis.components.types import Link


def project_tags(tags: Sequence[str], links: Iterable[Link], length: int) -> tuple[str | None, ...]:
    """Return the tag of each target word: the most frequent one of its source words, None if it has no link.

    Of tags that are equally frequent, the one of the first source word wins.

    Args:
        tags: the tags of the source words.
        links: the links.
        length: the number of target words.
    """
    votes: list[Counter[str]] = [Counter() for _ in range(length)]
    for i, j in sorted(links):
        votes[j][tags[i]] += 1
    return tuple(counts.most_common(1)[0][0] if counts else None for counts in votes)


def project_entities(tags: Sequence[str], links: Iterable[Link], length: int) -> tuple[str, ...]:
    """Return BIO2 tags of the target words: each source entity becomes the span from its first to its last linked word.

    A span that runs into an earlier entity is cut off there; an entity without a link is lost.

    Args:
        tags: the tags of the source words.
        links: the links.
        length: the number of target words.
    """
    projected = ["O"] * length
    links = list(links)
    for kind, start, stop in entities(tags):
        targets = [j for i, j in links if start <= i < stop]
        prefix = "B"
        for j in range(min(targets), max(targets) + 1) if targets else ():
            if projected[j] != "O":
                break
            projected[j], prefix = f"{prefix}-{kind}", "I"
    return tuple(projected)
