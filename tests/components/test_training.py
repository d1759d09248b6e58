"""Schedules, checkpoints of a model that they do not fit, and the optimizer of our own."""

import keras
import numpy as np
import pytest
import scipy.optimize

from trellis.components.errors import InputError
from trellis.components.training import checkpoints, schedules
from trellis.components.training.lbfgs import LBFGS
from trellis.pipelines import training


def rates(schedule, steps):
    return [float(schedule(step)) for step in range(steps + 1)]


def test_schedules_follow_their_curves():
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
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "mse", jit_compile=False)
    return model


def test_a_restored_run_continues_exactly(tmp_path):
    model = compiled()
    x, y = np.ones((8, 2)), np.ones((8, 3))
    model.fit(x, y, epochs=3, verbose=0)
    checkpoints.save(model, tmp_path, {"epochs": [1, 2]})
    after = model.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"]
    fresh = compiled()
    assert checkpoints.restore(fresh, tmp_path) == {"epochs": [1, 2]}
    assert fresh.fit(x, y, epochs=2, verbose=0, shuffle=False).history["loss"] == after
    assert [path.name for path in tmp_path.iterdir()] == ["last.npz"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    assert checkpoints.restore(compiled(), tmp_path) is None
    checkpoints.save(compiled(), tmp_path, {})
    with pytest.raises(InputError, match=r"last.npz: .*kernel is \(2, 3\) there, \(2, 4\) in this model"):
        checkpoints.restore(compiled(4), tmp_path)
    with pytest.raises(InputError, match=r"best.keras: cannot be loaded"):
        checkpoints.load_best(tmp_path)


@pytest.mark.slow
def test_lbfgs_finds_the_optimum():
    """Softmax regression in batches of one epoch, beside SciPy on the whole."""
    rng = np.random.default_rng(4)
    inputs, wide = rng.normal(size=(60, 5)).astype("float32"), np.array([1, 5, 1, 0.3, 3], "float32")
    labels = rng.integers(0, 3, 60)
    inputs *= wide  # so that steepest descent would take many more steps

    def penalized(weights):
        kernel, bias = weights[:15].reshape(5, 3), weights[15:]
        scores = inputs @ kernel + bias
        top = scores.max(axis=1, keepdims=True)
        logs = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        return -logs[np.arange(60), labels].mean() + 0.01 * (kernel**2).sum()

    exact = scipy.optimize.minimize(penalized, np.zeros(18), method="L-BFGS-B", options={"maxiter": 500})
    penalty = keras.regularizers.L2(0.01)
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(3, kernel_initializer="zeros", kernel_regularizer=penalty)]
    )
    model.compile(LBFGS(steps=3), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(inputs, labels, batch_size=20, epochs=60, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] == pytest.approx(exact.fun, abs=1e-5)
    assert min(losses) > exact.fun - 1e-5 and losses[10] < losses[0]
    again = keras.optimizers.get(keras.optimizers.serialize(model.optimizer))
    assert (again.steps, again.memory) == (3, 6)


def test_lbfgs_refuses_clipping_and_averaging():
    for options, key in (({"global_clipnorm": 5.0}, "trainer.clip_norm=null"), ({"use_ema": True}, "trainer.average")):
        with pytest.raises(ValueError, match=key):
            LBFGS(steps=1, **options)


def damaged(folder, **changes):
    """A checkpoint of a small model with some of its arrays replaced; the model."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    checkpoints.save(model, folder, {"epochs": [], "best": None})
    with np.load(folder / checkpoints.LAST) as saved:
        arrays = dict(saved)
    np.savez(folder / checkpoints.LAST, **(arrays | changes))
    return model


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"state": "[]"}, "its state is no object"),
        ({"state": "{"}, "damaged checkpoint"),
        ({"v0": np.array([["a"], ["b"]])}, "not all of its arrays are numbers"),
        ({"v0": np.array([[np.nan], [1.0]])}, "NaN or infinite values"),
        ({"v0": np.zeros((3, 1))}, r"is \(3, 1\) there"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, changes, complaint):
    model = damaged(tmp_path, **changes)
    with pytest.raises(InputError, match=complaint) as raised:
        checkpoints.restore(model, tmp_path)
    assert "last.npz" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "state",
    [
        {"epoch": []},
        {"epochs": [{}]},
        {"epochs": 3},
        {"epochs": ["x"]},
        {"waited": "x"},
        {"part": 3},
        {"part": {"steps": 10, "seconds": 1.0}},
        {"part": {"steps": "x", "seconds": 1.0}},
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, state):
    with pytest.raises(InputError, match=r"last.npz: damaged checkpoint"):
        training._progress(state, 10, tmp_path / "last.npz")


def test_the_best_weights_are_checked(tmp_path):
    model = damaged(tmp_path)
    with pytest.raises(InputError, match=r"best.keras: cannot be loaded"):
        checkpoints.load_best_weights(model, tmp_path)
    model.layers[0].bias.assign([np.nan])
    checkpoints.save_best(model, tmp_path)
    with pytest.raises(InputError, match="has NaN values"):
        checkpoints.load_best_weights(model, tmp_path)
    (tmp_path / "best.keras").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(InputError, match=r"best.keras: cannot be loaded"):
        checkpoints.load_best_weights(model, tmp_path)
