import tracemalloc

import numpy as np
import pytest
import reference
from small_families import (
    ALL_KINDS,
    RAGGED,
    draw_sequences,
    each,
    make_family,
    make_posterior,
    make_rows,
    pack,
)

from mtds_sklearn._sequences import select_sequences
from mtds_sklearn.learning import _initialization
from mtds_sklearn.learning._initialization import (
    LOADING_SCALE,
    REVIVAL_PRECISION,
    Block,
    add_block,
    block_entries,
    find_block,
    initial_family,
    n_entries,
    pole_grid,
    residuals_at,
    row_precision,
    spread_sample,
)
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._task_map import Family, natural_parameters

LENGTHS = (60, 45, 60, 52)


def one_block(rng, coordinates, n_inputs, n_outputs):
    """A system of one block with random B, x0 and C; no two sequences of it differ."""
    n = len(coordinates)
    direction = rng.standard_normal((1, n_outputs))
    direction /= np.linalg.norm(direction)
    chart = make_chart(Shape(n, n_inputs, n_outputs, 2), direction, ("A", "B", "x0", "C"))
    theta = rng.standard_normal(len(chart.entries))
    theta[:n] = coordinates
    n_theta = len(theta)
    return Family(chart, np.zeros((n_theta, 0)), theta, np.zeros(n_outputs), np.ones(n_theta))


def predictions(sequences, family, theta=None):
    """Outputs of every sequence at one theta (the bias by default), by `reference`."""
    theta = family.bias if theta is None else theta
    psi = family.chart.const + family.chart.basis @ theta
    shape = tuple(family.chart.shape)
    return np.concatenate([reference.simulate(psi, shape, *rows)[0] for rows in each(sequences)])


def test_candidates_are_stable_and_of_every_kind():
    pairs, singles = pole_grid(single=False), pole_grid(single=True)
    poles = np.array([np.linalg.eigvals(reference.modal_matrix(row)) for row in pairs])
    assert np.all(np.abs(poles) < 1.0)
    is_complex = np.abs(poles[:, 0].imag) > 1e-6
    assert 250 < is_complex.sum() < len(pairs)
    angles = np.abs(np.angle(poles[is_complex, 0]))
    assert angles.min() < np.deg2rad(3.0)
    assert angles.max() > np.deg2rad(177.0)
    real = poles[~is_complex].real
    assert real.min() < -0.8
    assert real.max() > 0.98
    assert np.all(np.abs(np.tanh(singles)) < 1.0)
    assert np.tanh(singles).max() > 0.99


def test_entries_are_those_of_the_chart(rng):
    for coordinates in [*rng.standard_normal((5, 2)), *rng.standard_normal((5, 1))]:
        expected = np.zeros((2, 2))
        n = len(coordinates)
        expected[:n, :n] = reference.modal_matrix(coordinates)
        found = block_entries(coordinates[None])[0].reshape(2, 2)
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("single", [False, True])
def test_regression_is_ridge_on_the_responses_of_the_block(rng, single, missing):
    sequences = make_rows(rng, RAGGED, n_inputs=2, n_outputs=2, missing=missing)
    grid = pole_grid(single)[[3, 7]]
    solution, right = _initialization._regress(grid, sequences, 0.7)
    assert solution.shape == right.shape == (2, len(RAGGED), 2, 9)
    for c, coordinates in enumerate(grid):
        A = block_entries(coordinates[None])[0].reshape(2, 2)
        for i, (inputs, outputs, observed) in enumerate(each(sequences)):
            states, design = np.eye(2), []  # state handed to the row, for either unit start
            driven = np.zeros((2, 4))
            for u in inputs:
                driven = driven + np.kron(u, np.eye(2))
                design.append(np.concatenate([states[0], driven[0], [1.0], u]))
                states, driven = A @ states, A @ driven
            for o in range(2):
                X = np.array(design)[observed[:, o]]
                y = outputs[observed[:, o], o]
                expected = np.linalg.solve(X.T @ X + 0.7 * np.eye(9), X.T @ y)
                np.testing.assert_allclose(solution[c, i, o], expected, rtol=1e-8, atol=1e-10)
                np.testing.assert_allclose(right[c, i, o], X.T @ y, rtol=1e-10, atol=1e-10)


CANDIDATES = {
    "slow": (2, 0.97, 0.3),
    "fast": (2, 0.85, 2.5),
    "real": (2, 0.95, 0.4),
    "single": (1, 0.95, None),
}


def coordinates_of(name):
    """The candidate next to the radius and angle (or the two real poles) of a name."""
    n, first, second = CANDIDATES[name]
    grid = pole_grid(single=n == 1)
    if n == 1:
        return grid[np.argmin(np.abs(np.tanh(grid[:, 0]) - first))]
    poles = np.array([np.linalg.eigvals(reference.modal_matrix(row)) for row in grid])
    if name == "real":
        wanted = np.array([first, second])
        poles = np.sort(poles.real, axis=1)[:, ::-1] + 1e3 * np.abs(poles.imag)
    else:
        wanted = np.array([first * np.exp(1j * second), first * np.exp(-1j * second)])
        poles = np.where(poles.imag[:, :1] > 0, poles, poles[:, ::-1])
    return grid[np.argmin(np.sum(np.abs(poles - wanted), axis=1))]


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("n_inputs", [0, 1, 2])
@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_a_block_of_the_grid_is_found_in_its_outputs(rng, monkeypatch, name, n_inputs, n_outputs):
    """Poles, direction, amplitudes and C together say again what one block says."""
    monkeypatch.setattr(_initialization, "RIDGE", 1e-10)
    coordinates = coordinates_of(name)
    truth = one_block(rng, coordinates, n_inputs, n_outputs)
    sequences = make_rows(rng, LENGTHS, n_inputs=n_inputs, n_outputs=n_outputs, missing=0.2)
    outputs = predictions(sequences, truth)
    residuals = np.where(sequences.observed, outputs, 0.0)
    block = find_block(sequences, residuals, single=len(coordinates) == 1)
    np.testing.assert_allclose(block.coordinates, coordinates)
    np.testing.assert_allclose(np.linalg.norm(block.direction), 1.0)
    assert block.direction[np.argmax(np.abs(block.direction))] > 0.0
    assert block.amplitudes.shape == (len(LENGTHS), 1 + n_inputs, 2)
    empty = initial_family(Shape(0, n_inputs, n_outputs, 2), ALL_KINDS, ALL_KINDS, 1)
    size = n_entries(empty.chart.shape, len(coordinates), ALL_KINDS)
    family = add_block(empty, block, ALL_KINDS, np.zeros((size, 1)))
    np.testing.assert_allclose(predictions(sequences, family), outputs, atol=1e-5)


@pytest.mark.parametrize("limit", [2, 5])
def test_the_order_of_sequences_does_not_matter(rng, monkeypatch, limit):
    monkeypatch.setattr(_initialization, "SCORED_SEQUENCES", limit)
    sequences = make_rows(rng, (30, 12, 25, 17, 22, 30), n_inputs=1, n_outputs=2, missing=0.2)
    expected = find_block(sequences, sequences.outputs, single=False)
    for _ in range(3):
        order = rng.permutation(6)
        shuffled = select_sequences(sequences, order)
        found = find_block(shuffled, shuffled.outputs, single=False)
        np.testing.assert_array_equal(found.coordinates, expected.coordinates)
        np.testing.assert_allclose(found.direction, expected.direction)
        np.testing.assert_allclose(found.amplitudes, expected.amplitudes[order], atol=1e-12)
        np.testing.assert_allclose(found.emission, expected.emission, atol=1e-9)


def test_inputs_of_any_size_leave_a_block_to_find(rng):
    """A new sequence in units that training never saw: its normal equations were singular."""
    inputs = np.column_stack([np.zeros(52), 1e11 * np.cumsum(rng.standard_normal(52))])
    sequences = pack(inputs, rng.standard_normal((52, 2)), (52,))
    block = find_block(sequences, sequences.outputs, single=False)
    assert np.all(np.isfinite(block.amplitudes))
    assert np.all(np.isfinite(block.coordinates))


def test_the_sample_of_sequences_holds_weak_and_strong_ones(rng, monkeypatch):
    outputs = np.repeat([5.0, 1.0, 3.0, 2.0, 4.0], 6)
    sequences = pack(np.zeros((30, 0)), outputs, (6,) * 5)
    sample = spread_sample(sequences, 3)
    np.testing.assert_array_equal(sample.labels, [1, 2, 0])
    assert spread_sample(sample, 3) is sample


def test_the_first_family_says_nothing(rng):
    family = initial_family(Shape(0, 2, 3, 2), ALL_KINDS, ("D",), 2)
    assert [entry[0] for entry in family.chart.entries] == ["D"] * 6 + ["offset"] * 3
    np.testing.assert_array_equal(natural_parameters(family, np.ones((1, 2))), np.zeros((1, 10)))
    np.testing.assert_array_equal(family.noise_std, np.ones(3))
    np.testing.assert_array_equal(family.precision, [1.0] * 6 + [np.inf] * 3)
    np.testing.assert_array_equal(row_precision(family.chart, ()), np.full(9, np.inf))


@pytest.mark.parametrize("n_new", [1, 2])
def test_a_new_block_leaves_the_old_ones_as_they_were(rng, n_new):
    """With amplitudes of zero the outputs stay; old rows of W and b are copied."""
    old = make_family(rng, (2, 1, 2), 2, varying=("A", "x0", "D"))
    old = old._replace(precision=np.where(old.precision < 1.0, 1e5, old.precision))
    sequences, z = draw_sequences(rng, old)
    block = Block(
        rng.standard_normal(n_new),
        np.array([0.6, 0.8]),
        np.zeros((len(RAGGED), 2, 2)),
        rng.standard_normal((2, 1)),
        0.5,
    )
    size = n_entries(old.chart.shape, n_new, ALL_KINDS)
    new = add_block(old, block, ("A", "x0", "D"), rng.standard_normal((size, 2)))
    assert len(new.chart.entries) == size
    for entry, row, bias, precision in zip(
        new.chart.entries, new.loadings, new.bias, new.precision, strict=True
    ):
        if entry in old.chart.entries:
            h = old.chart.entries.index(entry)
            np.testing.assert_array_equal(row, old.loadings[h])
            assert bias == old.bias[h]
            capped = min(old.precision[h], REVIVAL_PRECISION)
            assert precision == (np.inf if np.isinf(old.precision[h]) else capped)
        else:
            assert precision == (1.0 if entry[0] in ("A", "x0", "D") else np.inf)
    np.testing.assert_array_equal(new.noise_std, old.noise_std)
    np.testing.assert_array_equal(new.loadings[~np.isfinite(new.precision)], 0.0)
    for theta_old, theta_new in zip(
        z @ old.loadings.T + old.bias, z @ new.loadings.T + new.bias, strict=True
    ):
        np.testing.assert_allclose(
            predictions(sequences, new, theta_new), predictions(sequences, old, theta_old)
        )


def test_rows_of_a_new_block_are_no_longer_with_many_latents(rng):
    sequences = make_rows(rng, LENGTHS, n_inputs=1, n_outputs=2)
    block = find_block(sequences, sequences.outputs, single=False)
    lengths = []
    for k in (4, 16):
        empty = initial_family(Shape(0, 1, 2, 2), ALL_KINDS, ALL_KINDS, k)
        size = n_entries(empty.chart.shape, 2, ALL_KINDS)
        family = add_block(empty, block, ALL_KINDS, np.ones((size, k)))
        new = [entry not in empty.chart.entries for entry in family.chart.entries]
        lengths.append(np.linalg.norm(family.loadings[new], axis=1))
    np.testing.assert_allclose(lengths[1], lengths[0])
    np.testing.assert_allclose(lengths[0][:2], 2.0 * LOADING_SCALE)  # poles


def test_a_new_block_starts_at_the_size_of_the_residuals(rng):
    amplitudes = (
        rng.standard_normal((50, 3, 2))
        * [
            [[3.0, 1.0]],
        ]
        + 0.5
    )
    block = Block(np.array([0.3, -0.7]), np.ones(1), amplitudes, np.zeros((2, 0)), 0.0)
    empty = initial_family(Shape(0, 2, 1, 2), ALL_KINDS, ALL_KINDS, 1)
    size = n_entries(empty.chart.shape, 2, ALL_KINDS)
    family = add_block(empty, block, ALL_KINDS, np.ones((size, 1)))
    for (kind, i, j), row, bias in zip(
        family.chart.entries, family.loadings[:, 0], family.bias, strict=True
    ):
        if kind == "A":
            assert (bias, row) == (block.coordinates[i], LOADING_SCALE)
        elif kind in ("B", "x0"):
            values = amplitudes[:, 0 if kind == "x0" else 1 + j, i]
            np.testing.assert_allclose(bias, values.mean())
            np.testing.assert_allclose(row, LOADING_SCALE * np.sqrt(np.mean(values**2)))


def test_an_emission_that_differs_around_zero_starts_at_its_size(rng):
    """One state that the second output sees with either sign: in the mean it does not see it."""
    n, decay = 40, 0.9 ** np.arange(20)
    sign = np.where(np.arange(n) % 2 == 0, 0.5, -0.5)
    outputs = np.stack([np.tile(decay, (n, 1)), sign[:, None] * decay], axis=2).reshape(-1, 2)
    sequences = pack(np.zeros((n * 20, 0)), outputs, (20,) * n)
    block = find_block(sequences, sequences.outputs, single=True)
    np.testing.assert_allclose(block.emission, 0.0, atol=1e-3)
    assert block.spread == pytest.approx(0.5, rel=0.02)
    empty = initial_family(Shape(0, 0, 2, 2), ALL_KINDS, ("C",), 1)
    size = n_entries(empty.chart.shape, 1, ALL_KINDS)
    family = add_block(empty, block, ("C",), np.ones((size, 1)))
    row = [kind for kind, _, _ in family.chart.entries].index("C")
    assert family.loadings[row, 0] == pytest.approx(LOADING_SCALE * block.spread)


def test_residuals_are_zero_where_nothing_is_observed(rng):
    family = make_family(rng, (3, 1, 2), 2)
    sequences, z = draw_sequences(rng, family, missing=0.4)
    residuals = residuals_at(sequences, family, z)
    expected = np.zeros_like(sequences.outputs)
    shape = tuple(family.chart.shape)
    for i, (psi, rows) in enumerate(
        zip(natural_parameters(family, z), each(sequences), strict=True)
    ):
        predicted, _ = reference.simulate(psi, shape, *rows)
        span = slice(sequences.offsets[i], sequences.offsets[i + 1])
        expected[span] = np.where(rows[2], rows[1] - predicted, 0.0)
    np.testing.assert_allclose(residuals, expected, atol=1e-12)
    assert np.any(residuals == 0.0)
    posterior = make_posterior(rng, len(RAGGED), 2)
    assert not np.allclose(residuals_at(sequences, family, posterior.mean), residuals)


def test_memory_to_find_a_block_grows_no_faster_than_the_data(rng):
    def peak(n_sequences):
        rows = make_rows(rng, (3,) * n_sequences, n_inputs=1)
        tracemalloc.start()
        find_block(rows, rows.outputs, single=False)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(4000) < 6.0 * peak(1000)
