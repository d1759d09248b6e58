"""One of several workers: trains what its arguments describe, one run after the other, each in a folder of its own.

Arguments: a folder, and for each run its name and its overrides, in JSON: `[["tagger", ["model=bilstm_crf", …]], …]`.
The outcome of each run is `metrics.json` in its folder, or `error.txt` where it ended in an error. A run named `killed`
ends the process of worker 1 after its first epoch, unless it resumes.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TRELLIS_XLA"] = "0"

from tests.pipelines.runs import configured
from trellis.components import cluster, workers
from trellis.components.errors import InputError
from trellis.components.quiet import captured_stderr

with captured_stderr():
    import tensorflow as tf

    from trellis.pipelines import pipeline, training
    from trellis.pipelines.settings import validate


def main(folder, runs):
    workers.HEARTBEAT = 10  # the chief waits for so long before it gives a lost worker up
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # as in other tests
    index = cluster.from_environment().index
    for name, overrides in json.loads(runs):
        place = Path(folder) / cluster.folder_of_worker(name, index)
        if name == "killed" and index == 1 and "resume=true" not in overrides:
            training.EpochEnd.on_epoch_begin = lambda self, epoch, logs=None: os._exit(9) if epoch else None
        place.mkdir(parents=True, exist_ok=True)
        config = configured(*overrides, "trainer.strategy=multi_worker", "trainer.connect_timeout=200")
        try:
            validate(config)
            pipeline.run(config, place)
        except InputError as error:
            (place / "error.txt").write_text(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
