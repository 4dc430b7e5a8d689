"""Who listens to learning. Loops report each iteration, and need not know to whom."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

LOGGER = logging.getLogger("mtds_sklearn")
# With verbose=1 one iteration in so many is logged.
LOG_EVERY = 10


class Iteration(NamedTuple):
    """What an iteration of learning came to.

    Attributes
    ----------
    n_states : int
        Number of states of the stage.
    number : int
        From 1 in each stage.
    bound : float
        In nats.
    noise_std : ndarray of shape (n_outputs,)
        In standard deviations of the outputs.
    """

    n_states: int
    number: int
    bound: float
    noise_std: np.ndarray


_listener: ContextVar[Callable[[Iteration], Any] | None] = ContextVar("listener", default=None)


def report(n_states: int, bounds: list, noise_std: np.ndarray) -> bool:
    """Tell the listener of the latest iteration; True if it wants the stage to end."""
    listener = _listener.get()
    if listener is None:
        return False
    return bool(listener(Iteration(n_states, len(bounds), bounds[-1], noise_std)))


@contextmanager
def listening(listener: Callable[[Iteration], Any] | None) -> Iterator[None]:
    """Context in which a listener hears of every iteration."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def heard(log: "Log | None", function: Callable, *args: Any) -> Any:
    """Call a function, in a worker process too, where a log must be told to listen anew."""
    if log is None or _listener.get() is not None:
        return function(*args)
    with shown(), listening(log):
        return function(*args)


class Log:
    """A listener that writes to the logger "mtds_sklearn"; it can be sent to other processes.

    Parameters
    ----------
    who : str
        Name of the estimator.
    verbose : int
        1: every tenth iteration; 2 or more: every iteration.
    """

    def __init__(self, who: str, verbose: int) -> None:
        self.who = who
        self.every = 1 if verbose >= 2 else LOG_EVERY
        self._start, self._shown = time.perf_counter(), 0

    def __call__(self, iteration: Iteration) -> None:
        """Log an iteration, or let it pass."""
        if iteration.number == 1:
            self._shown = 0
        if iteration.number % self.every:
            return
        now = time.perf_counter()
        pace = (now - self._start) / (iteration.number - self._shown)
        self._start, self._shown = now, iteration.number
        noise = ", ".join(f"{std:.4g}" for std in iteration.noise_std)
        LOGGER.info(
            "%s, %d states, iteration %d: bound %.6g nats, noise %s of sd(y), %.3g s per iteration",
            self.who, iteration.n_states, iteration.number, iteration.bound, noise, pace,
        )  # fmt: skip


@contextmanager
def shown() -> Iterator[None]:
    """Context in which what is logged is also seen, where nobody has configured logging.

    A level that was set on the logger itself is left alone.
    """
    level = LOGGER.level
    handler = None if LOGGER.hasHandlers() else logging.StreamHandler()
    if handler is not None:
        LOGGER.addHandler(handler)
    if level == logging.NOTSET and not LOGGER.isEnabledFor(logging.INFO):
        LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        if handler is not None:
            LOGGER.removeHandler(handler)
