import numpy as np
import pytest
import reference
from small_families import RAGGED, each, make_rows
from systems import assert_close, frozen

from mtds_sklearn.kernels._poles import block_normal_equations

# Complex poles, real poles of both signs, a single state beside nothing.
BLOCKS = np.array([[0.6, 0.5, -0.7, 0.6], [0.1, 0.4, 0.9, 0.1], [-0.8, 0.0, 0.0, 0.0]])


def normal_equations(residuals, weights, inputs, offsets):
    """Run the kernel on read-only arrays and on buffers that hold something else."""
    width = 3 + 3 * inputs.shape[1]
    lead = (len(BLOCKS), len(offsets) - 1, residuals.shape[1])
    normal, right = np.full((*lead, width, width), 7.0), np.full((*lead, width), 7.0)
    rows = (offsets[:-1], np.diff(offsets), (inputs, residuals, weights))
    block_normal_equations(*frozen((BLOCKS, *rows)), normal, right)
    return normal, right


@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(0, 1), (1, 1), (2, 3)])
def test_they_are_those_of_the_responses_written_out(rng, n_inputs, n_outputs):
    sequences = make_rows(rng, RAGGED, n_inputs=n_inputs, n_outputs=n_outputs, missing=0.3)
    weights = sequences.observed * rng.uniform(0.5, 2.0, sequences.outputs.shape)
    residuals = rng.standard_normal(sequences.outputs.shape)
    normal, right = normal_equations(residuals, weights, sequences.inputs, sequences.offsets)
    lengths = np.cumsum(RAGGED)[:-1]
    parts = zip(
        *(np.split(values, lengths) for values in (residuals, weights, sequences.inputs)),
        strict=True,
    )
    for i, (r, w, u) in enumerate(parts):
        for c, entries in enumerate(BLOCKS):
            expected = reference.block_normal_equations(entries.reshape(2, 2), r, w, u)
            assert_close(normal[c, i], expected[0])
            assert_close(right[c, i], expected[1])


def test_they_recover_initial_state_and_input_columns(rng):
    """What a block puts out is explained by its x0 and B, what needs no state by offset and D."""
    sequences = make_rows(rng, (12, 20), n_inputs=2, n_outputs=1, missing=0.2)
    x0, B = rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    residuals = np.empty((32, 1))
    for i, (inputs, _, _) in enumerate(each(sequences)):
        x = x0[i]
        for t, u in enumerate(inputs):
            x = x + B @ u
            residuals[sequences.offsets[i] + t] = x[0] + 0.5 + u @ [0.3, -0.2]
            x = BLOCKS[0].reshape(2, 2) @ x
    weights = sequences.observed.astype(float)
    normal, right = normal_equations(residuals, weights, sequences.inputs, sequences.offsets)
    for i in range(2):
        solution = np.linalg.solve(normal[0, i, 0], right[0, i, 0])
        assert_close(solution[:2], x0[i], 1e-8)
        assert_close(solution[2:6].reshape(2, 2), B.T, 1e-8)
        assert_close(solution[6:], [0.5, 0.3, -0.2], 1e-8)
        explained = solution @ right[0, i, 0]
        rows = slice(*sequences.offsets[i : i + 2])
        assert explained == pytest.approx(np.sum(weights[rows] * residuals[rows] ** 2))


def test_what_has_no_weight_says_nothing(rng):
    sequences = make_rows(rng, RAGGED, n_inputs=1, n_outputs=2, missing=0.3)
    weights = sequences.observed.astype(float)
    residuals = rng.standard_normal(weights.shape)
    hidden = np.where(sequences.observed, residuals, np.nan)
    before = normal_equations(residuals, weights, sequences.inputs, sequences.offsets)
    after = normal_equations(hidden, weights, sequences.inputs, sequences.offsets)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])
    nothing = normal_equations(residuals, 0.0 * weights, sequences.inputs, sequences.offsets)
    assert not nothing[0].any()
    assert not nothing[1].any()
