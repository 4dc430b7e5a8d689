"""`y_transform`: learning sees f(y), the user sees y in everything."""

import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.integrate import trapezoid
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold

from mtds_sklearn import (
    ForecastScorer,
    MTLDSRegressor,
    PooledLDS,
    SingleTaskLDS,
    mask_future,
)
from mtds_sklearn._transform_fit import fit_asinh, fit_transform
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.inference._image import image_moments

N_STEPS, N_KNOWN = 25, 8
LEVELS = [0.02, 0.3, 0.5, 0.9]
ESTIMATORS = {
    "mtlds": MTLDSRegressor(n_states=2, latent_dim=2, n_init=1, random_state=0),
    "pooled": PooledLDS(n_states=2),
    "single": SingleTaskLDS(n_states=2),
}
LOG_PAIR = (np.log, np.exp)
FIVE_ERRORS = 5.0


def reciprocal(y):
    return 1.0 / y


def signed_square(x):
    return x * np.abs(x)


def identity(y):
    return y


# --------------------------------------------------------------------------------- the functions

SPECS = {
    "log": "log",
    "log1p": "log1p",
    "box-cox": "box-cox",
    "yeo-johnson": "yeo-johnson",
    "pair": (np.arcsinh, np.sinh),
    "with derivative": (np.log, np.exp, reciprocal),
}


@pytest.fixture
def positive(rng):
    """Two outputs of different size and skewness, with gaps."""
    y = np.array([0.5, 0.0]) + np.exp(rng.normal([0.0, 3.0], [0.4, 1.0], (300, 2)))
    y[rng.uniform(size=y.shape) < 0.2] = np.nan
    return y


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_transform_increases_and_comes_back_with_its_slope(spec, positive):
    transform = fit_transform(spec, positive, who="me")
    x = transform.forward(positive)
    assert_array_equal(np.isnan(x), np.isnan(positive))
    assert_allclose(transform.inverse(x), positive, rtol=1e-12)
    for j in range(2):
        known = np.sort(positive[~np.isnan(positive[:, j])][:, [j, j]], axis=0)
        assert np.all(np.diff(transform.forward(known)[:, j]) > 0.0)
    step = 1e-6 * positive
    rise = transform.forward(positive + step) - transform.forward(positive - step)
    assert_allclose(transform.log_slope(positive), np.log(rise / (2.0 * step)), atol=1e-8)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_arrays_may_have_more_axes(spec, positive):
    """Samples and quantiles stand in the axes after that of the outputs."""
    transform = fit_transform(spec, positive, who="me")
    x = transform.forward(positive)
    deep = np.stack([x, x + 0.1], axis=2)
    assert_allclose(transform.inverse(deep)[..., 0], transform.inverse(x))
    assert_allclose(transform.inverse(deep)[..., 1], transform.inverse(x + 0.1))
    assert_allclose(transform.inverse_within(deep)[..., 0], transform.inverse(x))


def test_yeo_johnson_takes_both_signs(rng):
    y = rng.standard_normal((200, 1)) ** 3
    transform = fit_transform("yeo-johnson", y, who="me")
    scaled = y[:, 0] / transform.unit
    assert_allclose(transform.power, stats.yeojohnson(scaled)[1], atol=1e-3)
    x = transform.forward(y)
    assert_allclose(x[:, 0], stats.yeojohnson(scaled, transform.power[0]))
    assert_allclose(transform.inverse(x), y, atol=1e-14)
    rise = transform.forward(y + 1e-7) - transform.forward(y - 1e-7)
    assert_allclose(transform.log_slope(y), np.log(rise / 2e-7), atol=1e-5)


def test_the_power_of_box_cox_is_the_most_likely_one(rng):
    y = (1.0 + 0.5 * rng.normal(4.0, 1.0, 2000).clip(0.0)) ** 2.0  # the power is 0.5
    transform = fit_transform("box-cox", y[:, None], who="me")
    assert_allclose(transform.power, 0.5, atol=0.1)
    assert_allclose(transform.power, stats.boxcox(y)[1], atol=1e-4)


def test_the_power_stays_where_means_are_finite(rng):
    heavy = 1.0 / rng.uniform(0.1, 1.0, (300, 1)) ** 2
    assert stats.boxcox(heavy[:, 0])[1] < -0.1
    assert_array_equal(fit_transform("box-cox", heavy, who="me").power, 0.0)
    light = rng.uniform(0.1, 1.0, (300, 1)) ** 0.2
    assert stats.boxcox(light[:, 0])[1] > 2.5
    assert_array_equal(fit_transform("box-cox", light, who="me").power, 2.0)


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e6])
@pytest.mark.parametrize("spec", ["box-cox", "yeo-johnson"])
def test_powers_do_not_depend_on_the_units_of_y(spec, scale, positive):
    transform = fit_transform(spec, positive, who="me")
    scaled = fit_transform(spec, scale * positive, who="me")
    assert_allclose(scaled.power, transform.power, rtol=1e-6)
    x, scaled_x = transform.forward(positive), scaled.forward(scale * positive)
    assert_allclose(scaled_x, x, rtol=1e-6, atol=1e-9)


def test_below_the_range_of_box_cox_is_the_edge_of_the_domain(rng):
    y = np.column_stack([rng.normal(5.0, 1.0, 300).clip(0.1), np.exp(rng.normal(size=300))])
    transform = fit_transform("box-cox", y, who="me")
    x = -np.array([[1.0, 1.001, 2.0, 1e300]]) / transform.power[0] * np.ones((2, 1))
    found = transform.inverse(x[None, :, :])[0]
    assert_array_equal(found[0], 0.0)
    assert np.all(np.isfinite(found[1]))  # the power is next to 0: hardly any edge


def test_columns_that_say_nothing():
    y = np.column_stack([np.full(5, 3.0), np.full(5, np.nan), np.arange(1.0, 6.0)])
    for spec in ("log", "log1p", "box-cox", "yeo-johnson", LOG_PAIR):
        transform = fit_transform(spec, y, who="me")
        assert_allclose(transform.inverse(transform.forward(y)), y)
        assert np.all(np.diff(transform.limits, axis=0) > 0.0)


def test_limits_are_the_range_widened_by_its_width_and_deviation():
    y = np.exp([[0.0], [1.0], [4.0], [np.nan], [3.0]])
    transform = fit_transform("log", y, who="me")
    spread = np.std([0.0, 1.0, 4.0, 3.0])
    assert_allclose(transform.limits, [[-4.0 - spread], [8.0 + spread]])
    assert_allclose(transform.inverse_within(np.array([[99.0]])), np.exp(8.0 + spread))


def test_beyond_its_range_arcsinh_goes_on_in_a_straight_line():
    """Outputs that are not bent have no range at all."""
    y = np.array([[0.1, 0.1], [30.0, 30.0], [2.0, 2.0]])
    transform = fit_asinh(y, np.array([0.5, np.inf]))
    low, high = transform.limits
    assert_allclose(
        transform.inverse_within(high[None] * 0.999), transform.inverse(high * 0.999)[None]
    )
    for edge, way in ((high, 1.0), (low, -1.0)):
        steps = edge + way * np.array([0.0, 1e-6, 1.0, 2.0])[:, None]
        found = transform.inverse_within(steps)
        slopes = np.diff(found, axis=0) / np.diff(steps, axis=0)
        assert_allclose(slopes, slopes[:1] * np.ones((3, 1)), rtol=1e-5)
        assert_allclose(slopes[0], [np.cosh(edge[0] / 0.5), 1.0], rtol=1e-5)
        assert_allclose(found[:, 1], steps[:, 1])


def test_a_spread_that_numbers_cannot_tell_is_not_zero():
    yhat, shares = np.zeros((1, 1, 3)), np.full((1, 3), 1.0 / 3.0)
    mean, std = image_moments(yhat, shares, np.full((1, 1, 3), 1e-40), lambda x: 5.0 + x)
    assert_array_equal(mean, 5.0)
    assert 0.0 < std[0, 0] < 1e-14


def test_quantiles_of_arcsinh_are_finite_however_far():
    transform = fit_asinh(np.array([[0.1, 0.1], [30.0, 30.0]]), np.array([0.5, np.inf]))
    found = transform.inverse(np.array([[-1e9, -1e9], [1e9, 1e9], [200.0, 200.0]]))
    assert np.isfinite(found).all()
    assert_array_equal(found[:2, 1], [-1e9, 1e9])
    assert_allclose(found[2, 0], 0.5 * np.sinh(300.0), rtol=1e-12)


def test_forecasts_beyond_the_range_have_a_mean_near_their_median_and_a_spread():
    transform = fit_asinh(np.array([[0.1, 0.1], [30.0, 30.0]]), np.array([0.5, np.inf]))
    far = (transform.limits[1] + [3.0, 1e4])[None, :, None]
    mean, std = image_moments(
        far, np.ones((1, 1)), np.full((1, 2, 1), 0.04), transform.inverse_within
    )
    assert_allclose(mean[0], transform.inverse_within(far[..., 0])[0])
    assert_allclose(std[0], [0.2 * np.cosh(transform.limits[1, 0] / 0.5), 0.2])


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("spec", "bad", "rule"),
    [
        ("log", 0.0, "> 0, or NaN, with y_transform='log'"),
        ("log1p", -1.0, "> -1, or NaN, with y_transform='log1p'"),
        ("box-cox", -2.5, "> 0, or NaN, with y_transform='box-cox'"),
        (LOG_PAIR, 0.0, "such that f(y) is finite, or NaN, with y_transform=(f, inverse)"),
        ((np.sqrt, signed_square), -4.0, "such that f(y) is finite, or NaN, with y_transform=(f,"),
    ],
)
def test_values_outside_the_domain_are_counted(spec, bad, rule):
    y = np.array([[1.0, 2.0], [np.nan, bad], [bad, 4.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match="observed values are not") as error:
        fit_transform(spec, y, who="me")
    assert str(error.value).startswith(f"me: y must be {rule}")
    end = f"2 of 7 observed values are not, the first is {bad:.6g} in row 1, output 1"
    assert str(error.value).endswith(end)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ((np.log,), "two or three callables (f, inverse[, derivative]), got (<ufunc 'log'>,)"),
        ((np.log, "exp"), "two or three callables"),
        ((reciprocal, reciprocal), "f of y_transform must increase, but f(1) = 1 and f(2) = 0.5"),
        ((np.log, np.expm1), "must undo f, but inverse(f(1)) = inverse(0) = 0"),
        (
            (lambda y: y / y.max(), lambda x: 4.0 * x),
            "must work elementwise, but f(1) is 0.25 among 4 values and 0.333333 among half",
        ),
        (
            (np.sqrt, np.square),
            "the inverse of y_transform must be finite and not fall from -0.37278 to 3.37278",
        ),
        ((lambda y: -1.0 / y, lambda x: -1.0 / x), "must be finite and not fall"),
        (
            (np.log, np.exp, np.log),
            "must be the derivative of f, positive, but at 3 its logarithm is 0.0940478 and the "
            "slope's -1.09861",
        ),
    ],
)
def test_callables_that_are_no_transform_are_refused(spec, message):
    y = np.array([[4.0], [1.0], [np.nan], [2.0], [3.0]])
    with pytest.raises(ValueError, match=re.escape(message)):
        fit_transform(spec, y, who="me")


def test_a_clipped_inverse_will_do():
    """The square root of small counts, with an inverse that is told where forecasts may go."""
    y = np.array([[0.0], [1.0], [2.0], [9.0]])
    transform = fit_transform((np.sqrt, lambda x: np.maximum(x, 0.0) ** 2), y, who="me")
    assert_array_equal(transform.inverse(np.array([[-3.0]])), 0.0)


# --------------------------------------------------------------------------------- the estimators


class Rows(dict):
    """Arguments of the methods."""

    def without(self, *names):
        return {name: value for name, value in self.items() if name not in names}


def make_rows(seed, first_label, n_sequences):
    data = make_oscillators(n_oscillators=1, n_sequences=n_sequences, n_steps=N_STEPS,
                            random_state=seed)  # fmt: skip
    y = np.exp(1.5 * data.y)
    y[np.random.default_rng(seed).uniform(size=len(y)) < 0.1] = np.nan
    return Rows(X=data.X, y=y, groups=data.groups + first_label, times=data.times)


TRAIN, NEW = make_rows(0, 0, 10), make_rows(1, 100, 3)
CONTEXT = mask_future(NEW["y"], NEW["groups"], NEW["times"], N_KNOWN)
KNOWN = Rows(NEW | {"y_context": CONTEXT})


def fit(name, y_transform, rows=TRAIN):
    return clone(ESTIMATORS[name]).set_params(y_transform=y_transform).fit(**rows)


def logged(rows):
    return Rows(rows | {name: np.log(rows[name]) for name in ("y", "y_context") if name in rows})


@pytest.fixture(scope="module")
def fits():
    """Each estimator with log y as y, with the pair of log and exp, and with "log"."""
    return {
        name: (fit(name, None, logged(TRAIN)), fit(name, LOG_PAIR), fit(name, "log"))
        for name in ESTIMATORS
    }


@pytest.fixture(params=ESTIMATORS)
def name(request):
    return request.param


def test_log_is_the_fit_of_log_y_by_hand(fits, name):
    by_hand, pair, log = fits[name]
    assert_allclose(pair.noise_std_, by_hand.noise_std_, rtol=1e-6)
    for rows in (TRAIN, KNOWN):
        quantiles = by_hand.predict(**logged(rows).without("y"), quantiles=LEVELS)[1]
        for model in (pair, log):
            found = model.predict(**rows.without("y"), quantiles=LEVELS)[1]
            assert_allclose(found, np.exp(quantiles), rtol=1e-6)
        density = by_hand.forecast_log_density(**logged(rows)) - np.log(rows["y"])
        assert_allclose(pair.forecast_log_density(**rows), density, atol=1e-6)
        assert_allclose(log.forecast_log_density(**rows), density, atol=1e-6)
    jacobian = [np.nansum(np.log(NEW["y"][NEW["groups"] == g])) for g in (100, 101, 102)]
    likelihood = by_hand.sequence_log_likelihood(**logged(NEW)) - jacobian
    assert_allclose(log.sequence_log_likelihood(**NEW), likelihood, atol=1e-5)
    assert_allclose(pair.sequence_log_likelihood(**NEW), likelihood, atol=1e-5)


def test_log_and_its_pair_have_the_same_moments(fits, name):
    _, pair, log = fits[name]
    for rows in (TRAIN, KNOWN):
        moments = [m.predict(**rows.without("y"), return_std=True) for m in (pair, log)]
        assert_allclose(moments[0], moments[1], rtol=1e-6)


def test_the_mean_is_that_of_y(fits, name):
    """Mean and deviation agree with integrals of the quantile function, the mean of logs does not.

    The midpoint rule cuts off half a cell at both ends, and the second moment lives in the upper.
    """
    _, _, log = fits[name]
    levels = (np.arange(400) + 0.5) / 400
    mean, std, quantiles = log.predict(**KNOWN.without("y"), return_std=True, quantiles=levels)
    assert_allclose(mean, quantiles.mean(axis=1), rtol=0.002)
    assert_allclose(std, quantiles.std(axis=1), rtol=0.08)
    median = quantiles[:, 199:201].mean(axis=1)
    assert np.abs(mean / median - 1.0).max() > 0.01


def test_forecasts_at_a_horizon_map_back(fits):
    by_hand, _, log = fits["mtlds"]
    rows = KNOWN | {"y_context": NEW["y"]}
    options = {"horizon": 2, "quantiles": LEVELS, "return_std": True}
    mean, std, quantiles = log.predict(**Rows(rows).without("y"), **options)
    below = by_hand.predict(**logged(Rows(rows)).without("y"), **options)
    assert_allclose(quantiles, np.exp(below[2]), rtol=1e-6)
    # Nearly one particle remains, so that a row of log y is normal and y log-normal.
    late = NEW["times"] > 15
    expected = np.exp(below[0] + below[1] ** 2 / 2.0)
    assert_allclose(mean[late], expected[late], rtol=1e-3)
    assert_allclose(std[late], (expected * np.sqrt(np.expm1(below[1] ** 2)))[late], rtol=0.02)


def test_samples_map_back_and_have_the_moments_of_the_forecast(fits):
    by_hand, _, log = fits["mtlds"]
    paths = log.sample_y(**KNOWN.without("y"), n_samples=4000, random_state=0)
    below = by_hand.sample_y(**logged(KNOWN).without("y"), n_samples=4000, random_state=0)
    assert_allclose(paths, np.exp(below), rtol=1e-6)
    mean, std = log.predict(**KNOWN.without("y"), return_std=True)
    error = paths.std(axis=1) / np.sqrt(4000)
    assert np.all(np.abs(paths.mean(axis=1) - mean) < FIVE_ERRORS * error)
    assert_allclose(paths.std(axis=1), std, rtol=0.15)
    y, z = log.sample_sequences(NEW["X"][:9], 4, random_state=0)
    assert_allclose(y, np.exp(by_hand.sample_sequences(NEW["X"][:9], 4, random_state=0)[0]))
    clean = by_hand.sample_sequences(NEW["X"][:9], z=z)[0]
    assert_allclose(log.sample_sequences(NEW["X"][:9], z=z)[0], np.exp(clean))


def test_a_posterior_is_in_the_units_of_y(fits):
    by_hand, _, log = fits["mtlds"]
    rows = {k: v[:N_STEPS] for k, v in NEW.items()}
    first = {k: v[:N_KNOWN] for k, v in rows.items()}
    posterior = log.sequence_posterior(**first)[100]
    below = by_hand.sequence_posterior(**logged(first))[100]
    rest = rows["X"][N_KNOWN:]
    options = {"return_std": True, "quantiles": LEVELS}
    parts = posterior.predict(rest, **options)
    expected = log.predict(**KNOWN.without("y"), **options)
    for part, whole in zip(parts, expected, strict=True):
        assert_allclose(part, whole[N_KNOWN:N_STEPS], rtol=1e-6)
    samples = posterior.sample(rest, 3, random_state=0)
    assert_allclose(samples, np.exp(below.sample(rest, 3, random_state=0)), rtol=1e-6)
    for _ in range(2):
        jacobian = np.nansum(np.log(rows["y"][: posterior.n_rows]))
        assert_allclose(posterior.log_evidence, below.log_evidence - jacobian, atol=1e-6)
        more = slice(N_KNOWN, N_KNOWN + 4)
        posterior = posterior.update(rows["X"][more], rows["y"][more])
        below = below.update(rows["X"][more], np.log(rows["y"][more]))
    assert_allclose(posterior.mean, below.mean, atol=1e-6)


def test_a_transform_that_does_nothing_changes_nothing(name):
    """The moments come from a Gauss-Hermite rule then, not from the plain formula."""
    plain, same = fit(name, None), fit(name, (identity, identity))
    options = {"return_std": True, "quantiles": LEVELS}
    found = same.predict(**KNOWN.without("y"), **options)
    for part, expected in zip(found, plain.predict(**KNOWN.without("y"), **options), strict=True):
        assert_allclose(part, expected, rtol=1e-5)
    density = plain.forecast_log_density(**KNOWN)
    assert_allclose(same.forecast_log_density(**KNOWN), density, atol=1e-5)
    assert (plain.y_transform_, same.y_transform_.functions) == (None, (identity, identity))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_densities_integrate_to_one_and_give_the_moments(spec):
    """The first row of many sequences of which nothing is known: one density on a grid."""
    model = fit("pooled", spec)
    grid = np.concatenate([np.linspace(1e-4, 0.05, 50)[:-1], np.geomspace(0.05, 100.0, 400)])
    if spec in ("log1p", "yeo-johnson", SPECS["pair"]):  # whose densities go on below 0
        grid = np.concatenate([np.linspace(-0.999, 0.0, 100), grid])
    rows = {"X": np.zeros((len(grid), 1)), "groups": np.arange(len(grid)) + 1000}
    density = np.exp(model.forecast_log_density(y=grid, **rows))
    mean, std = model.predict(np.zeros((1, 1)), groups=[999], return_std=True)
    assert_allclose(trapezoid(density, grid), 1.0, atol=2e-3)
    assert_allclose(trapezoid(density * grid, grid), mean[0], rtol=5e-3)
    variance = trapezoid(density * (grid - mean[0]) ** 2, grid)
    assert_allclose(np.sqrt(variance), std[0], rtol=0.02)


@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_learning_goes_on_in_the_units_of_the_first_fit(fits, how):
    by_hand, _, log = (clone(model) for model in fits["pooled"])
    more = make_rows(2, 50, 6)
    for model, rows in ((by_hand, logged(more)), (log, more)):
        model.fit(**(logged(TRAIN) if model is by_hand else TRAIN))
        if how == "partial_fit":
            model.partial_fit(**rows)
        else:
            model.set_params(warm_start=True).fit(**rows)
    below = by_hand.predict(**logged(KNOWN).without("y"), quantiles=LEVELS)[1]
    found = log.predict(**KNOWN.without("y"), quantiles=LEVELS)[1]
    assert_allclose(found, np.exp(below), rtol=1e-6)
    with pytest.raises(ValueError, match="y must be > 0, or NaN, with y_transform='log'; 2 of"):
        getattr(log, "fit" if how == "warm_start" else how)(**with_zero(more, "y"))


def test_two_outputs_have_powers_of_their_own():
    y = np.column_stack([TRAIN["y"], 50.0 + 10.0 * np.log(TRAIN["y"])])
    y[3, 1] = np.nan
    model = fit("mtlds", "box-cox", Rows(TRAIN | {"y": y}))
    assert model.y_transform_.power[0] < 0.7 < model.y_transform_.power[1]
    context = np.column_stack([CONTEXT, 50.0 + 10.0 * np.log(CONTEXT)])
    rows = Rows(NEW | {"y_context": context}).without("y")
    mean, std, quantiles = model.predict(**rows, return_std=True, quantiles=LEVELS)
    assert (mean.shape, std.shape, quantiles.shape) == ((75, 2), (75, 2), (75, 2, 4))
    assert np.all(np.diff(quantiles, axis=2) > 0.0)
    truth = np.column_stack([NEW["y"], 50.0 + 10.0 * np.log(NEW["y"])])
    inside = (quantiles[..., 0] < truth) & (truth < quantiles[..., 3])
    assert inside[~np.isnan(truth)].mean() > 0.7
    assert model.sample_y(**rows, n_samples=2, random_state=0).shape == (75, 2, 2)


def test_wild_tails_leave_a_finite_mean(fits):
    """Particles of one sequence with an enormous spread: quantiles overflow, moments do not."""
    _, _, log = fits["pooled"]
    wild = clone(log).fit(**TRAIN)
    wild._fit_ = wild._fit_._replace(noise_std=np.array([1e3]))
    mean, std, quantiles = wild.predict(**NEW.without("y"), return_std=True, quantiles=[0.1, 0.99])
    top = np.exp(wild.y_transform_.limits[1])
    assert np.all((mean > 0.0) & (mean < top) & (std < top))
    assert np.all(quantiles[:, 0] == 0.0)
    assert np.all(quantiles[:, 1] == np.inf)


# ------------------------------------------------------------------------- errors of the estimators


def with_zero(rows, name):
    values = rows[name].copy()
    values[[2, 5]] = 0.0
    return Rows(rows | {name: values})


def test_fit_refuses_what_log_cannot_take(name):
    bad = with_zero(TRAIN, "y")
    who, n = type(ESTIMATORS[name]).__name__, np.count_nonzero(~np.isnan(bad["y"]))
    message = (
        f"{who}: y must be > 0, or NaN, with y_transform='log'; 2 of {n} observed values are not, "
        "the first is 0 in row 2"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(name, "log", bad)
    order = np.random.default_rng(0).permutation(len(bad["y"]))
    first = np.flatnonzero(np.isin(order, [2, 5]))[0]
    with pytest.raises(ValueError, match=f"the first is 0 in row {first}$"):
        fit(name, "log", Rows({key: value[order] for key, value in bad.items()}))


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("predict", "y_context"),
        ("forecast_log_density", "y_context"),
        ("forecast_log_density", "y"),
        ("score", "y"),
        ("sequence_log_likelihood", "y"),
        ("sequence_posterior", "y"),
        ("sample_y", "y_context"),
    ],
)
def test_every_method_refuses_what_log_cannot_take(fits, method, argument):
    _, _, log = fits["mtlds"]
    call = getattr(log, method)
    names = {"y_context"} if method in ("predict", "sample_y") else {"y", argument}
    rows = Rows({k: v for k, v in KNOWN.items() if k in names | {"X", "groups", "times"}})
    message = (
        rf"MTLDSRegressor(\.score)?: {argument} must be > 0, or NaN, with y_transform='log'; 2 of "
        r"\d+ observed values are not, the first is 0 in row 2"
    )
    with pytest.raises(ValueError, match=message):
        call(**with_zero(rows, argument))


def test_an_update_refuses_what_log_cannot_take(fits):
    _, _, log = fits["mtlds"]
    posterior = log.sequence_posterior(**{k: v[:3] for k, v in NEW.items()})[100]
    message = "SequencePosterior.update: y must be > 0, or NaN, with y_transform='log'; 1 of 2"
    with pytest.raises(ValueError, match=re.escape(message)):
        posterior.update(np.zeros((3, 1)), [1.0, np.nan, -1.0])


@pytest.mark.parametrize("spec", ["sqrt", 3, ("log", "exp")])
def test_an_unknown_transform_is_refused(spec, name):
    with pytest.raises(ValueError, match="y_transform"):
        fit(name, spec)


# ----------------------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("spec", ["box-cox", LOG_PAIR, [identity, identity, np.ones_like]])
def test_pickle_and_clone(spec):
    model = fit("pooled", spec)
    loaded = pickle.loads(pickle.dumps(model))
    options = {"return_std": True, "quantiles": LEVELS, **NEW.without("y")}
    for one, other in zip(model.predict(**options), loaded.predict(**options), strict=True):
        assert_array_equal(one, other)
    assert clone(model).get_params()["y_transform"] == spec


def test_a_search_finds_the_transform():
    """Densities are those of y, so that scores can be compared between transforms."""
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            PooledLDS(n_states=2),
            {"y_transform": [None, "log", LOG_PAIR, "box-cox"]},
            scoring=ForecastScorer(context=N_KNOWN, metric="nll"),
            cv=GroupKFold(2),
        ).fit(**TRAIN)
    plain, log, pair, _ = search.cv_results_["mean_test_score"]
    assert_allclose(log, pair, atol=1e-6)
    assert log > plain + 0.1
    assert search.best_params_["y_transform"] is not None
