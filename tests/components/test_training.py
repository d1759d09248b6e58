"""Schedules, and checkpoints of a model that they do not fit."""

import keras
import numpy as np
import pytest

from components.errors import InputError
from components.training import checkpoints, schedules


def rates(schedule, steps):
    return [float(schedule(step)) for step in range(steps + 1)]


def test_schedules():
    assert schedules.constant(0.5, 10, 10) == 0.5
    warm = rates(schedules.constant(1.0, 10, 10, warmup=0.1), 100)
    np.testing.assert_allclose(warm[:11], [*np.arange(1, 11) / 10, 1.0], rtol=1e-5)
    falling = rates(schedules.linear(1.0, 10, 10, final=0.2), 100)
    np.testing.assert_allclose([falling[0], falling[50], falling[100]], [1.0, 0.6, 0.2], rtol=1e-5)
    cosine = rates(schedules.cosine(2.0, 10, 10, warmup=0.2), 100)
    np.testing.assert_allclose([cosine[19], cosine[20], cosine[60], cosine[100]], [2, 2, 1, 0], atol=1e-6)
    decayed = rates(schedules.exponential(1.0, 10, 10, decay=0.9), 100)
    np.testing.assert_allclose([decayed[10], decayed[100]], [0.9, 0.9**10], rtol=1e-4)


def compiled(units=3):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dropout(0.5)])
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "mse")
    return model


def test_everything_comes_back(tmp_path):
    model = compiled()
    x, y = np.ones((8, 2)), np.ones((8, 3))
    model.fit(x, y, epochs=3, verbose=0)
    checkpoints.save(model, tmp_path, {"epochs": [1, 2]})
    after = model.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"]
    fresh = compiled()
    assert checkpoints.restore(fresh, tmp_path) == {"epochs": [1, 2]}
    assert fresh.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"] == after
    assert [path.name for path in tmp_path.iterdir()] == ["last.npz"]


def test_of_another_model(tmp_path):
    assert checkpoints.restore(compiled(), tmp_path) is None
    checkpoints.save(compiled(), tmp_path, {})
    with pytest.raises(InputError, match=r"last.npz: .*kernel is \(2, 3\) there, \(2, 4\) in this model"):
        checkpoints.restore(compiled(4), tmp_path)
    with pytest.raises(InputError, match=r"best.keras: cannot be loaded"):
        checkpoints.load_best(tmp_path)
