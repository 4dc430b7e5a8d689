"""Largest memory of a fit, beyond the process before it, in multiples of the data.

    python benchmarks/speed.py memory

The data are what the caller hands over: X, y, groups and times. Each size runs in a process of its
own, after a small fit that loads and compiles everything.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SIZES = ((1000, 200), (4000, 200), (4000, 800))


def memory(what: str) -> float:
    """MB of this process: VmRSS now, VmHWM at most since `forget_peak` (Linux)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(what)) / 1e3


def forget_peak() -> None:
    """Let the largest memory so far be that of now."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


def rows_of(n_sequences: int, n_rows: int, seed: int = 0) -> dict:
    """Two outputs that answer two inputs, each sequence with a rate of its own."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n_sequences, n_rows, 2))
    rate = rng.uniform(0.6, 0.95, n_sequences)[:, None]
    y, state = np.empty_like(u), np.zeros((n_sequences, 2))
    for t in range(n_rows):
        state = rate * state + u[:, t]
        y[:, t] = state + 0.3 * rng.standard_normal(state.shape)
    n = n_sequences * n_rows
    return {
        "X": u.reshape(n, 2), "y": y.reshape(n, 2),
        "groups": np.repeat(np.arange(n_sequences), n_rows),
        "times": np.tile(np.arange(n_rows), n_sequences),
    }  # fmt: skip


def measure(n_sequences: int, n_rows: int) -> dict:
    """Fit in this process; MB of the data, and of the peak beyond what there was before."""
    from mtds_sklearn import MTLDSRegressor

    model = MTLDSRegressor(4, 2, n_init=1, max_iter=10, disturbance="none", random_state=0)
    model.fit(**rows_of(300, 20))
    data = rows_of(n_sequences, n_rows, seed=1)
    forget_peak()
    before = memory("VmRSS")
    model.fit(**data)
    size = sum(values.nbytes for values in data.values()) / 1e6
    return {"data": size, "beyond": memory("VmHWM") - before}


def report(quick: bool) -> str:
    """The section of the results."""
    head = (
        "| sequences | rows | data, MB | beyond it, MB | data included, in multiples of the data |"
    )
    lines = [head, "| ---: | ---: | ---: | ---: | ---: |"]
    for n_sequences, n_rows in SIZES[: 1 if quick else None]:
        command = [sys.executable, __file__, str(n_sequences), str(n_rows)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(run.stdout.splitlines()[-1])
        ratio = 1.0 + found["beyond"] / found["data"]
        sizes = f"{found['data']:.1f} | {found['beyond']:.1f} | {ratio:.2f}"
        lines.append(f"| {n_sequences} | {n_rows} | {sizes} |")
        print(lines[-1], flush=True)
    notes = (
        "Two inputs, two outputs, 2 states, 2 latents. Beyond it: peak of the fit above the data."
    )
    return "\n".join(["# Memory of a fit", "", notes, "", *lines, ""])


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
