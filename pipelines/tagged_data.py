"""Read tagged sentences, and choose the tags that a tagger learns."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from omegaconf import DictConfig

from trellis.components.errors import InputError
from trellis.components.readers import tagged
from trellis.components.readers.sentence import UNLABELLED, Sentence
from trellis.components.readers.sentence_files import changed, word_counts, word_total
from trellis.components.readers.sources import Source
from trellis.components.text import tag_schemes
from trellis.pipelines.configuration import plain
from trellis.pipelines.document_reading import require_documents
from trellis.pipelines.left_out import PART, Fold, LeftOut
from trellis.pipelines.tagged_files import Storage, tagged_sentences
from trellis.pipelines.task import Data

log = logging.getLogger(__name__)

Parts: TypeAlias = Mapping[str, Sequence[Sentence]]


@dataclass(frozen=True, kw_only=True)
class TaggedData(Data):
    """Sentences with tags, entities in BIO2.

    Attributes:
        parts: sentences of each part.
        tags: the tags that the model learns, sorted: those of `data.scheme`.
        output_tags: the tag in BIO2 that the export returns for each of them.
        left_out: the fold that is left out of training, among the parts too; None without `limit.leave_out`.
    """

    parts: Parts
    tags: Sequence[str]
    output_tags: Sequence[str]
    left_out: LeftOut | None = None

    @property
    def known_words(self) -> set[str]:
        """The words of the training part."""
        return set(word_counts(self.parts["train"]))


def read(config: DictConfig, limited: Callable[[Parts], Parts]) -> TaggedData:
    """Read the sentences of each part.

    Args:
        config: the configuration.
        limited: makes the parts as small as `limit` says.

    Raises:
        InputError: the files cannot be read, or do not fit the configuration.
    """
    data, of_entities = plain(config.data), finds_entities(config)
    storage = Storage(config.text.storage, config.text.cache)
    files, parts = tagged_sentences(data, config.text.tokenizer, storage)
    written, marker = "", data.get("unlabelled")
    if marker is not None:
        _check_unlabelled(config, marker)
        parts = tagged.unlabelled(files, parts, marker)
    if of_entities:
        parts, scheme = tagged.in_bio2(files, parts)
        written = f", written in {scheme}"
        if config.model.get("constraints") == "training":
            parts = tagged.possible(files, parts)
    parts = dict(limited(parts))
    if data.get("documents"):
        require_documents(parts["dev"], files["dev"])
    fold = None
    if config.limit.get("leave_out"):
        parts["train"], fold = _without_fold(config, parts["train"])
    if data.get("max_length"):
        parts = {part: tagged.divided(sentences, data["max_length"]) for part, sentences in parts.items()}
    tags = _learned_tags(config, parts, files)
    if fold is not None:
        parts[PART] = fold.sentences
    sizes = ", ".join(
        f"{part} {len(sentences):,} sentences, {word_total(sentences):,} tokens" for part, sentences in parts.items()
    )
    if marker is not None:
        sizes += f"; {sum(s.tags.count(UNLABELLED) for s in parts['train']):,} of the training part without a label"
    return TaggedData(
        files=files,
        description=f"{data['name']}: {sizes}; {len(tags)} tags{written}",
        parts=parts,
        tags=tags,
        output_tags=[tag_schemes.to_bio2(tag) for tag in tags] if of_entities else tags,
        left_out=fold,
    )


def finds_entities(config: DictConfig) -> bool:
    """Return whether tags are of entities, rather than of parts of speech."""
    return bool(config.data.task == "ner")


def as_learned(config: DictConfig, sentences: Sequence[Sentence]) -> Sequence[Sentence]:
    """Return sentences with their tags in the scheme that the model learns."""
    if config.data.scheme != "iobes" or not finds_entities(config):
        return sentences
    bio2 = tag_schemes.Scheme("BIO2")
    return changed(sentences, lambda s: replace(s, tags=tag_schemes.convert(s.tags, "iobes", bio2)))


def partly_labelled(config: DictConfig, sentences: Sequence[Sentence]) -> Sequence[Sentence]:
    """Hide the tags of some sentences, if the model learns from partly labelled data (`model.labelled` below 1)."""
    share = config.model.get("labelled", 1.0)
    if share == 1.0:
        return sentences
    hidden = np.random.default_rng(config.seed).permutation(len(sentences))[round(share * len(sentences)) :]
    sentences = list(sentences)
    for index in hidden:
        sentences[index] = replace(sentences[index], tags=(UNLABELLED,) * len(sentences[index].tags))
    return sentences


def _check_unlabelled(config: DictConfig, marker: str) -> None:
    """Raise InputError for settings that need every label."""
    unfit = {
        f"limit.leave_out={config.limit.get('leave_out')}": config.limit.get("leave_out") is not None,
        f"limit.overfit={config.limit.overfit}".lower(): config.limit.overfit,
        "data.scheme=iobes": config.data.scheme == "iobes" and finds_entities(config),
    }
    for setting, given in unfit.items():
        if given:
            raise InputError(f"data.unlabelled={marker}: not with {setting}, which needs a label for every token")


def _without_fold(config: DictConfig, sentences: Sequence[Sentence]) -> tuple[Sequence[Sentence], LeftOut]:
    """Return the training part without the fold of `limit.leave_out`, and the fold."""
    fold = Fold.parse(config.limit.leave_out)
    rows = fold.rows(sentences, config.seed)
    longest = config.data.get("max_length")
    pieces = [
        (piece, row)
        for row in rows
        for piece in (tagged.divided([sentences[row]], longest) if longest else [sentences[row]])
    ]
    own, rows_of_pieces = zip(*pieces, strict=True) if pieces else ((), ())
    return fold.without(sentences, rows), LeftOut(own, rows_of_pieces)


def _learned_tags(config: DictConfig, parts: Parts, files: Mapping[str, Source]) -> list[str]:
    """Return the tags of the training part, sorted; warn of tags elsewhere that it lacks."""
    counts = Counter(tag for sentence in parts["train"] for tag in sentence.tags if tag != UNLABELLED)
    if len(counts) < 2:
        tag = next(iter(counts), UNLABELLED)
        raise InputError(f"{files['train']}: every token has the tag {tag!r}; nothing to learn")
    for part in ("dev", "test"):
        unseen = Counter(t for s in parts.get(part, ()) for t in s.tags if t not in counts)
        if unseen:
            named = ", ".join(f"{tag} ({count}×)" for tag, count in unseen.most_common())
            log.warning("%s: tags that training never saw, counted as wrong: %s", files[part], named)
    learned = {tag for sentence in as_learned(config, parts["train"]) for tag in sentence.tags}
    return sorted(learned - {UNLABELLED})
