"""First use: seconds until a new process has fitted, with and without compiled kernels at hand.

    python benchmarks/speed.py first_use

What is measured is how much longer the first fit of a process, and its first forecast, take than
the next ones. "Cold" has an empty cache, and two processes compile unless one is asked for.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np

# Numbers of sequences, and options. Fewer than 30 are asked for specific variances when they are
# left out, and forecasts integrate these out: one kernel more.
SETTINGS = ((40, 'disturbance="none"'), (40, ""), (10, 'disturbance="none"'))
# Rows of what PROGRAM prints; processors count what other processes took that this one started.
FIT_WALL, FIT_PROCESSORS, BOTH_WALL, BOTH_PROCESSORS, IMPORT = range(5)

PROGRAM = """
import json, os, time
start = time.perf_counter()
import mtds_sklearn
imported = time.perf_counter() - start
from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators
data = make_oscillators({n_sequences}, 20, random_state=0)
model = MTLDSRegressor(2, 2, n_init=1, random_state=0, {options})
def now():
    return time.perf_counter(), sum(os.times()[:4])
rounds = []
for _ in range(3):
    start = now()
    model.fit(data.X, data.y, groups=data.groups)
    fitted = now()
    model.predict(data.X, groups=data.groups + 100, y_context=data.y)
    end = now()
    rounds.append([after[i] - start[i] for after in (fitted, end) for i in range(2)])
overhead = [first - min(later) for first, *later in zip(*rounds)]
print(json.dumps([*overhead, imported]))
"""


def measure(setting: tuple, folder: str, n_processes: int = 2) -> list:
    """Overheads and seconds of the import of one new process."""
    limits = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in limits}
    environment |= {"NUMBA_CACHE_DIR": folder, "MTDS_SKLEARN_COMPILERS": str(n_processes)}
    program = PROGRAM.replace("{n_sequences}", str(setting[0])).replace("{options}", setting[1])
    command = [sys.executable, "-W", "ignore", "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure_all(setting: tuple, n_cold: int, n_cached: int) -> list[tuple[str, np.ndarray]]:
    """Medians; cold ones with one and two processes take turns."""
    cold, cached = {1: [], 2: []}, []
    for _ in range(n_cold):
        for n_processes, found in cold.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append(measure(setting, folder, n_processes))
                if n_processes == 2 and not cached:
                    cached = [measure(setting, folder) for _ in range(n_cached)]
    kinds = {"cold, one process": cold[1], "cold": cold[2], "cached": cached}
    return [(name, np.median(found, axis=0)) for name, found in kinds.items()]


def report(quick: bool) -> str:
    """The section of the results."""
    lines = [
        "| | | import, s | fit, s (processors) | fit and forecast, s (processors) |",
        "| :--- | :--- | ---: | ---: | ---: |",
    ]
    for setting in SETTINGS[:1] if quick else SETTINGS:
        n_sequences, options = setting
        for name, found in measure_all(setting, 1 if quick else 3, 1 if quick else 5):
            lines.append(
                f"| `MTLDSRegressor(2, 2{', ' + options if options else ''})`, {n_sequences} "
                f"sequences | {name} | "
                f"{found[IMPORT]:.2f} | {found[FIT_WALL]:.2f} ({found[FIT_PROCESSORS]:.2f}) | "
                f"{found[BOTH_WALL]:.2f} ({found[BOTH_PROCESSORS]:.2f}) |"
            )
            print(lines[-1], flush=True)
    notes = (
        "What the first fit, and fit and forecast, of a process take longer than the next: medians "
        "of three fresh processes with an empty cache (cold), of five that find everything "
        "compiled (cached). Cold, two processes compile, each at first what both halves share; "
        "with one, forecasts compile theirs. In brackets seconds of all processors: where they are "
        "less than the seconds on the clock (one process), or less than twice as many (two), other "
        "work on the machine has lengthened those."
    )
    return "\n".join(["# First use", "", notes, "", *lines, ""])
