"""Exports in Python: `trellis.load("exports/bilstm_crf").tag("Mary Smith flew from Oslo to Lima.")`."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias, TypeVar, overload

import numpy as np

from trellis.components.errors import InputError
from trellis.components.saved_model.versions import latest, read_metadata
from trellis.components.types import FilePath
from trellis.serve import entities, inference
from trellis.serve.entities import Entity, Lattice, Reading
from trellis.serve.export_model import Kind, LocalModel
from trellis.serve.inference import Aligned, Classified, Sampling, Scored, Search, Tagged, Translated

Texts: TypeAlias = list[str] | tuple[str, ...]
Answer = TypeVar("Answer")

METHODS = {
    Kind.TAGGER: ("tag", "tag_document", "entities", "n_best", "lattice"),
    Kind.ALIGNER: ("align",),
    Kind.CLASSIFIER: ("classify", "embed"),
    Kind.LANGUAGE_MODEL: ("generate", "score", "next"),
    Kind.TRANSLATOR: ("translate",),
}

_VERBS = {
    "tag_document": "tag a document",
    "entities": "find entities",
    "n_best": "give readings",
    "lattice": "show a lattice",
}
# The signatures of methods that exports of older versions, of other tags, or of other settings lack.
_SIGNATURES = {"tag_document": "document", "entities": "entities", "n_best": "n_best", "lattice": "lattice"}


class Export:
    """A loaded export.

    Each method takes one text and returns one answer, or takes several texts and returns a list of answers. Which
    methods an export has depends on the kind of its model, see `methods`.

    Args:
        folder: an export folder, of which the newest version is loaded, or one version.

    Attributes:
        version: the folder of the version.

    Raises:
        InputError: there is no export, or it cannot be loaded.
    """

    def __init__(self, folder: FilePath) -> None:
        self.version = latest(folder)
        self._model = LocalModel(self.version)

    def __repr__(self) -> str:
        return f"Export({str(self.version)!r}: {', '.join(self.methods)})"

    @property
    def kind(self) -> Kind:
        """What the model does."""
        return self._model.kind

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods that this export has."""
        names = METHODS[self._model.kind]
        return tuple(name for name in names if _SIGNATURES.get(name, "serving_default") in self._model.inputs)

    @overload
    def tag(self, texts: str, tokenized: bool = ...) -> Tagged: ...
    @overload
    def tag(self, texts: Texts, tokenized: bool = ...) -> list[Tagged]: ...
    def tag(self, texts: str | Texts, tokenized: bool = False) -> Tagged | list[Tagged]:
        """Tag texts.

        Args:
            texts: a text, or several.
            tokenized: whether texts are tokens separated by single spaces.
        """
        self._require("tag")
        return _unwrap(texts, inference.tag(self._model, _encode(texts), tokenized))

    def tag_document(self, sentences: Texts) -> list[Tagged]:
        """Tag the sentences of one document, knowing in each what was found in the others.

        Args:
            sentences: the sentences, in their order.

        Raises:
            InputError: it was trained without `data.documents=true`.
        """
        self._require("tag_document")
        return list(inference.tag_document(self._model, list(_encode(sentences))))

    @overload
    def entities(self, texts: str, tokenized: bool = ..., threshold: float | None = ...) -> list[Entity]: ...
    @overload
    def entities(self, texts: Texts, tokenized: bool = ..., threshold: float | None = ...) -> list[list[Entity]]: ...
    def entities(
        self, texts: str | Texts, tokenized: bool = False, threshold: float | None = None
    ) -> list[Entity] | list[list[Entity]]:
        """Return the entities of a text, or of several, with their offsets and probabilities.

        Args:
            texts: a text, or several.
            tokenized: whether texts are tokens separated by single spaces; offsets refer to the text as it is.
            threshold: keep entities of at least this probability; None: the threshold that the export was written with.

        Raises:
            InputError: its tags are not of entities, or it was written by a version of Trellis without this signature.
        """
        self._require("entities")
        found = list(entities.entities(self._model, _encode(texts), tokenized, threshold))
        return found[0] if isinstance(texts, str) else found

    @overload
    def n_best(self, texts: str) -> list[Reading]: ...
    @overload
    def n_best(self, texts: Texts) -> list[list[Reading]]: ...
    def n_best(self, texts: str | Texts) -> list[Reading] | list[list[Reading]]:
        """Return the most probable sequences of tags for a text, or for several, best first.

        Raises:
            InputError: the export was written by a version of Trellis without this signature.
        """
        self._require("n_best")
        found = list(entities.n_best(self._model, _encode(texts)))
        return found[0] if isinstance(texts, str) else found

    def lattice(self, text: str, tokenized: bool = False) -> Lattice:
        """Return the scores by which the tags of a text are chosen, for the functions of `trellis.lattice`.

        Args:
            text: a text.
            tokenized: whether the text is tokens separated by single spaces.

        Raises:
            InputError: the export was written by a version of Trellis without this signature.
        """
        self._require("lattice")
        return entities.lattice(self._model, next(_encode(text)), tokenized)

    @overload
    def classify(self, texts: str) -> Classified: ...
    @overload
    def classify(self, texts: Texts) -> list[Classified]: ...
    def classify(self, texts: str | Texts) -> Classified | list[Classified]:
        """Classify texts."""
        self._require("classify")
        return _unwrap(texts, inference.classify(self._model, _encode(texts)))

    def embed(self, texts: str | Texts) -> np.ndarray:
        """Return the sentence vector of a text, `(dim,)`, or of several, `(texts, dim)`."""
        self._require("embed")
        vectors = inference.embed(self._model, _encode(texts))
        return vectors[0] if isinstance(texts, str) else vectors

    @overload
    def align(self, source: str, target: str) -> Aligned: ...
    @overload
    def align(self, source: Texts, target: Texts) -> list[Aligned]: ...
    def align(self, source: str | Texts, target: str | Texts) -> Aligned | list[Aligned]:
        """Align the words of sentence pairs; words are separated by spaces.

        Args:
            source: a source sentence, or several.
            target: the translation of each.

        Raises:
            InputError: the numbers of sentences differ.
        """
        self._require("align")
        sides = [[side] if isinstance(side, str) else list(side) for side in (source, target)]
        if len(sides[0]) != len(sides[1]):
            raise InputError(f"align: {len(sides[0])} source sentences, but {len(sides[1])} target sentences")
        # The separator of the two sides may not occur in a word.
        pairs = [" ||| ".join(side.replace("|||", "|") for side in pair) for pair in zip(*sides, strict=True)]
        return _unwrap(source, inference.align(self._model, _encode(pairs)))

    @overload
    def generate(
        self,
        prompts: str = ...,
        count: int = ...,
        temperature: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        repetition: float = ...,
        seed: int = ...,
    ) -> str: ...
    @overload
    def generate(
        self,
        prompts: Texts,
        count: int = ...,
        temperature: float = ...,
        top_k: int = ...,
        top_p: float = ...,
        repetition: float = ...,
        seed: int = ...,
    ) -> list[str]: ...
    def generate(
        self,
        prompts: str | Texts = "",
        count: int = 60,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.95,
        repetition: float = 0.0,
        seed: int = 1,
    ) -> str | list[str]:
        """Return continuations of texts, including the space before them; defaults are those of `trellis generate`.

        Args:
            prompts: the beginning of a text, or of several.
            count: the maximum number of tokens.
            temperature: divides the log-probabilities; 0 takes the most probable token at each step.
            top_k: draw from that many most probable tokens; 0: from all.
            top_p: draw from the most probable tokens that together reach this probability.
            repetition: nats that a token loses for having been generated before.
            seed: a prompt and its seed determine its continuation; further prompts have the next seeds.
        """
        self._require("generate")
        sampling = Sampling(count, temperature, top_k, top_p, repetition)
        return _unwrap(prompts, inference.generate(self._model, list(_encode(prompts)), sampling, seed))

    @overload
    def score(self, texts: str) -> Scored: ...
    @overload
    def score(self, texts: Texts) -> list[Scored]: ...
    def score(self, texts: str | Texts) -> Scored | list[Scored]:
        """Return the log-probabilities of texts."""
        self._require("score")
        return _unwrap(texts, inference.score(self._model, _encode(texts)))

    @overload
    def next(self, prompts: str, count: int = ...) -> dict[str, float]: ...
    @overload
    def next(self, prompts: Texts, count: int = ...) -> list[dict[str, float]]: ...
    def next(self, prompts: str | Texts, count: int = 10) -> dict[str, float] | list[dict[str, float]]:
        """Return the most probable next tokens after texts, with their probabilities, in descending order.

        Args:
            prompts: the beginning of a text, or of several.
            count: the number of tokens.
        """
        self._require("next")
        return _unwrap(prompts, inference.next_tokens(self._model, _encode(prompts), count))

    @overload
    def translate(self, texts: str, search: Search | None = ...) -> list[Translated]: ...
    @overload
    def translate(self, texts: Texts, search: Search | None = ...) -> list[list[Translated]]: ...
    def translate(self, texts: str | Texts, search: Search | None = None) -> list[Translated] | list[list[Translated]]:
        """Return the best translations of a text, best first, or of several.

        Args:
            texts: a text, or several.
            search: how to search, such as `Search(width=10, best=3)`; by default for one translation, with the
                settings of the export.
        """
        self._require("translate")
        search = search or Search.of(read_metadata(self.version))
        found = list(inference.translate(self._model, _encode(texts), search))
        return found[0] if isinstance(texts, str) else found

    def _require(self, method: str) -> None:
        if method not in METHODS[self._model.kind]:
            raise InputError(
                f"{self.version}: {self._model.kind.value} cannot {_VERBS.get(method, method)}; it has "
                f"{', '.join(self.methods)}"
            )


def load(folder: FilePath) -> Export:
    """Load an export: `load("exports/bilstm_crf").tag("Mary flew to Lima.")`.

    Args:
        folder: an export folder, of which the newest version is loaded, or one version.

    Raises:
        InputError: there is no export, or it cannot be loaded.
    """
    return Export(folder)


def _encode(texts: str | Texts) -> Iterator[bytes]:
    return (text.encode("utf-8", "surrogateescape") for text in ([texts] if isinstance(texts, str) else texts))


def _unwrap(texts: str | Texts, answers: Iterable[Answer]) -> Answer | list[Answer]:
    """Return one answer for one text, a list for several."""
    listed = list(answers)
    return listed[0] if isinstance(texts, str) else listed
