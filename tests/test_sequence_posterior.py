"""`SequencePosterior`: rows that arrive one by one agree with rows that came all at once."""

import pickle
import re
from copy import deepcopy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators import _sequence_posterior
from mtds_sklearn.inference import _online

N_STEPS, N_KNOWN = 20, 8


@pytest.fixture(scope="module")
def data():
    return make_oscillators(n_oscillators=1, n_sequences=15, n_steps=30, random_state=0)


@pytest.fixture(scope="module")
def model(data):
    model = MTLDSRegressor(n_states=2, latent_dim=2, random_state=0)
    return model.fit(data.X, data.y, groups=data.groups, times=data.times)


@pytest.fixture(scope="module")
def two_outputs(data):
    y = np.column_stack([data.y, 3.0 - 2.0 * data.y])
    model = MTLDSRegressor(n_states=2, latent_dim=2, n_init=1, max_iter=10, tol=1e9, random_state=0)
    return model.fit(data.X, y, groups=data.groups, times=data.times)


@pytest.fixture(scope="module")
def new():
    return make_oscillators(n_oscillators=1, n_sequences=1, n_steps=N_STEPS, random_state=1)


def pushed_sequences(rng, n_sequences, n_steps):
    """Levels of their own, around which sequences are pushed about."""
    values = rng.normal(scale=2.0, size=(n_sequences, 1)) + 0.1 * rng.normal(
        size=(n_sequences, n_steps)
    )
    pushed = np.zeros(n_sequences)
    for t in range(n_steps):
        values[:, t] += pushed
        pushed = 0.9 * pushed + 0.3 * rng.normal(size=n_sequences)
    return values


@pytest.fixture(scope="module")
def disturbed():
    y = pushed_sequences(np.random.default_rng(0), 12, 25)
    model = MTLDSRegressor(1, 1, disturbance="innovations", n_init=1, random_state=0)
    model.fit(np.zeros((300, 1)), y.ravel(), groups=np.repeat(np.arange(12), 25))
    assert model.disturbance_ != "none"
    return model


def batch(model, X, y, label="new"):
    return model.sequence_posterior(X, y, groups=[label] * len(X))[label]


@pytest.fixture
def posterior(model, new):
    return batch(model, new.X[:N_KNOWN], new.y[:N_KNOWN])


@pytest.fixture
def no_refresh(monkeypatch):
    """Carry the draws along, however uneven their weights become."""
    monkeypatch.setattr(_online, "REFRESH_SHARE", 0.0)


def never(*args, **kwargs):
    raise AssertionError("the rows so far were replayed")


def assert_close(one, other):
    """Two Monte-Carlo estimates of the same posterior."""
    std = np.sqrt(np.diag(other.cov))
    assert np.all(np.abs(one.mean - other.mean) < 0.01 * std)
    assert_allclose(one.cov / np.outer(std, std), other.cov / np.outer(std, std), atol=0.02)
    assert abs(one.log_evidence - other.log_evidence) < 0.1
    assert (one.n_rows, one.n_observed) == (other.n_rows, other.n_observed)


def assert_same(one, other, rtol=1e-9):
    assert_allclose(one.mean, other.mean, rtol=rtol, atol=1e-12)
    assert_allclose(one.cov, other.cov, rtol=rtol, atol=1e-12)
    assert_allclose(one.log_evidence, other.log_evidence, rtol=rtol)
    assert_allclose(one.ess, other.ess, rtol=rtol)


# ------------------------------------------------------------------------------------ updates


@pytest.mark.parametrize("share", [0.0, 0.4], ids=["complete", "missing values"])
def test_row_by_row_agrees_with_all_rows_at_once(model, new, rng, share):
    y = np.where(rng.random(N_STEPS) < share, np.nan, new.y)
    online = batch(model, new.X[:1], y[:1])
    for t in range(1, N_STEPS):
        online = online.update(new.X[t], y[t])
        assert_close(online, batch(model, new.X[: t + 1], y[: t + 1]))


def test_one_update_with_many_rows_agrees_with_all_rows_at_once(model, new):
    online = batch(model, new.X[:2], new.y[:2]).update(new.X[2:], new.y[2:])
    assert_close(online, batch(model, new.X, new.y))


def test_several_rows_at_once_equal_one_by_one(model, posterior, new, no_refresh):
    rest = slice(N_KNOWN, N_KNOWN + 5)
    together = posterior.update(new.X[rest], new.y[rest])
    single = posterior
    for u, y in zip(new.X[rest], new.y[rest], strict=True):
        single = single.update(u, y)
    assert_same(single, together)
    assert_allclose(single.predict(new.X), together.predict(new.X), rtol=1e-9)


def test_an_update_does_not_replay_what_came_before(posterior, new, no_refresh, monkeypatch):
    monkeypatch.setattr(_online, "infer", never)
    online = posterior.update(new.X[N_KNOWN:12], new.y[N_KNOWN:12])
    assert online.n_rows == 12


def test_uneven_weights_are_replaced(posterior, new, monkeypatch):
    n_draws = len(posterior._online.z)
    assert posterior.update(new.X[N_KNOWN], 10.0).ess >= _online.REFRESH_SHARE * n_draws
    monkeypatch.setattr(_online, "infer", never)
    with pytest.raises(AssertionError, match="replayed"):
        posterior.update(new.X[N_KNOWN], 10.0)


def test_the_evidence_is_the_sum_of_the_forecast_densities(model, posterior, new):
    """log p(y_1..t+1) - log p(y_1..t) is the log density of row t + 1 given those before."""
    after = posterior.update(new.X[N_KNOWN], new.y[N_KNOWN])
    context = np.where(np.arange(N_STEPS) < N_KNOWN, new.y, np.nan)
    density = model.forecast_log_density(new.X, new.y, groups=["new"] * N_STEPS, y_context=context)[
        N_KNOWN
    ]
    assert_allclose(after.log_evidence - posterior.log_evidence, density, atol=0.02)


def test_evidence_is_the_sequence_log_likelihood(model, posterior, new):
    expected = model.sequence_log_likelihood(
        new.X[:N_KNOWN], new.y[:N_KNOWN], groups=["new"] * N_KNOWN
    )
    assert_allclose(posterior.log_evidence, expected[0], rtol=1e-8)


def flat(parts):
    """The arrays and numbers in nested tuples."""
    if isinstance(parts, tuple):
        return [leaf for part in parts for leaf in flat(part)]
    return [parts]


def test_the_receiver_does_not_change(posterior, new):
    before = deepcopy(posterior._online)
    facts = (posterior.n_rows, posterior.n_observed, posterior.log_evidence, repr(posterior))
    posterior.update(new.X[N_KNOWN:], new.y[N_KNOWN:])
    posterior.predict(new.X)
    posterior.sample(new.X, 3, random_state=0)
    for old, part in zip(flat(before), flat(posterior._online), strict=True):
        assert_array_equal(part, old)
    assert facts == (
        posterior.n_rows, posterior.n_observed, posterior.log_evidence, repr(posterior),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["label", "mean", "_online", "extra"])
def test_attributes_cannot_be_set(posterior, name):
    with pytest.raises(AttributeError, match=f"immutable; cannot set '{name}'"):
        setattr(posterior, name, 1.0)


def test_moments_are_worked_out_once_and_only_if_asked_for(posterior, new, monkeypatch):
    calls, whole = [], _sequence_posterior.accurate_moments

    def counted(*args):
        calls.append(1)
        return whole(*args)

    monkeypatch.setattr(_sequence_posterior, "accurate_moments", counted)
    online = posterior.update(new.X[N_KNOWN], new.y[N_KNOWN])
    online.predict(new.X)
    assert not calls
    mean = online.mean
    assert_array_equal(pickle.loads(pickle.dumps(online)).mean, mean)
    mean[:] = 7.0  # a copy
    assert np.all(online.mean < 7.0)
    assert np.all(np.diag(online.cov) > 0.0)
    assert len(calls) == 1


# -------------------------------------------------------------------------------- missing rows


@pytest.mark.parametrize("hidden", [[8, 9], [3, 9], [2, 3]], ids=["last", "some", "early"])
def test_what_a_gap_leaves_uncertain_is_in_the_forecasts_after_it(disturbed, rng, hidden):
    """As in one forecast of all rows, whether rows came at once or one by one."""
    X, y = np.zeros((14, 1)), pushed_sequences(rng, 1, 14)[0]
    y[hidden] = np.nan
    online = batch(disturbed, X[:2], y[:2])
    for u, value in zip(X[2:10], y[2:10], strict=True):
        online = online.update(u, value)
    known = np.where(np.arange(14) < 10, y, np.nan)
    rows = {"groups": ["new"] * 14, "y_context": known, "return_std": True, "quantiles": [0.1, 0.9]}
    expected = [part[10:] for part in disturbed.predict(X, **rows)]
    mean, std, quantiles = online.predict(X[10:], return_std=True, quantiles=[0.1, 0.9])
    assert np.all(np.abs(mean - expected[0]) < 0.02 * std)
    assert_allclose(std, expected[1], rtol=1e-3)
    assert np.all(np.abs(quantiles - expected[2]) < 0.02 * std[:, None])
    density = disturbed.forecast_log_density(X, y, groups=["new"] * 14, y_context=known)
    assert_allclose(online.log_density(X[10:], y[10:]), density[10:], atol=0.02)
    spread = online.sample(X[10:], 4000, random_state=0).std(axis=1)
    assert_allclose(spread, expected[1], rtol=0.06)


@pytest.mark.parametrize("n_hidden", [1, 12])
def test_a_stretch_without_observations_changes_nothing(model, posterior, new, n_hidden):
    hidden = np.full(n_hidden, np.nan)
    online = posterior.update(np.zeros((n_hidden, 1)), hidden)
    assert_same(online, posterior)
    assert (online.n_rows, online.n_observed) == (N_KNOWN + n_hidden, N_KNOWN)
    X = np.vstack([new.X[:N_KNOWN], np.zeros((n_hidden, 1))])
    together = batch(model, X, np.concatenate([new.y[:N_KNOWN], hidden]))
    assert_same(together, posterior)
    assert_allclose(together.predict(new.X), online.predict(new.X), rtol=1e-8, atol=1e-10)


def test_hidden_rows_move_the_forecast_on(posterior):
    ahead = posterior.predict(np.zeros((9, 1)))
    online = posterior.update(np.zeros((4, 1)), np.full(4, np.nan))
    assert_allclose(online.predict(np.zeros((5, 1))), ahead[4:], rtol=1e-8, atol=1e-10)


def test_nothing_observed_is_the_prior(model):
    nothing = batch(model, np.zeros((3, 1)), np.full(3, np.nan))
    assert (nothing.n_rows, nothing.n_observed) == (3, 0)
    assert_allclose(nothing.log_evidence, 0.0, atol=0.02)
    _, z = model.sample_sequences(np.zeros((1, 1)), 20_000, random_state=0)
    assert_allclose(nothing.mean, z.mean(axis=0), atol=0.05)
    assert_allclose(nothing.cov, np.cov(z.T), atol=0.1)


# ------------------------------------------------------------------------ forecasts and samples


def test_forecasts_equal_those_of_the_model(model, posterior, new):
    context = np.where(np.arange(N_STEPS) < N_KNOWN, new.y, np.nan)
    options = {"return_std": True, "quantiles": [0.1, 0.5, 0.9]}
    expected = model.predict(new.X, groups=["new"] * N_STEPS, y_context=context, **options)
    parts = posterior.predict(new.X[N_KNOWN:], **options)
    for part, whole in zip(parts, expected, strict=True):
        assert part.shape == whole[N_KNOWN:].shape
        assert_allclose(part, whole[N_KNOWN:], rtol=1e-6, atol=1e-8)


def test_forecasts_after_updates_agree_with_those_of_the_model(model, posterior, new):
    online = posterior
    for t in range(N_KNOWN, 14):
        online = online.update(new.X[t], new.y[t])
    context = np.where(np.arange(N_STEPS) < 14, new.y, np.nan)
    mean, std = model.predict(new.X, groups=["new"] * N_STEPS, y_context=context, return_std=True)
    assert np.all(np.abs(online.predict(new.X[14:]) - mean[14:]) < 0.1 * std[14:])


def test_log_densities_are_those_of_the_model(model, posterior, new):
    context = np.where(np.arange(N_STEPS) < N_KNOWN, new.y, np.nan)
    targets = new.y.copy()
    targets[N_KNOWN + 2] = np.nan
    expected = model.forecast_log_density(
        new.X, targets, groups=["new"] * N_STEPS, y_context=context
    )[N_KNOWN:]
    found = posterior.log_density(new.X[N_KNOWN:], targets[N_KNOWN:])
    assert np.isnan(found[2])
    assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_the_density_of_the_next_row_is_what_it_adds_to_the_evidence(posterior, new):
    online = posterior
    for t in range(N_KNOWN, N_KNOWN + 4):
        density = online.log_density(new.X[t : t + 1], new.y[t : t + 1])
        after = online.update(new.X[t], new.y[t])
        assert_allclose(density[0], after.log_evidence - online.log_evidence, atol=0.02)
        online = after


def test_log_densities_do_not_see_the_rows_before_them(posterior, new):
    rest, far = new.y[N_KNOWN:].copy(), new.y[N_KNOWN:].copy()
    far[:5] += 3.0
    found, other = (posterior.log_density(new.X[N_KNOWN:], y) for y in (rest, far))
    assert_array_equal(found[5:], other[5:])
    assert np.all(other[:5] < found[:5])


def test_what_predict_returns(posterior):
    U = np.zeros((5, 1))
    assert posterior.predict(U).shape == (5,)
    mean, std = posterior.predict(U, return_std=True)
    assert mean.shape == std.shape == (5,)
    mean, quantiles = posterior.predict(U, quantiles=[0.2, 0.8])
    assert quantiles.shape == (5, 2)
    assert np.all((quantiles[:, 0] < mean) & (mean < quantiles[:, 1]))


def test_samples_have_the_moments_of_the_forecast(posterior):
    U, n = np.zeros((12, 1)), 4000
    samples = posterior.sample(U, n, random_state=0)
    mean, std = posterior.predict(U, return_std=True)
    assert samples.shape == (12, n)
    assert np.all(np.abs(samples.mean(axis=1) - mean) < 5.0 * std / np.sqrt(n))
    assert_allclose(samples.std(axis=1), std, rtol=0.1)
    assert_array_equal(posterior.sample(U, n, random_state=0), samples)
    assert np.all(posterior.sample(U, random_state=1) != samples[:, :1])


# ------------------------------------------------------------------------------------- the rest


def test_facts(model, data, new):
    y = new.y[:6].copy()
    y[[1, 4]] = np.nan
    posterior = batch(model, new.X[:6], y, label=("site", 3))
    assert posterior.label == ("site", 3)
    assert (posterior.n_rows, posterior.n_observed) == (6, 4)
    assert posterior.mean.shape == (2,)
    assert posterior.cov.shape == (2, 2)
    assert np.all(np.linalg.eigvalsh(posterior.cov) > 0.0)
    text = f"SequencePosterior(('site', 3), n_rows=6, mean=[.*], ess={posterior.ess:.0f})"
    assert re.fullmatch(re.escape(text).replace(r"\[\.\*\]", r"\[.*\]"), repr(posterior))


def test_one_posterior_for_each_sequence(model, data):
    order = np.argsort(-data.groups, kind="stable")
    posteriors = model.sequence_posterior(
        data.X[order], data.y[order], groups=data.groups[order], times=data.times[order]
    )
    assert list(posteriors) == list(range(14, -1, -1))
    one = data.groups == 3
    assert_same(posteriors[3], batch(model, data.X[one], data.y[one]), rtol=1e-6)
    assert posteriors[3].label == 3


def test_pickle_round_trip(posterior, new):
    loaded = pickle.loads(pickle.dumps(posterior))
    assert repr(loaded) == repr(posterior)
    assert_array_equal(loaded.predict(new.X), posterior.predict(new.X))
    rest = new.X[N_KNOWN:], new.y[N_KNOWN:]
    assert_array_equal(loaded.update(*rest).mean, posterior.update(*rest).mean)
    with pytest.raises(AttributeError, match="immutable"):
        loaded.label = "other"


def test_two_outputs(two_outputs, new):
    y = np.column_stack([new.y, 3.0 - 2.0 * new.y])
    y[3, 0] = y[10, 1] = np.nan
    online = batch(two_outputs, new.X[:N_KNOWN], y[:N_KNOWN])
    assert online.n_observed == 2 * N_KNOWN - 1
    online = online.update(new.X[N_KNOWN], y[N_KNOWN])
    online = online.update(new.X[N_KNOWN + 1 : 14], y[N_KNOWN + 1 : 14])
    assert_close(online, batch(two_outputs, new.X[:14], y[:14]))
    mean, std, quantiles = online.predict(new.X[14:], return_std=True, quantiles=[0.1, 0.5, 0.9])
    assert mean.shape == std.shape == (6, 2)
    assert quantiles.shape == (6, 2, 3)
    samples = online.sample(new.X[14:], 2000, random_state=0)
    assert samples.shape == (6, 2, 2000)
    assert np.all(np.abs(samples.mean(axis=2) - mean) < 5.0 * std / np.sqrt(2000))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p.update(np.zeros((3, 2)), np.zeros(3)),
            "SequencePosterior.update: inputs need shape (n_rows, 1), got (3, 2)",
        ),
        (
            lambda p: p.update([0.0, 0.0], [1.0, 1.0]),
            "SequencePosterior.update: inputs need shape (n_rows, 1), got (2,)",
        ),
        (
            lambda p: p.update(np.zeros((3, 1)), np.zeros(4)),
            "SequencePosterior.update: y needs 3 rows of 1 outputs, got shape (4,)",
        ),
        (
            lambda p: p.predict(np.zeros((3, 2))),
            "SequencePosterior.predict: inputs need shape (n_rows, 1), got (3, 2)",
        ),
        (
            lambda p: p.sample(np.zeros(3)),
            "SequencePosterior.sample: inputs need shape (n_rows, 1), got (3,)",
        ),
    ],
)
def test_errors_name_the_numbers(posterior, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(posterior)


def test_two_outputs_need_two_values_a_row(two_outputs, new):
    posterior = batch(two_outputs, new.X[:4], np.zeros((4, 2)))
    message = re.escape("SequencePosterior.update: y needs 1 rows of 2 outputs, got shape ()")
    with pytest.raises(ValueError, match=message):
        posterior.update(new.X[4], 1.0)


@pytest.mark.parametrize("shape", [(2, 3), (6, 1), (1, 6), (6,), (3, 2, 1)])
def test_a_table_of_the_right_size_and_another_shape_is_refused(two_outputs, new, shape):
    posterior = batch(two_outputs, new.X[:4], np.zeros((4, 2)))
    message = f"SequencePosterior.update: y needs 3 rows of 2 outputs, got shape {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        posterior.update(new.X[4:7], np.zeros(shape))
