"""Random small problems that try to break numbers: one seed, one problem.

1 to 60 sequences of 1 to 100 rows, 0 to 3 inputs (none: a column of zeros), 1 to 5 outputs, 0 to
95 % missing, scales from 1e-6 to 1e6; constant and repeated sequences, collinear inputs, growth
that looks unstable, outliers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

MOST_VALUES = 3000  # so that a problem takes a second


class Problem(NamedTuple):
    """Rows to learn from, rows to forecast, and the parameters of estimators."""

    train: dict  # X, y, groups
    test: dict  # X, y, groups: other labels
    n_known: int  # rows of each test sequence that a forecast may see
    parameters: dict  # of MTLDSRegressor


def draw_problem(seed: int) -> Problem:
    """The problem of a seed."""
    rng = RandomState(seed)
    n_sequences, n_test = _log_uniform(rng, 1, 60), 3
    n_inputs, n_outputs = rng.randint(4), rng.randint(1, 6)
    longest = _log_uniform(rng, 1, 100)
    n_sequences = min(n_sequences, max(1, MOST_VALUES // (longest * n_outputs)))
    shortest = longest if rng.random_sample() < 0.5 else _log_uniform(rng, 1, longest)
    lengths = rng.randint(shortest, longest + 1, n_sequences + n_test)
    kinds = rng.choice(list(KINDS), n_outputs)
    inputs = [_inputs(rng, n_rows, n_inputs) for n_rows in lengths]
    outputs = [np.stack([KINDS[kind](rng, n_rows) for kind in kinds], axis=1) for n_rows in lengths]
    if n_inputs and rng.random_sample() < 0.7:
        outputs = [
            y + u @ np.ones((n_inputs, n_outputs)) for u, y in zip(inputs, outputs, strict=True)
        ]
    inputs, outputs = _odd(rng, inputs, outputs)
    scale, shift = (10.0 ** rng.uniform(*ends, n_outputs) for ends in ((-6, 6), (-3, 3)))
    shift *= scale * rng.choice([-1, 0, 1], n_outputs)
    outputs = [shift + scale * y for y in outputs]
    inputs = (
        [u * 10.0 ** rng.uniform(-6, 6) for u in inputs] if rng.random_sample() < 0.1 else inputs
    )
    unit = 10.0 ** rng.uniform(-6, 6, inputs[0].shape[1])
    inputs = [u * unit for u in inputs]
    missing = rng.choice([0.0, rng.uniform(0, 0.95)])
    for y in outputs:
        y[rng.random_sample(y.shape) < missing] = np.nan
    first = outputs[0]
    first[0] = np.where(np.isfinite(first[0]), first[0], shift)  # something is always observed
    n_states, latent_dim = rng.randint(1, 7), rng.randint(1, 5)
    parameters = {
        "n_states": n_states,
        "latent_dim": min(latent_dim, n_states + 1),  # theta must not be smaller
        "transition": str(rng.choice(["modal", "cayley"], p=[0.8, 0.2])),
        "disturbance": str(rng.choice(["none", "innovations", "auto"], p=[0.4, 0.4, 0.2])),
        "sequence_noise": bool(rng.random_sample() < 0.3),
    }
    return Problem(
        _stack(inputs[:n_sequences], outputs[:n_sequences], 0),
        _stack(inputs[n_sequences:], outputs[n_sequences:], 1000),
        rng.randint(0, longest + 1),
        parameters,
    )


def _log_uniform(rng: RandomState, low: int, high: int) -> int:
    return int(np.floor(np.exp(rng.uniform(np.log(low), np.log(high + 1)))))


def _inputs(rng: RandomState, n_rows: int, n_inputs: int) -> np.ndarray:
    if n_inputs == 0:
        return np.zeros((n_rows, 1))
    steps = np.cumsum(rng.standard_normal((n_rows, n_inputs)) * 0.3, axis=0)
    pulses = (rng.random_sample((n_rows, n_inputs)) < 0.1).astype(float)
    return np.where(rng.random_sample(n_inputs) < 0.5, steps, pulses)


def _odd(rng: RandomState, inputs: list, outputs: list) -> tuple[list, list]:
    """Make some sequences constant, repeated or full of outliers, and inputs collinear."""
    if inputs[0].shape[1] > 1 and rng.random_sample() < 0.4:
        for u in inputs:
            u[:, 1] = 2 * u[:, 0]
    if rng.random_sample() < 0.3:
        for i in rng.choice(len(outputs), max(1, len(outputs) // 3)):
            outputs[i] = np.broadcast_to(outputs[i][:1], outputs[i].shape).copy()
    if rng.random_sample() < 0.3:
        for i in rng.choice(len(outputs), max(1, len(outputs) // 3)):
            inputs[i], outputs[i] = inputs[0].copy(), outputs[0].copy()
    if rng.random_sample() < 0.3:
        for y in outputs:
            y[rng.random_sample(y.shape) < 0.02] *= 10.0 ** rng.uniform(1, 4)
    return inputs, outputs


def _stack(inputs: list, outputs: list, first_label: int) -> dict:
    labels = first_label + np.arange(len(inputs))
    return {
        "X": np.concatenate(inputs),
        "y": np.concatenate(outputs),
        "groups": np.repeat(labels, [len(u) for u in inputs]),
    }


def _oscillation(rng: RandomState, n_rows: int) -> np.ndarray:
    t = np.arange(n_rows)
    return 0.97**t * np.sin(rng.uniform(0, 1.5) * t) + 0.05 * rng.standard_normal(n_rows)


def _growth(rng: RandomState, n_rows: int) -> np.ndarray:
    """Up to e^20 times the start: no stable system does this for long."""
    growth = np.exp(np.minimum(rng.uniform(0, 0.4) * np.arange(n_rows), 20))
    return growth + 0.01 * rng.standard_normal(n_rows)


KINDS: dict[str, Callable[[RandomState, int], np.ndarray]] = {
    "oscillation": _oscillation,
    "growth": _growth,
    "noise": lambda rng, n_rows: rng.standard_normal(n_rows),
    "walk": lambda rng, n_rows: np.cumsum(rng.standard_normal(n_rows)),
    "constant": lambda rng, n_rows: np.full(n_rows, rng.standard_normal()),
    "same constant": lambda rng, n_rows: np.ones(n_rows),
    "steps": lambda rng, n_rows: np.floor(np.cumsum(rng.random_sample(n_rows) * 0.3)),
    "counts": lambda rng, n_rows: rng.poisson(0.3, n_rows).astype(float),
}
