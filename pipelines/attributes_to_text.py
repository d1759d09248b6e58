"""Texts about attributes: one vector in, a sequence out. What this task does in the flow of `pipeline.py`."""

import logging
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trellis.components.metrics.attribute_coverage import attribute_coverage
from trellis.components.readers.attributes import parse
from trellis.components.saved_model.attributes_module import AttributesModule
from trellis.components.text.attributes import AttributeVocabulary
from trellis.components.text.subwords import Subwords, learn
from trellis.pipelines import reading
from trellis.pipelines.task import Batches, Metrics, Package
from trellis.pipelines.translation import EncodedPairs, Translation, TranslationData, encoded_corpora
from trellis.pipelines.translation_sections import AttributesToTextSections

log = logging.getLogger(__name__)


class AttributesToText(Translation):
    """Attributes to texts, by a decoder that starts from a vector; scored against all references of a test item."""

    needs, accepts, sample = (
        AttributesToTextSections.needs,
        AttributesToTextSections.accepts,
        AttributesToTextSections.sample,
    )
    headline = ("bleu_13a_lc", "bleu_13a", "chrf", "coverage", "perplexity")
    # Each item has dozens of references.
    slow = frozenset({"ter", "chrfpp"})

    # Reading

    def read(self) -> TranslationData:
        """Read the rows of each part; items of the held-out parts are distinct, with all their references."""
        data = self.plain("data")
        files, found = reading.attribute_texts(data)
        parts = self.limited(found)
        sources, targets, references = {}, {}, {}
        for part, examples in parts.items():
            texts: dict[str, list[str]] = {}
            for example in examples:
                texts.setdefault(example.label, []).append(example.text)
            if part == "train":
                sources[part] = [example.label for example in examples]
                targets[part] = [example.text for example in examples]
            else:
                sources[part], targets[part] = list(texts), [several[0] for several in texts.values()]
            most = max(map(len, texts.values()))
            references[part] = [
                [several[index] if index < len(several) else None for several in texts.values()]
                for index in range(most)
            ]
        sizes = ", ".join(f"{part} {len(examples):,} texts" for part, examples in parts.items())
        items = ", ".join(f"{len(sources[part]):,} in {part}" for part in sources if part != "train")
        return TranslationData(
            files=files,
            description=f"{data['name']}: {sizes}; distinct items: {items}",
            sources=sources,
            targets=targets,
            pairs={},
            rows=np.arange(len(sources["train"])),
            references=references,
        )

    # Encoding

    def encode(self, data: TranslationData, keep: Sequence[str] = ()) -> EncodedPairs:
        """Give ids to the attributes, replace names in texts by placeholders, and learn subwords of the texts."""
        del keep
        settings, open_classes = self.config.text, self.plain("data")["open_classes"]
        source = AttributeVocabulary.of(data.sources["train"], open_classes)
        abstract = tf.function(source.abstract, input_signature=[tf.TensorSpec([None], tf.string)] * 2, autograph=False)
        texts = {
            part: abstract(tf.constant(data.targets[part]), tf.constant(sources)).numpy().tolist()
            for part, sources in data.sources.items()
        }
        target = Subwords(learn(texts["train"], settings.subwords, settings.byte_fallback, settings.case))
        corpora = encoded_corpora(data.sources, texts, source, target)
        unknown = {
            f"{name}[{value}]"
            for part in data.sources
            for text in data.sources[part]
            for name, value in parse(text).items()
            if name not in open_classes and f"{name}[{value}]" not in source.names
        }
        if unknown:
            log.warning(
                "%d attributes of held-out parts are not in train: %s", len(unknown), ", ".join(sorted(unknown))
            )
        return EncodedPairs(data=data, source=source, target=target, corpora=corpora)

    # Building

    def build(self, encoded: EncodedPairs, batches: Batches) -> keras.Model:
        """Build the model; what finds attributes in texts learns at once from the training part."""
        model, corpus = super().build(encoded, batches), encoded.corpora["train"]
        model.detector.fit(corpus.sources.rows, corpus.targets.rows, len(corpus.lengths))
        return model

    # Evaluating

    def further_scores(self, sources: Sequence[str], translations: Sequence[str]) -> Metrics:
        """Return the share of attributes that texts put into words."""
        return {"coverage": attribute_coverage(zip(map(parse, sources), translations, strict=True))}

    def source_words(self, text: str) -> list[str]:
        """Return the attributes of a source."""
        return [f"{name}[{value}]" for name, value in parse(text).items()]

    def longest(self, source: Any, count: int) -> Any:
        """Return the maximum length of a text, which does not depend on how many attributes there are."""
        del source
        return count

    def finished(self, texts: list[str], encoded: EncodedPairs, part: str) -> list[str]:
        """Replace placeholders by the names that they stand for."""
        filled = _attributes(encoded).fill(tf.constant(texts), tf.constant(encoded.data.sources[part]))
        return [text.decode() for text in filled.numpy()]

    # Exporting

    def _module(self, model: Any, encoded: EncodedPairs) -> AttributesModule:
        return AttributesModule(model, _attributes(encoded), encoded.target, self.plain("decoding"))

    def package(self, model: Any, encoded: EncodedPairs) -> Package:
        """Return the model with its signatures, and the attributes that it knows."""
        package, source = super().package(model, encoded), _attributes(encoded)
        facts = {"attributes": list(source.names), "open_classes": list(source.open_classes)}
        return Package(
            module=package.module,
            texts=package.texts,
            facts={**package.facts, **facts},
            command=package.command,
            example=str(np.random.default_rng(0).choice(encoded.data.sources["dev"])).replace('"', ""),
            request=package.request,
            response=package.response,
        )


def _attributes(encoded: EncodedPairs) -> AttributeVocabulary:
    """Return the source vocabulary, which `AttributesToText.encode` made."""
    assert isinstance(encoded.source, AttributeVocabulary)
    return encoded.source
