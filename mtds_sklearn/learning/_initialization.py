"""Where a new block starts: its poles, its output direction and its amplitudes, from the residuals.

Candidates are fixed blocks on a grid of poles. For each, every sequence's residuals are regressed
on the block's free responses and on its responses to the inputs, together with a constant and the
inputs: before there was a block, offset and feed-through took what was its own (a slow decay looks
like an offset, and what is left of it like an oscillation). The candidate that explains most over
all sequences is taken. Placing a block where the data want it keeps EM out of the local optima of a
random start.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen, select_sequences
from mtds_sklearn.kernels import _poles
from mtds_sklearn.learning._m_step import sequence_weights
from mtds_sklearn.model._chart import Chart, complement, make_chart
from mtds_sklearn.model._lds import Shape, is_modal, modal_entries
from mtds_sklearn.model._likelihood import evaluations, predicted_outputs
from mtds_sklearn.model._task_map import (
    Family,
    learned_columns,
    n_shared,
    natural_parameters,
)

RADII = (0.6, 0.85, 0.93, 0.97, 0.99)
N_ANGLES = 60
REAL_POLES = (-0.9, -0.5, 0.0, 0.4, 0.7, 0.85, 0.95, 0.985)
# Standard deviation of the random start of W: of pole coordinates, and of amplitudes relative to
# their size. With more latents a row is no longer than with so many: poles would start all over
# the place, and EM would not find them.
LOADING_SCALE, MOST_AT_FULL_SCALE = 0.3, 4
# The same of what is let vary at the end.
LATE_SCALE = 0.1
# Precisions of rows that were switched off are let down to this, so that a new block may revive
# them.
REVIVAL_PRECISION = 1000.0
# Ridge of the regression on a block's responses, for every observed row of a sequence.
RIDGE = 1e-3
LEAST_RIDGE = 1e-12  # of columns of length one
# Candidates are ranked on so many sequences.
SCORED_SEQUENCES = 200


class Block(NamedTuple):
    """A new block: chart coordinates, output direction, and amplitudes of the residuals along it.

    Attributes
    ----------
    coordinates : ndarray of shape (1 or 2,)
    direction : ndarray of shape (n_outputs,)
    amplitudes : ndarray of shape (n_sequences, 1 + n_inputs, 2)
        Cosine and sine amplitude of the free response and of each input's impulse response.
    emission : ndarray of shape (2, n_outputs - 1)
        Rows of C' in the free directions.
    spread : float
        Size of amplitudes in the free directions relative to those along the block's: of what C is
        in a sequence, also where it is nothing in the mean.
    """

    coordinates: np.ndarray
    direction: np.ndarray
    amplitudes: np.ndarray
    emission: np.ndarray
    spread: float


def initial_family(shape: Shape, free: tuple, varying: tuple, latent_dim: int) -> Family:
    """No block yet: only offset and feed-through, W = 0, noise of one standard deviation."""
    chart = make_chart(shape, np.zeros((0, shape.n_outputs)), free)
    n_theta = len(chart.entries)
    return Family(
        chart,
        np.zeros((n_theta, latent_dim)),
        np.zeros(n_theta),
        np.ones(shape.n_outputs),
        row_precision(chart, varying),
    )


def row_precision(chart: Chart, varying: tuple) -> np.ndarray:
    """Start of the relevance precisions: 1 where the kind may vary, inf where it may not."""
    return np.array([1.0 if entry[0] in varying else np.inf for entry in chart.entries])


def release(family: Family, rows: np.ndarray, size: float) -> Family:
    """The family with some rows of W, marked in `rows` (n_theta,), that vary from now on.

    They start at a share of `size`, along all latents alike: along a latent that nothing else moves
    a row of zeros would stay.
    """
    k = n_shared(family)
    loadings, precision = family.loadings.copy(), family.precision.copy()
    loadings[rows, :k], precision[rows] = LATE_SCALE * size / np.sqrt(max(k, 1)), 1.0
    return family._replace(loadings=loadings, precision=precision)


def release_level(family: Family) -> Family:
    """The family with a noise level, a logarithm, that varies from now on."""
    return release(family, rows_of(family.chart, "noise"), 1.0)


def rows_of(chart: Chart, kind: str) -> np.ndarray:
    """Mask (n_theta,) of the entries of a kind."""
    return np.array([entry[0] == kind for entry in chart.entries], dtype=bool)


def residuals_at(sequences: PackedSequences, family: Family, z: np.ndarray) -> np.ndarray:
    """y - yhat at the given latents (n_sequences, k), zero where y is not observed."""
    psi = natural_parameters(family, z)
    yhat, _ = predicted_outputs(psi, evaluations(sequences), family.chart)
    return np.where(sequences.observed, sequences.outputs - yhat, 0.0)


def pole_grid(single: bool) -> np.ndarray:
    """Chart coordinates (n_candidates, 1 or 2) of the candidate blocks."""
    if single:
        return np.arctanh(np.array((*REAL_POLES, 0.995)))[:, None]
    radius, angle = np.meshgrid(RADII, np.linspace(0.04, np.pi - 0.04, N_ANGLES))
    first, second = np.triu_indices(len(REAL_POLES), 1)
    poles = np.array(REAL_POLES)
    total = np.concatenate([(2.0 * radius * np.cos(angle)).ravel(), poles[first] + poles[second]])
    product = np.concatenate([(radius**2).ravel(), poles[first] * poles[second]])
    return np.stack([np.arctanh(product), np.arctanh(total / (1.0 + product))], axis=1)


def block_entries(coordinates: np.ndarray) -> np.ndarray:
    """(n, 4) entries row by row of blocks with coordinates (n, 1 or 2)."""
    if coordinates.shape[1] == 1:
        out = np.zeros((len(coordinates), 4))
        out[:, 0] = np.tanh(coordinates[:, 0])
        return out
    half, upper, lower = modal_entries(coordinates[:, 0], coordinates[:, 1])
    return np.stack([half, upper, lower, half], axis=1)


def find_block(sequences: PackedSequences, residuals: np.ndarray, single: bool) -> Block:
    """The candidate block that explains most of the residuals, with what it explains."""
    n_seen = max(np.count_nonzero(sequences.observed.any(axis=1)), 1)
    ridge = RIDGE * n_seen / len(sequences.labels)
    left = sequences._replace(outputs=residuals)
    sample = spread_sample(left, SCORED_SEQUENCES)
    grid = pole_grid(single)
    # A few candidates at a time: their normal equations are held for every sequence.
    parts = np.split(grid, range(8, len(grid), 8))
    scores = [_scores(part, sample, ridge) for part in parts]
    best = grid[int(np.argmax(np.concatenate(scores)))]
    coefficients = _regress(best[None], left, ridge)[0][0]
    coefficients = coefficients[..., : 2 + 2 * left.inputs.shape[1]]
    coefficients = coefficients.reshape(*coefficients.shape[:2], -1, 2)
    p = residuals.shape[1]
    flat = np.moveaxis(coefficients, 1, 0).reshape(p, -1)
    direction = np.linalg.svd(flat, full_matrices=False)[0][:, 0]
    direction *= np.sign(direction[np.argmax(np.abs(direction))])
    along = np.einsum("o,iowc->iwc", direction, coefficients)
    across = np.einsum("oj,iowc->jiwc", complement(direction), coefficients)
    spread = np.sqrt(np.sum(across**2) / (max(p - 1, 1) * max(np.sum(along**2), 1e-300)))
    return Block(best, direction, along, _emission(best, along, across), float(spread))


def squares_beside_one_state(left: PackedSequences) -> np.ndarray:
    """The least sums of squares (n_outputs,) of residuals that one state more could leave.

    Each sequence and output has the pole of the grid that it likes best, and responses, a constant
    and feed-through of its own.
    """
    solution, right = _regress(pole_grid(single=True), left, RIDGE)
    explained = np.sum(solution * right, axis=3).max(axis=0)
    squares = np.add.reduceat(left.outputs**2, left.offsets[:-1], axis=0)
    return sequence_weights(left) @ np.maximum(squares - explained, 0.0)


def spread_sample(left: PackedSequences, n_most: int) -> PackedSequences:
    """At most n_most sequences, as `spread_index` chooses them."""
    if len(left.labels) <= n_most:
        return left
    return select_sequences(left, spread_index(left, n_most))


def spread_index(left: PackedSequences, n_most: int) -> np.ndarray:
    """At most n_most sequences, from those with the smallest outputs to those with the largest.

    Chosen by what they contain, so that the order of sequences does not matter.
    """
    n = len(left.labels)
    if n <= n_most:
        return np.arange(n)
    size = np.add.reduceat(np.einsum("no,no->n", left.outputs, left.outputs), left.offsets[:-1])
    ranks = np.linspace(0, n - 1, n_most).round().astype(int)
    return np.argsort(size)[ranks]


def _regress(grid, left, ridge) -> tuple:
    """Coefficients and right-hand sides (n_blocks, n_sequences, n_outputs, 3 + 3 n_inputs)."""
    width = 3 + 3 * left.inputs.shape[1]
    lead = (len(grid), len(left.labels), left.outputs.shape[1])
    normal, right = np.empty((*lead, width, width)), np.empty((*lead, width))
    data = (left.inputs, frozen(left.outputs), frozen(left.observed.astype(np.float64)))
    rows = (left.offsets[:-1].copy(), np.diff(left.offsets))
    _poles.block_normal_equations(block_entries(grid), *rows, data, normal, right)
    alike = bool(left.observed.all())  # all outputs have the same normal matrix
    if alike:
        normal = normal[:, :, :1]
    # Columns of length one, so that inputs of any size leave something of the ridge.
    size = np.sqrt(np.diagonal(normal, axis1=-2, axis2=-1) + ridge)
    normal /= size[..., :, None] * size[..., None, :]
    normal += (ridge / size**2 + LEAST_RIDGE)[..., None] * np.eye(width)
    if alike:
        columns = np.swapaxes(right / size, 2, 3)
        return np.swapaxes(np.linalg.solve(normal[:, :, 0], columns), 2, 3) / size, right
    return np.linalg.solve(normal, (right / size)[..., None])[..., 0] / size, right


def _scores(grid, left, ridge) -> np.ndarray:
    """Reduction of squares by each candidate, summed over (weighted) sequences and outputs."""
    solution, right = _regress(grid, left, ridge)
    return np.sum(solution * right, axis=(2, 3)) @ sequence_weights(left)


def _emission(coordinates, along, across) -> np.ndarray:
    """Least squares for the free directions of C.

    With first-row responses c_t, s_t of the block, the second state's are (-(d/s^2) s_t, c_t); an
    output f1 x1 + f2 x2 has amplitude f1 alpha + f2 beta on c_t and f1 beta - f2 (d/s^2) alpha on
    s_t.
    """
    if len(across) == 0:
        return np.zeros((2, 0))
    if len(coordinates) == 1:
        design = along[..., :1].reshape(-1, 1)
        target = across[..., 0].reshape(len(across), -1)
    else:
        _, upper, lower = modal_entries(coordinates[0], coordinates[1])
        alpha, beta = along[..., 0].reshape(-1, 1), along[..., 1].reshape(-1, 1)
        design = np.block([[alpha, beta], [beta, lower / upper * alpha]])
        target = np.moveaxis(across, -1, 1).reshape(len(across), -1)
    solution = np.linalg.lstsq(design, target.T, rcond=None)[0]
    return np.vstack([solution, np.zeros((2 - len(solution), solution.shape[1]))])


def add_block(family: Family, block: Block, varying: tuple, normals: np.ndarray) -> Family:
    """The family with one block more: old rows copied, new rows from the residuals' amplitudes.

    `normals` (n_theta_new, k) are standard normal draws for the new rows of W.
    """
    old = family.chart
    n = old.shape.n_states
    shape = old.shape._replace(n_states=n + len(block.coordinates))
    assert is_modal(shape)
    directions = np.vstack([old.directions, block.direction])
    chart = make_chart(shape, directions, old.free, old.gain, old.n_noise)
    known = {entry: row for row, entry in enumerate(old.entries)}
    loadings = np.zeros((len(chart.entries), family.loadings.shape[1]))
    bias = np.zeros(len(chart.entries))
    precision = row_precision(chart, varying)
    normals = normals * np.sqrt(min(1.0, MOST_AT_FULL_SCALE / max(normals.shape[1], 1)))
    for row, entry in enumerate(chart.entries):
        if entry in known:
            h = known[entry]
            loadings[row], bias[row] = family.loadings[h], family.bias[h]
            if np.isfinite(precision[row]):
                precision[row] = min(family.precision[h], REVIVAL_PRECISION)
        else:
            bias[row], scale = _start(entry, block, n)
            if np.isfinite(precision[row]):
                loadings[row] = scale * normals[row]
    parts = (chart, loadings, bias, family.noise_std, precision)
    specific = tuple(chart.entries.index(old.entries[row]) for row in family.specific)
    larger = Family(*parts, growth=family.growth, specific=specific)
    loadings[~learned_columns(larger)] = 0.0
    return larger


def n_entries(shape: Shape, n_new: int, free: tuple) -> int:
    """How many entries theta will have with n_new states more."""
    shape = shape._replace(n_states=shape.n_states + n_new)
    directions = np.ones((-(-shape.n_states // 2), shape.n_outputs)) / np.sqrt(shape.n_outputs)
    return len(make_chart(shape, directions, free).entries)


def _start(entry: tuple, block: Block, n: int) -> tuple:
    """Bias and standard deviation of the random loadings of one new entry."""
    kind, i, j = entry
    state = i - n
    if kind == "A":
        return block.coordinates[state], LOADING_SCALE
    if kind == "C":
        return block.emission[state, j], LOADING_SCALE * block.spread
    if kind == "K":
        return 0.0, 0.0
    values = block.amplitudes[:, 0 if kind == "x0" else 1 + j, state]
    return float(np.mean(values)), LOADING_SCALE * float(np.sqrt(np.mean(values**2)))
