"""Record how a run ends: FINISHED, FAILED or KILLED, with the reason."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import hydra
from omegaconf import DictConfig

from trellis.components import termination
from trellis.components.errors import InputError
from trellis.components.termination import Terminated
from trellis.pipelines.configuration import plain
from trellis.pipelines.terminal import Terminal
from trellis.pipelines.tracking.tracker import Tracker
from trellis.pipelines.trial import Pruned


@contextlib.contextmanager
def tracked(config: DictConfig, folder: Path, terminal: Terminal) -> Iterator[Tracker]:
    """Start the tracker that `tracking` names; record how the block ends.

    Raises:
        SystemExit: status 130 after an interrupt, 143 after SIGTERM.
        InputError: the record cannot be written.
    """
    settings = plain(config.tracking)
    tracker: Tracker = hydra.utils.get_class(settings.pop("_target_"))(config, folder, **settings)
    try:
        with termination.deferred(lambda: tracker.end("KILLED", "ended immediately")):
            terminal.phase("starting the record of the run")
            tracker.start()
            yield tracker
            tracker.end("FINISHED")
    except (KeyboardInterrupt, Terminated) as error:
        ended = Terminated(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else error
        tracker.end("KILLED", ended.word)
        point = "complete epoch" if config.trainer.checkpoint_every is None else "checkpoint"
        terminal.line(f"\n{ended.word}; the same command with resume=true continues after the last {point}")
        raise SystemExit(ended.status) from None
    except Pruned as error:
        tracker.end("KILLED", str(error))
        raise
    except BaseException as error:
        problem = tracker.problem(error) if isinstance(error, Exception) else None
        tracker.end("FAILED", problem or f"{type(error).__name__}: {error}")
        if problem:
            raise InputError(problem) from None
        raise
