"""The lattice, the CRF and the MEMM compute the same on every Keras backend."""

import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.components import backend_answers
from tests.components.crfs_in_threads import require_losses_of_models_trained_alone
from tests.pipelines.runs import ROOT, python


@pytest.fixture(scope="module")
def expected():
    # Every other test of the lattice runs its graphs; here each would be traced for one answer.
    tf.config.run_functions_eagerly(True)
    try:
        lattices = backend_answers.of_lattices()
    finally:
        tf.config.run_functions_eagerly(False)
    return lattices | backend_answers.of_heads()


@pytest.fixture(scope="module", params=["jax", "torch"])
def answers(request):
    """What another backend answers."""
    if not importlib.util.find_spec(request.param):
        pytest.skip(f"{request.param} is not installed")
    done = python("-m", "tests.components.backend_answers", cwd=ROOT, KERAS_BACKEND=request.param)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_backend_agrees_with_tensorflow(answers, expected):
    results = answers["functions"]
    assert results.keys() == expected.keys()
    for name in expected:
        for values, reference in zip(results[name], expected[name], strict=True):
            np.testing.assert_allclose(values, reference, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_models_in_threads_and_with_two_outputs_on_other_backends(answers):
    require_losses_of_models_trained_alone(answers["threads"])
