"""Seconds of a fit against each size by itself, with fitted exponents.

    python benchmarks/speed.py scaling

Sizes are fixed by hand, and so is the number of iterations, so that seconds are those of the same
steps. The exponent is the slope of a straight line through the logarithms of the upper half.
"""

import time
from pathlib import Path

import numpy as np

from mtds_sklearn.datasets import make_oscillators

RESULTS = Path(__file__).parents[1] / "results"
BASE = {"N": 100, "T": 50, "n_states": 4, "latent_dim": 3, "n_outputs": 1}
GRIDS = {
    "N": (100, 300, 1000, 3000, 10_000),
    "T": (25, 50, 100, 200, 400),
    "n_states": (2, 4, 8, 12),
    "latent_dim": (1, 2, 4, 8),
    "n_outputs": (1, 2, 4, 8),
}
N_ITERATIONS = 5


def problem(size: dict) -> tuple:
    """Sequences, a family of just this size, and prior draws for the search over starts."""
    from mtds_sklearn._sequences import pack_sequences
    from mtds_sklearn.inference._draws import make_draws
    from mtds_sklearn.learning._posterior import prior_posterior
    from mtds_sklearn.model._chart import make_chart
    from mtds_sklearn.model._lds import Shape
    from mtds_sklearn.model._task_map import Family

    rng = np.random.default_rng(0)
    n, p, k = size["n_states"], size["n_outputs"], size["latent_dim"]
    data = make_oscillators(size["N"], size["T"], random_state=0)
    mix = rng.standard_normal((1, p))
    y = data.y[:, None] * mix + 0.1 * rng.standard_normal((len(data.y), p))
    sequences = pack_sequences(np.empty((len(y), 0)), y / y.std(0), labels=data.groups)
    directions = np.tile(mix / np.linalg.norm(mix), (-(-n // 2), 1))
    chart = make_chart(Shape(n, 0, p, 2), directions, ("A", "x0", "C", "D", "offset"), False)
    n_theta = len(chart.entries)
    family = Family(
        chart, 0.1 * rng.standard_normal((n_theta, k)), 0.5 * rng.standard_normal(n_theta),
        np.full(p, 0.5), np.ones(n_theta),
    )  # fmt: skip
    return sequences, family, prior_posterior(size["N"], k), make_draws(k, 0).points


def seconds_of(size: dict, repeats: int) -> float:
    """Least seconds of an iteration of EM, one in six of which searches over starts of z."""
    from mtds_sklearn.learning._em import run_em

    found = []
    for _ in range(repeats):
        arguments = problem(size)
        start = time.process_time()
        run_em(*arguments, max_iter=N_ITERATIONS, tol=0.0)
        found.append((time.process_time() - start) / N_ITERATIONS)
    return min(found)


def exponent(values, seconds) -> float:
    """Slope of log seconds over log value, the larger half."""
    half = len(values) // 2
    return float(np.polyfit(np.log(values[half:]), np.log(seconds[half:]), 1)[0])


def draw(found: dict) -> None:
    """A log-log plot of each size, with its exponent."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(found), figsize=(13, 3), sharey=True, layout="constrained")
    for ax, (name, (values, seconds)) in zip(axes, found.items(), strict=True):
        ax.loglog(values, seconds, "o-", markersize=4)
        ax.set_xticks(values, [str(value) for value in values])
        ax.minorticks_off()
        ax.set(xlabel=name, title=f"exponent {exponent(values, seconds):.2f}")
        ax.grid(alpha=0.3)
    ticks = [digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 5)]
    every = np.concatenate([seconds for _, seconds in found.values()])
    shown = [tick for tick in ticks if every.min() < tick < every.max()]
    axes[0].set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes[0].set_ylabel("seconds per iteration")
    fig.savefig(RESULTS / "speed_scaling.png", dpi=80)


def report(quick: bool) -> str:
    """The section of the results."""
    from mtds_sklearn.estimators._fitting import one_blas_thread

    found, repeats = {}, 1 if quick else 3
    with one_blas_thread():
        seconds_of(BASE, 1)  # compiled now
        for name, grid in GRIDS.items():
            values = grid[: 3 if quick else None]
            found[name] = values, [seconds_of(BASE | {name: value}, repeats) for value in values]
            print(name, found[name], flush=True)
    if not quick:
        draw(found)
    lines = ["| size | milliseconds per iteration | exponent |", "| :--- | :--- | ---: |"]
    for name, (values, seconds) in found.items():
        pairs = zip(values, seconds, strict=True)
        cells = ", ".join(f"{value}: {1e3 * each:.3g}" for value, each in pairs)
        lines.append(f"| {name} | {cells} | {exponent(values, seconds):.2f} |")
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    notes = (
        f"Iterations of EM, seconds of the processor, one thread, least of {repeats}; one size at "
        f"a time moves away from {base}. Drawn in `speed_scaling.png`."
    )
    return "\n".join(["# Scaling", "", notes, "", *lines, ""])
