"""Translation: what this task does in the flow of `pipeline.py`."""

import functools
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import hydra
import keras
import numpy as np
import tensorflow as tf
from omegaconf import DictConfig

from trellis.components import termination
from trellis.components.alignment import soft_alignments
from trellis.components.errors import InputError
from trellis.components.metrics.alignment_scores import link_scores
from trellis.components.metrics.translation import corpus_scores, default_names, signatures, translation_metric
from trellis.components.models import decoding
from trellis.components.readers.bitext import SentencePair
from trellis.components.saved_model.translator_module import TranslatorModule
from trellis.components.text.attention_guide import AttentionGuide
from trellis.components.text.batching import Buckets, ordered_batches, sample_across_lengths, training_batches
from trellis.components.text.parallel_corpus import EncodedTexts, ParallelCorpus
from trellis.components.text.subwords import UNKNOWN, Subwords, learn
from trellis.components.text.vocabulary import Vocabulary
from trellis.components.text.word_membership import word_membership
from trellis.pipelines import reading, segment_statistics, translation_reports
from trellis.pipelines.task import Batches, Data, Encoded, Evaluator, Metrics, Outcome, Package, Task, held_out_part
from trellis.pipelines.translation_sections import TranslationSections

log = logging.getLogger(__name__)

HELD_OUT = 0.05  # share of the training part that is the dev part if the data have none
LARGEST_HELD_OUT = 1000  # pairs
STEPS, MOST_TOKENS = 100, 2400  # batches of an epoch, unless they would be larger than that


@dataclass(frozen=True, kw_only=True)
class TranslationData(Data):
    """Sentence pairs as texts.

    Attributes:
        sources: the texts of each part.
        targets: a translation of each.
        pairs: the same as words, with gold alignments where there are some.
        rows: where the pairs of train are among all pairs of the files, `(pairs,)`.
        references: all that translations of a held-out part are compared with, `references[part][set][row]`; None where
            a text has fewer references than others.
    """

    sources: Mapping[str, Sequence[str]]
    targets: Mapping[str, Sequence[str]]
    pairs: Mapping[str, Sequence[SentencePair]]
    rows: np.ndarray
    references: Mapping[str, Sequence[Sequence[str | None]]]


@dataclass(frozen=True, kw_only=True)
class EncodedPairs(Encoded):
    """Sentence pairs as ids.

    Attributes:
        data: what was encoded.
        source: ids of the texts.
        target: subwords of the translations; the same object as `source` if the vocabulary is joint.
        corpora: every part.
    """

    data: TranslationData
    source: Vocabulary
    target: Subwords
    corpora: Mapping[str, ParallelCorpus]


@dataclass(frozen=True, kw_only=True)
class TranslationOutcome(Outcome):
    """Scores, and the translations of each part that were scored."""

    translations: Mapping[str, Sequence[str]]


class Translation(Task[TranslationData, EncodedPairs, TranslationOutcome]):
    """Texts to texts, by an encoder-decoder."""

    needs, accepts, sample = TranslationSections.needs, TranslationSections.accepts, TranslationSections.sample
    monitors = ("dev/bleu_tok_lc", "dev/bleu_13a", "dev/chrf", "dev/perplexity", "dev/loss")
    headline: ClassVar[tuple[str, ...]] = ("bleu_tok_lc", "bleu_13a", "bleu_13a_lc", "chrf", "ter", "perplexity")
    # Scores that take too long.
    slow: ClassVar[frozenset[str]] = frozenset()
    # Most of the work is products with the whole vocabulary and attention to all positions.
    wide = True

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.tokenized = bool(config.data.get("tokenized"))
        self.bleu = "bleu_tok_lc" if self.tokenized else "bleu_13a"
        monitor = config.trainer.monitor
        if monitor.startswith("dev/bleu") and monitor != f"dev/{self.bleu}":
            text = "tokens" if self.tokenized else "raw text"
            raise InputError(f"trainer.monitor={monitor}: data={config.data.name} is {text}, which has dev/{self.bleu}")

    def monitor(self, encoded: EncodedPairs) -> str:
        """Return the score that chooses the best epoch: by default the BLEU of greedy translations."""
        asked = self.config.trainer.monitor
        return f"dev/{self.bleu}" if asked == "auto" else str(asked)

    @property
    def guiding_run(self) -> str | None:
        """The run of the word aligner that attention learns from; None without one."""
        return self.config.guide.run if "guide" in self.config else None

    # Reading

    def read(self) -> TranslationData:
        """Read the sentence pairs of each part; without a dev part a share of train becomes it."""
        data = self.plain("data")
        if data["also"]:
            raise InputError("data.also: for word aligners; a translator learns from one dataset")
        files, iterators = reading.sentence_pairs(reading.with_held_out_parts(data))
        pairs: dict[str, Sequence[SentencePair]] = {part: list(found) for part, found in iterators.items()}
        before = itertools.takewhile(lambda part: part != "train", pairs)
        rows = sum(len(pairs[part]) for part in before) + np.arange(len(pairs.get("train", ())))
        if "dev" not in pairs and "train" in pairs:
            kept = self._kept(len(rows))
            train = pairs["train"]
            for part, chosen in (("train", kept), ("dev", ~kept)):
                pairs[part] = list(itertools.compress(train, chosen))
            rows = rows[kept]
        pairs = self.limited(pairs)
        sizes = ", ".join(f"{part} {len(found):,} pairs" for part, found in pairs.items())
        words = sum(len(pair.source) for pair in pairs["train"]), sum(len(pair.target) for pair in pairs["train"])
        targets = {part: [" ".join(pair.target) for pair in found] for part, found in pairs.items()}
        return TranslationData(
            files=files,
            description=f"{data['name']}: {sizes}; {words[0]:,} × {words[1]:,} words in train",
            sources={part: [" ".join(pair.source) for pair in found] for part, found in pairs.items()},
            targets=targets,
            pairs=pairs,
            rows=rows[: len(pairs["train"])],
            references={part: [texts] for part, texts in targets.items()},
        )

    def _kept(self, pairs: int) -> np.ndarray:
        """Return which pairs stay in train where there is no dev part, `(pairs,)` booleans."""
        count = min(LARGEST_HELD_OUT, max(1, round(HELD_OUT * pairs)))
        log.warning("data=%s: no dev part; %d pairs of the train part are used as dev", self.config.data.name, count)
        return np.random.default_rng(self.config.seed).permutation(pairs) >= count

    # Encoding and batching

    def encode(self, data: TranslationData, keep: Sequence[str] = ()) -> EncodedPairs:
        """Learn subwords on the training part, and turn every part into ids."""
        del keep
        settings = self.config.text
        sides = data.sources["train"], data.targets["train"]
        if settings.vocabulary == "joint":
            sides = ([*sides[0], *sides[1]],) * 2
        source = Subwords(learn(sides[0], settings.subwords, settings.byte_fallback, settings.case))
        target = source
        if settings.vocabulary == "separate":
            target = Subwords(learn(sides[1], settings.subwords, settings.byte_fallback, settings.case))
        corpora = encoded_corpora(data.sources, data.targets, source, target)
        log.info("%d source subwords, %d target subwords", source.size, target.size)
        return EncodedPairs(data=data, source=source, target=target, corpora=corpora)

    def batch(self, encoded: EncodedPairs) -> Batches:
        """Group the training pairs by the lengths of both sides."""
        corpus, settings, most = encoded.corpora["train"], self.config.batching, self.config.text.max_length
        sources, targets = corpus.sources, corpus.targets
        kept = np.maximum(sources.lengths, targets.lengths) <= most + 1  # the end is no subword
        if not kept.any():
            raise InputError(f"text.max_length={most}: every training pair has more subwords on a side")
        if not kept.all():
            log.warning("%d of %d pairs are skipped (text.max_length)", np.count_nonzero(~kept), len(kept))
        guide = self._guide(encoded.data, kept)
        membership = [functools.partial(word_membership, subwords) for subwords in (encoded.source, encoded.target)]
        corpus = ParallelCorpus(sources.subset(kept), targets.subset(kept), guide=guide, membership=membership)
        # Little data are seen in small batches, so that an epoch has enough of them.
        tokens = settings.tokens or min(MOST_TOKENS, max(1, corpus.tokens // STEPS))
        buckets = Buckets(corpus.lengths, tokens, settings.max_shapes, others=corpus.sources.lengths)
        log.info("%d batches, %.1f %% padding", buckets.steps, 100 * buckets.padding)
        return Batches(
            steps=buckets.steps,
            tokens=corpus.tokens,
            epoch_dataset=lambda epoch: training_batches(corpus, buckets, self.config.seed, epoch),
        )

    def _guide(self, data: TranslationData, kept: np.ndarray) -> AttentionGuide | None:
        """Return what attention should be for the training pairs that are kept."""
        run = self.guiding_run
        if run is None:
            return None
        path = Path(run) / "reports" / "posteriors.npz"
        posteriors = soft_alignments.read(path)
        chosen = []
        for row, pair, is_kept in zip(data.rows, data.pairs["train"], kept, strict=True):
            if row >= len(posteriors):
                raise InputError(f"guide.run={run}: it aligned other data: {len(posteriors)} pairs")
            found, words = posteriors[row], (len(pair.source), len(pair.target))
            if found is not None and found.shape != words:
                here, there = (f"{rows} × {columns}" for rows, columns in (words, found.shape))
                raise InputError(
                    f"guide.run={run}: it aligned other data: pair {row + 1} has {there} words there and {here} here"
                )
            if is_kept:
                chosen.append(found)
        return AttentionGuide(chosen)

    # Building

    def build(self, encoded: EncodedPairs, batches: Batches) -> keras.Model:
        """Build the encoder-decoder."""
        options = self.model_options()
        build = hydra.utils.get_class(options.pop("_target_"))
        sizes = encoded.target.size, None if encoded.source is encoded.target else encoded.source.size
        try:
            model = build(*sizes, **options)
        except ValueError as error:
            raise InputError(str(error)) from None
        if self.guiding_run is not None:
            if model.attention is None:
                raise InputError("guide.run: model.attention.kind=none leaves nothing to guide")
            guide = self.plain("guide")
            model.guide(guide["weight"], guide["decay"], guide["cost"], batches.steps)
        log.info("%s: %d weights", model.name, model.count_params())
        return model

    # Evaluating

    def evaluator(self, model: keras.Model, encoded: EncodedPairs) -> Evaluator[TranslationOutcome]:
        """Return what scores a translator: greedily after each epoch, with the beam of `decoding` at the end."""
        signature = [tf.TensorSpec([None, None], tf.int32)]
        banned = () if encoded.target.model.byte_fallback else (UNKNOWN,)
        settings = self.plain("decoding")
        most = settings.pop("count")

        def translator(**options: Any) -> Callable[[str], list[str]]:
            @tf.function(input_signature=signature, autograph=False)
            def translate(source: Any) -> Any:
                count = self.longest(source, most)
                ids = decoding.translate(model, model.encode(source), count=count, banned=banned, **options).ids
                return encoded.target.decode(ids[:, 0])

            def of_part(part: str) -> list[str]:
                texts = [""] * len(encoded.data.sources[part])
                for rows, inputs in self._ordered(encoded.corpora[part]):
                    termination.check()
                    for row, text in zip(rows.numpy(), translate(inputs["source"]).numpy(), strict=True):
                        if row >= 0:
                            texts[row] = text.decode()
                return self.finished(texts, encoded, part)

            return of_part

        @tf.function(input_signature=signature * 2, autograph=False)
        def nats(source: Any, target: Any) -> Any:
            return -tf.reduce_sum(model({"source": source, "target": target}))

        def loss(part: str) -> Metrics:
            total = 0.0
            for _, inputs in self._ordered(encoded.corpora[part]):
                termination.check()
                total += float(nats(inputs["source"], inputs["target"]))
            mean = total / encoded.corpora[part].tokens
            return {f"{part}/loss": mean, f"{part}/perplexity": math.exp(min(mean, 700.0))}

        names = set(default_names(self.tokenized)) - self.slow

        def scores(part: str, translations: Sequence[str], names: Sequence[str]) -> Metrics:
            references = encoded.data.references[part]
            found = corpus_scores(translations, references, tokenized=self.tokenized, names=names)
            found |= self.further_scores(encoded.data.sources[part], translations)
            return {f"{part}/{name}": value for name, value in found.items()}

        greedy, searched = translator(width=1), translator(**settings)

        def dev() -> Metrics:
            return loss("dev") | scores("dev", greedy("dev"), sorted({self.bleu, self.monitor(encoded)[4:]} & names))

        def held_out() -> TranslationOutcome:
            parts = [part for part in encoded.corpora if part != "train"]
            translations = {part: searched(part) for part in parts}
            metrics: Metrics = {}
            for part in parts:
                metrics |= loss(part) | scores(part, translations[part], sorted(names))
            if model.attention is not None:
                module = self._module(model, encoded)
                for part in encoded.data.pairs:
                    metrics |= _alignment_scores(part, module, encoded)
            part = held_out_part(translations)
            references = encoded.data.references[part]
            statistics = translation_metric(self.bleu, tokenized=self.tokenized).statistics(
                translations[part], references
            )
            sources = [self.source_words(text) for text in encoded.data.sources[part]]
            known = {word for text in encoded.data.sources["train"] for word in self.source_words(text)}
            segments = segment_statistics.of_translations(part, self.bleu, statistics, references, sources, known)
            return TranslationOutcome(metrics=metrics, segments=segments, translations=translations)

        return Evaluator(dev=dev, held_out=held_out)

    def source_words(self, text: str) -> Sequence[str]:
        """Return the words of a source, by which scores are broken down."""
        return text.split()

    def longest(self, source: Any, count: int) -> Any:
        """Return the maximum length of the translation of each source, in graph."""
        return decoding.longest(source, count)

    def finished(self, texts: list[str], encoded: EncodedPairs, part: str) -> list[str]:
        """Turn a model's outputs for the sources of a part into translations; by default, return them unchanged."""
        del encoded, part
        return texts

    def further_scores(self, sources: Sequence[str], translations: Sequence[str]) -> Metrics:
        """Return scores that do not look at references; by default none."""
        del sources, translations
        return {}

    def _ordered(self, corpus: ParallelCorpus) -> Any:
        """Return batches `(rows, inputs)` of a held-out part."""
        return ordered_batches(corpus, Buckets(corpus.lengths, self.config.batching.evaluation_tokens, 16))

    def report(
        self,
        folder: Path,
        model: keras.Model,
        encoded: EncodedPairs,
        outcome: TranslationOutcome,
        diagnosis: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the translations with their references, the signatures of the scores, and pictures of attention."""
        del diagnosis
        data = encoded.data
        for part, translations in outcome.translations.items():
            translation_reports.write_translations(
                folder / f"translations.{part}.tsv", data.sources[part], data.targets[part], translations
            )
        references = data.references["dev"]
        translation_reports.write_signatures(
            folder / "signatures.txt", signatures(references, tokenized=self.tokenized)
        )
        pictures = self.config.report.pictures
        part = held_out_part(outcome.translations)
        rows = translation_reports.chosen(data.sources[part], outcome.translations[part], pictures)
        if rows and model.attention is not None:
            pairs = [(data.sources[part][row], outcome.translations[part][row]) for row in rows]
            found = self._module(model, encoded).align(*(tf.constant(side) for side in zip(*pairs, strict=True)))
            translation_reports.draw_attention(
                folder / "attention.png",
                found["source_pieces"].numpy(),
                found["pieces"].numpy(),
                found["attention"].numpy(),
            )

    # Exporting

    def _module(self, model: keras.Model, encoded: EncodedPairs) -> TranslatorModule:
        return TranslatorModule(model, encoded.source, encoded.target, self.plain("decoding"))

    def package(self, model: keras.Model, encoded: EncodedPairs) -> Package:
        """Return the translator with its signatures."""
        dev = encoded.data.sources["dev"], encoded.data.targets["dev"]
        pairs = list(zip(*dev, strict=True))[:500]
        example = min(pairs, key=lambda pair: abs(len(pair[0].split()) - 8))[0].replace('"', "")
        return Package(
            module=self._module(model, encoded),
            texts=sample_across_lengths(pairs, size=lambda pair: len(pair[0]) + len(pair[1])),
            facts={"vocabulary": {"source": encoded.source.size, "target": encoded.target.size}},
            command="translate",
            example=example,
            request={"text": example},
            response={"text": "string"},
        )


def encoded_corpora(
    sources: Mapping[str, Sequence[str]],
    targets: Mapping[str, Sequence[str | bytes]],
    source: Vocabulary,
    target: Subwords,
) -> dict[str, ParallelCorpus]:
    """Return every part as ids."""
    strings = [tf.TensorSpec([None], tf.string)]
    encode_source = tf.function(source.encode, input_signature=strings, autograph=False)
    encode_target = (
        encode_source if source is target else tf.function(target.encode, input_signature=strings, autograph=False)
    )
    return {
        part: ParallelCorpus(
            EncodedTexts.encode(texts, encode_source),
            EncodedTexts.encode(targets[part], encode_target),
            by_source=part != "train",
        )
        for part, texts in sources.items()
    }


def _alignment_scores(part: str, module: TranslatorModule, encoded: EncodedPairs) -> Metrics:
    """Return the error rates of attention on the pairs of a part that have gold alignments.

    `aer` is of the attention with which a word is generated, `aer_shift1` of that of the step after it.
    """
    pairs = encoded.data.pairs[part]
    rows = [row for row, pair in enumerate(pairs) if pair.sure is not None and pair.source and pair.target]
    if not rows:
        return {}
    metrics: Metrics = {}
    texts = [[sides[part][row] for row in rows] for sides in (encoded.data.sources, encoded.data.targets)]
    gold = [(pairs[row].sure or frozenset(), pairs[row].possible or frozenset()) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: len(texts[0][index]))
    for shift, name in enumerate(("aer", "aer_shift1")):
        links: dict[int, set[tuple[int, int]]] = {}
        for start in range(0, len(order), 32):
            termination.check()
            several = order[start : start + 32]
            source, target = (tf.constant([side[index] for index in several]) for side in texts)
            found = module.links(source, target, shift)
            for index, text in zip(several, found.numpy(), strict=True):
                pharaoh = (link.split("-") for link in text.decode().split())
                links[index] = {(int(source), int(target)) for source, target in pharaoh}
        predicted = [links[index] for index in range(len(rows))]
        scores = link_scores(predicted, [sure for sure, _ in gold], [possible for _, possible in gold])
        metrics[f"{part}/{name}"] = scores["aer"]
    return metrics
