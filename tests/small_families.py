"""Small families, and sequences drawn from them, for the tests of learning and inference."""

import numpy as np
import reference

from mtds_sklearn._sequences import PackedSequences, pack_sequences
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._task_map import Family, natural_parameters

ALL_KINDS = ("A", "B", "x0", "C", "D", "offset")
RAGGED = (7, 1, 12, 5)


def make_rows(rng, lengths=RAGGED, *, n_inputs=0, n_outputs=1, missing=0.0) -> PackedSequences:
    """Pack sequences of standard normal inputs and outputs."""
    n_rows = sum(lengths)
    outputs = rng.standard_normal((n_rows, n_outputs))
    outputs[rng.uniform(size=outputs.shape) < missing] = np.nan
    return pack(rng.standard_normal((n_rows, n_inputs)), outputs, lengths)


def pack(inputs, outputs, lengths) -> PackedSequences:
    return pack_sequences(inputs, outputs, labels=np.repeat(np.arange(len(lengths)), lengths))


def make_family(
    rng, shape=(3, 2, 2), latent_dim=2, *, free=ALL_KINDS, varying=ALL_KINDS, scale=0.3, **options
) -> Family:
    """Return a family in the modal chart with random W and b; `shape` is (n, m, p).

    Options: `gain` as in `make_chart`, `noise_std` (0.3 unless given), `block`.
    """
    n, m, p = shape
    directions = rng.standard_normal((-(-n // 2), p))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    block = options.get("block", 2)
    if block != 2:
        directions = directions[:0]
    chart = make_chart(Shape(n, m, p, block), directions, free, options.get("gain", False))
    varies = np.array([entry[0] in varying for entry in chart.entries], dtype=bool)
    # A gain of the size of the rest would make A - A K C unstable.
    size = np.array([0.1 if entry[0] == "K" else 1.0 for entry in chart.entries])
    loadings = scale * size[:, None] * rng.standard_normal((len(varies), latent_dim))
    return Family(
        chart,
        np.where(varies[:, None], loadings, 0.0),
        0.5 * size * rng.standard_normal(len(varies)),
        options.get("noise_std", 0.3) * rng.uniform(0.8, 1.2, p),
        np.where(varies, rng.uniform(0.5, 2.0, len(varies)), np.inf),
    )


def oblique(rng, k) -> np.ndarray:
    """Axes (k, k) that are neither orthogonal nor of length one, but far from singular."""
    return np.linalg.qr(rng.standard_normal((k, k)))[0] + 0.2 * rng.uniform(-1.0, 1.0, (k, k))


def make_posterior(rng, n_sequences, latent_dim) -> TaskPosterior:
    factor = np.tril(0.3 * rng.standard_normal((n_sequences, latent_dim, latent_dim)))
    diagonal = np.arange(latent_dim)
    factor[:, diagonal, diagonal] = rng.uniform(0.2, 1.0, (n_sequences, latent_dim))
    return TaskPosterior(rng.standard_normal((n_sequences, latent_dim)), factor)


def draw_sequences(rng, family, lengths=RAGGED, *, missing=0.0) -> tuple:
    """Sequences of a family and their latents (n_sequences, k), simulated by `reference`."""
    _, m, p, _ = family.chart.shape
    z = rng.standard_normal((len(lengths), family.loadings.shape[1]))
    inputs = rng.standard_normal((sum(lengths), m))
    noise = family.noise_std * rng.standard_normal((sum(lengths), p))
    outputs, row = np.empty((sum(lengths), p)), 0
    for psi, length in zip(natural_parameters(family, z), lengths, strict=True):
        rows = slice(row, row + length)
        noise[rows] *= np.exp(psi[-1])
        outputs[rows] = noise[rows] + simulate_freely(psi, family, inputs[rows], noise[rows])
        row += length
    outputs[rng.uniform(size=outputs.shape) < missing] = np.nan
    return pack(inputs, outputs, lengths), z


def simulate_freely(psi, family, inputs, noise):
    """Predicted outputs (n_rows, p) when the innovations are the given noise."""
    shape = tuple(family.chart.shape)
    outputs = np.zeros_like(noise)
    observed = np.full(noise.shape, family.chart.gain)
    for t in range(len(noise) if family.chart.gain else 0):  # only the past moves a prediction
        predicted, _ = reference.simulate(psi, shape, inputs, outputs, observed)
        outputs[t] = predicted[t] + noise[t]
    return reference.simulate(psi, shape, inputs, outputs, observed)[0]


def each(sequences):
    """Inputs, outputs and mask of each sequence."""
    for first, last in zip(sequences.offsets, sequences.offsets[1:], strict=False):
        rows = slice(first, last)
        yield sequences.inputs[rows], sequences.outputs[rows], sequences.observed[rows]


def log_likelihoods(sequences, family, z) -> np.ndarray:
    """Log likelihood of each sequence at its own z (n_sequences, k), by `reference`."""
    shape = tuple(family.chart.shape)
    return np.array(
        [
            reference.log_likelihood(psi, shape, *rows, family.noise_std)
            for psi, rows in zip(natural_parameters(family, z), each(sequences), strict=True)
        ]
    )


def observed_outputs(psi, sequences, family, i) -> np.ndarray:
    """Predicted outputs of sequence i where it is observed, one after the other, by `reference`."""
    inputs, outputs, observed = list(each(sequences))[i]
    predicted, _ = reference.simulate(psi, tuple(family.chart.shape), inputs, outputs, observed)
    return predicted[observed]


def assert_never_falls(values, *, rounding=1e-9):
    """Fail if a sequence of bounds falls anywhere by more than rounding of its size."""
    values = np.asarray(values, dtype=float)
    assert values.ndim == 1, values.shape
    assert len(values) > 1, f"{len(values)} values cannot fall"
    assert np.isfinite(values).all(), values
    steps = np.diff(values)
    worst = int(np.argmin(steps))
    before, after = values[worst : worst + 2]
    assert after - before >= -rounding * np.abs(values).max(), (
        f"fell from {before:.12g} to {after:.12g} at step {worst + 1} of {len(steps)}"
    )
