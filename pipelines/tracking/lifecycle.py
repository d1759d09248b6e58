"""Record how a run ends: FINISHED, FAILED or KILLED, with the reason."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
from omegaconf import DictConfig

from trellis.components import termination
from trellis.components.termination import STATUS, Terminated
from trellis.pipelines.configuration import plain
from trellis.pipelines.terminal import Terminal
from trellis.pipelines.tracking.tracker import Tracker
from trellis.pipelines.trial import Pruned


@contextlib.contextmanager
def tracked(config: DictConfig, folder: Path, terminal: Terminal) -> Iterator[Tracker]:
    """Start the tracker that `tracking` names, and end it as the block ends.

    Raises:
        SystemExit: status 130 after an interrupt, 143 after SIGTERM.
    """
    settings = plain(config.tracking)
    tracker: Tracker = hydra.utils.get_class(settings.pop("_target_"))(config, folder, **settings)
    try:
        with termination.deferred(lambda: tracker.end("KILLED", "terminated")):
            terminal.phase("starting the record of the run")
            tracker.start()
            yield tracker
            tracker.end("FINISHED")
    except (KeyboardInterrupt, Terminated) as error:
        word, status = ("interrupted", 130) if isinstance(error, KeyboardInterrupt) else ("terminated", STATUS)
        tracker.end("KILLED", word)
        print(f"\n{word}; the same command with resume=true goes on after the last whole epoch", file=sys.stderr)
        raise SystemExit(status) from None
    except Pruned as error:
        tracker.end("KILLED", str(error))
        raise
    except BaseException as error:
        tracker.end("FAILED", f"{type(error).__name__}: {error}")
        raise
