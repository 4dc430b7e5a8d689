"""How many latents a family needs, and sizes that are found rather than given."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_families import draw_sequences, make_family, make_posterior, make_rows

from mtds_sklearn import ForecastScorer, MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.estimators._fitting import resolve_n_init
from mtds_sklearn.learning._em import EMResult
from mtds_sklearn.learning._growth import Options, with_evidence
from mtds_sklearn.learning._latents import (
    LEAST_INFORMATION,
    MOST_LATENTS,
    cut_to,
    most_latents,
    principal_axes,
    reduce_latents,
)
from mtds_sklearn.learning._m_step import curvature
from mtds_sklearn.learning._posterior import cubature_points
from mtds_sklearn.model._task_map import natural_parameters

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIONS = Options(2, 3, (), (), cayley=False, max_iter=30, tol=2e-5)


def learned_from(sequences, family, posterior):
    last = curvature(cubature_points(posterior), sequences, family)
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
