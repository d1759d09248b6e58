"""Labels of one language carried over to another along word alignments (Yarowsky, Ngai and Wicentowski 2001)."""

from collections import Counter

from trellis.components.text.tag_schemes import entities


def project_tags(tags, links, length):
    """The tag of each target word: the one of most of its source words, of the first of equals; None where no link is.

    Args:
        tags: of the source words.
        links: `(source, target)`.
        length: number of target words.
    """
    votes = [Counter() for _ in range(length)]
    for i, j in sorted(links):
        votes[j][tags[i]] += 1
    return tuple(each.most_common(1)[0][0] if each else None for each in votes)


def project_entities(tags, links, length):
    """BIO2 tags of the target words: each source entity becomes the span from its first to its last linked word.

    Of a span that meets an earlier entity the part before it is kept; an entity without a link is lost.
    """
    projected = ["O"] * length
    for kind, start, stop in entities(tags):
        targets = [j for i, j in links if start <= i < stop]
        prefix = "B"
        for j in range(min(targets), max(targets) + 1) if targets else ():
            if projected[j] != "O":
                break
            projected[j], prefix = f"{prefix}-{kind}", "I"
    return tuple(projected)
