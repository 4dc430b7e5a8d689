import numpy as np
import pytest
import reference
from small_families import (
    RAGGED,
    draw_sequences,
    each,
    log_likelihoods,
    make_family,
    make_rows,
    observed_outputs,
    pack,
)

from mtds_sklearn.inference import _modes
from mtds_sklearn.inference._modes import (
    POINTS_WITH_INPUTS,
    TEMPERATURES,
    best_starts,
    climb,
    inputs_are_shared,
    inverse_factor,
    misfit,
    search_starts,
)
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._likelihood import evaluations
from mtds_sklearn.model._task_map import Family, natural_parameters

WITH_GAIN = {"free": ("A", "B", "x0", "K", "C", "D", "offset"), "gain": True}
ALL_AND_LEVEL = ("A", "B", "x0", "C", "D", "offset", "noise")
WITH_LEVEL = {"free": ALL_AND_LEVEL, "varying": ALL_AND_LEVEL}
WITH_LEVEL = {"free": ("A", "B", "x0", "C", "D", "offset", "noise")}
CAYLEY = {"block": 3}


def log_joint(sequences, family, i, z):
    """log p(y_i | z) - |z|^2 / 2 by `reference`."""
    psi = natural_parameters(family, z)
    rows = list(each(sequences))[i]
    fit = reference.log_likelihood(psi, tuple(family.chart.shape), *rows, family.noise_std)
    return fit - 0.5 * z @ z


def gauss_newton(sequences, family, i, z):
    """I + J' R^-1 J with J by finite differences of `reference`."""

    def outputs(z):
        return observed_outputs(natural_parameters(family, z), sequences, family, i)

    observed = list(each(sequences))[i][2]
    level = np.exp(natural_parameters(family, z)[-1])
    std = np.broadcast_to(level * family.noise_std, observed.shape)[observed]
    J = reference.finite_difference(outputs, z) / std[:, None]
    return np.eye(len(z)) + J.T @ J


@pytest.mark.parametrize("options", [{}, WITH_GAIN, CAYLEY], ids=["modal", "gain", "cayley"])
def test_climb_ends_where_the_slope_is_zero(rng, options):
    family = make_family(rng, latent_dim=2, **options)
    sequences, z = draw_sequences(rng, family, missing=0.2)
    modes, objective, hessian = climb(z, evaluations(sequences), family, 200, 0.0)
    for i, mode in enumerate(modes):
        slope = reference.finite_difference(lambda z, i=i: log_joint(sequences, family, i, z), mode)
        # What one more Gauss-Newton step promises, in nats.
        assert 0.5 * slope @ np.linalg.solve(hessian[i], slope) < 1e-7
        expected = gauss_newton(sequences, family, i, mode)
        np.testing.assert_allclose(hessian[i], expected, rtol=1e-5, atol=1e-5)
    # What the objective leaves out does not depend on z.
    left_out = log_likelihoods(sequences, family, modes) - 0.5 * np.sum(modes**2, axis=1)
    start = climb(z, evaluations(sequences), family, 0)[1]
    gap = log_likelihoods(sequences, family, z) - 0.5 * np.sum(z**2, axis=1) - start
    np.testing.assert_allclose(left_out - objective, gap, rtol=1e-9)


def test_climb_knows_the_noise_level_of_a_sequence(rng):
    family = make_family(rng, latent_dim=2, **WITH_LEVEL)
    sequences, z = draw_sequences(rng, family, (9, 12))
    modes, _, hessian = climb(z, evaluations(sequences), family, 500, 0.0)
    for i, mode in enumerate(modes):
        slope = reference.finite_difference(lambda z, i=i: log_joint(sequences, family, i, z), mode)
        assert 0.5 * slope @ np.linalg.solve(hessian[i], slope) < 1e-7


def test_climb_never_falls_and_leaves_its_starts_alone(rng):
    family = make_family(rng, latent_dim=3, scale=1.0)
    sequences, _ = draw_sequences(rng, family)
    run = evaluations(sequences, repeats=20)
    starts = rng.standard_normal((20 * len(RAGGED), 3))
    kept = starts.copy()
    values = [climb(starts, run, family, steps)[1] for steps in range(12)]
    np.testing.assert_array_equal(starts, kept)
    assert np.all(np.diff(values, axis=0) >= 0.0)
    assert np.mean(values[-1] - values[0]) > 1.0


def test_climb_stays_at_the_prior_mean_where_nothing_is_observed(rng):
    family = make_family(rng, latent_dim=2)
    sequences = pack(np.zeros((4, 2)), np.full((4, 2), np.nan), (4,))
    modes, _, hessian = climb(np.ones((1, 2)), evaluations(sequences), family, 50)
    np.testing.assert_allclose(modes, 0.0, atol=1e-6)
    np.testing.assert_allclose(hessian, np.eye(2)[None], atol=1e-12)


@pytest.mark.parametrize("size", [1e0, 1e6, 1e12])
def test_the_factor_of_an_inverse_is_found_without_the_inverse(rng, size):
    J = rng.standard_normal((5, 2, 4))  # two directions are known well, two not at all
    H = np.eye(4) + size * np.swapaxes(J, 1, 2) @ J
    factor = inverse_factor(H)
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert np.all(np.einsum("nii->ni", factor) > 0.0)
    whitened = np.swapaxes(factor, 1, 2) @ H @ factor
    np.testing.assert_allclose(whitened, np.tile(np.eye(4), (5, 1, 1)), atol=1e-14 * max(size, 1e4))


def shared_inputs(rng, lengths, n_inputs):
    """Every sequence has the first rows of one table of inputs."""
    table = rng.standard_normal((max(lengths), n_inputs))
    return np.concatenate([table[:length] for length in lengths])


def test_what_rounding_made_indefinite_has_a_factor(rng):
    direction = rng.standard_normal(6)
    huge = np.eye(6) + 1e30 * np.outer(direction, direction)
    huge[0, 1] *= 1.0 - 1e-15
    assert np.linalg.eigvalsh(huge)[0] < 0.0
    fine = np.eye(6) + np.diag(rng.uniform(1.0, 5.0, 6))
    overflowed = np.full((6, 6), np.inf)
    factors = inverse_factor(np.array([huge, fine, overflowed]))
    assert np.isfinite(factors).all()
    assert (np.einsum("njj->nj", factors) > 0.0).all()
    np.testing.assert_allclose(factors[1], inverse_factor(fine), rtol=1e-14)
    np.testing.assert_allclose(factors[2], np.eye(6))
    along = direction @ factors[0] @ factors[0].T @ direction
    assert along < 1e-6 * direction @ direction


@pytest.mark.parametrize("kind", ["none", "zero", "shared", "own"])
@pytest.mark.parametrize("options", [{}, WITH_GAIN, WITH_LEVEL], ids=["plain", "gain", "level"])
def test_misfit_is_the_sum_of_weighted_squares(rng, kind, options):
    n_inputs = 0 if kind == "none" else 2
    family = make_family(rng, (3, n_inputs, 2), **options)
    sequences = make_rows(rng, RAGGED, n_inputs=n_inputs, n_outputs=2, missing=0.3)
    if kind in ("zero", "shared"):
        table = shared_inputs(rng, RAGGED, 2) * (kind == "shared")
        sequences = sequences._replace(inputs=pack(table, sequences.outputs, RAGGED).inputs)
    points = rng.standard_normal((5, 2))
    expected = np.empty((len(RAGGED), 5))
    for i, (inputs, outputs, observed) in enumerate(each(sequences)):
        for c, psi in enumerate(natural_parameters(family, points)):
            shape = tuple(family.chart.shape)
            predicted, _ = reference.simulate(psi, shape, inputs, outputs, observed)
            standard = (outputs - predicted) / (np.exp(psi[-1]) * family.noise_std)
            expected[i, c] = np.sum(standard[observed] ** 2) + 2.0 * observed.sum() * psi[-1]
    np.testing.assert_allclose(misfit(points, sequences, family), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_inputs", [0, 2])
def test_both_ways_to_the_misfit_agree(rng, monkeypatch, n_inputs):
    family = make_family(rng, (3, n_inputs, 2))
    outputs = make_rows(rng, RAGGED, n_outputs=2, missing=0.3)
    values = np.where(outputs.observed, outputs.outputs, np.nan)
    sequences = pack(shared_inputs(rng, RAGGED, n_inputs), values, RAGGED)
    points = rng.standard_normal((7, 2))
    assert inputs_are_shared(sequences, 2)
    fast = misfit(points, sequences, family)
    monkeypatch.setattr(_modes, "inputs_are_shared", lambda *_: False)
    np.testing.assert_allclose(misfit(points, sequences, family), fast, rtol=1e-10)


def test_inputs_are_shared_if_they_start_alike(rng):
    table = shared_inputs(rng, RAGGED, 2)
    outputs = np.zeros(len(table))
    assert inputs_are_shared(pack(np.zeros_like(table), outputs, RAGGED), 2)
    for row in range(len(table)):
        inputs = table.copy()
        inputs[row, 1] += 0.5
        # Only the last rows of the longest sequence (rows 8 to 19) have no counterpart.
        assert inputs_are_shared(pack(inputs, outputs, RAGGED), 2) == (15 <= row < 20)


def test_the_best_points_of_every_temperature_are_started_from(rng):
    points = rng.standard_normal((50, 2))
    misfits = rng.uniform(0.0, 500.0, (3, 50))
    starts = best_starts(points, misfits, 4)
    assert starts.shape == (3, 4 * len(TEMPERATURES), 2)
    for i in range(3):
        for j, temperature in enumerate(TEMPERATURES):
            cost = misfits[i] / (2.0 * temperature) + np.sum(points**2, axis=1) / 2.0
            expected = points[np.argsort(cost)[:4]]
            found = starts[i, 4 * j : 4 * j + 4]
            np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(expected, axis=0))


def test_fewer_points_are_simulated_where_sequences_have_inputs_of_their_own(rng):
    family = make_family(rng, (2, 1, 1))
    points = rng.standard_normal((POINTS_WITH_INPUTS + 50, 2))
    points[POINTS_WITH_INPUTS:] = 0.0  # cheap under any misfit, so that they would be taken
    own, _ = draw_sequences(rng, family)
    assert not np.any(np.all(search_starts(own, family, points) == 0.0, axis=-1))
    none = pack(np.zeros_like(own.inputs), own.outputs, RAGGED)
    assert np.any(np.all(search_starts(none, family, points) == 0.0, axis=-1))


def oscillation(latent_std=0.25):
    """One damped cosine, of amplitude 1 at the first row, whose frequency coordinate varies."""
    shape = Shape(2, 0, 1, 2)
    chart = make_chart(shape, np.ones((1, 1)), ("A", "x0"))
    loadings = np.array([[0.0], [latent_std], [0.0], [0.0]])
    return Family(chart, loadings, np.array([2.0, 0.5, 1.0, 0.0]), np.array([0.1]), np.ones(4))


def test_the_search_finds_the_best_of_many_modes(rng):
    """A damped cosine seen late and seldom leaves several phases; a dense grid knows the best."""
    family = oscillation(latent_std=1.0)
    z = np.array([[-1.2], [0.3], [1.1]])
    outputs = np.full((3, 20), np.nan)
    for i, psi in enumerate(natural_parameters(family, z)):
        args = (
            tuple(family.chart.shape),
            np.zeros((20, 0)),
            np.zeros((20, 1)),
            np.ones((20, 1), bool),
        )
        predicted = reference.simulate(psi, *args)[0][:, 0]
        outputs[i, [9, 14, 19]] = predicted[[9, 14, 19]] + 0.05 * rng.standard_normal(3)
    sequences = pack(np.zeros((60, 0)), outputs.ravel(), (20, 20, 20))
    grid = np.linspace(-4.0, 4.0, 1601)[:, None]
    cost = 0.5 * misfit(grid, sequences, family) + 0.5 * grid[:, 0] ** 2
    n_modes = np.sum((cost[:, 1:-1] < cost[:, 2:]) & (cost[:, 1:-1] < cost[:, :-2]), axis=1)
    assert np.all(n_modes >= 3), n_modes
    starts = search_starts(sequences, family, rng.standard_normal((256, 1)))
    run = evaluations(sequences, repeats=starts.shape[1])
    found, objective, hessian = climb(starts.reshape(-1, 1), run, family, 12, 1e-2)
    found, hessian = found.reshape(*starts.shape), hessian.reshape(3, -1)
    objective = objective.reshape(3, -1)
    best = np.argmax(objective, axis=1)
    np.testing.assert_allclose(
        found[np.arange(3), best, 0], grid[np.argmin(cost, axis=1), 0], atol=0.01
    )
    assert np.all(objective.max(axis=1) >= -cost.min(axis=1) - 0.01)
    for i in range(3):
        expected = gauss_newton(sequences, family, i, found[i, best[i]])
        np.testing.assert_allclose(hessian[i, best[i]], expected[0, 0], rtol=1e-5)
