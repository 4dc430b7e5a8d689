"""Specific variances through the public methods: fewer latents than ways to differ."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn.datasets import make_oscillators

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N_STEPS, NOISE = 30, 0.05


def draw(n, seed, first_label=0):
    """Oscillations whose frequencies, amplitudes, phases and offsets differ independently."""
    rng = np.random.default_rng(seed)
    t, (a, b, c) = np.arange(N_STEPS), 0.3 * rng.standard_normal((3, n, 1))
    angle = rng.uniform(0.35, 0.55, (n, 1)) * t
    y = 0.95**t * ((1.0 + a) * np.cos(angle) + b * np.sin(angle)) + c
    y += NOISE * rng.standard_normal(y.shape)
    groups = np.repeat(np.arange(n) + first_label, N_STEPS)
    rows = {"X": np.zeros((y.size, 1)), "groups": groups, "times": np.tile(t, n)}
    return rows | {"y": y.ravel()}


def fit(**options):
    defaults = {"disturbance": "none", "n_init": 1, "random_state": 0, "max_iter": 40}
    return MTLDSRegressor(2, 1, **defaults | options).fit(**draw(40, 0))


@pytest.fixture(scope="module")
def model():
    return fit()


@pytest.fixture(scope="module")
def new():
    return draw(20, 1, first_label=100)


def known_rows(new, n_known):
    context = mask_future(new["y"], new["groups"], new["times"], n_known)
    return {key: new[key] for key in ("X", "groups", "times")} | {"y_context": context}


def found_kinds(model):
    named = zip(model.theta_names_, model.specific_variances_, strict=True)
    return {name.partition("[")[0] for name, psi in named if psi}


def test_what_z_has_no_room_for_is_found(model):
    assert model.latent_dim_ == 1
    assert found_kinds(model) == {"x0", "offset"}
    n_own = np.count_nonzero(model.specific_variances_)
    assert model.posterior_mean_.shape == (40, 1 + n_own)
    assert model.posterior_cov_.shape == (40, 1 + n_own, 1 + n_own)
    assert_array_equal(model.relevance_ >= 0.99 * np.sqrt(model.specific_variances_), True)
    assert model.noise_std_[0] == pytest.approx(NOISE, rel=0.15)


def test_forecasts_know_of_it(model, new):
    """Intervals hold what they should, and the rest is known far better than without."""
    rows, hidden = known_rows(new, 8), new["times"] >= 8

    def coverage_and_density(model):
        _, quantiles = model.predict(**rows, quantiles=[0.05, 0.95])
        inside = (new["y"] >= quantiles[:, 0]) & (new["y"] <= quantiles[:, 1])
        density = model.forecast_log_density(y=new["y"], **rows)
        return inside[hidden].mean(), density[hidden].mean()

    coverage, density = coverage_and_density(model)
    assert 0.85 < coverage < 0.95
    assert density > coverage_and_density(fit(specific_variances=False))[1] + 0.3


def test_sequences_are_far_likelier(model, new):
    rows = {key: new[key] for key in ("X", "y", "groups", "times")}
    gain = model.sequence_log_likelihood(**rows) - fit(
        specific_variances=False
    ).sequence_log_likelihood(**rows)
    assert gain.mean() > 10.0


def test_updates_agree_with_all_rows_at_once(model, new):
    rows = {key: new[key][:N_STEPS] for key in ("X", "y", "groups", "times")}
    start = {key: values[:6] for key, values in rows.items()}
    (before,) = model.sequence_posterior(**start).values()
    (at_once,) = model.sequence_posterior(**rows).values()
    updated = before.update(rows["X"][6:20], rows["y"][6:20])
    updated = updated.update(rows["X"][20:], rows["y"][20:])
    std = np.sqrt(np.diag(at_once.cov))
    assert updated.log_evidence == pytest.approx(at_once.log_evidence, abs=0.1)
    assert_allclose((updated.mean - at_once.mean) / std, 0.0, atol=0.02)
    future = np.zeros((10, 1))
    assert_allclose(updated.predict(future), at_once.predict(future), atol=0.01)
    assert before.mean.shape == (model.posterior_mean_.shape[1],)


def test_one_step_ahead_uses_what_is_known(model, new):
    rows = known_rows(new, N_STEPS)
    ahead = model.forecast_log_density(y=new["y"], horizon=1, **rows)
    late = new["times"] >= 20
    assert ahead[late].mean() == pytest.approx(-np.log(NOISE) - 1.42, abs=0.1)


def test_members_of_the_family_differ_as_the_training_sequences_do(model):
    rows = draw(1, 2)
    paths, z = model.sample_sequences(rows["X"], 400, random_state=0)
    assert z.shape == (400, model.posterior_mean_.shape[1])
    training = draw(40, 0)["y"].reshape(40, N_STEPS)
    assert_allclose(paths.std(axis=0), training.std(axis=0), rtol=0.4)
    typical, padded = model.sample_sequences(rows["X"], z=z[:, :1])
    assert_array_equal(padded[:, 1:], 0.0)
    assert typical[:, 0].std() < 0.5 * paths[:, 0].std()
    samples = model.sample_y(**{key: rows[key] for key in ("X", "groups", "times")})
    assert np.isfinite(samples).all()


def test_training_sequences_are_forecast_by_label(model):
    rows = draw(40, 0)
    mean = model.predict(rows["X"], groups=rows["groups"], times=rows["times"])
    assert np.std(rows["y"] - mean) < 1.2 * NOISE
    systems = model.systems()
    found = systems.offset[:, 0]
    assert found.std() == pytest.approx(0.3, rel=0.4)
    assert_array_equal(pickle.loads(pickle.dumps(model)).systems().offset[:, 0], found)


def test_learning_goes_on_with_them(model, new):
    rows = {key: new[key] for key in ("X", "y", "groups", "times")}
    more = pickle.loads(pickle.dumps(model)).partial_fit(**rows)
    assert_array_equal(more.specific_variances_ > 0.0, model.specific_variances_ > 0.0)
    assert more.task_map_.specific == model.task_map_.specific
    assert_array_equal(more.task_map_.loadings == 0.0, model.task_map_.loadings == 0.0)
    again = pickle.loads(pickle.dumps(model)).set_params(warm_start=True, max_iter=3)
    again.fit(**draw(40, 0))
    assert again.task_map_.specific == model.task_map_.specific
    assert again.evidence_ == pytest.approx(model.evidence_, abs=5.0)


def test_where_nothing_is_missing_nothing_changes():
    """Few sequences are asked another way: see test_left_out."""
    data = make_oscillators(n_oscillators=1, n_sequences=30, n_steps=30, random_state=0)
    found = [
        MTLDSRegressor(2, 2, disturbance="none", random_state=0, specific_variances=choice).fit(
            data.X, data.y, groups=data.groups, times=data.times
        )
        for choice in ("auto", False)
    ]
    assert not found[0].specific_variances_.any()
    assert found[0].evidence_ == found[1].evidence_
    for one, other in zip(found[0].task_map_[1:5], found[1].task_map_[1:5], strict=True):
        assert_array_equal(one, other)


def test_beside_a_gain_all_else_is_held():
    found = [
        fit(disturbance="joint", specific_variances=choice, max_iter=8) for choice in (True, False)
    ]
    assert found[0].disturbance_ != "none"
    assert found[0].specific_variances_.any()
    k = found[1].latent_dim_
    assert_array_equal(found[0].task_map_.loadings[:, :k], found[1].task_map_.loadings)
    assert_array_equal(found[0].task_map_.bias, found[1].task_map_.bias)


@pytest.mark.parametrize("options", [{"sequence_noise": True}, {"y_transform": "auto"}])
def test_other_kinds_of_noise_are_learned_without(options):
    rows = draw(12, 0)
    if "y_transform" in options:
        rng = np.random.default_rng(0)
        rows["y"] = np.exp(0.8 * rows["y"]) * (1.0 + 0.2 * rng.standard_normal(len(rows["y"])))
    model = MTLDSRegressor(2, 1, disturbance="none", n_init=1, max_iter=5, random_state=0)
    model.set_params(**options).fit(**rows)
    assert np.isfinite(model.predict(**known_rows(rows, 5))).all()
    if np.isfinite(model.noise_dof_) or np.isfinite(model.noise_unit_).any():
        assert not model.specific_variances_.any()
