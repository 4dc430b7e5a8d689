import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from toy_lds import make_toy

from mtds_sklearn import MTLDSRegressor, PooledLDS
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators import _fitting
from mtds_sklearn.model_selection import mask_future

N_SEQUENCES, N_STEPS = 12, 30
N_KNOWN = 15
KINDS = ("A", "B", "C", "D", "offset", "x0")


@pytest.fixture(scope="module")
def data():
    return make_oscillators(N_SEQUENCES, N_STEPS, n_oscillators=1, random_state=0)


@pytest.fixture(scope="module")
def new():
    """Sequences of the same family that no fit has seen."""
    new = make_oscillators(N_SEQUENCES, N_STEPS, n_oscillators=1, random_state=1)
    new.groups = new.groups + 100
    new.context = mask_future(new.y, new.groups, new.times, N_KNOWN)
    return new


def fit(data, y=None, **options):
    options = {"n_states": 2, "latent_dim": 2, "n_init": 1, "random_state": 0} | options
    model = MTLDSRegressor(**options)
    return model.fit(data.X, data.y if y is None else y, groups=data.groups, times=data.times)


@pytest.fixture(scope="module")
def fitted(data):
    return fit(data)


def predict(model, data, **options):
    return model.predict(data.X, groups=data.groups, times=data.times, **options)


def score(model, data):
    """R^2 of what comes after the known rows."""
    options = {"groups": data.groups, "times": data.times, "y_context": data.context}
    return model.score(data.X, data.y, **options)


def kind_of(name):
    return name.split("[")[0]


def assert_same_fit(first, second):
    """Equal up to rounding, which differs with where arrays lie in memory; EM magnifies it."""
    pairs = [
        (first.task_map_.loadings, second.task_map_.loadings),
        (first.task_map_.bias, second.task_map_.bias),
        (first.posterior_mean_, second.posterior_mean_),
        (first.evidence_, second.evidence_),
    ]
    for one, other in pairs:
        assert_allclose(one, other, rtol=1e-5, atol=1e-5)


# -------------------------------------------------------------------------------- fitted attributes


def test_fitted_attributes(fitted, data):
    n_theta = len(fitted.theta_names_)
    n_latents = 2 + np.count_nonzero(fitted.specific_variances_)
    assert fitted.n_states_ == 2
    assert fitted.task_map_.loadings.shape == (n_theta, n_latents)
    assert fitted.task_map_.bias.shape == fitted.relevance_.shape == (n_theta,)
    assert fitted.noise_std_.shape == (1,)
    assert fitted.posterior_mean_.shape == (N_SEQUENCES, n_latents)
    assert fitted.posterior_cov_.shape == (N_SEQUENCES, n_latents, n_latents)
    assert (np.linalg.eigvalsh(fitted.posterior_cov_) > 0.0).all()
    assert fitted.lower_bounds_.shape == (fitted.n_iter_,)
    assert fitted.converged_ is True
    assert np.isfinite(fitted.evidence_)
    assert_array_equal(fitted.labels_, np.arange(N_SEQUENCES))
    assert (fitted.n_outputs_, fitted.n_features_in_) == (1, 1)
    assert {"A", "x0", "offset"} == set(map(kind_of, fitted.theta_names_))


def test_what_varies_is_found(fitted):
    """Frequencies and half-lives differ between the oscillators, amplitude and phase do not."""
    relevance = dict(zip(map(kind_of, fitted.theta_names_), fitted.relevance_, strict=False))
    assert relevance["A"] > 0.1
    assert relevance["x0"] == relevance["offset"] == 0.0


@pytest.mark.parametrize("latent_dim", [2, 8])
def test_what_varies_a_little_is_found_with_any_number_of_latents(rng, latent_dim):
    """The response to the input varies by about as much as the noise."""
    level, response = np.array([[1.0], [0.06]]) * rng.standard_normal((2, 40))
    groups = np.repeat(np.arange(40), 30)
    X = rng.standard_normal((1200, 1))
    y = level[groups] + response[groups] * X[:, 0] + 0.05 * rng.standard_normal(1200)
    model = MTLDSRegressor(2, latent_dim, random_state=0).fit(X, y, groups=groups)
    relevance = dict(zip(model.theta_names_, model.relevance_, strict=True))
    assert relevance["D[0, 0]"] == pytest.approx(0.06 / np.std(y), rel=0.3)


def test_noise_is_in_the_units_of_y(fitted, data):
    assert fitted.noise_std_[0] == pytest.approx(data.noise_std, rel=0.15)
    scaled = fit(data, 1000.0 * data.y - 5000.0)
    assert scaled.noise_std_[0] == pytest.approx(1000.0 * fitted.noise_std_[0], rel=1e-4)
    assert_allclose(scaled.relevance_, fitted.relevance_, rtol=1e-3)
    expected = 1000.0 * predict(fitted, data) - 5000.0
    assert_allclose(predict(scaled, data), expected, atol=0.1)


def test_two_outputs_have_two_columns(data):
    model = fit(data, np.stack([data.y, -3.0 * data.y + 1.0], axis=1))
    assert model.n_outputs_ == 2
    assert model.noise_std_.shape == (2,)
    assert model.noise_std_[1] == pytest.approx(3.0 * model.noise_std_[0], rel=0.2)
    mean, std, quantiles = predict(model, data, return_std=True, quantiles=[0.1, 0.9])
    assert mean.shape == std.shape == (len(data.y), 2)
    assert quantiles.shape == (len(data.y), 2, 2)
    samples = model.sample_y(data.X, 3, groups=data.groups, random_state=0)
    assert samples.shape == (len(data.y), 2, 3)
    y, z = model.sample_sequences(np.zeros((7, 1)), 4, random_state=0)
    assert (y.shape, z.shape) == ((4, 7, 2), (4, model.posterior_mean_.shape[1]))


# ------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("varying", [("A",), ("D",), ["offset", "D"], ()])
def test_kinds_that_may_not_vary_have_no_relevance(varying):
    X, y, groups, _ = make_toy(8, 12)
    model = MTLDSRegressor(1, 1, varying=varying, n_init=1, random_state=0, disturbance="none")
    model.fit(X, y, groups=groups)
    for name, relevance in zip(model.theta_names_, model.relevance_, strict=True):
        assert kind_of(name) in KINDS
        if kind_of(name) not in varying:
            assert relevance == 0.0, name
    assert (model.relevance_.max() > 0.1) == ("offset" in varying)  # levels are what differs


@pytest.mark.parametrize("initial_state", ["varying", "shared", "zero"])
def test_the_initial_state(rng, data, initial_state):
    """Every sequence gets an amplitude of its own: its initial state."""
    y = rng.uniform(0.5, 2.0, N_SEQUENCES)[data.groups] * data.mean
    y += 0.02 * rng.standard_normal(len(y))
    model = fit(data, y, initial_state=initial_state, latent_dim=3)
    relevance = [
        value
        for name, value in zip(model.theta_names_, model.relevance_, strict=True)
        if kind_of(name) == "x0"
    ]
    assert (len(relevance) > 0) == (initial_state != "zero")
    assert (max(relevance, default=0.0) > 0.1) == (initial_state == "varying")
    if initial_state == "zero":  # without inputs nothing else can move the state
        assert np.ptp(predict(model, data)[data.groups == 0]) == pytest.approx(0.0, abs=1e-8)


def test_the_cayley_chart_forecasts_as_well(fitted, data, new):
    cayley = fit(data, transition="cayley")
    assert cayley.n_states_ == 2
    assert cayley.task_map_.chart.shape != fitted.task_map_.chart.shape
    assert score(fitted, new) > 0.9
    assert score(cayley, new) == pytest.approx(score(fitted, new), abs=0.02)


def test_more_starts_are_never_worse(data):
    several, one = (fit(data, n_init=n, random_state=3) for n in (3, 1))
    assert several.evidence_ >= one.evidence_ - 1e-3  # the first start is the same
    auto = fit(data, n_init="auto", random_state=3)  # 4 with so few sequences
    assert auto.evidence_ >= several.evidence_ - 1e-3


def test_the_start_with_the_best_evidence_wins(monkeypatch, data):
    evidences = iter([-7.0, -3.0, -5.0])
    grow = _fitting._grow
    monkeypatch.setattr(
        _fitting, "_grow", lambda *args: grow(*args)._replace(evidence=next(evidences))
    )
    assert fit(data, n_init=3).evidence_ == -3.0


def test_jobs_do_not_change_the_numbers(data):
    assert_same_fit(*(fit(data, n_init=2, n_jobs=n_jobs) for n_jobs in (1, 2)))


def test_random_state_makes_fits_and_forecasts_reproducible(fitted, data, new):
    again = fit(data)
    assert_same_fit(again, fitted)
    context = {"y_context": new.context}
    expected = predict(fitted, new, **context)
    assert_allclose(predict(again, new, **context), expected, atol=1e-4)
    assert_allclose(predict(fitted, new, **context), expected, atol=1e-10)
    other = fit(data, random_state=5)
    assert not np.allclose(other.task_map_.loadings, fitted.task_map_.loadings)
    assert score(other, new) == pytest.approx(score(fitted, new), abs=0.02)


# --------------------------------------------------------------------------------------- warnings


def test_a_fit_that_is_cut_short_warns(data):
    with pytest.warns(ConvergenceWarning, match=r"did not converge in max_iter=1 .* tol=2e-05"):
        model = fit(data, max_iter=1)
    assert not model.converged_
    assert model.n_iter_ == 1


def test_a_single_sequence_warns(data):
    first = data.groups == 0
    model = MTLDSRegressor(2, 1, n_init=1, random_state=0)
    with pytest.warns(UserWarning, match="got 1 sequence; pass groups"):
        model.fit(data.X[first], data.y[first])
    assert model.posterior_mean_.shape == (1, 1)
    assert model.score(data.X[first], data.y[first]) > 0.9


# -------------------------------------------------------------------------------------- forecasts


def test_a_few_rows_of_a_new_sequence_tell_what_it_is_like(fitted, data, new):
    pooled = PooledLDS(2).fit(data.X, data.y, groups=data.groups, times=data.times)
    assert score(fitted, new) > 0.9
    assert score(pooled, new) < 0.5
    _, std = predict(fitted, new, return_std=True, y_context=new.context)
    _, blind = predict(fitted, new, return_std=True)
    assert (std >= 0.999 * fitted.noise_std_).all()
    assert np.mean(std) < 0.5 * np.mean(blind)


def test_quantiles_cover_what_they_should(fitted, new):
    options = {"y_context": new.context, "quantiles": [0.05, 0.5, 0.95]}
    mean, quantiles = predict(fitted, new, **options)
    low, middle, high = quantiles.T
    assert (low < middle).all()
    assert (middle < high).all()
    assert_allclose(middle, mean, atol=0.2)
    hidden = np.isnan(new.context)
    inside = (low < new.y) & (new.y < high)
    assert 0.75 < np.mean(inside[hidden]) <= 1.0


def test_seen_labels_use_the_stored_posterior(fitted, data):
    """Known from fit alone, a sequence is forecast like one that reveals what fit saw."""
    stored = predict(fitted, data)
    assert fitted.score(data.X, data.y, groups=data.groups) > 0.95
    assert_allclose(stored, predict(fitted, data, y_context=data.y), atol=0.1)
    strangers = fitted.predict(data.X, groups=data.groups + 100, times=data.times)
    # What is not known is forecast by the prior, the same for all.
    for values in strangers.reshape(N_SEQUENCES, N_STEPS):
        assert_allclose(values, strangers[:N_STEPS], atol=1e-10)
    assert np.mean((stored - data.mean) ** 2) < 0.2 * np.mean((strangers - data.mean) ** 2)


def test_a_context_replaces_what_fit_learned(fitted, data, new):
    """The rows of another sequence under a label that fit has seen."""
    as_seen = fitted.predict(new.X, groups=new.groups - 100, times=new.times, y_context=new.context)
    assert_allclose(as_seen, predict(fitted, new, y_context=new.context), atol=1e-10)


def test_at_a_horizon_sequences_without_context_keep_what_fit_learned(fitted, data):
    stored = predict(fitted, data)
    assert_allclose(predict(fitted, data, horizon=2), stored, atol=1e-10)
    context = np.where(data.groups == 3, data.y, np.nan)
    mixed = predict(fitted, data, horizon=2, y_context=context)
    known = data.groups == 3
    assert_allclose(mixed[~known], stored[~known], atol=1e-10)
    assert np.abs(mixed[known] - stored[known]).max() > 1e-3


def test_a_horizon_hides_what_is_too_recent(fitted, new):
    """Row t of a forecast at horizon h is the last row of what is known h rows earlier."""
    last = 20
    stepwise = predict(fitted, new, horizon=3, y_context=new.y)
    known = np.where(new.times <= last - 3, new.y, np.nan)
    at_once = predict(fitted, new, y_context=known)
    row = new.times == last
    assert_allclose(stepwise[row], at_once[row], atol=0.05)
    assert not np.allclose(stepwise[row], new.y[row], atol=1e-3)


def test_likelihood_and_density_agree_with_the_forecast(fitted, new):
    """A sequence of one row: its likelihood is the density of its first forecast."""
    first = new.times == 0
    rows = {"groups": new.groups[first]}
    likelihood = fitted.sequence_log_likelihood(new.X[first], new.y[first], **rows)
    density = fitted.forecast_log_density(new.X[first], new.y[first], **rows)
    assert likelihood.shape == density.shape == (N_SEQUENCES,)
    assert_allclose(likelihood, density, atol=0.02)


def test_likelihood_is_in_the_units_of_y(fitted, data, new):
    scaled = fit(data, 10.0 * data.y)
    options = {"groups": new.groups, "times": new.times}
    expected = fitted.sequence_log_likelihood(new.X, new.y, **options) - N_STEPS * np.log(10.0)
    actual = scaled.sequence_log_likelihood(new.X, 10.0 * new.y, **options)
    assert_allclose(actual, expected, atol=0.1)


# ----------------------------------------------------------------------------- posterior and draws


def test_a_posterior_grows_row_by_row(fitted, new):
    first = new.groups == 100
    X, y = new.X[first], new.y[first]
    whole = fitted.sequence_posterior(X, y, groups=new.groups[first])[100]
    start = fitted.sequence_posterior(X[:5], y[:5], groups=new.groups[first][:5])[100]
    grown = start
    for u, value in zip(X[5:], y[5:], strict=True):
        grown = grown.update(u, value)
    assert (start.n_rows, grown.n_rows, whole.n_rows) == (5, N_STEPS, N_STEPS)
    assert grown.n_observed == N_STEPS
    assert_allclose(grown.mean, whole.mean, atol=0.1)
    assert grown.log_evidence == pytest.approx(whole.log_evidence, abs=0.2)
    assert np.linalg.det(whole.cov) < np.linalg.det(start.cov)
    mean, std = grown.predict(np.zeros((4, 1)), return_std=True)
    assert mean.shape == std.shape == (4,)
    samples = grown.sample(np.zeros((4, 1)), 500, random_state=0)
    assert samples.shape == (4, 500)
    assert_allclose(samples.mean(axis=1), mean, atol=0.05)


def test_a_posterior_is_immutable(fitted, new):
    posterior = fitted.sequence_posterior(new.X[:3], new.y[:3], groups=new.groups[:3])[100]
    mean = posterior.mean
    posterior.update([0.0], 1.0)
    assert_array_equal(posterior.mean, mean)
    with pytest.raises(AttributeError, match="immutable"):
        posterior.label = 3


def test_samples_have_the_moments_of_the_forecast(fitted, new):
    options = {"groups": new.groups, "times": new.times, "y_context": new.context}
    samples = fitted.sample_y(new.X, 800, random_state=0, **options)
    mean, std = fitted.predict(new.X, return_std=True, **options)
    assert samples.shape == (len(new.y), 800)
    assert_allclose(samples.mean(axis=1), mean, atol=0.08)
    assert_allclose(samples.std(axis=1), std, rtol=0.25)


def test_new_members_of_the_family(fitted, data):
    steps = np.zeros((N_STEPS, 1))
    y, z = fitted.sample_sequences(steps, 200, random_state=0)
    assert (y.shape, z.shape) == ((200, N_STEPS), (200, fitted.posterior_mean_.shape[1]))
    assert_allclose(fitted.sample_sequences(steps, 200, random_state=0)[0], y, atol=1e-10)
    # Their spread is that of sequences of which nothing is known.
    blind = fitted.predict(steps, groups=np.full(N_STEPS, 100), return_std=True)[1]
    assert_allclose(y.std(axis=0), blind, rtol=0.35)
    given, same = fitted.sample_sequences(steps, z=fitted.posterior_mean_)
    assert_array_equal(same, fitted.posterior_mean_)
    assert np.mean((given.ravel() - data.mean) ** 2) < 0.1 * np.var(data.mean)
