"""Checkpoints: everything that training needs to go on as if it had never been stopped."""

import json
import os
import zipfile

import keras
import numpy as np

from trellis.components.errors import InputError
from trellis.components.files import atomic_write

LAST, BEST = "last.npz", "best.keras"


def save(model, folder, state):
    """Writes the model's and the optimizer's variables and `state` (JSON) to `folder/last.npz`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"v{index}": np.asarray(value) for index, value in enumerate(_variables(model))}
    with atomic_write(folder / LAST) as part, open(part, "wb") as file:
        np.savez(file, state=json.dumps(state), **arrays)
        file.flush()
        os.fsync(file.fileno())


def save_best(model, folder):
    """Writes the model as `folder/best.keras`, an ordinary Keras file, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / BEST) as part:
        model.save(part)


def restore(model, folder):
    """Puts the variables of `folder/last.npz` back and returns the state, or None if there is no checkpoint.

    Raises:
        InputError: the file is damaged, or was written by a model of other shapes.
    """
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        with np.load(path) as saved:
            state = json.loads(str(saved["state"]))
            arrays = [saved[f"v{index}"] for index in range(len(saved.files) - 1)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: damaged checkpoint ({error}); delete it to start this run again from the beginning"
        ) from None
    variables = _variables(model)
    if len(variables) != len(arrays):
        raise InputError(f"{path}: {len(arrays)} variables, but this model has {len(variables)}")
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise InputError(f"{path}: {variable.path} is {array.shape} there, {tuple(variable.shape)} in this model")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return state


def load_best(folder):
    """The model of `folder/best.keras`.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / BEST
    try:
        return keras.saving.load_model(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be loaded ({str(error).splitlines()[0]})") from None


def _variables(model):
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
