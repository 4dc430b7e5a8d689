"""The work that kernels are timed on: a family, sequences, and several latents for each of them."""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences, pack_sequences
from mtds_sklearn.kernels._written_out import Sizes
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._likelihood import Evaluations, evaluations
from mtds_sklearn.model._task_map import Family, natural_map, natural_parameters

MISSING = 0.05  # of the values
LATENT_DIM = 4


class Size(NamedTuple):
    """How much work: sequences, latents for each, rows, states, inputs, outputs."""

    n_sequences: int
    n_samples: int
    n_rows: int
    n_states: int
    n_inputs: int
    n_outputs: int


SIZES = {
    "small": Size(40, 20, 80, 8, 0, 1),
    "medium": Size(1000, 8, 200, 8, 2, 2),
}


class Problem(NamedTuple):
    """A family at latents z of sequences, as the package and as its rivals want them.

    `psi` (n_evaluations, n_natural) belongs to `z` (n_evaluations, k); inputs (n_sequences, n_rows,
    m), outputs (n_sequences, n_rows, p) and observed likewise are the sequences unpacked;
    `loadings` and `bias` make natural parameters of z.
    """

    size: Size
    family: Family
    sequences: PackedSequences
    run: Evaluations
    z: np.ndarray
    psi: np.ndarray
    loadings: np.ndarray
    bias: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    observed: np.ndarray

    @property
    def n_transition(self) -> int:
        """Chart coordinates of A: those of blocks, or of a full contraction."""
        n, block = self.size.n_states, self.family.chart.shape.block
        return n if block == 2 else n + n * (n - 1) // 2


def make_problem(size: Size, dense: bool, seed: int = 0) -> Problem:
    """Draw a family in the modal chart, or in the Cayley chart if `dense`, and white sequences."""
    rng = np.random.default_rng(seed)
    n_sequences, n_samples, n_rows, n, m, p = size
    directions = np.zeros((0 if dense else n // 2, p))
    directions[:, 0] = 1.0
    kinds = ("A", "B", "x0", "C", "D", "offset")
    chart = make_chart(Shape(n, m, p, n if dense else 2), directions, kinds, False)
    kind = np.array([entry[0] for entry in chart.entries])
    bias = 0.3 * rng.standard_normal(len(kind))
    bias[kind == "A"] += 1.0
    loadings = 0.05 * rng.standard_normal((len(kind), LATENT_DIM))
    family = Family(chart, loadings, bias, np.full(p, 0.5), np.ones(len(kind)))
    inputs = rng.standard_normal((n_sequences, n_rows, m))
    outputs = rng.standard_normal((n_sequences, n_rows, p))
    observed = rng.uniform(size=outputs.shape) > MISSING
    sequences = pack_sequences(
        inputs.reshape(n_sequences * n_rows, m),
        np.where(observed, outputs, np.nan).reshape(-1, p),
        labels=np.repeat(np.arange(n_sequences), n_rows),
    )
    z = rng.standard_normal((n_sequences * n_samples, LATENT_DIM))
    run, psi = evaluations(sequences, repeats=n_samples), natural_parameters(family, z)
    return Problem(
        size, family, sequences, run, z, psi, *natural_map(family), inputs, outputs, observed
    )


def operations(problem: Problem) -> dict[str, float]:
    """Additions and multiplications that each kernel cannot do without, in all.

    Per row, with a = n^2 entries of A (2 n in the modal chart): 2 (a + n m + p n + p m) + 2 p for
    the outputs and their squares; twice the products more for an adjoint sweep; forward in k
    latents, the same products and 2 p for each, and p k (k + 1) for the Gauss-Newton matrix;
    forward in every free entry of psi that moves the state, the products with what of A and C it
    meets, and, of what an output moves with (these, and its own of C, D and offset), the matrix.
    """
    n_sequences, n_samples, n_rows, n, m, p = problem.size
    a = 2 * n if problem.family.chart.shape.block == 2 else n * n
    products = 2.0 * (a + n * m + p * n + p * m)
    bounds, per_entry = problem.family.chart.bounds, 2.0 * (a / n if a == 2 * n else a)
    n_dynamic, n_own = bounds[3], (bounds[7] - bounds[4]) / p
    entries = n_dynamic * (per_entry + 2.0 * p * min(n, per_entry))
    matrix = p * (n_dynamic + n_own) * (n_dynamic + n_own + 1)
    rows, k = n_sequences * n_samples * n_rows, LATENT_DIM
    value = products + 2 * p
    adjoint = 2.0 * (2 * a + n * m + 2 * p * n + p * m)
    return {
        "value": rows * value,
        "gradient": rows * (value + adjoint),
        "Gauss-Newton, z": rows * (value + k * (adjoint + 2 * p) + p * k * (k + 1)),
        "Gauss-Newton, theta": rows * (value + entries + matrix),
    }


class Floor(NamedTuple):
    """What a gradient of one evaluation takes: operations of rows and around them, and bytes.

    `plain`: of the rows, one after the other; `rows`, `around`: as the kernel does it, several rows
    at once (`kernels/_lifted.py`), and for the matrices of these; `kept`: bytes that the sweep
    forwards leaves for the sweep back.
    """

    plain: float
    rows: float
    around: float
    kept: float


def gradient_floor(problem: Problem) -> Floor:
    """Operations of products, bytes of states and residuals; see `Floor`."""
    shape, (_, _, T, n, m, p) = problem.family.chart.shape, problem.size
    L = Sizes(*shape, False).together
    a = 2 * n if shape.block == 2 else n * n

    def products(rows):
        matrices = a / rows + n * m + p * n + (rows + 1) / 2 * p * m
        return 4.0 * matrices + 2.0 * (a / rows + p * n) + 5.0 * p

    column = 2.0 * a  # a matrix like A times a column, of which A^2 and A^4 take n or 2
    squares = 3 * (L.bit_length() - 1) * (2 if shape.block == 2 else n)
    chart = 0 if shape.block == 2 else 3 * n  # the inverse of I + S, and two products back
    around = column * (squares + chart + 3 * L * (m + p))
    return Floor(T * products(1), T * products(L), around, 8.0 * T * (n / L + p))
