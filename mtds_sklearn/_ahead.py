"""Kernels compiled before they are called, by two processes at once.

The first fit in a new environment would compile one kernel after the other, as it comes to them.
Where there are two cores a second process, `python -m mtds_sklearn.compile` with names of kernels,
takes half of them, and this one finds what it has compiled as any later process does, in the folder
that kernels are kept in. Each kernel has files of its own there, so that the two are never in each
other's way. What a kernel is compiled for is what its arguments are annotated with.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from joblib import cpu_count
from numba import config
from numba.core import event

from mtds_sklearn._compilation import is_own, keeps_kernels
from mtds_sklearn._progress import LOGGER
from mtds_sklearn._threads import n_threads
from mtds_sklearn.kernels import (
    _forward,
    _gains,
    _latents,
    _mixtures,
    _particles,
    _points,
    _poles,
    _proposals,
    _sensitivities,
    _specific,
    _together,
)

Kernel = Any  # a dispatcher of numba

# What a default fit and its forecasts need, dealt out so that two processes take equally long. Both
# compile what kernels share: those that share derivatives stand together.
OWN_HALF = (
    _latents.maximize_latent,
    _sensitivities.gauss_newton_theta,
)
OTHER_HALF = (
    _forward.simulate,
    _forward.squared_residuals,
    _poles.block_normal_equations,
    _points.point_squares,
    _points.bend,
    _proposals.tempering_powers,
    _proposals.component_sums,
    _proposals.draw_components,
    _proposals.mixture_densities,
    _particles.simulate,
    _mixtures.mixture_moments,
    _gains.accumulated_variances,
)
# Many outputs, specific variances, quantiles, noise that grows, samples under disturbances.
NOT_IN_EVERY_FIT = (
    _together.gauss_newton_together,
    _specific.integrate_out,
    _mixtures.mixture_quantiles,
    _points.shrunk_squares,
    _gains.drive_states,
)

# 1: this process alone compiles.
SWITCH = "MTDS_SKLEARN_COMPILERS"
# Seconds after which nothing more is expected of the second process.
PATIENCE = 300.0

_LOCK = Lock()


def compile_ahead() -> None:
    """Have at hand what a fit and its forecasts need, if two processes may compile it.

    Otherwise kernels are compiled when they are called. Once in a process; where all is kept it
    loads a few kernels that a fit loads anyway.
    """
    if may_start_a_second():
        with _LOCK:
            _compile_default()


@cache
def _compile_default() -> None:
    compile_in_two(OWN_HALF, OTHER_HALF)


def compile_in_two(
    own: Iterable[Kernel], others: Iterable[Kernel], stderr: int | None = subprocess.DEVNULL
) -> None:
    """Compile kernels that are not kept yet, `others` in a second process.

    It is started by the first of `own` that is not kept. Should it fail, others are compiled when
    they are called. No process is left behind.
    """
    second = SecondProcess(others, stderr)
    try:
        with event.install_listener("numba:compile", second):
            compile_kernels(own)
        second.wait()
    finally:
        second.end()


def compile_kernels(kernels: Iterable[Kernel]) -> None:
    """Load kernels from where they are kept, or compile and keep them."""
    for kernel in kernels:
        kernel.compile(tuple(kernel.py_func.__annotations__.values()))


def name_of(kernel: Kernel) -> str:
    """Name by which the second process is told, as "_forward.simulate"."""
    module = kernel.py_func.__module__.rpartition(".")[2]
    return f"{module}.{kernel.py_func.__name__}"


def may_start_a_second() -> bool:
    """Whether a second process would help, and be welcome.

    Workers of joblib, Dask and Ray may be many and start none: they are children of another Python,
    or told to use one thread (Ray's, unless they are given more cores). Nor does a container whose
    share of the processors is one, of which joblib knows.
    """
    return (
        os.environ.get(SWITCH) not in ("0", "1")
        and min(n_threads(), cpu_count()) >= 2
        and multiprocessing.parent_process() is None
        and keeps_kernels()
        and _is_python(sys.executable)
    )


def _is_python(executable: str | None) -> bool:
    """Whether it is Python, not a program that Python has been built into."""
    is_frozen = getattr(sys, "frozen", False)
    return not is_frozen and Path(executable or "").name.lower().startswith("python")


class SecondProcess(event.Listener):
    """A process that compiles kernels from the moment on that this one begins to compile.

    It ends when its standard input does, so that it does not outlive this one.
    """

    def __init__(self, kernels: Iterable[Kernel], stderr: int | None) -> None:
        self._names = [name_of(kernel) for kernel in kernels]
        self._stderr = stderr
        self._is_due, self._process = True, None

    def on_start(self, event: event.Event) -> None:
        """Start it."""
        if not (self._is_due and is_own(event)):
            return
        self._is_due = False
        try:
            self._process = self._start()
        except OSError as failure:
            LOGGER.info("No second process compiles: %s", failure)
            return
        LOGGER.info(
            "Two processes compile: a second one takes %d kernels. %s=1 leaves it to one.",
            len(self._names), SWITCH,
        )  # fmt: skip

    def on_end(self, event: event.Event) -> None:
        """Nothing."""

    def _start(self) -> subprocess.Popen:
        """Start a Python that finds the same packages, and keeps kernels in the same folder."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        if config.CACHE_DIR:
            environment["NUMBA_CACHE_DIR"] = config.CACHE_DIR
        command = [sys.executable, "-P", "-m", "mtds_sklearn.compile", "--while-stdin-is-open"]
        return subprocess.Popen(
            [*command, *self._names],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._stderr,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until it is through, if it was started at all."""
        if self._process is None:
            return
        try:
            failed = self._process.wait(PATIENCE) != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed:
            LOGGER.info("The second process failed; what it had to compile is compiled here.")

    def end(self) -> None:
        """End it, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
