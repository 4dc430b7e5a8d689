"""`y_transform="auto"`: outputs as they are, with noise that grows, or bent by arcsinh."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import clone

from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn._scaling import Scaling
from mtds_sklearn._sequences import pack_sequences
from mtds_sklearn._transform_fit import fit_asinh
from mtds_sklearn._transforms import Asinh
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators._fitting import standardize
from mtds_sklearn.inference._coordinates import latents, normal_scores
from mtds_sklearn.inference._target import log_likelihoods, make_target
from mtds_sklearn.kernels import _points
from mtds_sklearn.model._likelihood import evaluations, predicted_outputs
from mtds_sklearn.model._noise import at_zero, make_growth, noise_factor, unit_of
from mtds_sklearn.model._task_map import natural_parameters

N_STEPS, N_KNOWN, NOISE = 30, 8, 0.15
MODEL = MTLDSRegressor(n_states=2, latent_dim=2, n_init=1, disturbance="none", random_state=0)
SCALING = Scaling(np.ones(1), np.array([3.0, -1.0]), np.array([2.0, 5.0]))


def make_rows(kind, seed, first_label, n_sequences):
    """Positive oscillations: with noise in proportion, with the same noise, or exponentials."""
    data = make_oscillators(
        n_oscillators=1, n_sequences=n_sequences, n_steps=N_STEPS, noise_std=0.0, random_state=seed
    )
    noise = NOISE * np.random.default_rng(seed).standard_normal(len(data.y))
    y = {
        "proportional": (1.15 + data.y) * (1.0 + noise),
        "constant": 1.15 + data.y + 0.3 * noise,
        "exponential": np.exp(2.0 * data.y + noise),
    }[kind]
    return {"X": data.X, "y": 50.0 * y, "groups": data.groups + first_label, "times": data.times}


def fit(kind, y_transform):
    return clone(MODEL).set_params(y_transform=y_transform).fit(**make_rows(kind, 0, 0, 20))


@pytest.fixture(scope="module")
def grown():
    return fit("proportional", "auto")


@pytest.fixture(scope="module")
def known():
    rows = make_rows("proportional", 1, 100, 20)
    return rows | {"y_context": mask_future(rows["y"], rows["groups"], rows["times"], N_KNOWN)}


def without_y(rows):
    return {name: value for name, value in rows.items() if name != "y"}


# ------------------------------------------------------------------------------------- numbers


def test_the_variance_is_that_of_a_constant_and_a_proportional_part():
    y = np.array([[3.0, -4.0], [0.0, np.nan], [6.0, 1.0]])
    growth = make_growth(y, np.array([2.0, np.inf]), SCALING)
    outputs = (y - SCALING.output_mean) / SCALING.output_scale
    factor = noise_factor(growth, outputs) * growth.size
    assert_allclose(factor[:, 0], 1.0 + (y[:, 0] / 2.0) ** 2)
    assert_allclose(factor[[0, 2], 1], 1.0)
    assert_allclose(np.nanmean(1.0 / noise_factor(growth, outputs), axis=0), 1.0)
    assert_allclose(unit_of(growth, SCALING), [2.0, np.inf])
    at_y = at_zero(growth, np.array([0.5, 0.5])) ** 2 * factor[0]
    assert_allclose(at_y, 0.25 * noise_factor(growth, outputs)[0])


@pytest.mark.parametrize("unit", [0.01, 1.0, 300.0])
def test_arcsinh_comes_back_with_its_slope(unit):
    y = np.array([-20.0, -1.0, 0.0, 1e-3, 2.0, 500.0])[:, None]
    transform = fit_asinh(y, np.array([unit]))
    x = transform.forward(y)
    assert np.all(np.diff(x[:, 0]) > 0.0)
    assert_allclose(transform.inverse(x), y, rtol=1e-12)
    step = 1e-6 * np.maximum(np.abs(y), unit)
    slope = (transform.forward(y + step) - transform.forward(y - step)) / (2.0 * step)
    assert_allclose(transform.log_slope(y), np.log(slope), atol=1e-6)


def test_arcsinh_of_an_infinite_unit_changes_nothing():
    y = np.array([[-3.0, 1.0], [5.0, 20.0]])
    transform = fit_asinh(y, np.array([np.inf, 1.0]))
    assert_array_equal(transform.forward(y)[:, 0], y[:, 0])
    assert_array_equal(transform.inverse(y)[:, 0], y[:, 0])
    assert_array_equal(transform.log_slope(y)[:, 0], 0.0)
    assert_allclose(transform.inverse(transform.forward(y)), y)


# --------------------------------------------------------------------------------- what is found


def test_noise_in_proportion_is_found(grown):
    assert grown.y_transform_ is None
    typical = np.array([70.0, 100.0])
    std = grown.noise_std_ * np.sqrt(1.0 + (typical / grown.noise_unit_) ** 2)
    assert_allclose(std / typical, NOISE, rtol=0.2)


def test_points_are_weighed_by_the_kernel_as_it_is_compiled_ahead(grown, known):
    grown.predict(**without_y(known))
    kinds = tuple(_points.shrunk_squares.py_func.__annotations__.values())
    assert _points.shrunk_squares.signatures == [kinds]


def test_and_forecasts_gain_by_it(grown, known):
    """At first both lean on p(z), about which they agree."""
    context = mask_future(known["y"], known["groups"], known["times"], 2 * N_KNOWN)
    rows, plain = known | {"y_context": context}, fit("proportional", None)
    densities = [model.forecast_log_density(**rows) for model in (grown, plain)]
    hidden = np.isnan(context)
    assert np.mean((densities[0] - densities[1])[hidden]) > 0.1
    low, high = grown.predict(**without_y(rows), quantiles=[0.05, 0.95])[1].T
    for part in (rows["y"] < 40.0, rows["y"] > 80.0):
        inside = (low <= rows["y"]) & (rows["y"] <= high)
        assert 0.84 < np.mean(inside[hidden & part]) < 0.99


def test_constant_noise_is_left_alone():
    auto, plain = fit("constant", "auto"), fit("constant", None)
    assert np.all(np.isinf(auto.noise_unit_))
    assert auto.y_transform_ is None
    assert auto.evidence_ == plain.evidence_


def test_exponentials_are_bent():
    auto = fit("exponential", "auto")
    assert isinstance(auto.y_transform_, Asinh)
    assert np.all(np.isinf(auto.noise_unit_))
    rows = make_rows("exponential", 1, 100, 10)
    rows["y_context"] = mask_future(rows["y"], rows["groups"], rows["times"], N_KNOWN)
    rows["y_context"][0] = -0.5  # no value is outside the domain
    hidden = np.isnan(rows["y_context"])
    densities = [
        model.forecast_log_density(**rows)[hidden] for model in (auto, fit("exponential", None))
    ]
    assert np.mean(densities[0] - densities[1]) > 0.3


def test_each_output_has_a_unit_of_its_own():
    rows = make_rows("proportional", 0, 0, 20)
    other = make_rows("constant", 2, 0, 20)["y"]
    model = clone(MODEL).set_params(n_states=4, latent_dim=4, y_transform="auto")
    model.fit(**rows | {"y": np.column_stack([rows["y"], other])})
    assert np.isfinite(model.noise_unit_[0])
    assert np.isinf(model.noise_unit_[1])


# ------------------------------------------------------------------- one noise in all that is said


def test_densities_moments_quantiles_and_samples_agree(grown, known):
    one = {name: value[:N_STEPS] for name, value in known.items()}
    levels = (np.arange(50) + 0.5) / 50
    mean, std, quantiles = grown.predict(**without_y(one), return_std=True, quantiles=levels)
    assert_allclose(quantiles.mean(axis=1), mean, rtol=0.02)
    assert_allclose(quantiles.std(axis=1), std, rtol=0.06)
    paths = grown.sample_y(**without_y(one), n_samples=2000, random_state=0)
    assert_allclose(paths.std(axis=1), std, rtol=0.15)
    grid = np.linspace(-120.0, 280.0, 101)
    density = [grown.forecast_log_density(**one | {"y": np.full(N_STEPS, g)}) for g in grid]
    assert_allclose(4.0 * np.exp(density).sum(axis=0), 1.0, atol=0.01)


def test_particles_are_weighed_with_the_noise_of_their_own_outputs(grown, known):
    family, units = grown.task_map_, grown._units_
    z = np.random.default_rng(0).standard_normal((1, family.loadings.shape[1], 5))
    sequence = pack_sequences(known["X"][:N_STEPS], known["y"][:N_STEPS, None])
    scaled = standardize(sequence, units)
    target = make_target(scaled, family._replace(prior=None))
    v = normal_scores(target.coordinates, z)
    found = log_likelihoods(v, target)[0]
    for point, log_likelihood in zip(latents(target.coordinates, v)[0].T, found, strict=True):
        psi = natural_parameters(family, point[None])
        yhat = predicted_outputs(psi, evaluations(scaled), family.chart)[0]
        std = family.noise_std * np.sqrt(noise_factor(family.growth, yhat))
        assert_allclose(log_likelihood, stats.norm.logpdf(scaled.outputs, yhat, std).sum())


def test_row_by_row_and_at_a_horizon_as_at_once(grown, known):
    rows = {name: value[:N_STEPS] for name, value in known.items()}
    ahead = rows | {"y_context": rows["y"]}
    at_horizon = grown.predict(**without_y(ahead), horizon=1, return_std=True)
    first = {name: rows[name][:1] for name in ("X", "y", "groups", "times")}
    posterior = grown.sequence_posterior(**first)[100]
    for t in range(1, 12):
        mean, std = posterior.predict(rows["X"][t : t + 1], return_std=True)
        assert_allclose(mean, at_horizon[0][t], rtol=0.05)
        assert_allclose(std, at_horizon[1][t], rtol=0.1)
        posterior = posterior.update(rows["X"][t], rows["y"][t : t + 1])


def test_given_a_particle_an_output_is_normal_with_the_noise_of_its_own_size(grown, known):
    """Late in a sequence nearly one system is left: deviations follow the forecast's mean."""
    rows = known | {"y_context": known["y"]}
    mean, std = grown.predict(**without_y(rows), horizon=1, return_std=True)
    late = known["times"] >= 25
    expected = grown.noise_std_ * np.sqrt(1.0 + (mean / grown.noise_unit_) ** 2)
    ratio = std[late] / expected[late]
    assert 0.99 < ratio.min() < ratio.max() < 1.4
    score = ((known["y"] - mean) / std)[late]
    assert stats.kstest(score, "norm").pvalue > 1e-3
