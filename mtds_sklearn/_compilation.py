"""When kernels are compiled, and where they are kept for the next process.

A kernel is compiled when it is first called, and what comes out is kept beside its file or, where
that folder cannot be written, in the user's cache folder; the environment variable NUMBA_CACHE_DIR
names another one. This module tells the logger "mtds_sklearn" of every compilation, which a fit in
a new installation waits for, and keeps the package usable where no folder at all can be written.
"""

import tempfile
import time

from numba import config, njit
from numba.core import event

from mtds_sklearn._progress import LOGGER


class CompilationLog(event.Listener):
    """Logs each kernel of this package that is compiled, not those that a cache holds.

    Kernels call others, which are compiled on the way: only the outermost is named.
    """

    def __init__(self) -> None:
        self._depth, self._start = 0, 0.0

    def on_start(self, event: event.Event) -> None:
        """Say what is being waited for."""
        if not is_own(event):
            return
        self._depth += 1
        if self._depth == 1:
            self._start = time.perf_counter()
            LOGGER.info(
                "Compiling %s, which takes seconds once: it is kept in %s",
                _function(event).__name__, event.data["dispatcher"].stats.cache_path,
            )  # fmt: skip

    def on_end(self, event: event.Event) -> None:
        """Say how long it took."""
        if not is_own(event):
            return
        self._depth -= 1
        if self._depth == 0:
            seconds = time.perf_counter() - self._start
            LOGGER.info("Compiled %s in %.1f s", _function(event).__name__, seconds)


def _function(event: event.Event):
    return event.data["dispatcher"].py_func


def is_own(event: event.Event) -> bool:
    """Whether it is a function of this package; those made by `exec` have no module at all."""
    return (_function(event).__module__ or "").startswith("mtds_sklearn.")


def _nothing() -> None:
    """Stands for any kernel."""


def cache_folder_for_want_of_a_better() -> tempfile.TemporaryDirectory | None:
    """A folder that lives as long as this process, if numba finds none that it may write to.

    Without it, numba refuses even to define a kernel.
    """
    try:
        njit(cache=True)(_nothing)
    except RuntimeError:
        folder = tempfile.TemporaryDirectory(prefix="mtds_sklearn-")
        config.CACHE_DIR = folder.name
        LOGGER.warning(
            "Neither the folder of mtds_sklearn nor the user's cache folder can be written: every "
            "process compiles the kernels anew, which takes seconds. Let the environment variable "
            "NUMBA_CACHE_DIR name a folder to keep them in."
        )
        return folder
    return None


_FOLDER = cache_folder_for_want_of_a_better()


def keeps_kernels() -> bool:
    """Whether what is compiled here is at hand in the next process."""
    return _FOLDER is None and not config.DISABLE_JIT


event.register("numba:compile", CompilationLog())
