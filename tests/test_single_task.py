import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from mtds_sklearn import PooledLDS, SingleTaskLDS
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.model_selection import mask_future

N_SEQUENCES, N_STEPS = 12, 30
N_KNOWN = 15
FEW = 3


@pytest.fixture(scope="module")
def data():
    return make_oscillators(N_SEQUENCES, N_STEPS, n_oscillators=1, random_state=0)


@pytest.fixture(scope="module")
def few(data):
    return {name: data[name][: FEW * N_STEPS] for name in ("X", "y", "groups", "times", "mean")}


def fit(data, y=None, **options):
    model = SingleTaskLDS(**({"n_states": 2} | options))
    y = data["y"] if y is None else y
    return model.fit(data["X"], y, groups=data["groups"], times=data["times"])


@pytest.fixture(scope="module")
def fitted(data):
    return fit(data)


def predict(model, data, shift=0, **options):
    groups = data["groups"] + shift
    return model.predict(data["X"], groups=groups, times=data["times"], **options)


def test_fitted_attributes(fitted):
    assert_array_equal(fitted.n_states_, np.full(N_SEQUENCES, 2))
    assert fitted.noise_std_.shape == (N_SEQUENCES, 1)
    assert fitted.n_iter_.shape == (N_SEQUENCES,)
    assert fitted.n_iter_.dtype.kind == "i"
    assert fitted.converged_.shape == (N_SEQUENCES,)
    assert fitted.converged_.all()
    assert_array_equal(fitted.labels_, np.arange(N_SEQUENCES))
    assert (fitted.n_outputs_, fitted.n_features_in_) == (1, 1)


def test_results_are_in_the_units_of_y(few):
    model, scaled = fit(few), fit(few, 1000.0 * few["y"] - 5000.0)
    assert_allclose(scaled.noise_std_, 1000.0 * model.noise_std_, rtol=1e-3)
    mean, std = predict(scaled, few, return_std=True)
    expected_mean, expected_std = predict(model, few, return_std=True)
    assert_allclose(mean, 1000.0 * expected_mean - 5000.0, atol=1.0)
    assert_allclose(std, 1000.0 * expected_std, atol=1.0)
    assert_allclose(model.noise_std_.mean(), 0.05, rtol=0.3)


def test_seen_sequences_are_forecast_by_what_fit_learned(fitted, data):
    mean = predict(fitted, data)
    assert np.sqrt(np.mean((mean - data.mean) ** 2)) < data.noise_std
    rows = data.groups == 5
    alone = fitted.predict(data.X[rows], groups=data.groups[rows])
    assert_allclose(alone, mean[rows], atol=1e-10)


def test_sequences_share_nothing(few):
    """The values of one sequence do not touch the fits of the others."""
    model = fit(few)
    # Permuted, the values keep their mean and scale, which alone are shared.
    y = np.where(few["groups"] == 1, few["y"][::-1], few["y"])
    y[few["groups"] == 1] = np.random.default_rng(0).permutation(few["y"][few["groups"] == 1])
    other = fit(few, y)
    rest = few["groups"] != 1
    assert_allclose(predict(other, few)[rest], predict(model, few)[rest], atol=1e-4)
    assert np.abs(predict(other, few) - predict(model, few))[~rest].max() > 0.1


def test_a_context_is_learned_anew(fitted, data):
    context = mask_future(data.y, data.groups, data.times, N_KNOWN)
    seen = predict(fitted, data, y_context=context)
    assert_allclose(predict(fitted, data, 100, y_context=context), seen, atol=1e-8)
    assert np.abs(seen - predict(fitted, data)).max() > 0.01
    options = {"groups": data.groups, "times": data.times, "y_context": context}
    assert fitted.score(data.X, data.y, **options) > 0.9


def test_a_short_context_leaves_more_uncertain(fitted, data):
    stds = [
        predict(
            fitted,
            data,
            100,
            return_std=True,
            y_context=mask_future(data.y, data.groups, data.times, n_known),
        )[1][data.times >= 20].mean()
        for n_known in (5, 20)
    ]
    assert stds[1] < 0.7 * stds[0]


def test_unknown_sequences_are_forecast_by_the_pooled_system(few):
    model = fit(few)
    pooled = PooledLDS(2, initial_state="shared")
    pooled.fit(few["X"], few["y"], groups=few["groups"], times=few["times"])
    actual = predict(model, few, 100, return_std=True)
    for values, expected in zip(actual, predict(pooled, few, return_std=True), strict=True):
        assert_allclose(values, expected, atol=1e-6)


def test_unknown_sequences_may_be_refused(few):
    model = fit(few, unseen="raise")
    message = "sequence 101 was not among the 3 sequences of fit and has no value in y_context"
    groups = np.where(few["groups"] == 1, 101, few["groups"])
    with pytest.raises(ValueError, match=f"SingleTaskLDS: {message}"):
        model.predict(few["X"], groups=groups)
    known = model.predict(few["X"], groups=groups, y_context=few["y"])
    assert_allclose(known, few["mean"], atol=0.3)
    assert predict(model, few).shape == (FEW * N_STEPS,)


def test_no_forecast_at_a_horizon(fitted, data):
    with pytest.raises(ValueError, match=r"SingleTaskLDS.predict cannot .* got horizon=2"):
        predict(fitted, data, y_context=data.y, horizon=2)
    # Where nothing is known, there is nothing to learn anew.
    assert_allclose(predict(fitted, data, horizon=2), predict(fitted, data), atol=1e-12)


def test_the_initial_state(few):
    model = fit(few, initial_state="zero")
    assert_allclose(np.diff(predict(model, few)[:N_STEPS]), 0.0, atol=1e-8)


def test_the_cayley_chart_fits_as_well(few):
    context = np.where(few["times"] < N_KNOWN, few["y"], np.nan)
    options = {"groups": few["groups"], "times": few["times"], "y_context": context}
    modal, cayley = (
        fit(few, transition=transition).score(few["X"], few["y"], **options)
        for transition in ("modal", "cayley")
    )
    assert modal > 0.9
    assert cayley == pytest.approx(modal, abs=0.02)


def test_jobs_do_not_change_the_numbers(few):
    one, two = fit(few, n_jobs=1), fit(few, n_jobs=2)
    assert_allclose(two.noise_std_, one.noise_std_, rtol=1e-5)
    context = np.where(few["times"] < N_KNOWN, few["y"], np.nan)
    forecasts = [predict(model, few, y_context=context) for model in (one, two)]
    assert_allclose(*forecasts, atol=1e-5)


def test_nothing_is_random(few):
    first, second = (fit(few, random_state=seed) for seed in (0, 1))
    assert_allclose(second.noise_std_, first.noise_std_, rtol=1e-5)
    assert_allclose(predict(second, few), predict(first, few), atol=1e-5)


def test_the_likelihood_is_that_of_each_sequence_on_its_own(few):
    model = fit(few)
    options = {"groups": few["groups"], "times": few["times"]}
    values = model.sequence_log_likelihood(few["X"], few["y"], **options)
    assert values.shape == (FEW,)
    scaled = fit(few, 10.0 * few["y"])
    actual = scaled.sequence_log_likelihood(few["X"], 10.0 * few["y"], **options)
    assert_allclose(actual, values - N_STEPS * np.log(10.0), atol=0.05)


def test_a_fit_that_is_cut_short_warns(few):
    message = "SingleTaskLDS did not converge in max_iter=1 iterations for . of 3 sequences"
    with pytest.warns(ConvergenceWarning, match=message):
        model = fit(few, max_iter=1)
    assert not model.converged_.all()
    assert model.n_iter_.max() == 1
