"""Forecasts at a fixed horizon: equal to forecasts from a context that was cut by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators

N_STEPS = 16
LEVELS = [0.1, 0.5, 0.9]


@pytest.fixture(scope="module")
def model():
    data = make_oscillators(n_oscillators=1, n_sequences=15, n_steps=30, random_state=0)
    model = MTLDSRegressor(n_states=2, latent_dim=2, random_state=0)
    return model.fit(data.X, data.y, groups=data.groups, times=data.times)


@pytest.fixture(scope="module")
def new():
    """Sequences that `fit` has not seen."""
    data = make_oscillators(n_oscillators=1, n_sequences=2, n_steps=N_STEPS, random_state=1)
    data.groups += 100
    return data


def predict(model, data, y_context, **options):
    rows = {"groups": data.groups, "times": data.times}
    return model.predict(data.X, y_context=y_context, **rows, **options)


def with_gaps(y, rng, share=0.4):
    return np.where(rng.random(y.shape) < share, np.nan, y)


@pytest.mark.parametrize("gaps", [False, True], ids=["complete", "missing values"])
@pytest.mark.parametrize("horizon", [1, 3])
def test_every_row_is_forecast_from_the_context_cut_before_it(model, new, rng, horizon, gaps):
    y = with_gaps(new.y, rng) if gaps else new.y
    options = {"return_std": True, "quantiles": LEVELS}
    mean, std, quantiles = predict(model, new, y, horizon=horizon, **options)
    for t in range(N_STEPS):
        cut = np.where(new.times <= t - horizon, y, np.nan)
        expected = predict(model, new, cut, **options)
        now = new.times == t
        scale = expected[1][now]
        assert np.all(np.abs(mean - expected[0])[now] < 0.1 * scale), t
        assert_allclose(std[now], scale, rtol=0.1, err_msg=str(t))
        error = np.abs(quantiles - expected[2])[now]
        assert np.all(error < 0.15 * scale[:, None]), t


def test_log_density_at_a_horizon_is_that_of_the_context_cut_before_the_row(model, new):
    rows = {"groups": new.groups, "times": new.times}
    density = model.forecast_log_density(new.X, new.y, y_context=new.y, horizon=2, **rows)
    for t in range(0, N_STEPS, 3):
        cut = np.where(new.times <= t - 2, new.y, np.nan)
        expected = model.forecast_log_density(new.X, new.y, y_context=cut, **rows)
        now = new.times == t
        assert_allclose(density[now], expected[now], atol=0.15, err_msg=str(t))


@pytest.mark.parametrize(("horizon", "t"), [(1, 0), (1, 9), (3, 2), (3, 12)])
def test_what_comes_later_never_changes_a_forecast(model, new, rng, horizon, t):
    options = {"horizon": horizon, "return_std": True, "quantiles": LEVELS}
    before = predict(model, new, new.y, **options)
    late = new.times > t - horizon
    changes = [
        rng.normal(scale=0.3, size=late.sum()),
        np.where(rng.random(late.sum()) < 0.5, np.nan, 0.5),
    ]
    for change in changes:
        y = new.y.copy()
        y[late] = change
        after = predict(model, new, y, **options)
        kept = new.times <= t
        for one, other in zip(before, after, strict=True):
            assert_array_equal(one[kept], other[kept])
        if t + 1 >= horizon:  # the change is seen as soon as it may be
            assert np.any(before[0][new.times == t + 1] != after[0][new.times == t + 1])


def test_one_sequence_does_not_change_the_forecasts_of_another(model, new, rng):
    y = new.y.copy()
    first = new.groups == new.groups[0]
    before = predict(model, new, y, horizon=1)
    y[first] = rng.normal(size=N_STEPS)
    after = predict(model, new, y, horizon=1)
    assert_allclose(after[~first], before[~first], rtol=1e-9, atol=1e-12)
    assert np.any(after[first] != before[first])


def test_rows_and_sequences_come_in_any_order(model, new, rng):
    order = rng.permutation(len(new.y))
    rows = {"groups": new.groups[order], "times": new.times[order]}
    shuffled = model.predict(new.X[order], y_context=new.y[order], horizon=2, **rows)
    assert_allclose(shuffled, predict(model, new, new.y, horizon=2)[order], rtol=1e-8, atol=1e-10)


def test_shapes(model, new):
    n = len(new.y)
    rows = {"groups": new.groups, "times": new.times}
    assert predict(model, new, new.y, horizon=2).shape == (n,)
    mean, std = predict(model, new, new.y, horizon=2, return_std=True)
    assert mean.shape == std.shape == (n,)
    mean, quantiles = predict(model, new, new.y, horizon=2, quantiles=LEVELS)
    assert (mean.shape, quantiles.shape) == ((n,), (n, len(LEVELS)))
    assert np.all(np.diff(quantiles, axis=1) > 0.0)
    targets = np.where(new.times % 5 == 0, np.nan, new.y)
    density = model.forecast_log_density(new.X, targets, y_context=new.y, horizon=2, **rows)
    assert density.shape == (n,)
    assert_array_equal(np.isnan(density), np.isnan(targets))


def test_context_that_ends_early(model, new):
    """After the last known row plus the horizon nothing is left to hide."""
    horizon, n_known = 3, 7
    y = np.where(new.times < n_known, new.y, np.nan)
    mean, std = predict(model, new, y, horizon=horizon, return_std=True)
    expected, scale = predict(model, new, y, return_std=True)
    rest = new.times >= n_known + horizon - 1
    assert np.all(np.abs(mean - expected)[rest] < 0.1 * scale[rest])
    assert_allclose(std[rest], scale[rest], rtol=0.1)
    complete = predict(model, new, new.y, horizon=horizon)
    assert_array_equal(mean[~rest], complete[~rest])


def test_a_horizon_beyond_the_end_leaves_the_prior(model, new):
    mean, std = predict(model, new, new.y, horizon=N_STEPS, return_std=True)
    expected, scale = predict(model, new, None, return_std=True)
    assert_allclose(mean, expected, rtol=1e-8, atol=1e-10)
    assert_allclose(std, scale, rtol=1e-8)


def test_a_nearer_horizon_knows_more(model, new):
    error = {
        h: np.mean((predict(model, new, new.y, horizon=h) - new.y) ** 2) for h in (1, 8, N_STEPS)
    }
    assert error[1] < error[8] < error[N_STEPS]
