"""Checkpoints: everything that training needs to continue as if it had not been interrupted."""

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from trellis.components.errors import InputError, first_line
from trellis.components.files import atomic_write
from trellis.components.types import JSON

LAST, BEST = "last.npz", "best.keras"


@runtime_checkable
class CarriesStates(Protocol):
    """A model that carries states from one batch of training to the next, in variables that are no weights.

    Attributes:
        carried: these variables.
    """

    carried: Sequence[Any]


def save(model: keras.Model, folder: Path, state: JSON, within_epoch: bool = False) -> None:
    """Write the variables of the model and of its optimizer to `folder/last.npz`, atomically.

    Args:
        state: JSON to store with them.
        within_epoch: store also what only matters within an epoch: metrics, and states that are carried.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"v{index}": np.asarray(value) for index, value in enumerate(variables_of(model))}
    if within_epoch:
        arrays |= {f"e{index}": np.asarray(value) for index, value in enumerate(_variables_within_epoch(model))}
    with atomic_write(folder / LAST) as part, open(part, "wb") as file:
        np.savez(file, state=json.dumps(state), **arrays)
        file.flush()
        os.fsync(file.fileno())


def save_best(model: keras.Model, folder: Path) -> None:
    """Write the model to `folder/best.keras`, an ordinary Keras file, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / BEST) as part:
        model.save(part)


def restore(model: keras.Model, folder: Path) -> JSON | None:
    """Load the variables of `folder/last.npz` into the model and its optimizer.

    Returns:
        The stored state, or None if there is no checkpoint.

    Raises:
        InputError: the file is damaged, or was written by a model with other shapes.
    """
    path = folder / LAST
    if not path.is_file():
        return None
    with _opened(path) as saved:
        state: JSON = json.loads(str(saved["state"]))
        arrays = [saved[f"v{index}"] for index in range(sum(name.startswith("v") for name in saved.files))]
        if not isinstance(state, dict):
            raise ValueError("its state is no object")
        if not all(array.dtype.kind in "biufV" for array in arrays):
            raise ValueError("not all of its arrays are numbers")
        if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
            raise ValueError("NaN or infinite values in it")
    variables = variables_of(model)
    if len(variables) != len(arrays):
        raise InputError(f"{path}: {len(arrays)} variables, but this model has {len(variables)}")
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise InputError(f"{path}: {variable.path} is {array.shape} there, {tuple(variable.shape)} in this model")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return state


def restore_within_epoch(model: keras.Model, folder: Path) -> None:
    """Load what `save` stored of an unfinished epoch.

    Raises:
        InputError: it is not there, or of a model with other shapes.
    """
    with _opened(folder / LAST) as saved:
        for index, variable in enumerate(_variables_within_epoch(model)):
            variable.assign(saved[f"e{index}"])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the arrays of a checkpoint.

    Raises:
        InputError: the block finds that they are not what they should be.
    """
    try:
        with np.load(path) as saved:
            yield saved
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: damaged checkpoint ({error}); delete it to start this run again from the beginning"
        ) from None


def load_best_weights(model: keras.Model, folder: Path) -> None:
    """Load the weights of `folder/best.keras` into the model.

    Raises:
        InputError: the file is missing, damaged, or of another model, or weights are not finite.
    """
    path = folder / BEST
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be loaded ({first_line(error)})") from None
    for variable in model.variables:
        values = np.asarray(variable)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise InputError(f"{path}: {variable.path} has NaN values")


def load_best(folder: Path) -> keras.Model:
    """Load the model of `folder/best.keras`.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / BEST
    try:
        return keras.saving.load_model(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be loaded ({str(error).splitlines()[0]})") from None


def variables_of(model: keras.Model) -> list[Any]:
    """Return the variables of a model and of its optimizer, which is built first."""
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _variables_within_epoch(model: keras.Model) -> list[Any]:
    return [*model.metrics_variables, *(model.carried if isinstance(model, CarriesStates) else ())]
