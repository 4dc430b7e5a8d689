"""First use: seconds until a new process has fitted, with and without compiled kernels at hand.

    python benchmarks/speed.py first_use

Overhead is what the first fit of a process takes beyond the second one. "Cold" has an empty cache.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

PROGRAM = """
import json, time
start = time.perf_counter()
import mtds_sklearn
imported = time.perf_counter() - start
from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators
data = make_oscillators(10, 20, random_state=0)
model = MTLDSRegressor(2, 2, n_init=1, random_state=0, {options})
seconds, cpu = [], []
for _ in range(3):
    start, before = time.perf_counter(), time.process_time()
    model.fit(data.X, data.y, groups=data.groups)
    model.predict(data.X, groups=data.groups + 100, y_context=data.y)
    seconds.append(time.perf_counter() - start)
    cpu.append(time.process_time() - before)
print(json.dumps([imported, seconds[0] - min(seconds), cpu[0] - min(cpu)]))
"""


def measure(options: str, folder: str) -> list:
    """Seconds of the import, and those that a first fit and forecast take more than the next."""
    environment = os.environ | {"NUMBA_CACHE_DIR": folder}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("{options}", options)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def report(quick: bool) -> str:
    """The section of the results."""
    lines = [
        "| fit and forecast | import, s | cold, s (processor) | cached, s (processor) |",
        "| :--- | ---: | ---: | ---: |",
    ]
    for options in ('disturbance="none"', "" if not quick else 'disturbance="none"'):
        with tempfile.TemporaryDirectory() as folder:
            cold = measure(options, folder)
            cached = np.median([measure(options, folder) for _ in range(1 if quick else 5)], axis=0)
        lines.append(
            f"| `MTLDSRegressor(2, 2{', ' + options if options else ''})` | {cached[0]:.2f} | "
            f"{cold[1]:.1f} ({cold[2]:.1f}) | {cached[1]:.2f} ({cached[2]:.2f}) |"
        )
        print(lines[-1], flush=True)
    notes = (
        "Fresh processes; cold: once, with an empty cache; cached: median of five. In brackets "
        "seconds of the processor, which other work on the machine disturbs less."
    )
    return "\n".join(["# First use", "", notes, "", *lines, ""])
