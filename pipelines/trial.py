"""The trial of a search that this run carries out: it reports scores to the study, which may end it early."""

import functools
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from trellis.components.processes import has_ended, this_process

if TYPE_CHECKING:
    import optuna

VARIABLE = "TRELLIS_TRIAL"  # set for a job of a search; Hydra has no other way to tell it which trial it is
PRUNED, OWNER = "pruned", "process"  # attributes of a trial


class Pruned(Exception):
    """A trial that is not worth going on with."""


class Address(NamedTuple):
    """Where a trial is found.

    Attributes:
        storage: the URL of the database.
        study: the name of the study.
        trial: the id of the trial in the database.
        pruner: see `PRUNERS`.
        warm_up: epochs before any trial is pruned.
    """

    storage: str
    study: str
    trial: int
    pruner: str
    warm_up: int

    def to_text(self) -> str:
        """Return it as the value of the environment variable."""
        return json.dumps(self)


def is_searching() -> bool:
    """Return whether this run is a trial of a search."""
    return VARIABLE in os.environ


def report(score: float, epoch: int) -> None:
    """Report a score on dev to the study of this trial; do nothing outside a search.

    Raises:
        Pruned: trials with better scores after as many epochs make this one not worth going on with.
    """
    if not is_searching():
        return
    trial = _trial(os.environ[VARIABLE])
    if epoch == 1:
        trial.set_user_attr(OWNER, this_process())
    trial.report(score, epoch)
    if trial.should_prune():
        trial.set_user_attr(PRUNED, epoch)
        raise Pruned(f"pruned after epoch {epoch}")


@functools.cache
def _trial(address: str) -> "optuna.Trial":
    """Return the trial at an address. Optuna's documentation leaves its constructor to integrations, as this is one."""
    import optuna

    found = Address(*json.loads(address))
    study = optuna.load_study(study_name=found.study, storage=found.storage, pruner=pruner(found.pruner, found.warm_up))
    return optuna.Trial(study, found.trial)


def pruner(name: str, warm_up: int) -> "optuna.pruners.BasePruner":
    """Return one of Optuna's pruners."""
    from optuna import pruners

    makers: dict[str, Callable[[], pruners.BasePruner]] = {
        "none": pruners.NopPruner,
        "median": lambda: pruners.MedianPruner(n_warmup_steps=warm_up),
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=warm_up),
    }
    return makers[name]()


def is_abandoned(trial: "optuna.trial.FrozenTrial") -> bool:
    """Return whether the process of an unfinished trial ran on this machine and has ended."""
    owner = str(trial.user_attrs.get(OWNER, ""))
    return not owner or has_ended(owner)
