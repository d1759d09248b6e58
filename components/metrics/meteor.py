"""METEOR without its resources: words match exactly, by their stems and, given vectors, by similarity.

An alignment of hypothesis and reference (Banerjee and Lavie 2005; Denkowski and Lavie 2014) links each word to at most
one; of all alignments it is the one with the most links, then the fewest chunks (runs of links that are contiguous on
both sides), then the smallest distances. With the share of linked words as precision $P$ and recall $R$, in which
content words weigh $δ$ and function words $1 - δ$, and each link weighs as much as its stage,

    F = PR / (αP + (1 - α)R)        score = F (1 - γ (chunks / links)^β)

Parameters are the published ones of METEOR 1.5. Its WordNet synonyms and paraphrase tables are left out: they exist for
few languages, and the former add little.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trellis.components.errors import nearest
from trellis.components.metrics.translation_metric import (
    References,
    Statistics,
    TranslationMetric,
    reference_counts,
)

# Languages with a Snowball stemmer.
LANGUAGES = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali",
    "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip

# Function words as METEOR 1.5 defines them, by a relative frequency above 0.001; here in the mean of the training texts
# of WikiText-2 and the English Web Treebank.
_ENGLISH = """! " ' 's ( ) , - . : ; ? a about after all also an and any are as at be been but by can do first for from
get had has have he her him his i if in into is it its just like may me more my n't new no not of on one only or other
out over she so some that the their them there they this time to two up was we were what when which who will with would
you your –"""
ENGLISH_FUNCTION_WORDS = frozenset(_ENGLISH.split())

BEAM = 200  # alignments kept after each word; without repeated words there are no more


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Parameters of METEOR.

    Attributes:
        alpha: weight of precision against recall, in the denominator of F.
        beta: exponent of the penalty.
        gamma: the largest penalty.
        delta: weight of content words against function words.
        exact: weight of a link between equal words.
        stem: weight of a link between words with the same stem.
        synonym: weight of a link between words with similar vectors.
    """

    alpha: float
    beta: float
    gamma: float
    delta: float
    exact: float
    stem: float
    synonym: float


# Tuned by the authors of METEOR 1.5 on the rankings of WMT (task `rank`, English), and for any language (task `li`).
ENGLISH = Parameters(0.85, 0.20, 0.60, 0.75, 1.0, 0.6, 0.8)
ANY_LANGUAGE = Parameters(0.75, 1.40, 0.70, 0.50, 1.0, 0.5, 0.5)


class Meteor(TranslationMetric):
    """METEOR with the stages `exact` and `stem` and, given vectors, `synonym`.

    Args:
        language: an ISO 639 code of `LANGUAGES`.
        tokenized: whether texts are tokens joined by spaces; raw text is tokenized as for `bleu_13a`.
        vectors: the vector of each (lower-cased) word that has one; None leaves the third stage out.
        threshold: the cosine from which two words count as synonyms.
        parameters: the parameters; by default the published ones.
        function_words: words that weigh less; by default those of English, and none for other languages.

    Raises:
        ValueError: there is no stemmer for the language.
    """

    def __init__(
        self,
        language: str,
        *,
        tokenized: bool,
        vectors: Mapping[str, ArrayLike] | None = None,
        threshold: float = 0.8,
        parameters: Parameters | None = None,
        function_words: Collection[str] | None = None,
    ) -> None:
        english = language == "en"
        self.language = language
        self.parameters = parameters or (ENGLISH if english else ANY_LANGUAGE)
        self.function_words = ENGLISH_FUNCTION_WORDS if function_words is None and english else function_words or ()
        self.tokenized = tokenized
        self.threshold = threshold
        self._tokenize = (lambda text: text) if tokenized else _tokenizer()
        self._stem = _stemmer(language)
        self._stems: dict[str, str] = {}
        self._vectors = None if vectors is None else {word: _unit(vector) for word, vector in vectors.items()}

    def statistics(self, hypotheses: Sequence[str], references: References) -> Statistics:
        """Return, for each segment and its best reference, what `score` needs.

        Returns:
            `(segments, 6)`: the weights of linked words and of all words, of the hypothesis and of the reference;
            chunks; links.
        """
        return np.array(
            [
                max((self._pair(hypothesis, text) for text in texts if text is not None), key=self.score)
                for hypothesis, *texts in zip(hypotheses, *references, strict=True)
            ]
        )

    def score(self, statistics: Statistics) -> float:
        """Return the score of a segment or of a corpus."""
        matched, words, reference_matched, reference_words, chunks, links = statistics.tolist()
        if not links:
            return 0.0
        alpha, beta, gamma = self.parameters.alpha, self.parameters.beta, self.parameters.gamma
        precision, recall = matched / words, reference_matched / reference_words
        if not (precision and recall):
            return 0.0
        f = precision * recall / (alpha * precision + (1 - alpha) * recall)
        return 100 * f * (1 - gamma * (chunks / links) ** beta)

    def signature(self, references: References, segments: bool = False) -> str:
        """Return the settings, in the form of sacrebleu's signatures."""
        counts = reference_counts(references)
        parameters = dataclasses.asdict(self.parameters)
        if self._vectors is None:
            del parameters["synonym"]
        else:
            parameters["threshold"] = self.threshold
        settings = {
            "nrefs": counts.pop() if len(counts) == 1 else "var",
            "case": "lc",
            "tok": "none" if self.tokenized else "13a",
            "lang": self.language,
            **parameters,
            "function_words": len(self.function_words),
            "snowball": version("snowballstemmer"),
        }
        return "|".join(f"{name}:{value}" for name, value in settings.items())

    def _pair(self, hypothesis: str, reference: str) -> Statistics:
        """Return the statistics of a hypothesis and a reference."""
        words, reference_words = self._words(hypothesis), self._words(reference)
        candidates = self._candidates(words, reference_words)
        links = align(candidates)
        weights = [candidates[i][j] for i, j in links]
        chunks = sum((i - 1, j - 1) not in set(links) for i, j in links)
        if len(links) == len(words) == len(reference_words) and chunks == 1:
            chunks = 0  # no penalty for the very same words
        content, reference_content = self._content(words), self._content(reference_words)
        return np.array(
            [
                sum(weight * content[i] for (i, _), weight in zip(links, weights, strict=True)),
                sum(content),
                sum(weight * reference_content[j] for (_, j), weight in zip(links, weights, strict=True)),
                sum(reference_content),
                chunks,
                len(links),
            ],
            np.float64,
        )

    def _words(self, text: str) -> list[str]:
        return [word for word in self._tokenize(text).lower().split(" ") if word]

    def _content(self, words: Sequence[str]) -> list[float]:
        """Return the weight of each word."""
        delta = self.parameters.delta
        return [1 - delta if word in self.function_words else delta for word in words]

    def _candidates(self, words: Sequence[str], reference_words: Sequence[str]) -> list[dict[int, float]]:
        """Return, for each word, the positions that it may be linked to and the weight of each link."""
        by_stem: dict[str, list[int]] = {}
        for j, word in enumerate(reference_words):
            by_stem.setdefault(self._stem_of(word), []).append(j)
        exact, stem = self.parameters.exact, self.parameters.stem
        candidates = [
            {j: exact if reference_words[j] == word else stem for j in by_stem.get(self._stem_of(word), ())}
            for word in words
        ]
        for i, word in enumerate(words if self._vectors else ()):
            for j, other in enumerate(reference_words):
                if j not in candidates[i] and self._similar(word, other):
                    candidates[i][j] = self.parameters.synonym
        return candidates

    def _similar(self, word: str, other: str) -> bool:
        vectors = self._vectors or {}
        return word in vectors and other in vectors and float(vectors[word] @ vectors[other]) >= self.threshold

    def _stem_of(self, word: str) -> str:
        if word not in self._stems:
            self._stems[word] = self._stem(word)
        return self._stems[word]


class _Path(NamedTuple):
    """The best way to a state: its rank, and its last link with the path before it.

    Attributes:
        rank: negative sum of weights, chunks, sum of distances: the lowest is the best.
        link: the last link; None at the start.
        before: the path up to that link.
    """

    rank: tuple[float, int, int]
    link: tuple[int, int] | None
    before: "_Path | None"


def align(candidates: Sequence[Mapping[int, float]], beam: int = BEAM) -> list[tuple[int, int]]:
    """Return the alignment with the largest weight, then the fewest chunks, then the smallest sum of distances.

    Args:
        candidates: for each word of the hypothesis, the positions in the reference that it may be linked to, with the
            weight of the link.
        beam: the number of states kept after each word. A state is the positions that are taken and that later words
            may want, and the position of the last word. Few sentences have more, so the search is nearly always exact.

    Returns:
        `(hypothesis, reference)` positions, ascending.
    """
    last_use = {j: i for i, positions in enumerate(candidates) for j in positions}
    states = {(0, -2): _Path((0.0, 0, 0), None, None)}  # positions that are taken, as bits; -2: no link
    for i, positions in enumerate(candidates):
        wanted_later = ~sum(1 << j for j in positions if last_use[j] == i)
        following: dict[tuple[int, int], _Path] = {}
        for (taken, previous), path in states.items():
            weight, chunks, distance = path.rank
            paths = [((taken & wanted_later, -2), path)]
            for j, link_weight in positions.items():
                if not taken >> j & 1:
                    rank = (weight - link_weight, chunks + (j != previous + 1), distance + abs(i - j))
                    paths.append((((taken | 1 << j) & wanted_later, j), _Path(rank, (i, j), path)))
            for state, extended in paths:
                if state not in following or extended.rank < following[state].rank:
                    following[state] = extended
        if len(following) > beam:
            following = dict(sorted(following.items(), key=lambda item: item[1].rank)[:beam])
        states = following
    best: _Path | None = min(states.values(), key=lambda path: path.rank)
    links = []
    while best is not None and best.link is not None:
        links.append(best.link)
        best = best.before
    return links[::-1]


def _tokenizer() -> Callable[[str], str]:
    from sacrebleu import BLEU

    return BLEU(tokenize="13a").tokenizer


def _stemmer(language: str) -> Callable[[str], str]:
    """Return the Snowball stemmer of a language.

    Raises:
        ValueError: there is none.
    """
    if language not in LANGUAGES:
        raise ValueError(f"{language}: no stemmer of this language; did you mean {nearest(language, LANGUAGES)}?")
    import snowballstemmer

    return snowballstemmer.stemmer(LANGUAGES[language]).stemWord


def _unit(vector: ArrayLike) -> NDArray[np.float64]:
    """Return a vector of length 1."""
    array = np.asarray(vector, np.float64)
    return array / max(float(np.linalg.norm(array)), 1e-12)
