"""However a run ends, its record says so: FINISHED, FAILED or KILLED, with the reason."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import hydra
from omegaconf import DictConfig

from trellis.pipelines.configuration import plain
from trellis.pipelines.terminal import Terminal
from trellis.pipelines.tracking.tracker import Tracker


class Terminated(BaseException):
    """SIGTERM: the run is being killed."""


@contextlib.contextmanager
def tracked(config: DictConfig, folder: Path, terminal: Terminal) -> Iterator[Tracker]:
    """Start the tracker that `tracking` names, and end it as the block ends.

    Raises:
        SystemExit: status 130 after an interrupt, 143 after SIGTERM.
    """
    settings = plain(config.tracking)
    tracker: Tracker = hydra.utils.get_class(settings.pop("_target_"))(config, folder, **settings)
    in_main_thread = threading.current_thread() is threading.main_thread()

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    former = signal.signal(signal.SIGTERM, terminate) if in_main_thread else None
    try:
        terminal.phase("starting the record of the run")
        tracker.start()
        yield tracker
        tracker.end("FINISHED")
    except (KeyboardInterrupt, Terminated) as error:
        word, status = ("interrupted", 130) if isinstance(error, KeyboardInterrupt) else ("terminated", 143)
        tracker.end("KILLED", word)
        print(f"\n{word}; the same command with resume=true goes on after the last whole epoch", file=sys.stderr)
        raise SystemExit(status) from None
    except BaseException as error:
        tracker.end("FAILED", f"{type(error).__name__}: {error}")
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, former)
