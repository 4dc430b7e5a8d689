"""Columns of a linear mixed model: constants, inputs, and responses of a bank of poles.

A block is a pole r exp(i w): its columns are the free response r^t (cos w t, sin w t), or r^t where
w is zero, and every input filtered by the same. Blocks are chosen one after the other by how much
of the training curves they explain, every curve with coefficients of its own.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter
from sequences import Sequence

RADII = (0.9, 0.97, 1.0)
ANGLES = np.pi * np.linspace(0.02, 0.98, 49)
SEASONS = 2 * np.pi / np.array([4, 7, 12, 24, 52])  # whole periods of calendars
TIME_CONSTANTS = (1, 2, 4, 8, 16, 32, 64, 128)  # steps, of real poles
MOST_FILTERED = 3  # inputs; more of them enter unfiltered only
RIDGE = 1e-6


class Pole(NamedTuple):
    radius: float
    angle: float


def bank(n_steps: int) -> list[Pole]:
    """Poles to choose from for sequences of so many steps."""
    real = [Pole(float(np.exp(-1 / c)), 0.0) for c in TIME_CONSTANTS if c <= 2 * n_steps]
    seasons = [a * k for a in SEASONS for k in (1, 2, 3) if a * k < np.pi]
    angles = [a for a in (*ANGLES, *seasons) if a * n_steps > 0.5]
    return real + [Pole(r, float(a)) for r in RADII for a in angles]


def columns(sequence: Sequence, poles: list[Pole]) -> np.ndarray:
    """Columns (n_rows, n_columns): 1, inputs, then those of every pole."""
    n_rows = len(sequence.inputs)
    filtered = (
        sequence.inputs if sequence.inputs.shape[1] <= MOST_FILTERED else np.empty((n_rows, 0))
    )
    parts = [np.ones((n_rows, 1)), sequence.inputs]
    parts += [block(filtered, pole) for pole in poles]
    return np.concatenate(parts, axis=1)


def block(inputs: np.ndarray, pole: Pole) -> np.ndarray:
    """Free response and responses to inputs of one pole."""
    impulses = np.concatenate([np.eye(len(inputs), 1), inputs], axis=1)
    r, w = pole
    recursion = [1, -2 * r * np.cos(w), r**2] if w else [1, -r]
    first = lfilter([1, -r * np.cos(w)] if w else [1], recursion, impulses, axis=0)
    if not w:
        return first
    return np.concatenate([first, lfilter([0, r * np.sin(w)], recursion, impulses, axis=0)], axis=1)


def choose_poles(sequences: list[Sequence], n_poles: int) -> list[Pole]:
    """Greedy choice of poles, the most telling first."""
    poles = bank(max(len(s.inputs) for s in sequences))
    every = [(s.outputs, columns(s, []), _blocks(s, poles)) for s in sequences]
    chosen: list[int] = []
    for _ in range(n_poles):
        explained = np.zeros(len(poles))
        for outputs, constant, blocks in every:
            base = np.concatenate([constant, *(blocks[j] for j in chosen)], axis=1)
            for output in outputs.T:
                explained += _explained(output, base, blocks)
        explained[chosen] = -np.inf
        chosen.append(int(np.argmax(explained)))
    return [poles[j] for j in chosen]


def _blocks(sequence: Sequence, poles: list[Pole]) -> list[np.ndarray]:
    filtered = (
        sequence.inputs if sequence.inputs.shape[1] <= MOST_FILTERED else sequence.inputs[:, :0]
    )
    return [block(filtered, pole) for pole in poles]


def _explained(output: np.ndarray, base: np.ndarray, blocks: list[np.ndarray]) -> np.ndarray:
    """Squares of an output that each block explains beside the base."""
    seen = np.isfinite(output)
    values, base = output[seen], base[seen]
    Q = _orthonormal(base)
    residual = values - Q @ (Q.T @ values)
    gains = np.zeros(len(blocks))
    widths = np.array([b.shape[1] for b in blocks])
    for width in np.unique(widths):
        which = np.flatnonzero(widths == width)
        X = np.stack([blocks[j][seen] for j in which])
        X = X - Q @ (Q.T @ X)
        gram = np.swapaxes(X, 1, 2) @ X
        size = np.trace(gram, axis1=1, axis2=2)[:, None, None] + 1e-12
        moments = (residual @ X)[..., None]
        solved = np.linalg.solve(gram + (1e-3 * size + RIDGE) * np.eye(width), moments)
        gains[which] = (moments * solved).sum(axis=(1, 2))
    return gains


def _orthonormal(base: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns, those of no size left out."""
    U, sizes, _ = np.linalg.svd(base, full_matrices=False)
    return U[:, sizes > 1e-6 * max(sizes[0], 1e-12)] if len(sizes) else U
