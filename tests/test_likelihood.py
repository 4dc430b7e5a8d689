import numpy as np
import pytest
import reference
from scipy.stats import norm
from small_families import RAGGED, each, make_rows
from systems import (
    INDEX,
    SHAPES,
    all_active,
    assert_close,
    assert_derivative,
    make_systems,
    name_of,
)

from mtds_sklearn.kernels import _together
from mtds_sklearn.model import _likelihood
from mtds_sklearn.model._gradient import log_likelihood_gradient
from mtds_sklearn.model._lds import KINDS, Shape
from mtds_sklearn.model._likelihood import (
    evaluations,
    gaussian_log_density,
    log_likelihood,
    predicted_outputs,
    squared_residuals,
    theta_quantities,
)
from mtds_sklearn.model._normal import in_directions, normal_entries, symmetric

SOME_SHAPES = pytest.mark.parametrize("shape", SHAPES[::3], ids=name_of)


def each_evaluation(run):
    """Inputs, outputs and mask of every evaluation."""
    for first, count in zip(run.first_row, run.n_rows, strict=True):
        yield tuple(values[first : first + count] for values in run.data)


class TestEvaluations:
    def test_each_sequence_is_evaluated_as_often_as_asked(self, rng):
        sequences = make_rows(rng, RAGGED, n_inputs=2, n_outputs=2, missing=0.4)
        run = evaluations(sequences, repeats=3)
        expected = [rows for rows in each(sequences) for _ in range(3)]
        for actual, rows in zip(each_evaluation(run), expected, strict=True):
            for a, b in zip(actual, rows, strict=True):
                np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("repeats", [1, 2])
    def test_sequences_are_evaluated_in_the_order_asked(self, rng, repeats):
        sequences = make_rows(rng, RAGGED, n_outputs=2, missing=0.4)
        index = np.array([3, 1, 1])
        run = evaluations(sequences, repeats, index)
        assert run.n_rows.tolist() == np.repeat([RAGGED[i] for i in index], repeats).tolist()
        assert run.first_row.tolist() == np.repeat(sequences.offsets[index], repeats).tolist()

    def test_observed_values_are_counted_by_output(self, rng):
        sequences = make_rows(rng, RAGGED, n_outputs=3, missing=0.5)
        run = evaluations(sequences, index=INDEX)
        for count, (_, _, observed) in zip(run.n_observed, each_evaluation(run), strict=True):
            assert count.tolist() == observed.sum(axis=0).tolist()


class TestGaussianLogDensity:
    """The constants and the mask, against scipy."""

    @pytest.mark.parametrize("log_level", [0.0, -0.7, 1.3])
    def test_it_is_the_sum_over_observed_values(self, rng, log_level):
        noise_std = rng.uniform(0.1, 3.0, 3)
        errors = rng.standard_normal((10, 3))
        observed = rng.random((10, 3)) < 0.6
        density = norm.logpdf(errors, scale=np.exp(log_level) * noise_std)
        actual = gaussian_log_density(
            np.sum(errors**2 * observed, axis=0), observed.sum(axis=0), noise_std, log_level
        )
        assert actual == pytest.approx(density[observed].sum(), rel=1e-12)

    def test_it_is_stacked(self, rng):
        noise_std = rng.uniform(0.1, 3.0, 2)
        squared, n_observed = rng.uniform(1.0, 3.0, (2, 4, 5, 2))
        log_level = rng.standard_normal((4, 5))
        actual = gaussian_log_density(squared, n_observed, noise_std, log_level)
        assert actual.shape == (4, 5)
        for i in np.ndindex(4, 5):
            alone = gaussian_log_density(squared[i], n_observed[i], noise_std, log_level[i])
            assert actual[i] == pytest.approx(alone, rel=1e-14)

    def test_nothing_observed_has_density_one(self):
        assert gaussian_log_density(np.zeros(2), np.zeros(2), np.ones(2), 0.5) == 0.0


class TestPredictions:
    @SOME_SHAPES
    @pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])
    def test_outputs_stand_one_after_the_other(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain)
        yhat, states = predicted_outputs(systems.psi, systems.run, systems.chart)
        expected = [systems.simulate(e) for e in range(len(INDEX))]
        assert_close(yhat, np.concatenate([outputs for outputs, _ in expected]))
        assert_close(states, np.array([state for _, state in expected]))


class TestLogLikelihood:
    @SOME_SHAPES
    @pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])
    def test_it_is_the_sum_of_normal_log_densities(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain)
        actual = log_likelihood(systems.psi, systems.run, systems.chart, systems.noise_std)
        for e, psi in enumerate(systems.psi):
            _, outputs, observed = systems.rows(e)
            std = np.exp(psi[-1]) * systems.noise_std
            density = norm.logpdf(outputs, systems.simulate(e)[0], std)
            assert actual[e] == pytest.approx(density[observed].sum(), rel=1e-10, abs=1e-10)

    def test_it_is_zero_where_nothing_is_observed(self, rng):
        systems = make_systems(rng, Shape(3, 2, 2, 2), missing=1.0)
        values = log_likelihood(systems.psi, systems.run, systems.chart, systems.noise_std)
        np.testing.assert_array_equal(values, np.zeros(len(INDEX)))

    def test_rows_behind_the_last_observation_change_nothing(self, rng):
        systems = make_systems(rng, Shape(3, 2, 2, 2), gain=True)
        inputs, outputs, observed = systems.run.data
        hidden = observed.copy()
        hidden[systems.sequences.offsets[1:] - 1] = False
        hidden.flags.writeable = False
        unseen = systems.run._replace(data=(inputs, outputs, hidden))
        cut = systems.run._replace(n_rows=systems.run.n_rows - 1)
        squared = [squared_residuals(systems.psi, run, systems.chart) for run in (unseen, cut)]
        assert_close(squared[0], squared[1], 1e-14)
        assert (squared[0] < squared_residuals(systems.psi, systems.run, systems.chart)).any()


class TestThetaQuantities:
    @SOME_SHAPES
    @pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])
    def test_the_gradient_is_that_of_the_log_likelihood_in_theta(self, rng, shape, gain):
        free = ("A", "B", "x0", "C", "D", "offset", "noise") + (("K",) if gain else ())
        systems = make_systems(rng, shape, gain=gain, free=free)
        chart, noise_std = systems.chart, systems.noise_std
        theta = rng.uniform(0.2, 0.8, chart.basis.shape[1])
        psi = np.tile(chart.const + chart.basis @ theta, (len(INDEX), 1))
        found = theta_quantities(psi, systems.run, chart, noise_std)
        basis = chart.basis[chart.active]
        for e in range(len(INDEX)):
            rows = systems.rows(e)

            def value(theta, rows=rows):
                psi = chart.const + chart.basis @ theta
                return reference.log_likelihood(psi, tuple(shape), *rows, noise_std)

            assert_derivative(value, found.gradient[e] @ basis, theta)
            _, normal = reference.gauss_newton(psi[e], tuple(shape), *rows, noise_std)
            in_theta = basis.T @ symmetric(found.normal[e], chart) @ basis
            assert_close(in_theta, chart.basis.T @ normal @ chart.basis, 1e-6)
        assert_close(found.squared, squared_residuals(psi, systems.run, chart), 1e-12)

    def test_a_sum_over_evaluations_may_be_weighted(self, rng):
        systems = make_systems(rng, Shape(3, 2, 2, 2))
        weight = rng.uniform(0.0, 2.0, len(INDEX))
        arguments = (systems.psi, systems.run, systems.chart, systems.noise_std)
        plain, weighted = theta_quantities(*arguments), theta_quantities(*arguments, weight)
        assert_close(weighted.gradient, weight[:, None] * plain.gradient, 1e-13)
        assert_close(weighted.normal, weight[:, None] * plain.normal, 1e-13)
        assert_close(weighted.squared, plain.squared, 1e-14)

    @pytest.mark.parametrize(("missing", "calls"), [(0.0, 1), (0.25, 0)], ids=["whole", "gaps"])
    def test_many_outputs_are_no_different(self, rng, monkeypatch, missing, calls):
        systems = make_systems(rng, Shape(4, 0, 6, 2), missing=missing)
        arguments, made = (systems.psi, systems.run, systems.chart, systems.noise_std), []

        def counted(*given):
            made.append(given)
            return gauss_newton_together(*given)

        gauss_newton_together = _together.gauss_newton_together
        monkeypatch.setattr(_together, "gauss_newton_together", counted)
        found = theta_quantities(*arguments)
        assert len(made) == calls
        monkeypatch.setattr(_likelihood, "are_fewer_together", lambda chart: False)
        for ours, plain in zip(found, theta_quantities(*arguments), strict=True):
            assert_close(ours, plain, 1e-12)

    @pytest.mark.parametrize("shape", SHAPES, ids=name_of)
    @pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])
    def test_the_gradient_alone_is_the_same(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain, free=KINDS)
        weight = rng.uniform(0.0, 2.0, len(INDEX))
        arguments = (systems.psi, systems.run, systems.chart, systems.noise_std, weight)
        both = theta_quantities(*arguments)
        squared, gradient = log_likelihood_gradient(*arguments)
        assert_close(gradient, both.gradient, 1e-12)
        assert_close(squared, both.squared, 1e-13)

    @pytest.mark.parametrize("shape", [s for s in SHAPES[1::3] if s.n_states], ids=name_of)
    @pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])
    def test_what_is_not_stored_is_what_is_always_zero(self, rng, shape, gain):
        systems = make_systems(rng, shape, gain=gain, free=KINDS)
        active, bounds = all_active(shape)
        expected = np.zeros((len(active), len(active)))
        for e, psi in enumerate(systems.psi):
            rows = systems.rows(e)
            expected += reference.gauss_newton(psi, tuple(shape), *rows, systems.noise_std)[1]
        if not gain:  # the kernel takes K as given, at zero
            expected[bounds[3] : bounds[4]] = expected[:, bounds[3] : bounds[4]] = 0.0
        rows, columns = normal_entries(systems.chart._replace(active=active, bounds=bounds))
        np.testing.assert_array_equal(np.nonzero(np.tril(expected)), (rows, columns))

    @pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])
    def test_matrices_in_directions_are_products(self, rng, gain):
        systems = make_systems(rng, Shape(4, 1, 3, 2), gain=gain)
        chart = systems.chart
        normal = rng.standard_normal((5, len(normal_entries(chart)[0])))
        directions = rng.standard_normal((len(chart.active), 2))
        expected = directions.T @ symmetric(normal, chart) @ directions
        assert_close(in_directions(normal, chart, directions), expected, 1e-12)

    @pytest.mark.parametrize("gain", [False, True], ids=["free", "gain"])
    def test_the_matrix_is_the_curvature_where_the_fit_is_perfect(self, rng, gain):
        """Without residuals nothing is left out; in the noise level, where they are as expected."""
        systems = make_systems(rng, Shape(3, 2, 2, 2), gain=gain, free=KINDS)
        active, bounds = all_active(systems.chart.shape)
        chart = systems.chart._replace(active=active, bounds=bounds)
        noise = len(active) - 1
        psi = systems.psi[0]
        for residual in (0.0, 1.0):
            run = self.with_residuals(systems, residual * np.exp(psi[-1]) * systems.noise_std)

            def gradient(psi, run=run):
                return theta_quantities(psi[None], run, chart, systems.noise_std).gradient[0]

            normal = theta_quantities(psi[None], run, chart, systems.noise_std).normal[0]
            normal = symmetric(normal, chart)
            curvature = -reference.finite_difference(gradient, psi)
            if residual == 0.0:
                kept = np.delete(active, noise)
                if not gain:
                    kept = np.setdiff1d(kept, np.arange(bounds[3], bounds[4]))
                assert_close(normal[np.ix_(kept, kept)], curvature[np.ix_(kept, kept)], 1e-6)
                assert not normal[noise, :noise].any()
            else:
                assert normal[noise, noise] == pytest.approx(curvature[noise, noise], rel=1e-6)

    @staticmethod
    def with_residuals(systems, residuals):
        """The longest sequence with outputs that differ from the predictions by the residuals."""
        inputs, outputs, observed = (values.copy() for values in systems.run.data)
        first, count = systems.run.first_row[0], systems.run.n_rows[0]
        rows = slice(first, first + count)
        for t in range(count):  # with a gain the outputs so far move the next prediction
            predicted, _ = reference.simulate(
                systems.psi[0], systems.shape, inputs[rows], outputs[rows], observed[rows]
            )
            outputs[first + t] = predicted[t] + residuals
        one = evaluations(systems.sequences, index=INDEX[:1])
        for values in (inputs, outputs, observed):
            values.flags.writeable = False
        return one._replace(data=(inputs, outputs, observed))
