"""Threads for kernels that have a lot to do; results do not depend on how many there are.

Kernels let go of the interpreter lock and work on one evaluation after the other, so that halves of
the evaluations can run side by side. Threads are started for each call: that takes a tenth of a
millisecond, needs no pool that a forked process would inherit broken, and pays where the work takes
several.
"""

import os
from collections.abc import Callable
from itertools import pairwise
from threading import Thread

# Numbers of multiplications, by the rough count of the caller, below which one thread does it all.
LEAST_WORK = 20_000_000


def n_threads() -> int:
    """Threads that this process may use.

    What NUMBA_NUM_THREADS or OMP_NUM_THREADS say (joblib sets them in its workers), else the cores.
    """
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return max(1, int(os.environ[name]))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_split(run: Callable[[slice], None], n_evaluations: int, work: float) -> None:
    """Call `run` with slices that together are all evaluations, side by side if that pays.

    `run` writes only to what belongs to its slice; `work` is the number of multiplications in all.
    """
    n_parts = min(n_threads(), n_evaluations) if work >= LEAST_WORK else 1
    if n_parts <= 1:
        run(slice(0, n_evaluations))
        return
    edges = [n_evaluations * part // n_parts for part in range(n_parts + 1)]
    slices = [slice(*ends) for ends in pairwise(edges)]
    failures: list[BaseException] = []

    def guarded(part: slice) -> None:
        try:
            run(part)
        except BaseException as failure:  # handed on to whoever called
            failures.append(failure)

    threads = [Thread(target=guarded, args=(part,)) for part in slices[1:]]
    for thread in threads:
        thread.start()
    guarded(slices[0])
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
