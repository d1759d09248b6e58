"""The lattice, the CRF and the MEMM compute the same on every Keras backend."""

import importlib.util
import json

import numpy as np
import pytest

from tests.components.backend_answers import answers
from tests.pipelines.runs import ROOT, python


@pytest.fixture(scope="module")
def expected():
    return answers()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_agrees_with_tensorflow(backend, expected):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    done = python(ROOT / "tests/components/backend_answers.py", cwd=ROOT, KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert results.keys() == expected.keys()
    for name in expected:
        for values, reference in zip(results[name], expected[name], strict=True):
            np.testing.assert_allclose(values, reference, rtol=1e-4, atol=1e-4, err_msg=name)
