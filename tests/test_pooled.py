import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from toy_lds import make_toy

from mtds_sklearn import PooledLDS
from mtds_sklearn.datasets import make_oscillators

N_SEQUENCES, N_STEPS = 12, 30


@pytest.fixture(scope="module")
def data():
    return make_oscillators(N_SEQUENCES, N_STEPS, n_oscillators=1, random_state=0)


@pytest.fixture(scope="module")
def same(data):
    """The first sequence twelve times, each with noise of its own: nothing differs."""
    mean = np.tile(data.mean[:N_STEPS], N_SEQUENCES)
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(mean))
    return data | {"mean": mean, "y": mean + noise}


def fit(data, y=None, **options):
    model = PooledLDS(**({"n_states": 2} | options))
    y = data["y"] if y is None else y
    return model.fit(data["X"], y, groups=data["groups"], times=data["times"])


def predict(model, data, **options):
    return model.predict(data["X"], groups=data["groups"], times=data["times"], **options)


def test_fitted_attributes(data):
    model = fit(data)
    assert model.n_states_ == 2
    assert model.noise_std_.shape == (1,)
    assert model.lower_bounds_.shape == (model.n_iter_,)
    assert model.converged_ is True
    assert np.isfinite(model.evidence_)
    assert_array_equal(model.labels_, np.arange(N_SEQUENCES))
    assert (model.n_outputs_, model.n_features_in_) == (1, 1)


def test_the_noise_is_what_the_system_does_not_explain(data):
    model = fit(data)
    residual = np.sqrt(np.mean((data.y - predict(model, data)) ** 2))
    assert model.noise_std_[0] == pytest.approx(residual, rel=0.05)
    assert model.noise_std_[0] > 4.0 * data.noise_std  # sequences differ, which is noise to it


def test_results_are_in_the_units_of_y(data):
    model = fit(data)
    scaled = fit(data, 1000.0 * data.y - 5000.0)
    assert_allclose(scaled.noise_std_, 1000.0 * model.noise_std_, rtol=1e-4)
    mean, std, quantiles = predict(scaled, data, return_std=True, quantiles=[0.2, 0.5])
    expected = predict(model, data, return_std=True, quantiles=[0.2, 0.5])
    assert_allclose(mean, 1000.0 * expected[0] - 5000.0, atol=0.5)
    assert_allclose(std, 1000.0 * expected[1], atol=0.5)
    assert_allclose(quantiles, 1000.0 * expected[2] - 5000.0, atol=0.5)


def test_sequences_that_do_not_differ_are_learned_to_the_noise(same):
    model = fit(same)
    assert model.noise_std_[0] == pytest.approx(0.05, rel=0.15)
    mean, std = predict(model, same, return_std=True)
    assert_allclose(mean, same["mean"], atol=0.05)
    assert_allclose(std, 0.05, rtol=0.25)


def test_all_sequences_get_the_same_forecast_whatever_is_known(data):
    model = fit(data)
    blind = predict(model, data)
    for values in blind.reshape(N_SEQUENCES, N_STEPS):
        assert_allclose(values, blind[:N_STEPS], atol=1e-12)
    assert_allclose(predict(model, data, y_context=data.y), blind, atol=1e-12)
    assert_allclose(predict(model, data, y_context=data.y, horizon=1), blind, atol=1e-12)
    assert_allclose(predict(model, data, horizon=3), blind, atol=1e-12)
    strangers = model.predict(data.X, groups=data.groups + 100, times=data.times)
    assert_allclose(strangers, blind, atol=1e-12)


def test_likelihood_is_near_the_sum_of_the_densities(same):
    """One theta is known so well that forecasts are independent."""
    model = fit(same)
    options = {"groups": same["groups"], "times": same["times"]}
    likelihood = model.sequence_log_likelihood(same["X"], same["y"], **options)
    density = model.forecast_log_density(same["X"], same["y"], **options)
    expected = density.reshape(N_SEQUENCES, N_STEPS).sum(axis=1)
    assert_allclose(likelihood, expected, atol=2.0)
    assert likelihood.sum() == pytest.approx(expected.sum(), abs=6.0)


def test_the_initial_state(data):
    assert np.ptp(predict(fit(data), data)) > 0.5
    # Without a state to start from and without inputs nothing moves.
    assert np.ptp(predict(fit(data, initial_state="zero"), data)) == pytest.approx(0.0, abs=1e-8)


def test_the_cayley_chart_fits_as_well(same):
    modal, cayley = fit(same), fit(same, transition="cayley")
    assert cayley.n_states_ == 2
    options = {"groups": same["groups"], "times": same["times"]}
    expected = modal.score(same["X"], same["y"], **options)
    assert expected > 0.9
    assert cayley.score(same["X"], same["y"], **options) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("n_states", [1, 2, 3, 4])
def test_a_generous_limit_finds_no_more_states(n_states):
    X, y, groups, times = make_toy(8, 10)
    model = PooledLDS(n_states).fit(X, y, groups=groups, times=times)
    assert model.n_states_ == 1
    expected = PooledLDS(1).fit(X, y, groups=groups, times=times)
    assert_allclose(model.predict(X, groups=groups), expected.predict(X, groups=groups), atol=1e-4)


def test_nothing_is_random(data):
    first, second = (fit(data, random_state=seed) for seed in (0, 1))
    assert_allclose(second.evidence_, first.evidence_, rtol=1e-5)
    assert_allclose(predict(second, data), predict(first, data), atol=1e-5)


def test_a_fit_that_is_cut_short_warns(data):
    with pytest.warns(ConvergenceWarning, match="PooledLDS did not converge in max_iter=1 "):
        model = fit(data, max_iter=1)
    assert not model.converged_
    assert model.n_iter_ == 1


def test_one_sequence_is_welcome(data):
    first = data.groups == 0
    model = PooledLDS(2).fit(data.X[first], data.y[first])
    assert model.score(data.X[first], data.y[first]) > 0.9
