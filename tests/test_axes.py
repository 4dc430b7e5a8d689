import numpy as np
import pytest
from scipy.stats import invwishart, wishart
from small_families import make_family
from systems import assert_close

from mtds_sklearn.learning._axes import (
    independent_axes,
    log_evidence,
    own_rows,
    share_of_independence,
    simple_rotation,
    unit_rows,
)
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._prior_fit import fit_prior
from mtds_sklearn.model._latent_prior import log_prior_density


def orthogonal(rng, k):
    return np.linalg.qr(rng.standard_normal((k, k)))[0]


def sharp(n, k) -> TaskPosterior:
    """Posteriors whose means nobody asks for."""
    return TaskPosterior(np.zeros((n, k)), np.tile(0.05 * np.eye(k), (n, 1, 1)))


# -------------------------------------------------------------------------------------- evidence


@pytest.mark.parametrize(("k", "n"), [(2, 9), (3, 5), (4, 40)])
def test_the_evidence_is_prior_times_likelihood_over_posterior(rng, k, n):
    scatter = np.cov(rng.standard_normal((k, 3 * k))) * n
    cov = np.cov(rng.standard_normal((k, 4 * k)))  # any
    nus = np.array([0.3, 2.0, 50.0])
    expected = [
        invwishart.logpdf(cov, nu + k + 1, nu * np.eye(k))
        + wishart.logpdf(scatter, n, cov)
        - invwishart.logpdf(cov, nu + k + 1 + n, nu * np.eye(k) + scatter)
        for nu in nus
    ]
    found = log_evidence(scatter / n, n, nus)
    assert_close(found - found[0], np.array(expected) - expected[0], 1e-8)


def test_correlations_that_chance_makes_speak_for_independence(rng):
    few, many = (np.corrcoef(rng.standard_normal((4, n))) for n in (10, 400))
    assert share_of_independence(few, 9.0) > 0.6
    assert share_of_independence(many, 399.0) > 0.8


def test_correlations_that_chance_does_not_make_speak_against_it():
    correlation = np.array([[1.0, 0.7, 0.0], [0.7, 1.0, 0.0], [0.0, 0.0, 1.0]])
    shares = [share_of_independence(correlation, n) for n in (5.0, 40.0, 400.0)]
    assert shares[0] > shares[1] > shares[2]
    assert shares[2] < 0.1


# ------------------------------------------------------------------------------------------ axes


def entries(correlation, rng, scales=(0.5, 3.0, 1.0)):
    """Rows of W, in some gauge of z, of entries that have these correlations."""
    rows = np.linalg.cholesky(correlation) @ orthogonal(rng, len(correlation))
    return np.array(scales[: len(rows)])[:, None] * rows


@pytest.mark.parametrize("n_more", [0, 2])
def test_coordinates_have_the_correlations_that_are_believed(rng, n_more):
    """Some of chance's, those of entries of theta; directions that are left stay white."""
    correlation = np.corrcoef(rng.standard_normal((3, 12)))
    loadings = np.hstack([entries(correlation, rng), np.zeros((3, n_more))])
    turn = orthogonal(rng, 3 + n_more)
    axes, share = independent_axes(loadings @ turn, sharp(12, 3 + n_more), 12)
    assert 0.3 < share < 0.95
    rows = unit_rows(loadings) @ turn
    believed = (1.0 - share) * correlation + share * np.eye(3)
    assert_close(rows @ axes @ axes.T @ rows.T, believed, 1e-10)
    assert np.abs(rows @ axes[:, 3:]).max(initial=0.0) < 1e-10
    assert_close(axes[:, 3:].T @ axes[:, 3:], np.eye(n_more), 1e-10)


def test_independent_coordinates_are_entries_of_theta(rng):
    """Every entry follows one coordinate, nearly so where independence is nearly certain."""
    loadings = entries(np.corrcoef(rng.standard_normal((3, 200))), rng)
    axes, _ = independent_axes(loadings, sharp(200, 3), 200)
    followed = np.sort(np.abs(unit_rows(loadings) @ axes), axis=1)
    assert followed[:, -1].min() > 0.98
    assert followed[:, -2].max() < 0.02


def test_entries_that_go_together_keep_z_white(rng):
    correlation = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    axes, share = independent_axes(entries(correlation, rng), sharp(500, 3), 500)
    assert share < 0.1
    assert_close(axes @ axes.T, np.eye(3), 0.15)


def test_entries_that_depend_on_others_are_no_coordinates(rng):
    own = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
    rows = own @ orthogonal(rng, 3)
    assert sorted(own_rows(rows, np.array([1.0, 0.9, 0.8, 0.7]))) == [0, 1, 3]
    assert own_rows(rows, np.array([0.0, 0.0, 1.0, 0.0])) == [2]
    assert own_rows(rows, np.zeros(4)) == []


def test_entries_that_few_sequences_tell_are_no_coordinates(rng):
    factor = np.tile(np.diag([0.1, 0.95, 0.95]), (20, 1, 1))
    posterior = TaskPosterior(np.zeros((20, 3)), factor)
    axes, share = independent_axes(rng.standard_normal((3, 3)) + 3 * np.eye(3), posterior, 20)
    assert share == 0.0
    assert_close(axes @ axes.T, np.eye(3), 1e-10)


def test_independent_entries_of_new_sequences_are_foreseen_better(rng, monkeypatch):
    """Four entries, seen in ten sequences with the correlations that chance makes."""
    family = make_family(rng, (4, 0, 1), 4)
    family.loadings[4:] = 0.0
    relevant = np.arange(len(family.bias)) < 4
    gains = []
    for _ in range(20):
        seen, new = (rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), (n, 4)) for n in (10, 200))
        seen_mean = seen.mean(axis=0)
        factor = np.linalg.cholesky(np.cov(seen.T, bias=True))  # theta = factor z + mean
        whiten = np.linalg.inv(factor).T
        family.loadings[:4] = factor
        posterior = sharp(10, 4)._replace(mean=(seen - seen_mean) @ whiten)
        z = (new - seen_mean) @ whiten
        log_density = []
        for share in (0.0, None):
            with monkeypatch.context() as patched:
                if share is not None:
                    patched.setattr(
                        "mtds_sklearn.learning._axes.share_of_independence", lambda *_: 0.0
                    )
                prior = fit_prior(family, posterior, relevant)
            log_density.append(np.mean(log_prior_density(prior, z)))
        gains.append(log_density[1] - log_density[0])
    assert np.mean(gains) > 0.3


# ---------------------------------------------------------------------------------- the rotation


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 7])
def test_the_rotation_is_orthogonal(rng, k, n_rows):
    rotation = simple_rotation(rng.standard_normal((n_rows, k)))
    assert_close(rotation.T @ rotation, np.eye(k), 1e-10)


@pytest.mark.parametrize("n_rows", [3, 8])
def test_the_rotation_finds_axes_up_to_sign_and_order(rng, n_rows):
    """Entries of theta that each follow one coordinate, seen in any gauge of z."""
    axis_like = np.zeros((n_rows, 3))
    axis_like[np.arange(n_rows), np.arange(n_rows) % 3] = rng.uniform(0.1, 10.0, n_rows)
    found = axis_like @ orthogonal(rng, 3)
    turned = found @ simple_rotation(found)
    largest = np.max(np.abs(turned), axis=1)
    assert_close(largest, axis_like.sum(axis=1), 1e-6)
    patterns = np.argmax(np.abs(turned), axis=1)
    assert len(set(patterns[:3])) == 3
    np.testing.assert_array_equal(patterns, patterns[np.arange(n_rows) % 3])


def test_the_rotation_does_not_depend_on_the_size_of_rows(rng):
    loadings = rng.standard_normal((6, 3))
    scales = rng.uniform(0.01, 100.0, (6, 1))
    assert_close(simple_rotation(scales * loadings), simple_rotation(loadings), 1e-6)


def test_rows_may_be_too_small_to_be_squared(rng):
    """Entries of theta that the data say nothing of shrink without end: 1e-200 squared is zero."""
    loadings = rng.standard_normal((6, 3))
    scales = np.array([1.0, 1e-200, 1.0, 1.0, 1e-250, 1.0])[:, None]
    assert_close(simple_rotation(scales * loadings), simple_rotation(loadings), 1e-6)
