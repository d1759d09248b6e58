"""The one entry: compose the configuration, run the pipeline, report. `python train.py --help` shows the choices."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent
os.environ.setdefault("TRELLIS_ROOT", str(ROOT))

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402

from components.errors import InputError  # noqa: E402
from components.quiet import held_back  # noqa: E402
from pipelines import command_line  # noqa: E402


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def train(config):
    try:
        command_line.validate(config)
        # Imports TensorFlow, which takes seconds: not before everything above is known to be right.
        with held_back():
            from pipelines import pipeline

        return pipeline.run(config, Path(HydraConfig.get().runtime.output_dir))
    except InputError as error:
        command_line.stop(error)


if __name__ == "__main__":
    command_line.run(train, ROOT / "conf")
