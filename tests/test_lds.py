import numpy as np
import pytest
import reference
from systems import (
    INDEX,
    SHAPES,
    all_active,
    assert_close,
    make_directions,
    make_natural,
    make_systems,
    name_of,
)

from mtds_sklearn.model._chart import complement, make_chart, theta_names
from mtds_sklearn.model._lds import (
    KINDS,
    LDS,
    Shape,
    is_modal,
    kind_sizes,
    kind_slices,
    lds_from_natural,
    modal_entries,
    natural_from_lds,
    transition_coordinates,
    transition_matrix,
)
from mtds_sklearn.model._likelihood import theta_quantities
from mtds_sklearn.model._normal import symmetric

ALL_SHAPES = pytest.mark.parametrize("shape", SHAPES, ids=name_of)
MODAL = [shape for shape in SHAPES if shape.block == 2]
CAYLEY = [shape for shape in SHAPES if shape.block != 2]


def draw_coordinates(rng, shape, count, scale=1.0):
    return scale * rng.standard_normal((count, kind_sizes(shape)[0]))


@ALL_SHAPES
def test_the_transition_matrix_is_the_definition_of_the_chart(rng, shape):
    coordinates = draw_coordinates(rng, shape, 20)
    for row, A in zip(coordinates, transition_matrix(coordinates, shape), strict=True):
        if is_modal(shape):
            expected = reference.modal_matrix(row)
        else:
            expected = reference.cayley_matrix(row, shape.n_states)
        assert_close(A, expected, 1e-12)


@ALL_SHAPES
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_poles_are_inside_the_unit_circle(rng, shape, scale):
    A = transition_matrix(draw_coordinates(rng, shape, 500, scale), shape)
    poles = np.linalg.eigvals(A) if shape.n_states else np.zeros((500, 0))
    assert np.all(np.abs(poles) < 1.0)


def test_a_modal_block_reaches_every_stable_pair(rng):
    modulus, angle = rng.uniform(0.01, 0.99, 50), rng.uniform(0.01, 0.99, 50) * np.pi
    complex_pairs = np.stack([modulus * np.exp(1j * angle), modulus * np.exp(-1j * angle)])
    pairs = np.concatenate([complex_pairs, rng.uniform(-0.99, 0.99, (2, 50))], axis=1)
    p, q = pairs.sum(axis=0).real, pairs.prod(axis=0).real
    coordinates = np.stack([np.arctanh(q), np.arctanh(p / (1.0 + q))], axis=1)
    A = transition_matrix(coordinates, Shape(2, 0, 1, 2))
    for matrix, pair in zip(A, pairs.T, strict=True):
        assert_close(np.poly(matrix), np.poly(pair).real, 1e-12)


def test_the_states_of_a_block_turn_into_each_other(rng):
    """Away from a double pole the entries beside the diagonal are of one size."""
    a, c = rng.uniform(-2.0, 2.0, (2, 200))
    half, upper, lower = modal_entries(a, c)
    apart = np.abs(upper * lower) > 0.05
    assert apart.sum() > 100
    np.testing.assert_allclose(np.abs(lower[apart]), upper[apart], rtol=1e-3)
    assert np.all(upper > 0.0)
    assert_close(half, np.tanh(c) * (1.0 + np.tanh(a)) / 2.0, 1e-14)


@ALL_SHAPES
def test_coordinates_and_matrix_round_trip(rng, shape):
    A = transition_matrix(draw_coordinates(rng, shape, 200).reshape(20, 10, -1), shape)
    coordinates = transition_coordinates(A, shape)
    assert coordinates.shape == (20, 10, kind_sizes(shape)[0])
    assert_close(transition_matrix(coordinates, shape), A, 1e-10)


@pytest.mark.parametrize("shape", MODAL, ids=name_of)
def test_modal_coordinates_are_unique(rng, shape):
    coordinates = draw_coordinates(rng, shape, 50)
    A = transition_matrix(coordinates, shape)
    assert_close(transition_coordinates(A, shape), coordinates, 1e-8)


@pytest.mark.parametrize("shape", [s for s in CAYLEY if s.n_states > 1], ids=name_of)
def test_cayley_matrices_are_contractions_along_the_axes(rng, shape):
    coordinates = draw_coordinates(rng, shape, 50)
    A = transition_matrix(coordinates, shape)
    scale = np.tanh(coordinates[:, : shape.n_states])
    expected = np.zeros_like(A)
    expected[:, range(shape.n_states), range(shape.n_states)] = scale**2
    assert_close(A @ np.swapaxes(A, 1, 2), expected, 1e-12)


@ALL_SHAPES
def test_natural_vector_and_matrices_round_trip(rng, shape):
    psi = make_natural(rng, shape, 6).reshape(2, 3, -1)
    psi[..., -1] = 0.7
    lds = lds_from_natural(psi, shape)
    n, m, p, _ = shape
    shapes = LDS((n, n), (n, m), (p, n), (p, m), (p,), (n,), (n, p))
    assert [matrix.shape[2:] for matrix in lds] == list(shapes)
    for e in np.ndindex(2, 3):
        expected = reference.split(psi[e], tuple(shape))
        for kind, matrix in lds._asdict().items():
            assert_close(matrix[e], expected[kind], 1e-12)
    back = natural_from_lds(lds, shape, log_level=0.7)
    again = lds_from_natural(back, shape)
    for first, second in zip(lds, again, strict=True):
        assert_close(second, first, 1e-10)
    assert_close(back[..., -1], psi[..., -1], 1e-15)
    if shape.block == 2:
        assert_close(back, psi, 1e-8)


@ALL_SHAPES
def test_kinds_divide_the_natural_vector(shape):
    at = kind_slices(shape)
    n, m, p, _ = shape
    n_chart = n if is_modal(shape) else n * (n + 1) // 2
    sizes = dict(zip(KINDS, (n_chart, n * m, n, n * p, p * n, p * m, p, 1), strict=True))
    position = 0
    for kind in KINDS:
        assert at[kind] == slice(position, position + sizes[kind])
        position += sizes[kind]


@pytest.mark.parametrize("n_outputs", [1, 2, 3, 6])
def test_the_complement_is_an_orthonormal_basis(rng, n_outputs):
    directions = rng.standard_normal((20, n_outputs))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for direction in [*directions, *np.eye(n_outputs), *-np.eye(n_outputs)]:
        kept = direction.copy()
        basis = complement(direction)
        assert basis.shape == (n_outputs, n_outputs - 1)
        together = np.column_stack([direction, basis])
        assert_close(together.T @ together, np.eye(n_outputs), 1e-14)
        np.testing.assert_array_equal(direction, kept)


def test_the_complement_of_an_axis_is_the_other_axes():
    for axis in range(3):
        basis = complement(np.eye(3)[axis])
        assert_close(basis, np.delete(np.eye(3), axis, axis=1), 1e-15)


@pytest.mark.parametrize("shape", MODAL, ids=name_of)
def test_the_gauge_of_each_block_is_fixed(rng, shape):
    """Along its direction a block puts out its first state, whatever theta is."""
    directions = make_directions(rng, shape)
    for free in (KINDS, ("A", "x0")):
        chart = make_chart(shape, directions, free)
        theta = rng.standard_normal((5, chart.basis.shape[1]))
        C = lds_from_natural(chart.const + theta @ chart.basis.T, shape).C
        along = np.einsum("so,eos->es", np.repeat(directions, 2, axis=0)[: shape.n_states], C)
        first = np.arange(shape.n_states) % 2 == 0
        np.testing.assert_allclose(along, np.tile(first, (5, 1)), atol=1e-14)
        n_free = shape.n_states * (shape.n_outputs - 1) if "C" in free else 0
        assert np.linalg.matrix_rank(C.reshape(5, -1) - C.reshape(5, -1)[0]) == min(4, n_free)


@ALL_SHAPES
@pytest.mark.parametrize(
    "free", [KINDS, ("A", "x0"), ("B", "C", "offset"), ("noise", "D"), ()], ids="-".join
)
def test_a_chart_knows_its_entries(rng, shape, free):
    chart = make_chart(shape, make_directions(rng, shape), free, gain=True)
    assert chart.gain
    assert chart.free == free
    at = kind_slices(shape)
    n_theta = len(chart.entries)
    assert chart.basis.shape == (at["noise"].stop, n_theta)
    assert len(set(chart.entries)) == len(set(theta_names(chart))) == n_theta
    kinds = [entry[0] for entry in chart.entries]
    assert kinds == sorted(kinds, key=KINDS.index)
    assert set(kinds) <= set(free)
    for kind, column in zip(kinds, chart.basis.T, strict=True):
        moved = np.flatnonzero(column)
        assert moved.size
        assert np.all((moved >= at[kind].start) & (moved < at[kind].stop))
    # Orthonormal columns: no entry of theta moves what another one moves.
    np.testing.assert_allclose(chart.basis.T @ chart.basis, np.eye(n_theta), atol=1e-14)
    moved = np.flatnonzero(np.abs(chart.basis).sum(axis=1))
    np.testing.assert_array_equal(chart.active, moved)
    for kind, first, last in zip(KINDS, chart.bounds, chart.bounds[1:], strict=False):
        expected = moved[(moved >= at[kind].start) & (moved < at[kind].stop)]
        np.testing.assert_array_equal(chart.active[first:last], expected)
    assert chart.bounds[0] == 0
    assert chart.bounds[8] == len(chart.active)


def test_one_state_is_the_same_in_both_charts(rng):
    directions = make_directions(rng, Shape(1, 2, 2, 2))
    modal, cayley = (make_chart(Shape(1, 2, 2, block), directions, KINDS) for block in (2, 1))
    assert cayley.entries == modal.entries
    np.testing.assert_array_equal(cayley.const, modal.const)
    np.testing.assert_array_equal(cayley.basis, modal.basis)


@ALL_SHAPES
def test_every_kind_is_complete_or_absent(rng, shape):
    chart = make_chart(shape, make_directions(rng, shape), KINDS)
    sizes = dict(zip(KINDS, kind_sizes(shape), strict=True))
    if is_modal(shape):
        sizes["C"] = shape.n_states * (shape.n_outputs - 1)
    kinds = [entry[0] for entry in chart.entries]
    assert {kind: kinds.count(kind) for kind in KINDS} == sizes


@ALL_SHAPES
def test_an_entry_says_which_number_it_moves(rng, shape):
    """The entries of a matrix by row and column; those of C in the modal chart by state."""
    chart = make_chart(shape, make_directions(rng, shape), KINDS)
    at = kind_slices(shape)
    before = lds_from_natural(chart.const, shape)
    for (kind, i, j), column in zip(chart.entries, chart.basis.T, strict=True):
        if kind in ("A", "noise"):
            assert np.flatnonzero(column) == at[kind].start + i
            assert j == 0
            continue
        after = lds_from_natural(chart.const + column, shape)
        moved = getattr(after, kind) - getattr(before, kind)
        if kind == "C" and is_modal(shape):
            free = np.linalg.norm(np.delete(moved, i, axis=1))
            assert free == 0.0
            assert_close(moved[:, i], complement(chart.directions[i // 2])[:, j], 1e-14)
        else:
            assert moved[(i, j) if moved.ndim == 2 else i] == pytest.approx(1.0)
            assert np.count_nonzero(moved) == 1


@pytest.mark.parametrize(("n_before", "n_after"), [(0, 1), (0, 2), (2, 3), (2, 4), (4, 5)])
def test_entries_keep_their_names_when_a_block_is_added(rng, n_before, n_after):
    before, after = Shape(n_before, 2, 3, 2), Shape(n_after, 2, 3, 2)
    directions = make_directions(rng, after)
    small = make_chart(before, directions[: -(-n_before // 2)], KINDS)
    large = make_chart(after, directions, KINDS)
    assert set(small.entries) < set(large.entries)
    theta = rng.standard_normal(len(small.entries))
    # The new block added with no emission and no gain changes no output: the same matrices.
    grown = np.zeros(len(large.entries))
    for entry, value in zip(small.entries, theta, strict=True):
        grown[large.entries.index(entry)] = value
    old = lds_from_natural(small.const + small.basis @ theta, before)
    new = lds_from_natural(large.const + large.basis @ grown, after)
    for kind, matrix in old._asdict().items():
        kept = getattr(new, kind)
        assert_close(kept[tuple(slice(size) for size in matrix.shape)], matrix, 1e-14)


def test_names_of_the_entries_of_theta(rng):
    shape = Shape(3, 2, 2, 2)
    chart = make_chart(shape, make_directions(rng, shape), KINDS)
    assert theta_names(chart) == [
        "A[0].damping", "A[0].frequency", "A[1].pole",
        "B[0, 0]", "B[0, 1]", "B[1, 0]", "B[1, 1]", "B[2, 0]", "B[2, 1]",
        "x0[0]", "x0[1]", "x0[2]",
        "K[0, 0]", "K[0, 1]", "K[1, 0]", "K[1, 1]", "K[2, 0]", "K[2, 1]",
        "C[0, 0]", "C[1, 0]", "C[2, 0]",
        "D[0, 0]", "D[0, 1]", "D[1, 0]", "D[1, 1]",
        "offset[0]", "offset[1]", "noise",
    ]  # fmt: skip
    cayley = make_chart(Shape(2, 1, 1, 4), np.zeros((0, 1)), ("A", "C"))
    assert theta_names(cayley) == ["A[0]", "A[1]", "A[2]", "C[0, 0]", "C[0, 1]"]


@pytest.mark.parametrize("shape", [s for s in MODAL if s.n_states], ids=name_of)
def test_the_gauge_leaves_no_redundancy(rng, shape):
    """In theta all directions can be told apart; in psi as many cannot as there are states.

    Whatever commutes with a block, two numbers for a pair and one for a single state, may go from
    C to x0, B and K without changing an output.
    """
    free = tuple(kind for kind in KINDS if kind not in ("noise", "K"))
    systems = make_systems(rng, shape, free=free, missing=0.0)
    chart = systems.chart
    theta = rng.uniform(0.3, 1.0, chart.basis.shape[1])
    # All sequences together, so that no direction lacks data.
    psi = np.tile(chart.const + chart.basis @ theta, (len(INDEX), 1))
    active, bounds = all_active(shape)
    everything = chart._replace(active=active, bounds=bounds)
    normal = theta_quantities(psi, systems.run, everything, systems.noise_std).normal.sum(axis=0)
    normal = symmetric(normal, everything)
    at = kind_slices(shape)
    kept = np.delete(active, np.r_[at["K"], at["noise"]])
    in_psi = np.linalg.eigvalsh(normal[np.ix_(kept, kept)])
    in_theta = np.linalg.eigvalsh(chart.basis.T @ normal @ chart.basis)
    assert np.sum(in_psi < 1e-10 * in_psi[-1]) == shape.n_states
    assert np.all(in_theta > 1e-9 * in_theta[-1])
