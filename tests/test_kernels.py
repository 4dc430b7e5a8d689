import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import reference
from scipy.signal import dlsim
from small_families import RAGGED
from systems import (
    INDEX,
    SHAPES,
    all_active,
    assert_close,
    frozen,
    make_systems,
    name_of,
)

from mtds_sklearn.kernels import _forward, _latents, _sensitivities, _together
from mtds_sklearn.model._lds import KINDS, Shape, kind_slices, lds_from_natural, natural_from_lds
from mtds_sklearn.model._normal import normal_entries, symmetric

ALL_SHAPES = pytest.mark.parametrize("shape", SHAPES, ids=name_of)
SOME_SHAPES = pytest.mark.parametrize(
    "shape", [Shape(3, 2, 2, 2), Shape(4, 1, 3, 2), Shape(3, 2, 2, 3)], ids=name_of
)
WITH_AND_WITHOUT_GAIN = pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])


# Packed rows are read-only everywhere: a kernel is compiled anew for arrays of another type.


def simulate(systems, psi=None, *, n_rows=None):
    """Predicted outputs of the evaluations one after the other, and the states they hand on."""
    psi = systems.psi if psi is None else psi
    n_rows = systems.run.n_rows if n_rows is None else n_rows
    start = np.append(0, np.cumsum(n_rows))
    out = np.full((start[-1], systems.shape[2]), np.nan)
    states = np.full((len(psi), systems.shape[0]), np.nan)
    _forward.simulate(
        psi, systems.run.first_row, n_rows, start, systems.run.data, systems.shape,
        systems.chart.gain, out, states,
    )  # fmt: skip
    return out, states


def gauss_newton(systems, active, bounds, *, weight=None, data=None, together=False):
    """Squared residuals, gradient and Gauss-Newton matrix of every evaluation."""
    count = len(systems.psi)
    chart = systems.chart._replace(active=active, bounds=bounds)
    out = (
        np.full((count, systems.shape[2]), np.nan),
        np.full((count, len(active)), np.nan),
        np.full((count, len(normal_entries(chart)[0])), np.nan),
    )
    precision = systems.noise_std**-2.0
    precision.flags.writeable = systems.noise_std.flags.writeable
    rows = (
        systems.psi, systems.run.first_row, systems.run.n_rows,
        np.ones(count) if weight is None else weight, data or systems.run.data, systems.shape,
    )  # fmt: skip
    if together:
        _together.gauss_newton_together(*rows, active, bounds, precision, *out)
    else:
        gain = systems.chart.gain
        _sensitivities.gauss_newton_theta(*rows, gain, active, bounds, precision, *out)
    return *out[:2], symmetric(out[2], chart)


def squared_residuals(systems):
    out = np.full((len(systems.psi), systems.shape[2]), np.nan)
    _forward.squared_residuals(
        systems.psi, systems.run.first_row, systems.run.n_rows, systems.run.data, systems.shape,
        systems.chart.gain, out,
    )  # fmt: skip
    return out


class TestSimulate:
    @ALL_SHAPES
    @WITH_AND_WITHOUT_GAIN
    def test_it_is_the_recursion(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain)
        out, states = simulate(systems)
        start = np.append(0, np.cumsum(systems.run.n_rows))
        for e in range(len(INDEX)):
            predicted, state = systems.simulate(e)
            assert_close(out[start[e] : start[e + 1]], predicted)
            assert_close(states[e], state)

    @pytest.mark.parametrize(
        "shape", [shape for shape in SHAPES if shape.n_states and shape.n_inputs], ids=name_of
    )
    def test_it_is_the_discrete_time_system_of_scipy(self, rng, shape):
        systems = make_systems(rng, shape)
        out, states = simulate(systems)
        lds = lds_from_natural(systems.psi, shape)
        first = 0
        for e in range(len(INDEX)):
            A, B, C, D = lds.A[e], lds.B[e], lds.C[e], lds.D[e]
            inputs = systems.rows(e)[0]
            # One row more, so that dlsim also says what the last row hands on.
            inputs = np.vstack([inputs, np.zeros(shape.n_inputs)])
            system = (A, A @ B, C, C @ B + D, 1.0)
            _, expected, x = dlsim(system, inputs, x0=lds.x0[e])
            rows = slice(first, first + len(inputs) - 1)
            assert_close(out[rows], expected[:-1] + lds.offset[e])
            assert_close(states[e], x[-1])
            first = rows.stop

    @SOME_SHAPES
    @WITH_AND_WITHOUT_GAIN
    @pytest.mark.parametrize("n_first", [1, 5])
    def test_two_pieces_are_one(self, rng, shape, gain, n_first):
        systems = make_systems(rng, shape, gain=gain)
        whole, last = simulate(systems)
        n_first = np.minimum(n_first, systems.run.n_rows)
        head, handed_over = simulate(systems, n_rows=n_first)
        psi = systems.psi.copy()
        psi[:, kind_slices(shape)["x0"]] = handed_over
        second = systems.run._replace(first_row=systems.run.first_row + n_first)
        tail, end = simulate(systems._replace(run=second), psi, n_rows=systems.run.n_rows - n_first)
        is_head = np.concatenate(
            [np.arange(n) < k for n, k in zip(systems.run.n_rows, n_first, strict=True)]
        )
        assert is_head.any()
        assert not is_head.all()
        assert_close(head, whole[is_head], 1e-12)
        assert_close(tail, whole[~is_head], 1e-12)
        assert_close(end, last, 1e-12)

    @SOME_SHAPES
    def test_an_impulse_is_answered_by_powers_of_the_transition(self, rng, shape):
        systems = make_systems(rng, shape)
        at = kind_slices(shape)
        systems.psi[:, at["x0"]] = 0.0
        lds = lds_from_natural(systems.psi, shape)
        for j in range(shape.n_inputs):
            inputs = np.zeros((max(RAGGED), shape.n_inputs))
            inputs[0, j] = 1.0
            blank = np.zeros((len(inputs), shape.n_outputs))
            run = systems.run._replace(
                first_row=np.zeros(len(INDEX), dtype=np.int64),
                data=frozen((inputs, blank, np.zeros(blank.shape, dtype=bool))),
            )
            out, _ = simulate(systems._replace(run=run), n_rows=np.full(len(INDEX), len(inputs)))
            out = out.reshape(len(INDEX), len(inputs), -1) - lds.offset[:, None]
            for e in range(len(INDEX)):
                for lag in range(len(inputs)):
                    power = np.linalg.matrix_power(lds.A[e], lag)
                    expected = lds.C[e] @ power @ lds.B[e, :, j] + lds.D[e, :, j] * (lag == 0)
                    np.testing.assert_allclose(out[e, lag], expected, rtol=1e-10, atol=1e-13)

    @SOME_SHAPES
    def test_it_is_linear_in_inputs_and_initial_state(self, rng, shape):
        systems = make_systems(rng, shape)
        at = kind_slices(shape)
        systems.psi[:, at["offset"]] = 0.0
        x0 = rng.standard_normal((2, len(INDEX), shape.n_states))
        inputs = rng.standard_normal((2, *systems.sequences.inputs.shape))

        def outputs(x0, inputs):
            psi = systems.psi.copy()
            psi[:, at["x0"]] = x0
            run = systems.run._replace(data=frozen((inputs, *systems.run.data[1:])))
            return simulate(systems._replace(run=run), psi)[0]

        combined = outputs(2.0 * x0[0] - 3.0 * x0[1], 2.0 * inputs[0] - 3.0 * inputs[1])
        assert_close(combined, 2.0 * outputs(x0[0], inputs[0]) - 3.0 * outputs(x0[1], inputs[1]))

    @pytest.mark.parametrize(
        "shape", [Shape(4, 2, 2, 2), Shape(5, 1, 2, 2), Shape(4, 2, 3, 4)], ids=name_of
    )
    def test_a_change_of_state_basis_changes_no_output(self, rng, shape):
        systems = make_systems(rng, shape, gain=True)
        lds = lds_from_natural(systems.psi, shape)
        if shape.block == 2:  # the blocks change places, and turn within themselves
            pair = lds.A[:, :2, :2]
            T = np.zeros_like(lds.A)
            T[:, :2, 2:4] = np.eye(2)
            T[:, 2:4, :2] = 0.7 * np.eye(2) - 1.3 * pair
            T[:, 4:, 4:] = -2.0
        else:  # the axes change places and signs
            T = np.eye(4)[[2, 0, 3, 1]] * [1.0, -1.0, -1.0, 1.0] + np.zeros_like(lds.A)
        inverse = np.linalg.inv(T)
        changed = lds._replace(
            A=T @ lds.A @ inverse, B=T @ lds.B, C=lds.C @ inverse, K=T @ lds.K,
            x0=np.einsum("eij,ej->ei", T, lds.x0),
        )  # fmt: skip
        psi = natural_from_lds(changed, shape)
        psi[:, -1] = systems.psi[:, -1]
        assert np.abs(psi - systems.psi).max(axis=1).min() > 0.1
        # Rounding of the new coordinates is amplified where poles are close to one circle.
        assert_close(simulate(systems, psi)[0], simulate(systems)[0], 1e-9)


class TestSquaredResiduals:
    @ALL_SHAPES
    @WITH_AND_WITHOUT_GAIN
    def test_they_are_those_of_the_recursion(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain)
        squared = squared_residuals(systems)
        for e in range(len(INDEX)):
            _, outputs, observed = systems.rows(e)
            errors = np.where(observed, outputs - systems.simulate(e)[0], 0.0)
            assert_close(squared[e], np.sum(errors**2, axis=0))


class TestGaussNewton:
    @ALL_SHAPES
    @WITH_AND_WITHOUT_GAIN
    def test_it_agrees_with_complex_steps(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain)
        squared, gradient, normal = gauss_newton(systems, *all_active(shape))
        assert_close(squared, squared_residuals(systems), 1e-12)
        K = kind_slices(shape)["K"]
        for e, psi in enumerate(systems.psi):
            rows = systems.rows(e)
            expected = reference.gauss_newton(psi, systems.shape, *rows, systems.noise_std)
            if not gain:  # the kernel takes K as given, at zero
                expected[0][K] = expected[1][K] = expected[1][:, K] = 0.0
            assert_close(gradient[e], expected[0])
            assert_close(normal[e], expected[1])

    @pytest.mark.parametrize("coordinates", [(0.3, None), (-0.4, None), (2.0, None), (0.0, 0.0)])
    def test_it_is_smooth_at_a_double_pole(self, rng, coordinates):
        """Where real poles become complex: q = p^2 / 4; with q < 0 they never do."""
        systems = make_systems(rng, Shape(2, 1, 1, 2))
        a, c = coordinates
        q = np.tanh(a)
        if c is None:
            c = np.arctanh(2.0 * np.sqrt(max(q, 0.0)) / (1.0 + q))
        systems.psi[:, :2] = a, c
        _, gradient, _ = gauss_newton(systems, *all_active(systems.chart.shape))
        for e, psi in enumerate(systems.psi):
            rows = systems.rows(e)

            def log_likelihood(psi, rows=rows):
                return reference.log_likelihood(psi, systems.shape, *rows, systems.noise_std)

            # The square root is rounded on a scale of 1e-3, so a step has to be smaller than that.
            expected = reference.finite_difference(log_likelihood, psi, step=1e-7)
            kept = np.ones(len(psi), dtype=bool)
            kept[kind_slices(systems.chart.shape)["K"]] = False
            assert_close(gradient[e, kept], expected[kept], 1e-5)

    @SOME_SHAPES
    @WITH_AND_WITHOUT_GAIN
    def test_what_is_not_active_is_left_out(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain)
        everything, bounds = all_active(shape)
        squared, gradient, normal = gauss_newton(systems, everything, bounds)
        choices = [rng.random(len(everything)) < 0.4 for _ in range(6)]
        for first, last in pairwise(bounds):
            choices.append((everything >= first) & (everything < last))  # one kind alone
        choices.append(np.zeros(len(everything), dtype=bool))
        for choice in choices:
            active = np.flatnonzero(choice)
            found = gauss_newton(systems, active, tuple(np.searchsorted(active, bounds).tolist()))
            assert_close(found[0], squared)
            assert_close(found[1], gradient[:, choice])
            assert_close(found[2], normal[:, choice][:, :, choice])

    def test_a_weight_multiplies_the_derivatives_only(self, rng):
        systems = make_systems(rng, Shape(3, 2, 2, 2), gain=True)
        weight = np.array([0.0, 1.0, 0.3, 2.0, 5.0, 1e-3])
        plain = gauss_newton(systems, *all_active(systems.chart.shape))
        weighted = gauss_newton(systems, *all_active(systems.chart.shape), weight=weight)
        assert_close(weighted[0], plain[0], 1e-14)
        assert_close(weighted[1], plain[1] * weight[:, None], 1e-13)
        assert_close(weighted[2], plain[2] * weight[:, None, None], 1e-13)

    @WITH_AND_WITHOUT_GAIN
    def test_what_is_not_observed_says_nothing(self, rng, gain):
        systems = make_systems(rng, Shape(3, 2, 2, 2), gain=gain)
        inputs, outputs, observed = systems.run.data
        before = gauss_newton(systems, *all_active(systems.chart.shape))
        hidden = frozen((inputs, np.where(observed, outputs, 1e6), observed))
        after = gauss_newton(systems, *all_active(systems.chart.shape), data=hidden)
        for a, b in zip(after, before, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize(
        "shape", [s for s in SHAPES if s.block == 2] + [Shape(3, 1, 9, 2)], ids=name_of
    )
    def test_outputs_that_are_observed_together_are_no_different(self, rng, shape):
        systems = make_systems(rng, shape, missing=0.0)
        inputs, outputs, weights = systems.run.data
        some = rng.uniform(size=(len(weights), 1)) < 0.3

        def found(weight):
            data = frozen((inputs, outputs, np.where(some, weight, weights)))
            return gauss_newton(systems, *all_active(shape), data=data, together=True)

        for weight, observed in ((1.0, some | True), (0.0, ~some)):
            squared, gradient, normal = found(weight)
            for e, psi in enumerate(systems.psi):
                first, n_rows = systems.run.first_row[e], systems.run.n_rows[e]
                seen = np.repeat(observed[first : first + n_rows], shape.n_outputs, axis=1)
                rows = (*systems.rows(e)[:2], seen)
                expected = reference.gauss_newton(psi, systems.shape, *rows, systems.noise_std)
                K = kind_slices(shape)["K"]
                expected[0][K] = expected[1][K] = expected[1][:, K] = 0.0
                assert_close(gradient[e], expected[0])
                assert_close(normal[e], expected[1])
                errors = np.where(seen, rows[1] - reference.simulate(psi, shape, *rows)[0], 0.0)
                assert_close(squared[e], np.sum(errors**2, axis=0))
        moves = slice(-1)  # all entries but the noise level, which counts values
        for less, one, none in zip(found(0.3)[1:], found(1.0)[1:], found(0.0)[1:], strict=True):
            mean = 0.3 * one + 0.7 * none
            assert_close(less[..., moves], mean[..., moves], 1e-12)

    def test_a_sequence_without_observations_has_no_derivatives(self, rng):
        systems = make_systems(rng, Shape(3, 2, 2, 2), gain=True, missing=1.0)
        for values in gauss_newton(systems, *all_active(systems.chart.shape)):
            assert not values.any()


def latent_problem(rng, shape, latent_dim, *, gain=False):
    """Evaluations with an own start each, and a map from z that moves every natural entry."""
    systems = make_systems(rng, shape, gain=gain)
    loadings = 0.3 * rng.standard_normal((systems.psi.shape[1], latent_dim))
    if not gain:
        loadings[kind_slices(shape)["K"]] = 0.0
    bias = systems.psi[0].copy()
    starts = rng.standard_normal((len(INDEX), latent_dim))
    return systems, loadings, bias, starts


def maximize(problem, max_steps, tol=0.0):
    """Modes, their objectives and their matrices; all arguments but these are read-only."""
    systems, loadings, bias, starts = frozen(problem)
    z, k = starts.copy(), starts.shape[1]
    objective, hessian = np.full(len(z), np.nan), np.full((len(z), k, k), np.nan)
    _latents.maximize_latent(
        z, bias, loadings, systems.run.first_row, systems.run.n_rows, systems.run.data,
        systems.shape, systems.chart.gain, frozen(systems.noise_std**-2.0), max_steps, tol,
        objective, hessian,
    )  # fmt: skip
    return z, objective, hessian


def log_joint(problem, e, z):
    """log p(y | z) - |z|^2 / 2 of evaluation e without the constants, by `reference`."""
    systems, loadings, bias, _ = problem
    rows = systems.rows(e)
    psi = loadings @ z + bias
    value = reference.log_likelihood(psi, systems.shape, *rows, systems.noise_std)
    constants = np.log(2.0 * np.pi * systems.noise_std**2) / 2.0
    return value + np.sum(rows[2] * constants) - z @ z / 2.0


LATENT_SHAPES = pytest.mark.parametrize(
    ("shape", "latent_dim"),
    [
        (Shape(0, 2, 2, 2), 2),
        (Shape(1, 1, 1, 2), 1),
        (Shape(2, 0, 1, 2), 3),
        (Shape(3, 2, 2, 2), 2),
        (Shape(3, 1, 2, 3), 2),
        (Shape(2, 2, 1, 3), 3),
        (Shape(4, 2, 3, 4), 5),
        (Shape(5, 1, 3, 2), 4),
    ],
)


class TestMaximizeLatent:
    @LATENT_SHAPES
    @WITH_AND_WITHOUT_GAIN
    def test_objective_and_matrix_are_those_of_the_point(self, rng, shape, latent_dim, gain):
        problem = latent_problem(rng, shape, latent_dim, gain=gain)
        systems, loadings, bias, starts = problem
        z, objective, hessian = maximize(problem, 0)
        np.testing.assert_array_equal(z, starts)
        for e in range(len(INDEX)):
            assert_close(objective[e], log_joint(problem, e, z[e]))
            psi = loadings @ z[e] + bias
            rows = systems.rows(e)
            _, normal = reference.gauss_newton(psi, systems.shape, *rows, systems.noise_std)
            assert_close(hessian[e], np.eye(latent_dim) + loadings.T @ normal @ loadings)

    @LATENT_SHAPES
    @WITH_AND_WITHOUT_GAIN
    def test_it_ends_at_a_stationary_point(self, rng, shape, latent_dim, gain):
        problem = latent_problem(rng, shape, latent_dim, gain=gain)
        # Many steps: where residuals are large, Gauss-Newton converges slowly.
        z, objective, hessian = maximize(problem, 5000)
        assert np.abs(z - problem[-1]).max() > 0.1
        for e in range(len(INDEX)):
            assert_close(objective[e], log_joint(problem, e, z[e]))
            slope = reference.finite_difference(lambda z, e=e: log_joint(problem, e, z), z[e])
            # What a Newton step would still gain.
            assert slope @ np.linalg.solve(hessian[e], slope) < 1e-9 * max(1.0, abs(objective[e]))

    @LATENT_SHAPES
    def test_the_first_step_is_a_damped_newton_step(self, rng, shape, latent_dim):
        problem = latent_problem(rng, shape, latent_dim)
        start, before, hessian = maximize(problem, 0)
        z, after, _ = maximize(problem, 1)
        taken = after > before
        assert taken.sum() >= 3
        np.testing.assert_array_equal(z[~taken], start[~taken])
        for e in np.flatnonzero(taken):
            slope = reference.finite_difference(lambda z, e=e: log_joint(problem, e, z), start[e])
            damped = hessian[e] + 0.01 * np.diag(np.diag(hessian[e]))
            assert_close(z[e] - start[e], np.linalg.solve(damped, slope), 1e-6)

    @SOME_SHAPES
    @WITH_AND_WITHOUT_GAIN
    @pytest.mark.parametrize("kind", KINDS)
    def test_kinds_that_z_does_not_move_may_be_left_out(self, rng, shape, gain, kind):
        problem = latent_problem(rng, shape, 3, gain=gain)
        systems, loadings, bias, starts = problem
        at = kind_slices(shape)
        for moved in (at[kind], slice(0, at[kind].start), slice(at[kind].stop, None)):
            some = np.zeros_like(loadings)
            some[moved] = loadings[moved]
            _, objective, hessian = maximize((systems, some, bias, starts), 0)
            for e in (0, 3):
                rows, psi = systems.rows(e), some @ starts[e] + bias
                assert_close(objective[e], log_joint((systems, some, bias, starts), e, starts[e]))
                _, normal = reference.gauss_newton(psi, systems.shape, *rows, systems.noise_std)
                assert_close(hessian[e], np.eye(3) + some.T @ normal @ some)

    @LATENT_SHAPES
    def test_it_never_lowers_its_objective(self, rng, shape, latent_dim):
        problem = latent_problem(rng, shape, latent_dim)
        values = np.array([maximize(problem, steps)[1] for steps in range(15)])
        assert (np.diff(values, axis=0) >= 0.0).all()
        assert (values[-1] > values[0]).all()

    def test_it_stops_when_a_step_gains_less_than_the_tolerance(self, rng):
        problem = latent_problem(rng, Shape(3, 2, 2, 2), 2)
        values = np.array([maximize(problem, steps)[1] for steps in range(30)])
        _, stopped, _ = maximize(problem, 500, tol=0.1)
        for e in range(len(INDEX)):
            gains = np.diff(values[:, e])
            steps = np.flatnonzero((gains > 0.0) & (gains < 0.1))[0]
            assert stopped[e] == values[steps + 1, e]

    def test_evaluations_do_not_disturb_each_other(self, rng):
        problem = latent_problem(rng, Shape(3, 2, 2, 2), 2)
        systems, *others, starts = problem
        together = maximize(problem, 20)
        for e in range(len(INDEX)):
            one = systems.run._replace(
                first_row=systems.run.first_row[e : e + 1], n_rows=systems.run.n_rows[e : e + 1]
            )
            alone = maximize((systems._replace(run=one), *others, starts[e : e + 1]), 20)
            for a, b in zip(alone, together, strict=True):
                np.testing.assert_array_equal(a[0], b[e])

    def test_without_latents_there_is_nothing_to_do(self, rng):
        problem = latent_problem(rng, Shape(2, 1, 2, 2), 0)
        _, objective, hessian = maximize(problem, 10)
        assert hessian.shape == (len(INDEX), 0, 0)
        for e in range(len(INDEX)):
            assert_close(objective[e], log_joint(problem, e, np.zeros(0)))

    def test_without_observations_the_prior_mean_is_the_mode(self, rng):
        problem = latent_problem(rng, Shape(2, 1, 2, 2), 3)
        unobserved = make_systems(rng, Shape(2, 1, 2, 2), missing=1.0)
        z, objective, hessian = maximize((unobserved, *problem[1:]), 100)
        np.testing.assert_allclose(z, 0.0, atol=1e-8)
        np.testing.assert_allclose(objective, 0.0, atol=1e-15)
        np.testing.assert_array_equal(hessian, np.tile(np.eye(3), (len(INDEX), 1, 1)))


def test_no_evaluation_is_no_error(rng):
    systems = make_systems(rng, Shape(3, 2, 2, 2))
    run = systems.run._replace(first_row=systems.run.first_row[:0], n_rows=systems.run.n_rows[:0])
    empty = systems._replace(run=run, psi=systems.psi[:0])
    assert simulate(empty)[0].shape == (0, 2)
    assert squared_residuals(empty).shape == (0, 2)
    assert len(gauss_newton(empty, *all_active(systems.chart.shape))[1]) == 0


def test_arguments_may_be_read_only(rng):
    """Numba compiles no write to a read-only array, so these kernels write to none of them.

    `maximize_latent` and `gauss_newton_theta` meet read-only arrays in the tests above and below.
    """
    systems = make_systems(rng, Shape(3, 2, 2, 2), gain=True)
    expected = (*simulate(systems), squared_residuals(systems))
    fixed = frozen(systems)
    evaluated = (fixed.psi, fixed.run.first_row, fixed.run.n_rows)
    setting = (fixed.run.data, fixed.shape, True)
    start = frozen(np.append(0, np.cumsum(fixed.run.n_rows)))
    outs = [np.full_like(value, np.nan) for value in expected]
    _forward.simulate(*evaluated, start, *setting, *outs[:2])
    _forward.squared_residuals(*evaluated, *setting, outs[2])
    for actual, value in zip(outs, expected, strict=True):
        assert_close(actual, value, 1e-14)


CHECK_BOUNDS = """
import numpy as np, systems, test_kernels
for shape in systems.SHAPES:
    for gain in (False, True):
        case = systems.make_systems(np.random.default_rng(0), shape, gain=gain)
        fixed, active, bounds = systems.frozen((case, *systems.all_active(shape)))
        weight = systems.frozen(np.ones(len(fixed.psi)))
        for part in test_kernels.gauss_newton(fixed, active, bounds, weight=weight):
            assert np.isfinite(part).all()
twice = systems.frozen(fixed._replace(psi=np.vstack([fixed.psi, fixed.psi])))
try:
    test_kernels.gauss_newton(twice, active, bounds, weight=weight)
except IndexError:
    print("no index out of bounds until there were more psi than sequences")
"""


def test_no_index_is_out_of_bounds(tmp_path):
    """All shapes with checked indices and read-only arguments, in a process that compiles anew."""
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHECK_BOUNDS],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "no index out of bounds until there were more psi than sequences\n"
