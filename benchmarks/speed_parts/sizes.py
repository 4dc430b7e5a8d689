"""Whole fits of families of several sizes, growth and everything after it included.

python benchmarks/speed.py sizes
"""

import time
from typing import Any, NamedTuple

import numpy as np

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators


class Fit(NamedTuple):
    """What is fitted, and how often."""

    name: str
    data: dict
    parameters: dict[str, Any]
    repeats: int


def oscillators(n_sequences: int) -> dict:
    """The yardstick's rows."""
    data = make_oscillators(n_sequences, random_state=0)
    return {name: data[name] for name in ("X", "y", "groups", "times")}


def driven(n_sequences: int, n_rows: int, n_inputs: int, n_outputs: int, n_pairs: int) -> dict:
    """Outputs that mix damped turns, driven by white inputs or set off at the first row.

    Two numbers per sequence move the frequencies and the damping of all pairs of states.
    """
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, n_sequences, 1))
    angle = np.linspace(0.2, 1.2, n_pairs) * np.exp(0.1 * z[0])
    pole = (0.95 - 0.02 * np.tanh(z[1])) * np.exp(1j * angle)
    inputs = rng.standard_normal((n_sequences, n_rows, n_inputs))
    push = rng.standard_normal((n_inputs, n_pairs)) + 1j * rng.standard_normal((n_inputs, n_pairs))
    mix = rng.standard_normal((n_pairs, n_outputs)) + 1j * rng.standard_normal((n_pairs, n_outputs))
    state, outputs = np.ones((n_sequences, n_pairs), complex), []
    for t in range(n_rows):
        state = state + inputs[:, t] @ push
        outputs.append((state @ mix).real)
        state = pole * state
    y = np.stack(outputs, axis=1).reshape(-1, n_outputs)
    y += 0.1 * y.std() * rng.standard_normal(y.shape)
    X = inputs.reshape(len(y), n_inputs) if n_inputs else np.zeros((len(y), 1))
    groups = np.repeat(np.arange(n_sequences), n_rows)
    return {"X": X, "y": y, "groups": groups, "times": np.tile(np.arange(n_rows), n_sequences)}


def fits(quick: bool) -> list[Fit]:
    """From small to large; all data without disturbances, the last columns learn without them."""
    few, plain = (1, 3)[not quick], {"disturbance": "none", "n_init": 1}
    found = [
        Fit("40 x 80, one output", oscillators(40), {"n_states": 4, "latent_dim": 4} | plain, few),
        Fit("40 x 80, one output", oscillators(40), {"n_states": 8, "latent_dim": 6} | plain, few),
        Fit("40 x 80, one output", oscillators(40), {"n_states": 4, "latent_dim": 4}, few),
        Fit("40 x 80, one output", oscillators(40), {}, few),
    ]
    if quick:
        return found
    return [
        *found,
        Fit("200 x 60, 8 outputs", driven(200, 60, 0, 8, 3),
            {"n_states": 6, "latent_dim": 3} | plain, 2),
        Fit("1000 x 200, 2 outputs, 2 inputs", driven(1000, 200, 2, 2, 4),
            {"n_states": 8, "latent_dim": 4} | plain, 1),
    ]  # fmt: skip


def report(quick: bool) -> str:
    """The section of the results."""
    lines = [
        "| data | parameters | seconds (of the processor) | states found |",
        "| :--- | :--- | ---: | ---: |",
    ]
    first = oscillators(8)
    MTLDSRegressor(2, 2, random_state=0).fit(**first)  # compiled now
    for fit in fits(quick):
        seconds = []
        for _ in range(fit.repeats):
            model = MTLDSRegressor(random_state=0, **fit.parameters)
            start, before = time.perf_counter(), time.process_time()
            model.fit(**fit.data)
            seconds.append((time.perf_counter() - start, time.process_time() - before))
        wall, processor = np.min(seconds, axis=0)
        shown = ", ".join(f"{name}={value!r}" for name, value in fit.parameters.items())
        lines.append(
            f"| {fit.name} | {shown or 'default'} | {wall:.2f} ({processor:.2f}) | "
            f"{model.n_states_} |"
        )
        print(lines[-1], flush=True)
    notes = "Least of a few fits after compilation; sequences x rows."
    return "\n".join(["# Sizes", "", notes, "", *lines, ""])
