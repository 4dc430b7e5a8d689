"""Components of p(v): evidence and posteriors in closed form, EM, and how many there are."""

import numpy as np
import pytest
import reference
from systems import assert_close

from mtds_sklearn.learning._component_choice import (
    Places,
    approach,
    fit_components,
    gains_left_out,
    promise_of,
    start_components,
    without_empty,
)
from mtds_sklearn.learning._components import (
    Quadratics,
    _bounded_factors,
    belongings,
    run_em,
    widened,
)
from mtds_sklearn.model._latent_prior import Components


def known_points(x, std) -> Quadratics:
    """What Gaussian measurements of points x (n, k) say: the likelihood N(x; v, std^2 I)."""
    n, k = x.shape
    std = np.broadcast_to(std, n)
    precision = std**-2.0
    level = -0.5 * precision * np.sum(x**2, axis=1) - 0.5 * k * np.log(2.0 * np.pi * std**2)
    stiffness = precision[:, None, None, None] * np.eye(k)
    return Quadratics(level[:, None], (precision[:, None] * x)[:, None], stiffness, np.ones(n))


def at_three_places(quadratics) -> Quadratics:
    """The same near N(0, I) and near two components."""
    return Quadratics(*(np.repeat(part, 3, axis=1) for part in quadratics[:3]), quadratics.weights)


def some_components(rng, k=2):
    factors = np.tril(0.3 * rng.standard_normal((2, k, k)))
    factors[:, np.arange(k), np.arange(k)] = rng.uniform(0.3, 0.9, (2, k))
    return Components(np.array([0.2, 0.5, 0.3]), rng.standard_normal((2, k)), factors)


def clusters(rng, n=60, std=0.2):
    """Measurements of two points, no more scattered than measurements are, and of which."""
    which = np.arange(n) % 2
    error = rng.standard_normal((n, 2))
    for j in range(2):
        here = error[which == j] - error[which == j].mean(axis=0)
        error[which == j] = here @ np.linalg.inv(np.linalg.cholesky(np.cov(here.T))).T
    x = np.array([[1.5, -0.5], [-1.0, 1.0]])[which]
    return known_points(x + 0.9 * std * error, std), which


# ---------------------------------------------------------------------------------- closed forms


def test_evidence_is_that_of_a_measured_gaussian(rng):
    x, std = rng.standard_normal((5, 2)), rng.uniform(0.2, 2.0, 5)
    components = some_components(rng)
    found = belongings(components, known_points(x, std))
    expected = [
        reference.component_log_evidence(point, s**2 * np.eye(2), *components)
        for point, s in zip(x, std, strict=True)
    ]
    assert_close(found.log_evidence, np.array(expected), 1e-10)


def test_posteriors_agree_with_a_grid(rng):
    x, std = rng.standard_normal((3, 2)), np.array([0.5, 1.0, 2.0])
    components = some_components(rng)
    found = belongings(components, known_points(x, std))
    axis = np.linspace(-9.0, 9.0, 601)
    v = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    for i, j in np.ndindex(3, 3):
        alone = Components(np.eye(3)[j] + 1e-300, components.means, components.factors)
        p = np.exp(
            reference.log_mixture_density(v, *alone)
            - 0.5 * np.sum((x[i] - v) ** 2, axis=1) / std[i] ** 2
        )
        p /= p.sum()
        mean = p @ v
        cov = (p[:, None] * (v - mean)).T @ (v - mean)
        np.testing.assert_allclose(found.mean[i, j], mean, atol=1e-3)
        np.testing.assert_allclose(found.cov[i, j], cov, atol=2e-3)


def test_one_place_serves_all_components(rng):
    quadratics, _ = clusters(rng, n=6)
    components = some_components(rng)
    apart = belongings(components, at_three_places(quadratics))
    for one, other in zip(belongings(components, quadratics), apart, strict=True):
        assert_close(one, other, 1e-12)


def test_a_mean_is_as_uncertain_as_its_measurements_leave_it():
    """All measured alike: information 1 + n / (S + std^2) about the mean."""
    n, std, own = 12, 0.5, 0.3
    quadratics = known_points(np.zeros((n, 1)), std)
    components = Components(np.array([1e-9, 1.0]), np.zeros((1, 1)), np.full((1, 1, 1), own))
    expected = own**2 + 1.0 / (1.0 + n / (own**2 + std**2))
    found = widened(components, quadratics).factors[0, 0, 0] ** 2
    assert found == pytest.approx(expected, rel=1e-6)


# ----------------------------------------------------------------------------------------- learning


def test_points_are_found_behind_their_measurements(rng):
    """The scatter is that of the measurements: of the clusters nothing is left but two points."""
    quadratics, which = clusters(rng)
    wide = Components(
        np.array([0.1, 0.45, 0.45]),
        np.array([[0.5, 0.0], [-0.5, 0.0]]),
        np.tile(0.8 * np.eye(2), (2, 1, 1)),
    )
    found = run_em(wide, quadratics, 40)
    np.testing.assert_allclose(found.means, [[1.5, -0.5], [-1.0, 1.0]], atol=0.15)
    std = np.sqrt(np.linalg.eigvalsh(found.factors @ np.swapaxes(found.factors, 1, 2)))
    assert std.max() < 0.05
    share = np.argmax(belongings(found, quadratics).log_evidence, axis=1)
    np.testing.assert_array_equal(share, 1 + which)


def test_a_cluster_has_its_own_width(rng):
    """Measured ten times as well as it is wide, it is as wide as it looks."""
    factor = np.array([[0.6, 0.0], [0.3, 0.2]])
    x = 0.5 + rng.standard_normal((400, 2)) @ factor.T
    start = Components(np.array([0.1, 0.9]), np.zeros((1, 2)), np.eye(2)[None])
    found = run_em(start, known_points(x, 0.02), 30)
    cov = found.factors[0] @ found.factors[0].T
    np.testing.assert_allclose(cov, factor @ factor.T, atol=0.06)


def test_measurements_do_not_hide_a_width(rng):
    """What is not known of points adds to their scatter, else a cluster would shrink to nothing."""
    x = rng.standard_normal((400, 1))
    x = 0.6 * (x - x.mean()) / x.std() * np.sqrt(2.0)  # of variance 2 x 0.6^2, half of it noise
    start = Components(np.array([1e-6, 1.0]), np.zeros((1, 1)), np.ones((1, 1, 1)))
    quadratics = known_points(x, 0.6)
    found = run_em(start, quadratics, 60)
    total = found.weights[0] + found.weights[1] * found.factors[0, 0, 0] ** 2
    assert total == pytest.approx(0.36, abs=0.05)


def test_many_mixtures_at_once_are_what_each_is_alone(rng):
    """Whatever their starts and the weights of sequences, and whichever has to take a step back."""
    quadratics, _ = clusters(rng)
    starts = [some_components(rng) for _ in range(6)]
    weights = rng.uniform(0.0, 2.0, (6, len(quadratics.weights)))
    together = Components(*(np.stack(parts) for parts in zip(*starts, strict=True)))
    found = run_em(together, quadratics._replace(weights=weights), 25)
    for r, (start, weight) in enumerate(zip(starts, weights, strict=True)):
        alone = run_em(start, quadratics._replace(weights=weight), 25)
        for one, each in zip(alone, found, strict=True):
            assert_close(each[r], one, 1e-7)


def test_the_evidence_rises(rng):
    quadratics, _ = clusters(rng)
    components, values = some_components(rng), []
    for _ in range(15):
        components = run_em(components, quadratics, 2)
        values.append(np.logaddexp.reduce(belongings(components, quadratics).log_evidence, 1).sum())
    assert values[-1] - values[0] > 10.0
    assert np.all(np.diff(values) > -0.05)  # what the prior of the components may cost


def test_covariances_lost_in_rounding_are_bounded():
    """Eigenvalues below zero, far too small and far too large become those of a component."""
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    cov = (axes * [-1e-9, 1e-14, 0.25, 1e9]) @ axes.T
    factor = _bounded_factors(cov[None])[0]
    assert_close(factor, np.tril(factor))
    assert_close(np.linalg.eigvalsh(factor @ factor.T), np.array([1e-4, 1e-4, 0.25, 1e2]), 1e-6)


@pytest.mark.parametrize("std", [1e-9, 1e-6, 1e3])
def test_numbers_do_not_break(rng, std):
    """Known to nine digits in one direction and to none in another, all alike, or of one place."""
    n = 20
    for x in (rng.standard_normal((n, 3)), np.tile(rng.standard_normal(3), (n, 1))):
        stiffness = np.zeros((n, 1, 3, 3))
        stiffness[:, 0, 0, 0], stiffness[:, 0, 1, 1] = std**-2.0, 1.0
        pull = np.einsum("njab,nb->nja", stiffness, x)
        quadratics = Quadratics(np.zeros((n, 1)), pull, stiffness, np.ones(n))
        start = some_components(rng, 3)
        found = run_em(start, quadratics, 60)
        assert all(np.isfinite(part).all() for part in (*found, *belongings(found, quadratics)))
        fit_components(quadratics)


def test_sequences_that_count_twice_are_two(rng):
    quadratics, _ = clusters(rng, n=12)
    components = some_components(rng)
    twice = Quadratics(*(np.concatenate([part, part]) for part in quadratics))
    heavy = quadratics._replace(weights=2.0 * quadratics.weights)
    for one, other in zip(run_em(components, heavy, 5), run_em(components, twice, 5), strict=True):
        assert_close(one, other, 1e-8)


def test_empty_components_go_and_what_was_seen_near_them(rng):
    quadratics, _ = clusters(rng, n=20)
    far = np.array([[1.5, -0.5], [30.0, 30.0], [-1.0, 1.0]])
    weights = np.array([0.05, 0.45, 0.02, 0.48])
    components = Components(weights, far, np.tile(0.1 * np.eye(2), (3, 1, 1)))
    near = Quadratics(*(np.repeat(part, 4, axis=1) for part in quadratics[:3]), np.ones(20))
    near.level[:] = np.arange(4.0)
    at = rng.standard_normal((20, 4, 2))
    kept, places = without_empty(components, Places(at, near.level, near))
    assert_close(kept.means, far[[0, 2]])
    assert_close(kept.weights, weights[[0, 1, 3]] / 0.98)
    assert_close(places.quadratics.level[0], np.array([0.0, 1.0, 3.0]))
    assert_close(places.at, at[:, [0, 1, 3]])


def test_places_never_go_downhill_and_come_to_the_modes(rng):
    """Of a likelihood that is steep on one side and flat on the other, where Newton's step lies."""
    components = Components(np.array([0.5, 0.5]), np.array([[1.0]]), np.array([[[3.0]]]))

    def likelihood(v):
        return -np.exp(3.0 * (v - 1.0)) + v

    def look_again(at):
        v = at[..., 0]
        gradient, stiffness = 1.0 - 3.0 * np.exp(3.0 * (v - 1.0)), 9.0 * np.exp(3.0 * (v - 1.0))
        level = likelihood(v) - gradient * v - 0.5 * stiffness * v**2
        pull = (gradient + stiffness * v)[..., None]
        return Quadratics(level, pull, stiffness[..., None, None], np.ones(len(v)))

    def joint(at):
        prior = np.stack([at[:, 0, 0] ** 2, ((at[:, 1, 0] - 1.0) / 3.0) ** 2], axis=1)
        return likelihood(at[..., 0]) - 0.5 * prior

    at = rng.uniform(-8.0, 2.0, (10, 2, 1))
    places = Places(at, np.ones((10, 2)), look_again(at))
    for _ in range(25):
        before, places = joint(places.at), approach(components, places, look_again)
        assert np.all(joint(places.at) >= before - 1e-12)
    grid = np.repeat(np.linspace(-3.0, 3.0, 6001)[:, None, None], 2, axis=1)
    best = grid[np.argmax(joint(grid), axis=0), 0, 0]
    np.testing.assert_allclose(places.at[..., 0], np.tile(best, (10, 1)), atol=0.01)


# ----------------------------------------------------------------------------------------- how many


@pytest.mark.parametrize(("n", "k"), [(12, 2), (40, 4), (100, 1)])
def test_normal_scores_need_no_components(rng, n, k):
    for _ in range(3):
        x = rng.standard_normal((n, k)) + 0.1 * rng.standard_normal((n, k))
        assert fit_components(known_points(x, 0.1)) is None


def test_chance_promises_nothing(rng):
    """In evidence of the sequences that they are learned from, components always add something."""
    promises = []
    for _ in range(6):
        quadratics = known_points(rng.standard_normal((60, 2)), 0.1)
        starts = start_components(quadratics, 3)
        components = run_em(Components(*(part[0] for part in starts)), quadratics, 20)
        promises.append(promise_of(components, quadratics))
        assert promises[-1] > -0.5 * 3 * 6
    assert np.mean(promises) < 0.0


def test_clusters_are_found_and_say_much_of_sequences_left_out(rng):
    quadratics, _ = clusters(rng)
    components = fit_components(quadratics)
    assert len(components.means) == 2
    assert gains_left_out(components, quadratics).mean() > 1.0
    assert components.weights.sum() == pytest.approx(1.0)
    assert 0.0 < components.weights[0] < 0.1


def test_dependence_alone_is_one_component(rng):
    x = rng.standard_normal((100, 2))
    x[:, 1] = 0.97 * x[:, 0] + 0.25 * x[:, 1]
    components = fit_components(known_points(x, 0.05))
    assert components is not None
    assert gains_left_out(components, known_points(x, 0.05)).mean() > 0.8


def test_places_are_looked_at_again_where_components_are(rng):
    """Quadratics that were wrong at first are replaced, and decide."""
    quadratics, _ = clusters(rng)
    asked = []

    def look_again(at):
        asked.append(at.shape)
        return at_three_places(quadratics)

    assert fit_components(quadratics, look_again) is not None
    assert set(asked) == {(60, 3, 2)}
    nothing = known_points(np.sqrt(2.0) * rng.standard_normal((60, 2)), 1.0)
    says_nothing = at_three_places(nothing)
    assert fit_components(quadratics, lambda at: says_nothing) is None
