"""How many latents a family needs, and sizes that are found rather than given."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_allclose, assert_array_equal
from small_families import (
    draw_sequences,
    each,
    make_family,
    make_posterior,
    make_rows,
    observed_outputs,
    pack,
)

from mtds_sklearn import ForecastScorer, MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators._fitting import resolve_n_init
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.learning import _latents
from mtds_sklearn.learning._e_step import e_step
from mtds_sklearn.learning._em import EMResult
from mtds_sklearn.learning._growth import Options, with_evidence
from mtds_sklearn.learning._latents import (
    LEAST_INFORMATION,
    MOST_LATENTS,
    cut_to,
    missing_columns,
    most_latents,
    principal_axes,
    reduce_latents,
    widen_latents,
    with_columns,
)
from mtds_sklearn.learning._m_step import curvature
from mtds_sklearn.learning._posterior import prior_posterior
from mtds_sklearn.model._task_map import natural_parameters

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIONS = Options(2, 3, (), (), cayley=False, max_iter=30, tol=2e-5)


def learned_from(sequences, family, posterior):
    last = curvature(posterior, sequences, family)
    return with_evidence(sequences, EMResult(family, posterior, last, [0.0], [0.0], True))


@pytest.fixture
def learned(rng):
    sequences = make_rows(rng, (9, 12, 7, 10), n_inputs=1, n_outputs=2)
    return learned_from(sequences, make_family(rng, (2, 1, 2), 3), make_posterior(rng, 4, 3))


def test_axes_are_a_rotation_with_the_information_of_the_posterior(learned):
    information, axes = principal_axes(learned)
    assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert (np.diff(information) <= 0.0).all()
    n_theta = len(learned.family.bias)
    W = learned.family.loadings @ axes
    G = learned.curvature.normal[3 * n_theta :, 3 * n_theta :]
    assert_allclose(W.T @ G @ W, np.diag(information), atol=1e-8 * information[0])


def test_axes_alone_change_no_system(learned, rng):
    turned = cut_to(learned, 3)
    assert not np.allclose(turned.family.loadings, learned.family.loadings)
    assert_allclose(
        natural_parameters(turned.family, turned.posterior.mean),
        natural_parameters(learned.family, learned.posterior.mean),
        atol=1e-12,
    )
    _, axes = principal_axes(learned)
    before = learned.posterior.factor @ np.swapaxes(learned.posterior.factor, 1, 2)
    after = turned.posterior.factor @ np.swapaxes(turned.posterior.factor, 1, 2)
    assert_allclose(after, axes.T @ before @ axes, atol=1e-12)


@pytest.mark.parametrize("n_left", [1, 2, 3])
def test_what_is_left_is_the_family_where_the_other_axes_are_zero(learned, rng, n_left):
    cut = cut_to(learned, n_left)
    _, axes = principal_axes(learned)
    z = rng.standard_normal((5, n_left))
    assert_allclose(
        natural_parameters(cut.family, z),
        natural_parameters(learned.family, z @ axes[:, :n_left].T),
        atol=1e-12,
    )
    # Its derivatives are those of the whole along what is left.
    step = rng.standard_normal((n_left + 1, len(cut.family.bias)))
    whole = np.vstack([axes[:, :n_left] @ step[:-1], step[-1]])
    assert np.sum(cut.curvature.gradient * step) == pytest.approx(
        np.sum(learned.curvature.gradient * whole)
    )
    assert step.ravel() @ cut.curvature.normal @ step.ravel() == pytest.approx(
        whole.ravel() @ learned.curvature.normal @ whole.ravel()
    )


def test_latents_that_outputs_say_nothing_of_are_left_out(rng):
    """A family of three latents, one of which moves nothing, and one of which next to nothing."""
    family = make_family(rng, (0, 2, 1), 3, varying=("D", "offset"), noise_std=0.05)
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    loadings = family.loadings.copy()
    loadings[:, 1] *= 1e-4
    loadings[:, 2] = 0.0
    family = family._replace(loadings=loadings @ rotation)
    sequences, _ = draw_sequences(rng, family, [15] * 30)
    learned = learned_from(sequences, family, make_posterior(rng, 30, 3))
    found = reduce_latents(sequences, learned, OPTIONS, rng.standard_normal((64, 3)))
    assert found.family.loadings.shape[1] == 1
    assert found.posterior.mean.shape == (30, 1)
    assert found.evidence > learned.evidence
    assert [stage.kept for stage in found.stages][-1]
    information, _ = principal_axes(found)
    assert information[0] / 30 > LEAST_INFORMATION


def test_needed_latents_stay(rng):
    family = make_family(rng, (0, 2, 1), 2, varying=("D", "offset"), noise_std=0.05, scale=0.5)
    sequences, _ = draw_sequences(rng, family, [15] * 30)
    learned = learned_from(sequences, family, make_posterior(rng, 30, 2))
    found = reduce_latents(sequences, learned, OPTIONS, rng.standard_normal((64, 2)))
    assert found is learned


# -------------------------------------------------------------------------------- more of them


def draw_points(k):
    return make_draws(k, 0).points


def short_of_latents(rng, n_known, n_sequences=40):
    """Sequences that differ in four ways, and the family with the first of them, inferred."""
    family = make_family(rng, (0, 3, 2), 4, varying=("D", "offset"), noise_std=0.1, scale=0.5)
    sequences, _ = draw_sequences(rng, family, [20] * n_sequences)
    known = family._replace(loadings=family.loadings[:, :n_known])
    posterior = e_step(sequences, known, prior_posterior(n_sequences, n_known))
    return sequences, family, learned_from(sequences, known, posterior)


def distance(loadings, columns):
    """Largest sine between the span of the loadings and that of the columns."""
    basis = np.linalg.qr(columns)[0]
    directions = np.linalg.qr(loadings)[0]
    return np.linalg.norm(directions - basis @ (basis.T @ directions), axis=0).max()


def test_what_is_missing_is_that_of_the_reference(rng, monkeypatch):
    monkeypatch.setattr(_latents, "CHUNK_SEQUENCES", 3)
    lengths = (9, 12, 7, 10, 8, 11, 9, 10)
    sequences = make_rows(rng, lengths, n_inputs=1, n_outputs=2, missing=0.1)
    sequences = sequences._replace(weights=rng.uniform(0.5, 2.0, 8))
    family = make_family(rng, (2, 1, 2), 2, varying=("A", "x0", "D", "offset"))
    learned = learned_from(sequences, family, make_posterior(rng, 8, 2))
    n_theta, vary = len(family.bias), np.isfinite(family.precision)
    count = sequences.weights.sum()
    H = learned.curvature.normal[-n_theta:, -n_theta:] / count
    values, axes = np.linalg.eigh(H[np.ix_(vary, vary)])
    units = np.zeros((n_theta, vary.sum()))
    units[vary] = axes / np.sqrt(values)
    squares = 0.0
    for i, (_, outputs, observed) in enumerate(each(sequences)):
        theta = family.loadings @ learned.posterior.mean[i] + family.bias
        noise = np.broadcast_to(family.noise_std, outputs.shape)[observed]

        def scaled(theta, i=i, noise=noise):
            psi = family.chart.const + family.chart.basis @ theta
            return observed_outputs(psi, sequences, family, i) / noise

        jacobian = reference.finite_difference(scaled, theta)
        residuals = outputs[observed] / noise - scaled(theta)
        d = reference.departure(jacobian, residuals, units)
        squares = squares + sequences.weights[i] * np.outer(d, d) / count
    values, axes = np.linalg.eigh(squares)
    chance = (1 + np.sqrt(4 * values.sum() / count)) ** 2
    beyond = 4 * values > chance
    assert 1 <= beyond.sum() <= 5
    expected = units @ axes[:, beyond]
    expected = expected * (4 * values[beyond] - 1) @ expected.T
    columns = missing_columns(sequences, learned)
    assert_allclose(columns @ columns.T, expected, atol=1e-5 * np.abs(expected).max())
    assert_array_equal(columns[~vary], 0.0)


@pytest.mark.parametrize("n_known", [1, 2, 3])
def test_ways_to_differ_that_are_missing_are_found(rng, n_known):
    sequences, family, learned = short_of_latents(rng, n_known)
    columns = missing_columns(sequences, learned)
    assert columns.shape[1] == 4 - n_known
    wider = widen_latents(sequences, learned, OPTIONS, draw_points)
    assert wider.family.loadings.shape[1] == wider.posterior.mean.shape[1] == 4
    assert wider.evidence > learned.evidence + 100
    assert [stage.kept for stage in wider.stages] == [True, True]
    assert distance(wider.family.loadings, family.loadings) < 0.1
    assert distance(learned.family.loadings, family.loadings) < 1e-9  # and was part of it before
    assert_allclose(wider.family.noise_std, family.noise_std, rtol=0.1)


def test_where_nothing_is_missing_nothing_is_tried(rng):
    sequences, _, learned = short_of_latents(rng, 4)
    assert missing_columns(sequences, learned).shape == (len(learned.family.bias), 0)
    assert widen_latents(sequences, learned, OPTIONS, draw_points) is learned


def test_latents_that_raise_no_evidence_are_not_kept(rng, monkeypatch):
    sequences, _, learned = short_of_latents(rng, 4)
    useless = 0.1 * rng.standard_normal((len(learned.family.bias), 2))
    monkeypatch.setattr(_latents, "missing_columns", lambda *_: useless)
    same = widen_latents(sequences, learned, OPTIONS, draw_points)
    assert same.family is learned.family
    assert [stage.kept for stage in same.stages] == [True, False]


def test_sequences_differ_in_no_more_ways_than_they_can_tell(rng):
    for n_sequences, n_missing in ((4, 1), (3, 0)):
        sequences, _, learned = short_of_latents(rng, 2, n_sequences)
        assert missing_columns(sequences, learned).shape[1] == n_missing


def test_sequences_without_values_ask_for_nothing(rng):
    sequences, _, learned = short_of_latents(rng, 2)
    rows = [*each(sequences), (np.ones((5, 3)), np.full((5, 2), np.nan), None)]
    inputs, outputs = (np.concatenate([row[j] for row in rows]) for j in (0, 1))
    empty = prior_posterior(1, 2)
    both = zip(learned.posterior, empty, strict=True)
    more = learned._replace(posterior=type(empty)(*(np.concatenate(parts) for parts in both)))
    wider = widen_latents(pack(inputs, outputs, [20] * 40 + [5]), more, OPTIONS, draw_points)
    expected = widen_latents(sequences, learned, OPTIONS, draw_points)
    assert_array_equal(wider.family.loadings, expected.family.loadings)
    assert_array_equal(wider.posterior.mean, np.vstack([expected.posterior.mean, np.zeros((1, 4))]))
    assert_array_equal(wider.posterior.factor[-1], np.eye(4))


def test_new_latents_move_nothing_that_is_known(learned, rng):
    wider = with_columns(learned, rng.standard_normal((len(learned.family.bias), 2)))
    z = rng.standard_normal((5, 3))
    assert_allclose(
        natural_parameters(wider.family, np.hstack([z, np.zeros((5, 2))])),
        natural_parameters(learned.family, z),
    )
    # The prior of a row of W, k entries of one precision, is as wide as it was.
    assert_allclose(5 / wider.family.precision, 3 / learned.family.precision)
    assert_array_equal(wider.posterior.mean[:, 3:], 0.0)
    assert_array_equal(wider.posterior.factor[:, 3:, 3:], np.tile(np.eye(2), (4, 1, 1)))


# ------------------------------------------------------------------------------- where to begin


def test_sequences_differ_in_fewer_ways_than_there_are():
    assert [most_latents(n) for n in (1, 2, 4, 9, 500)] == [1, 1, 3, 8, MOST_LATENTS]


@pytest.mark.parametrize(
    ("n_init", "n_sequences", "find", "expected"),
    [("auto", 19, False, 4), ("auto", 20, False, 1), ("auto", 20, True, 2), ("auto", 5, True, 4),
     (3, 20, True, 3)],
)  # fmt: skip
def test_more_starts_where_there_is_more_to_find(n_init, n_sequences, find, expected):
    options = OPTIONS._replace(find_latents=find)
    assert resolve_n_init(n_init, n_sequences, options) == expected


# --------------------------------------------------------------------------------- the estimators


def test_sizes_are_found():
    data = make_oscillators(20, 40, n_oscillators=1, random_state=0)
    new = make_oscillators(30, 40, n_oscillators=1, random_state=1)
    rows = {"groups": data.groups, "times": data.times}
    found = MTLDSRegressor("auto", "auto", n_init=1, disturbance="none", random_state=0).fit(
        data.X, data.y, **rows
    )
    given = MTLDSRegressor(2, 2, n_init=1, disturbance="none", random_state=0).fit(
        data.X, data.y, **rows
    )
    assert (found.n_states_, found.latent_dim_) == (2, 2)  # frequency and decay
    assert found.posterior_mean_.shape == (20, 2)
    assert found.get_params()["latent_dim"] == "auto"
    where = {"groups": new.groups + 100, "times": new.times}
    gain = found.sequence_log_likelihood(new.X, new.y, **where) - given.sequence_log_likelihood(
        new.X, new.y, **where
    )
    assert gain.mean() > -0.1
    y, z = found.sample_sequences(np.zeros((4, 1)), 3, random_state=0)
    assert (y.shape, z.shape) == ((3, 4), (3, 2))
    found.partial_fit(new.X, new.y, **where)
    assert found.latent_dim_ == 2


def test_more_latents_than_growth_begins_with_are_found(rng):
    """Twelve inputs whose effects differ independently of each other."""
    n_sequences, n_rows, n_inputs = 60, 40, 12
    effects = rng.standard_normal((2 * n_sequences, n_inputs))
    X = rng.standard_normal((2 * n_sequences, n_rows, n_inputs))
    mean = np.einsum("ntj,nj->nt", X, effects)
    y, X = (mean + 0.1 * rng.standard_normal(mean.shape)).ravel(), X.reshape(-1, n_inputs)
    groups = np.repeat(np.arange(2 * n_sequences), n_rows)
    train = groups < n_sequences
    model = MTLDSRegressor(1, varying=("D",), n_init=1, disturbance="none", tol=2e-4)
    model.fit(X[train], y[train], groups=groups[train])
    assert MOST_LATENTS < model.latent_dim_ == n_inputs
    assert model.noise_std_ == pytest.approx(0.1, rel=0.1)
    late = ~train & (np.arange(len(y)) % n_rows >= 20)
    known = np.where(late, np.nan, y)
    q = model.predict(
        X[~train], groups=groups[~train], y_context=known[~train], quantiles=[0.05, 0.95]
    )[1]
    inside = (y[~train] > q[:, 0]) & (y[~train] < q[:, 1])
    assert inside[late[~train]].mean() == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize("model", [PooledLDS("auto"), SingleTaskLDS("auto")])
def test_the_baselines_find_their_states(model):
    data = make_oscillators(2, 60, n_oscillators=1, random_state=0)
    own = data.groups == 0
    model.fit(data.X[own], data.y[own], groups=data.groups[own])
    assert np.all(model.n_states_ == 2)


@pytest.mark.filterwarnings("ignore:.*got 1 sequence:UserWarning")
def test_one_sequence_has_one_latent():
    data = make_oscillators(1, 40, n_oscillators=1, random_state=0)
    assert MTLDSRegressor(2, "auto", random_state=0).fit(data.X, data.y).latent_dim_ == 1


@pytest.mark.parametrize("value", ["all", 0, 1.5])
def test_sizes_are_numbers_or_auto(value):
    with pytest.raises(
        ValueError, match=f"'latent_dim' parameter of MTLDSRegressor .* Got {value!r}"
    ):
        MTLDSRegressor(latent_dim=value).fit(np.zeros((4, 1)), np.arange(4.0))
    with pytest.raises(ValueError, match=f"'n_states' parameter of PooledLDS .* Got {value!r}"):
        PooledLDS(n_states=value).fit(np.zeros((4, 1)), np.arange(4.0))


# ------------------------------------------------------------------------------------ by a search


@pytest.mark.slow
def test_a_search_by_contexts_picks_what_is_true():
    """Two oscillators with common amplitudes: four states, four latents, only A varies."""
    import sklearn
    from sklearn.model_selection import GridSearchCV, GroupKFold

    data = make_oscillators(30, random_state=0)
    grid = {
        "n_states": [2, 4],
        "latent_dim": [2, 4],
        "varying": [("A",), ("x0",), ("offset", "D")],
    }
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            MTLDSRegressor(random_state=0, n_init=1, disturbance="none"), grid, cv=GroupKFold(2),
            scoring=ForecastScorer(30, "nll"), error_score="raise",
        )  # fmt: skip
        search.fit(data.X, data.y, groups=data.groups, times=data.times)
    assert search.best_params_ == {"n_states": 4, "latent_dim": 4, "varying": ("A",)}
    scores = np.sort(search.cv_results_["mean_test_score"])
    assert scores[-1] > scores[-2] + 0.1
