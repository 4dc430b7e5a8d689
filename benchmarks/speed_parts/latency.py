"""How long one waits: posteriors of new sequences, one more observation, forecasts.

python benchmarks/speed.py latency
"""

import time

import numpy as np

from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn.datasets import make_oscillators

LENGTHS = range(5, 61, 5)


def timed(function, *arguments, **keywords) -> tuple:
    start = time.process_time()
    result = function(*arguments, **keywords)
    return time.process_time() - start, result


def posteriors(model, new) -> float:
    """Seconds for 120 posteriors: of ten sequences, after 5, 10, ..., 60 rows."""
    total = 0.0
    for length in LENGTHS:
        known = new.times < length
        rows = {"groups": new.groups[known] + 1000, "times": new.times[known]}
        total += timed(model.sequence_posterior, new.X[known], new.y[known], **rows)[0]
    return total


def row_by_row(model, X, y) -> dict:
    """Seconds of each update of one sequence after its 20th row, and of one-step forecasts.

    An update that finds its weights too uneven draws anew: those are told apart by their cost.
    """
    posterior = model.sequence_posterior(X[:20], y[:20], groups=np.zeros(20))[0.0]
    updates, forecasts = [], []
    for u, value in zip(X[20:], y[20:], strict=True):
        seconds, posterior = timed(posterior.update, u, value)
        updates.append(seconds)
        forecasts.append(timed(posterior.predict, u[None])[0])
    return {"update": np.array(updates), "forecast": np.array(forecasts)}


def report(quick: bool) -> str:
    """The section of the results."""
    train = make_oscillators(random_state=0)
    new = make_oscillators(10, random_state=10_000)
    model = MTLDSRegressor(4, 4, n_init=1, disturbance="none", random_state=0)
    model.fit(train.X, train.y, groups=train.groups, times=train.times)
    posteriors(model, new)  # compiled now
    repeats = 2 if quick else 7
    totals = [posteriors(model, new) for _ in range(repeats)]
    context = mask_future(new.y, new.groups, new.times, 20)
    rows = {"groups": new.groups + 1000, "times": new.times, "y_context": context}
    model.predict(new.X, return_std=True, quantiles=[0.05, 0.95], **rows)
    whole = [
        timed(model.predict, new.X, return_std=True, quantiles=[0.05, 0.95], **rows)[0]
        for _ in range(repeats)
    ]
    parts = []
    for label in range(2 if quick else 10):
        mine = new.groups == label
        parts.append(row_by_row(model, new.X[mine], new.y[mine]))
    updates, forecasts = (np.concatenate([p[name] for p in parts]) for name in parts[0])
    cheap = updates[updates <= 5.0 * np.median(updates)]
    lines = ["| what | least | median | 90 % | most |", "| :--- | ---: | ---: | ---: | ---: |"]
    for name, values, unit in (
        ("120 posteriors, s", totals, 1.0),
        ("forecasts of ten sequences of 80 rows from 20, with intervals, s", whole, 1.0),
        ("one update, microseconds", updates, 1e6),
        (
            f"one update without new draws ({len(cheap) / len(updates):.0%}), microseconds",
            cheap,
            1e6,
        ),
        ("forecast of the next row, microseconds", forecasts, 1e6),
    ):
        cells = np.percentile(np.array(values) * unit, [0, 50, 90, 100])
        lines.append(f"| {name} | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")
    notes = (
        "Seconds of the processor, one thread. Two damped oscillators; 4 states, 4 latents, 2048 "
        "weighted draws per sequence."
    )
    return "\n".join(["# Latency", "", notes, "", *lines, ""])
