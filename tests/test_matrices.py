"""`MTLDSRegressor.systems`: matrices that simulate, in the units of the data, what was learned."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn._scaling import Scaling
from mtds_sklearn.datasets import make_stores
from mtds_sklearn.estimators._fitting import Units, systems_in_units
from mtds_sklearn.model._lds import LDS


@pytest.fixture(scope="module")
def stores():
    return make_stores(n_sequences=12, n_steps=30, random_state=0)


@pytest.fixture(scope="module")
def model(stores):
    """A second output, and an input that never moves."""
    X = np.column_stack([1000.0 * stores.X, np.zeros(len(stores.X))])
    y = np.column_stack([stores.y, 7.0 - 0.01 * stores.y])
    model = MTLDSRegressor(2, 2, disturbance="none", n_init=1, max_iter=5, tol=1e9, random_state=0)
    model.set_params(specific_variances=False)
    return model.fit(X, y, groups=stores.groups, times=stores.times)


def simulate(lds: LDS, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Outputs (n_rows, n_outputs) that one system predicts, a row at a time."""
    state, predicted = lds.x0, []
    for u, y in zip(inputs, outputs, strict=True):
        x = state + lds.B @ u
        predicted.append(lds.C @ x + lds.D @ u + lds.offset)
        state = lds.A @ (x + lds.K @ (y - predicted[-1]))
    return np.array(predicted)


def system(systems: LDS, i: int) -> LDS:
    return LDS(*(part[i] for part in systems))


def test_matrices_simulate_what_the_family_does(model, stores, rng):
    X = np.column_stack([1000.0 * stores.X, rng.standard_normal(len(stores.X))])[:30]
    z = np.vstack([model.posterior_mean_[:2], [[0.5, -1.0]]])
    expected, _ = model.sample_sequences(X, z=z)
    systems = model.systems(z)
    for i in range(3):
        actual = simulate(system(systems, i), X, np.zeros((30, 2)))
        assert_allclose(actual, expected[i], rtol=1e-8)
    assert np.all(systems.K == 0.0)


def test_training_sequences_are_the_default(model):
    for found, expected in zip(model.systems(), model.systems(model.posterior_mean_), strict=True):
        assert len(found) == len(model.labels_) == 12
        assert_array_equal(found, expected)


def test_innovations_have_the_units_of_outputs(rng):
    """A system fed with standardised rows predicts what it predicts in their units."""
    standard = LDS(
        np.diag([0.9, 0.5])[None], *(rng.standard_normal((1, *shape)) for shape in
        [(2, 2), (3, 2), (3, 2), (3,), (2,)]), 0.1 * rng.standard_normal((1, 2, 3)),
    )  # fmt: skip
    scaling = Scaling(np.array([3.0, 1.0, 0.2]), rng.standard_normal(3), np.array([2.0, 0.1, 30.0]))
    units = Units(scaling, np.array([True, False, True]))
    inputs, outputs = rng.standard_normal((8, 3)), rng.standard_normal((8, 3))
    actual = simulate(system(systems_in_units(standard, units), 0), inputs, outputs)
    scaled = (inputs / scaling.input_scale)[:, units.used]
    fed = (outputs - scaling.output_mean) / scaling.output_scale
    expected = simulate(system(standard, 0), scaled, fed)
    assert_allclose(actual, expected * scaling.output_scale + scaling.output_mean, rtol=1e-9)


@pytest.mark.parametrize("z", [[0.0, 0.0], np.zeros((3, 3)), [[0.0, np.nan]]])
def test_latents_that_are_none_are_refused(model, z):
    with pytest.raises(ValueError, match=r"MTLDSRegressor.systems: z (needs shape|must be finite)"):
        model.systems(z)
