"""Exports in Python: `trellis.load("exports/bilstm_crf").tag("Mary Smith flew from Oslo to Lima.")`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from trellis.components.errors import InputError
from trellis.components.saved_model.versions import latest
from trellis.serve import predict

Answer = TypeVar("Answer")


class Tagged(NamedTuple):
    """The tokens of a text, the tag of each, and the posterior probability of that tag."""

    tokens: list[str]
    tags: list[str]
    confidence: list[float]


class Aligned(NamedTuple):
    """The tokens of both sides, the links `(source position, target position)`, and their mean posteriors.

    `posteriors` is `(source, target)`, of both directions; None where a side is too long to be aligned.
    """

    source: list[str]
    target: list[str]
    links: list[tuple[int, int]]
    posteriors: np.ndarray | None


class Classified(NamedTuple):
    """The most probable label of a text, and the probability of every label."""

    label: str
    probabilities: dict[str, float]


class Scored(NamedTuple):
    """The log-probability of a text in nats, its number of tokens (its end included), and how many are unknown."""

    log_probability: float
    tokens: int
    unknown: int


class Export:
    """A loaded export; its methods are those that its signatures allow.

    Args:
        folder: of an export, of which the newest version is taken, or of one version.

    Raises:
        InputError: there is no export.
    """

    def __init__(self, folder: str | Path) -> None:
        self.version = latest(folder)
        self._model = predict.load(self.version)
        self.signatures = sorted(self._model.signatures)

    def __repr__(self) -> str:
        return f"Export({str(self.version)!r}: {', '.join(self.methods)})"

    @property
    def methods(self) -> list[str]:
        """The methods that this export answers."""
        signatures = set(self.signatures)
        if predict.is_aligner(self._model):
            return ["align"]
        if "embed" in signatures:
            return ["classify", "embed"]
        return ["generate", "score", "next"] if "generate" in signatures else ["tag"]

    @overload
    def tag(self, texts: str, tokenized: bool = ...) -> Tagged: ...
    @overload
    def tag(self, texts: Sequence[str], tokenized: bool = ...) -> list[Tagged]: ...
    def tag(self, texts: str | Sequence[str], tokenized: bool = False) -> Tagged | list[Tagged]:
        """Tag a text or several.

        Args:
            tokenized: texts are tokens with one space between two.
        """
        self._require("tag")
        return self._each(texts, lambda raw: (Tagged(*each) for each in predict.predict(self._model, raw, tokenized)))

    @overload
    def classify(self, texts: str) -> Classified: ...
    @overload
    def classify(self, texts: Sequence[str]) -> list[Classified]: ...
    def classify(self, texts: str | Sequence[str]) -> Classified | list[Classified]:
        """Classify a text or several."""
        self._require("classify")
        return self._each(texts, lambda raw: (Classified(*rest) for _, *rest in predict.classify(self._model, raw)))

    def embed(self, texts: str | Sequence[str]) -> np.ndarray:
        """Return the sentence vector of a text `(dim,)`, or of several `(texts, dim)`."""
        self._require("embed")
        single = isinstance(texts, str)
        batches = predict.batches_of(_encoded([texts] if single else texts))
        found = [self._ask("embed", text=batch)["vector"] for batch in batches]
        vectors = np.concatenate(found) if found else np.zeros((0, 0), np.float32)
        return vectors[0] if single else vectors

    @overload
    def align(self, source: str, target: str) -> Aligned: ...
    @overload
    def align(self, source: Sequence[str], target: Sequence[str]) -> list[Aligned]: ...
    def align(self, source: str | Sequence[str], target: str | Sequence[str]) -> Aligned | list[Aligned]:
        """Align the words of a sentence pair or of several; words are what stands between spaces."""
        self._require("align")
        single = isinstance(source, str)
        sides = [[each] if isinstance(each, str) else list(each) for each in (source, target)]
        if len(sides[0]) != len(sides[1]):
            raise InputError(f"{len(sides[0])} source sentences and {len(sides[1])} target sentences")
        pairs = [
            f"{first.replace('|||', '|')} ||| {second.replace('|||', '|')}"
            for first, second in zip(*sides, strict=True)
        ]
        found = []
        for first, second, links, forward, reverse in predict.align(self._model, _encoded(pairs)):
            found.append(Aligned(first, second, links, None if forward is None else (forward + reverse) / 2))
        return found[0] if single else found

    def generate(
        self,
        prompts: str | Sequence[str] = "",
        count: int = 60,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.95,
        repetition: float = 0.0,
        seed: int = 0,
    ) -> str | list[str]:
        """Continue a text or several; returns what follows, the space between included.

        Args:
            count: tokens to generate at most.
            temperature: 0 takes the most probable token at each step.
            top_k: draw from that many most probable tokens; 0: all.
            top_p: draw from the most probable tokens that reach this probability together.
            repetition: nats that a token loses for having been generated before.
            seed: a text and its seed determine what is drawn.
        """
        self._require("generate")
        single = isinstance(prompts, str)
        rows = [prompts] if single else list(prompts)
        settings = {
            "seed": np.arange(seed, seed + len(rows), dtype=np.int64),
            "count": np.int32(count),
            "temperature": np.float32(temperature),
            "top_k": np.int32(top_k),
            "top_p": np.float32(top_p),
            "repetition": np.float32(repetition),
        }
        texts = [
            text.decode("utf-8", "replace")
            for text in self._ask("generate", prompt=list(_encoded(rows)), **settings)["text"]
        ]
        return texts[0] if single else texts

    @overload
    def score(self, texts: str) -> Scored: ...
    @overload
    def score(self, texts: Sequence[str]) -> list[Scored]: ...
    def score(self, texts: str | Sequence[str]) -> Scored | list[Scored]:
        """Return the log-probability of a text or of several under a language model."""
        self._require("score")

        def scored(raw: Iterator[bytes]) -> Iterator[Scored]:
            for batch in predict.batches_of(raw):
                found = self._ask("score", text=batch)
                for total, tokens, unknown in zip(*map(found.get, Scored._fields), strict=True):
                    yield Scored(float(total), int(tokens), int(unknown))

        return self._each(texts, scored)

    def next(self, prompts: str | Sequence[str], count: int = 10) -> dict[str, float] | list[dict[str, float]]:
        """Return the most probable next tokens after a text, or after several, with their probabilities."""
        self._require("next")
        single = isinstance(prompts, str)
        found = self._ask("next", prompt=list(_encoded([prompts] if single else prompts)), count=np.int32(count))
        rows = [
            {token.decode("utf-8", "replace"): float(value) for token, value in zip(*row, strict=True)}
            for row in zip(found["tokens"], found["probabilities"], strict=True)
        ]
        return rows[0] if single else rows

    def _require(self, method: str) -> None:
        if method not in self.methods:
            raise InputError(f"{self.version}: cannot {method}; this export has: {', '.join(self.methods)}")

    def _ask(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        import tensorflow as tf

        answer = self._model.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in answer.items()}

    def _each(self, texts: str | Sequence[str], answer: Any) -> Any:
        found = list(answer(_encoded([texts] if isinstance(texts, str) else texts)))
        return found[0] if isinstance(texts, str) else found


def load(folder: str | Path) -> Export:
    """Load an export: `load("exports/bilstm_crf").tag("Mary flew to Lima.")`.

    Args:
        folder: of an export, of which the newest version is taken, or of one version.

    Raises:
        InputError: there is no export, or it cannot be loaded.
    """
    return Export(folder)


def _encoded(texts: Sequence[str]) -> Iterator[bytes]:
    return (text.encode("utf-8", "surrogateescape") for text in texts)
