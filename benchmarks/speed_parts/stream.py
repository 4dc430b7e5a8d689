"""A stream without end: seconds and memory of `partial_fit` over many sequences of 100 rows.

    python benchmarks/speed.py stream

Sequences are drawn minibatch by minibatch and never kept; drawing them counts.
"""

import pickle
import time

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators
from speed_parts.memory import memory

MINIBATCH, N_ROWS = 100, 100


def report(quick: bool, n_sequences: int) -> str:
    """The section of the results."""
    n_sequences = 2_000 if quick else n_sequences
    model = MTLDSRegressor(4, 4, n_init=1, disturbance="none", random_state=0)
    lines = [
        "| sequences | s per 1000 | memory so far, MB | pickled, kB | noise |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    start, shown = time.perf_counter(), 0
    for i in range(n_sequences // MINIBATCH):
        data = make_oscillators(MINIBATCH, N_ROWS, random_state=i)
        labels = data.groups + i * MINIBATCH
        model.partial_fit(data.X, data.y, groups=labels, times=data.times)
        seen = (i + 1) * MINIBATCH
        if i == 0 or seen % (n_sequences // 10) == 0:
            pace = 1000.0 * (time.perf_counter() - start) / (seen - shown)
            size = len(pickle.dumps(model)) / 1e3
            noise = model.noise_std_[0]
            lines.append(
                f"| {seen} | {pace:.2f} | {memory('VmHWM'):.0f} | {size:.0f} | {noise:.4f} |"
            )
            print(lines[-1], flush=True)
            start, shown = time.perf_counter(), seen
    notes = (
        f"Two damped oscillators, noise 0.05, minibatches of {MINIBATCH}, 4 states, 4 latents. The "
        "first row holds the fit of the first minibatch, and all that is loaded and compiled."
    )
    return "\n".join(["# A stream", "", notes, "", *lines, ""])
