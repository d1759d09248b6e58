"""Language models that a model starts from: `init_from` and `transfer`."""

import logging
from collections.abc import Sequence

import keras
from omegaconf import DictConfig

from trellis.components import transfer
from trellis.components.errors import InputError
from trellis.components.training.rates import PretrainedRates
from trellis.pipelines.task import Encoded
from trellis.pipelines.tracking import registry

log = logging.getLogger(__name__)


class Pretraining:
    """The language models that `init_from` names, read before anything is trained.

    Args:
        config: the composed configuration.
        embeds_words: whether the task's models have word vectors.

    Raises:
        InputError: a source is no language model, or the task has no use for one.
    """

    def __init__(self, config: DictConfig, embeds_words: bool) -> None:
        self.settings = config.transfer
        self.sources: list[transfer.Pretrained] = []
        if config.init_from is None:
            return
        if not embeds_words:
            raise InputError(f"init_from: model={config.model.name} has no word vectors to set; neural models have")
        names = [config.init_from] if isinstance(config.init_from, str) else list(config.init_from)
        uri = config.tracking.get("uri")
        self.sources = [transfer.read(registry.fetched(name, uri)) for name in names]

    @property
    def words(self) -> Sequence[str]:
        """The words of the language models, which the new model has to know too."""
        return transfer.most_frequent(self.sources, self.settings.keep) if self.sources else ()

    def apply(self, model: keras.Model, encoded: Encoded) -> list[keras.callbacks.Callback]:
        """Put the weights into a model; return the callbacks that train them at their own rates.

        Raises:
            InputError: a shape differs.
        """
        if not self.sources:
            return []
        settings = self.settings
        groups, (matched, new) = transfer.apply(
            self.sources,
            model,
            encoded.words or (),
            embeddings=settings.parts != "encoder",
            encoder=settings.parts != "embeddings",
        )
        log.warning("init_from: %d words have pretrained vectors, %d are new", matched, new)
        return [PretrainedRates(groups, settings.frozen, settings.rate, settings.unfreeze_every)]
