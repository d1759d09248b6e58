"""A search over settings with Optuna, as a sweeper of Hydra.

trellis train -m hydra/sweeper=optuna model.units='int(interval(50, 300))' model.dropout.input='choice(0.1, 0.3)'

Values are written as for any sweep of Hydra: `choice(a, b)` or `a,b`, and `range(START, STOP, STEP)`. Only a search
takes `interval(LOW, HIGH)`, `int(interval(LOW, HIGH))` for whole numbers, and `tag(log, …)` for a logarithmic scale.

The study is a database in the folder of the sweep: `resume=true` continues an interrupted search, and several
processes may work on one study.
"""

import importlib
import importlib.util
import json
import logging
import math
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hydra.utils
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from trellis.components.errors import InputError
from trellis.components.metrics.direction import is_better
from trellis.components.processes import this_process
from trellis.components.settings import Count, Schema, described
from trellis.pipelines import trial
from trellis.pipelines.configuration import parse, plain

if TYPE_CHECKING:
    import optuna

    from trellis.pipelines.task import Task

Direction = Literal["maximize", "minimize"]

TARGET = "hydra_plugins.trellis.OptunaSweeper"  # conf/hydra/sweeper/optuna.yaml
SPACE = "space"  # attribute of a study: what it searches
FAILURES = 3  # a search ends after this many failed trials without a success


class SearchSettings(Schema):
    """A search with Optuna, `hydra.sweeper`."""

    target: str = Field(alias="_target_", description="the sweeper")
    trials: Count = described("number of trials, those of earlier starts included")
    jobs: Count = described("trials at a time; hydra/launcher=joblib runs them in parallel")
    sampler: Literal["tpe", "random", "qmc"] = described("how values are chosen, see Optuna")
    pruner: Literal["none", "median", "halving"] = described("which trials end early, by their scores on dev")
    warm_up: Count = described("epochs before any trial is pruned")
    seed: int | None = described("seed of the sampler; null: another one each time")
    study: str = described("name of the study in the database")
    storage: str | None = described("URL of the database; null: study.db in the folder of the sweep")
    params: dict[str, str] = described("settings to search, {KEY: 'interval(1, 5)'}, besides those of the command line")


def check(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check the settings of a search and its space.

    Args:
        config: Hydra's part of the configuration, `hydra`.
        overrides: of the command line.

    Raises:
        InputError: a setting is invalid, or there is nothing to search.
    """
    from trellis.pipelines.settings import check_section

    if importlib.util.find_spec("optuna") is None:
        raise InputError("hydra/sweeper=optuna needs optuna: pip install 'trellis-sequence[sweep]'")
    check_section(SearchSettings, plain(config.sweeper), "hydra.sweeper.")
    if not divided(overrides, config.sweeper.params)[1]:
        raise InputError("hydra/sweeper=optuna: nothing to search; give a setting several values, such as seed=1,2")


def written(params: Mapping[str, str]) -> list[str]:
    """Return the settings to search from a file in the form of the command line."""
    return [f"{key}={values}" for key, values in params.items()]


def divided(
    overrides: Sequence[str], params: Mapping[str, str]
) -> tuple[list[str], dict[str, "optuna.distributions.BaseDistribution"]]:
    """Return the overrides that all trials share, and the distribution of each key that is searched.

    Raises:
        InputError: a distribution is invalid.
    """
    fixed, space = [], {}
    for override in parse([*written(params), *overrides]):
        if override.is_sweep_override():
            space[override.get_key_element()] = _distribution(override)
        else:
            fixed.append(str(override.input_line))
    return fixed, space


def _distribution(override: Override) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            is_log = "log" in value.tags
            assert value.start is not None and value.end is not None
            if isinstance(value.start, int) and isinstance(value.end, int):
                return IntDistribution(value.start, value.end, log=is_log)
            return FloatDistribution(value.start, value.end, log=is_log)
        if isinstance(value, RangeSweep) and not value.shuffle and (value.step or 0) > 0:
            values: list[Any] = list(override.sweep_iterator())
            if all(isinstance(number, int) for number in values):
                return IntDistribution(values[0], values[-1], step=int(value.step))
            return FloatDistribution(values[0], values[-1], step=float(value.step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise InputError(f"{override.input_line}: {' '.join(str(error).split())}") from None


class OptunaSweeper(Sweeper):
    """Runs trials one after the other, or in parallel; see the module, and `register` for the name of its module."""

    __module__ = TARGET.rpartition(".")[0]

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra provides, and create the launcher."""
        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has as many as asked for."""
        try:
            # Only interrupted trials resume.
            own = [argument for argument in arguments if not argument.startswith("resume=")]
            self._search(*divided(own, self.settings["params"]))
        except InputError as error:
            print(f"{sys.argv[0]}: error: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    def _search(self, fixed: Sequence[str], space: dict[str, "optuna.distributions.BaseDistribution"]) -> None:
        folder = Path(self._config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        # Launchers announce jobs with all their overrides, including those that are internal.
        for launcher in ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins.hydra_joblib_launcher._core"):
            logging.getLogger(launcher).setLevel(logging.WARNING)
        OmegaConf.save(self._config, folder / "multirun.yaml")  # as sweepers of Hydra do
        storage = self.settings["storage"] or f"sqlite:///{(folder / 'study.db').absolute()}"
        study = self._study(storage, fixed, space)
        interrupted = [each for each in study.trials if each.state.name == "RUNNING" and trial.is_abandoned(each)]
        while True:
            again, interrupted = interrupted[: self.settings["jobs"]], interrupted[self.settings["jobs"] :]
            left = self.settings["trials"] - sum(each.state.is_finished() for each in study.trials)
            asked = [study.ask(space) for _ in range(min(self.settings["jobs"], left) - len(again))]
            for each in asked:
                each.set_user_attr(trial.OWNER, this_process())
            batch: list[Any] = [*again, *asked]
            if not batch:
                break
            for each in batch:
                chosen = " ".join(f"{key}={value}" for key, value in each.params.items())
                print(f"\ntrial {each.number}: {chosen}", file=sys.stderr, flush=True)
            jobs = [self._overrides(each, storage, [*fixed, "resume=true"]) for each in again]
            jobs += [self._overrides(each, storage, fixed) for each in asked]
            for job, outcome in zip(batch, self._launcher.launch(jobs, initial_job_idx=batch[0].number), strict=True):
                self._tell(study, job.number, outcome)
        draw_importance(study, folder / "importance.png")

    def _study(
        self, storage: str, fixed: Sequence[str], space: Mapping[str, "optuna.distributions.BaseDistribution"]
    ) -> "optuna.Study":
        """Create or open the study.

        Raises:
            InputError: the database cannot be used, or its study searches something else.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings, seed, samplers = self.settings, self.settings["seed"], optuna.samplers
        makers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "tpe": lambda: samplers.TPESampler(seed=seed, constant_liar=settings["jobs"] > 1),
            "random": lambda: samplers.RandomSampler(seed=seed),
            "qmc": lambda: samplers.QMCSampler(seed=seed, warn_independent_sampling=False),
        }
        try:
            study = optuna.create_study(
                storage=storage,
                study_name=settings["study"],
                direction=self._direction(fixed, space),
                sampler=makers[settings["sampler"]](),
                load_if_exists=True,
            )
        except Exception as error:  # whatever the database raises
            raise InputError(
                f"hydra.sweeper.storage={storage}: cannot be used ({str(error).splitlines()[0]})"
            ) from None
        searched = {key: optuna.distributions.distribution_to_json(each) for key, each in sorted(space.items())}
        wanted = json.dumps([sorted(fixed), searched])
        if study.user_attrs.setdefault(SPACE, wanted) != wanted:
            raise InputError(
                f"hydra.sweeper.study={settings['study']}: this study in {storage} searches other settings; "
                "give the search another name"
            )
        study.set_user_attr(SPACE, wanted)
        return study

    def _direction(
        self, fixed: Sequence[str], space: Mapping[str, "optuna.distributions.BaseDistribution"]
    ) -> Direction:
        """Return whether scores are to be maximized or minimized: by the score that chooses epochs."""
        first = [f"{key}={_first(each)}" for key, each in space.items()]
        config = self._context.config_loader.load_sweep_config(self._config, [*fixed, *first])
        monitor = config.trainer.monitor
        if monitor == "auto":
            task: type[Task[Any, Any, Any]] = hydra.utils.get_class(config.pipeline._target_)
            monitor = task.monitors[0]
        return "minimize" if is_better(0.0, 1.0, monitor) else "maximize"

    def _overrides(self, job: Any, storage: str, fixed: Sequence[str]) -> list[str]:
        """Return the overrides of a trial; its folder has its number, and its environment says which trial it is."""
        settings = self.settings
        address = trial.Address(storage, settings["study"], job._trial_id, settings["pruner"], settings["warm_up"])
        quoted = address.to_text().replace("\\", "\\\\").replace("'", "\\'")
        return [
            *fixed,
            *(f"{key}={value}" for key, value in job.params.items()),
            f"hydra.sweep.subdir='{job.number}'",
            f"+hydra.job.env_set.{trial.VARIABLE}='{quoted}'",
        ]

    def _tell(self, study: "optuna.Study", number: int, outcome: JobReturn) -> None:
        """Record how a trial ended, and print it."""
        from optuna.trial import TrialState

        score = outcome.return_value  # raises what the job raised
        if trial.PRUNED in study.trials[number].user_attrs:
            study.tell(number, state=TrialState.PRUNED)
            said = f"pruned after epoch {study.trials[number].user_attrs[trial.PRUNED]}"
        elif score is None or math.isnan(score):
            study.tell(number, state=TrialState.FAIL)
            said = "failed"
            states = [each.state for each in study.trials]
            if states.count(TrialState.FAIL) >= FAILURES and TrialState.COMPLETE not in states:
                raise InputError(f"hydra/sweeper=optuna: {FAILURES} trials failed before one succeeded, see above")
        else:
            study.tell(number, score)
            said = f"{score:.4f}"
        done = sum(each.state.is_finished() for each in study.trials)
        best = f"; best {study.best_value:.4f}, trial {study.best_trial.number}" if _completed(study) else ""
        print(f"trial {number}: {said} ({done} of {self.settings['trials']}{best})", file=sys.stderr, flush=True)


def _first(distribution: "optuna.distributions.BaseDistribution") -> Any:
    """Return a value of a distribution."""
    return next(iter(getattr(distribution, "choices", ())), getattr(distribution, "low", None))


def _completed(study: "optuna.Study") -> list[Any]:
    return [each for each in study.trials if each.state.name == "COMPLETE"]


def draw_importance(study: "optuna.Study", path: Path) -> None:
    """Draw how much of the scores' variance each setting explains (fANOVA, Hutter et al. 2014), if trials suffice."""
    import optuna

    finished = _completed(study)
    if len(finished) < 4 or len({each.value for each in finished}) < 2:
        return
    importances = optuna.importance.get_param_importances(study)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 0.8 + 0.4 * len(importances)), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(importances)[::-1], list(importances.values())[::-1])
    axes.set_xlabel(f"share of the variance of {len(finished)} trials' scores")
    axes.set_xlim(0, 1)
    figure.savefig(path, dpi=120)
    print(f"importance of the settings: {path}", flush=True)


def register() -> None:
    """Make the sweeper known to Hydra, which imports sweepers from the package `hydra_plugins` alone."""
    try:
        package = importlib.import_module("hydra_plugins")
    except ModuleNotFoundError:  # no plug-in is installed
        package = sys.modules["hydra_plugins"] = types.ModuleType("hydra_plugins")
    module = types.ModuleType(OptunaSweeper.__module__)
    setattr(module, OptunaSweeper.__name__, OptunaSweeper)
    package.__dict__["trellis"] = module
    sys.modules[module.__name__] = module
    Plugins.instance().register(OptunaSweeper)
