import numpy as np
import pytest
import reference
from small_families import (
    RAGGED,
    draw_sequences,
    each,
    log_likelihoods,
    make_family,
    make_posterior,
    observed_outputs,
    pack,
)

from mtds_sklearn._sequences import frozen, select_sequences
from mtds_sklearn.inference._modes import climb
from mtds_sklearn.learning._e_step import (
    e_step,
    laplace,
    sequence_bounds,
)
from mtds_sklearn.learning._m_step import expected_squares
from mtds_sklearn.learning._posterior import (
    TaskPosterior,
    cubature_points,
    divergence,
    prior_posterior,
)
from mtds_sklearn.model._likelihood import evaluations
from mtds_sklearn.model._task_map import natural_parameters

# With A (and C beside x0) shared, outputs are linear in z and the posterior is Gaussian.
LINEAR = ("B", "x0", "D", "offset")
WITH_GAIN = {"free": ("A", "B", "x0", "K", "C", "D", "offset"), "gain": True}
ALL_AND_LEVEL = ("A", "B", "x0", "C", "D", "offset", "noise")
WITH_LEVEL = {"free": ALL_AND_LEVEL, "varying": ALL_AND_LEVEL}


def covariances(posterior):
    return np.einsum("nij,nkj->nik", posterior.factor, posterior.factor)


def iterate(sequences, family, posterior, n_steps=20, points=None):
    for _ in range(n_steps):
        posterior = e_step(sequences, family, posterior, points)
    return posterior


def quadrature(sequences, family, i, posterior):
    """Mean, covariance and log evidence of sequence i, by `reference` alone."""
    one = select_sequences(sequences, [i])
    k = posterior.mean.shape[1]

    def log_joint(z):
        prior = -0.5 * (z @ z + k * np.log(2.0 * np.pi))
        return log_likelihoods(one, family, z[None])[0] + prior

    factor = 1.2 * posterior.factor[i]  # so that a wider true posterior would be seen
    return reference.gauss_hermite_posterior(log_joint, k, posterior.mean[i], factor, n_nodes=24)


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("gain", [False, True], ids=["deterministic", "gain"])
def test_a_family_linear_in_z_has_its_exact_posterior(rng, latent_dim, gain):
    options = {"varying": LINEAR, **(WITH_GAIN if gain else {})}
    family = make_family(rng, (2, 1, 2), latent_dim, noise_std=0.8, **options)
    sequences, _ = draw_sequences(rng, family, (4, 1, 6), missing=0.2)
    posterior = iterate(sequences, family, make_posterior(rng, 3, latent_dim))
    bounds = sequence_bounds(posterior, sequences, family)
    for i in range(3):
        mean, covariance, evidence = quadrature(sequences, family, i, posterior)
        np.testing.assert_allclose(posterior.mean[i], mean, atol=1e-6)
        np.testing.assert_allclose(covariances(posterior)[i], covariance, atol=1e-6)
        np.testing.assert_allclose(bounds[i], evidence, atol=1e-6)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_nearly_linear_family_has_nearly_its_posterior(rng, latent_dim):
    """Poles vary too, but far less than the rest."""
    family = make_family(rng, (2, 1, 1), latent_dim)
    shrink = np.array([0.05 if kind == "A" else 1.0 for kind, _, _ in family.chart.entries])
    family = family._replace(loadings=shrink[:, None] * family.loadings)
    sequences, _ = draw_sequences(rng, family, (12, 20, 5), missing=0.2)
    posterior = iterate(sequences, family, prior_posterior(3, latent_dim))
    bounds = sequence_bounds(posterior, sequences, family)
    for i in range(3):
        mean, covariance, evidence = quadrature(sequences, family, i, posterior)
        std = np.sqrt(np.diag(covariance))
        assert np.all(std < 0.98), "the sequence says nothing of z"
        np.testing.assert_allclose(posterior.mean[i], mean, atol=0.1 * std.min())
        np.testing.assert_allclose(covariances(posterior)[i], covariance, atol=0.1 * std.max() ** 2)
        assert evidence - 0.05 < bounds[i] < evidence + 0.01


def test_many_latents_have_the_posterior_of_linear_regression(rng):
    family = make_family(rng, (3, 2, 2), 6, varying=LINEAR)
    sequences, _ = draw_sequences(rng, family, missing=0.3)
    posterior = iterate(sequences, family, prior_posterior(len(RAGGED), 6))
    for i, (_, outputs, observed) in enumerate(each(sequences)):

        def predicted(z, i=i):
            return observed_outputs(natural_parameters(family, z), sequences, family, i)

        design = reference.finite_difference(predicted, np.zeros(6), step=1.0)
        std = np.broadcast_to(family.noise_std, observed.shape)[observed]
        gap = outputs[observed] - predicted(np.zeros(6))
        covariance = np.linalg.inv(np.eye(6) + (design / std[:, None] ** 2).T @ design)
        np.testing.assert_allclose(covariances(posterior)[i], covariance, atol=1e-9)
        expected = covariance @ design.T @ (gap / std**2)
        np.testing.assert_allclose(posterior.mean[i], expected, atol=1e-6)


def test_the_bound_has_the_mean_of_the_log_likelihood_over_the_points(rng):
    family = make_family(rng, (3, 2, 2), 2, free=ALL_AND_LEVEL)
    sequences, _ = draw_sequences(rng, family, missing=0.2)
    sequences = sequences._replace(weights=frozen(rng.uniform(0.3, 3.0, len(RAGGED))))
    posterior = make_posterior(rng, len(RAGGED), 2)
    points = cubature_points(posterior)
    expected = np.mean(
        [log_likelihoods(sequences, family, points[:, c]) for c in range(points.shape[1])], axis=0
    )
    found = sequence_bounds(posterior, sequences, family) + divergence(posterior)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize(
    "options", [{}, WITH_GAIN, WITH_LEVEL, {"block": 3}], ids=["modal", "gain", "level", "cayley"]
)
@pytest.mark.parametrize("search", [False, True])
def test_no_step_lowers_the_bound_of_any_sequence(rng, options, search):
    """Loadings are large, so that modes are many and the Gaussian is poor: steps get refused."""
    n_refused = 0
    for _ in range(10):
        family = make_family(rng, (3, 1, 2), 2, scale=1.5, **options)
        sequences, _ = draw_sequences(rng, family, (12, 20, 1, 5), missing=0.2)
        posterior = make_posterior(rng, 4, 2)
        bounds = sequence_bounds(posterior, sequences, family)
        for _ in range(4):
            points = rng.standard_normal((64, 2)) if search else None
            new = e_step(sequences, family, posterior, points)
            new_bounds = sequence_bounds(new, sequences, family)
            assert np.all(new_bounds >= bounds)
            n_refused += np.sum(new_bounds == bounds)
            posterior, bounds = new, new_bounds
    assert n_refused > 0


def test_every_sequence_is_inferred_for_itself(rng):
    family = make_family(rng, (3, 1, 2), 2)
    sequences, _ = draw_sequences(rng, family, missing=0.2)
    start, points = make_posterior(rng, len(RAGGED), 2), rng.standard_normal((32, 2))
    together = e_step(sequences, family, start, points)
    for i in range(len(RAGGED)):
        own = TaskPosterior(start.mean[[i]], start.factor[[i]])
        alone = e_step(select_sequences(sequences, [i]), family, own, points)
        np.testing.assert_allclose(alone.mean[0], together.mean[i], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(alone.factor[0], together.factor[i], rtol=1e-10, atol=1e-12)


def test_a_sequence_that_shows_nothing_keeps_the_prior(rng):
    family = make_family(rng, (3, 2, 1), 2)
    sequences = pack(rng.standard_normal((6, 2)), np.full(6, np.nan), (6,))
    posterior = iterate(sequences, family, make_posterior(rng, 1, 2), 3)
    np.testing.assert_allclose(posterior.mean, 0.0, atol=1e-6)
    np.testing.assert_allclose(covariances(posterior), np.eye(2)[None], atol=1e-12)
    np.testing.assert_allclose(sequence_bounds(posterior, sequences, family), 0.0, atol=1e-12)


def test_without_latents_there_is_nothing_to_infer(rng):
    family = make_family(rng, (3, 2, 1), 0)
    sequences, z = draw_sequences(rng, family)
    posterior = prior_posterior(len(RAGGED), 0)
    assert e_step(sequences, family, posterior) is posterior
    np.testing.assert_allclose(
        sequence_bounds(posterior, sequences, family), log_likelihoods(sequences, family, z)
    )


def test_the_search_leaves_a_wrong_mode(rng):
    """Without points the step stays in the mode next to it; with points it finds the better one."""
    family = make_family(rng, (2, 0, 1), 1, noise_std=0.05)
    loadings = np.array(
        [[0.0 if kind != "A" or i == 0 else 1.0] for kind, i, _ in family.chart.entries]
    )
    family = family._replace(loadings=loadings, bias=np.array([2.5, 0.5, 1.0, 0.0, 0.0]))
    sequences, z = draw_sequences(rng, family, (40, 40, 40))
    wrong = TaskPosterior(-np.sign(z) * 2.0, np.full((3, 1, 1), 0.01))
    stuck = iterate(sequences, family, wrong)
    assert np.all(np.abs(stuck.mean - z) > 0.3)
    found = e_step(sequences, family, wrong, rng.standard_normal((256, 1)))
    np.testing.assert_allclose(found.mean, z, atol=0.05)


def test_laplace_is_the_gaussian_of_the_curvature(rng):
    family = make_family(rng, (2, 1, 1), 3)
    sequences, z = draw_sequences(rng, family)
    modes, _, hessian = climb(z, evaluations(sequences), family, 20)
    posterior = laplace(modes, hessian)
    np.testing.assert_array_equal(posterior.mean, modes)
    np.testing.assert_allclose(covariances(posterior), np.linalg.inv(hessian), rtol=1e-9)
    assert np.all(np.triu(posterior.factor, 1) == 0.0)


@pytest.mark.parametrize("options", [{}, WITH_LEVEL], ids=["plain", "level"])
def test_known_squares_change_nothing(rng, options):
    """Squares of the old posteriors, times the weights of the sequences, need not be found anew."""
    family = make_family(rng, (3, 1, 2), 2, **options)
    sequences, _ = draw_sequences(rng, family, missing=0.2)
    sequences = sequences._replace(weights=frozen(rng.uniform(0.3, 3.0, len(RAGGED))))
    # Some of them are better than what a few steps away from them find.
    posterior = e_step(sequences, family, make_posterior(rng, len(RAGGED), 2))
    mean = posterior.mean + np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, -3.0]])
    posterior = posterior._replace(mean=mean)
    squared = expected_squares(posterior, sequences, family)
    expected = e_step(sequences, family, posterior)
    found = e_step(sequences, family, posterior, squared=squared)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    other = e_step(sequences, family, posterior, squared=np.zeros_like(squared))
    assert not np.array_equal(other.mean, expected.mean)
