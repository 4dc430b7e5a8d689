"""scikit-learn's callbacks (SLEP 23), where the installed version has them.

The protocol is experimental, so that all that touches it stands here. Without it `set_callbacks` is
missing, and `fit` is what it is.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mtds_sklearn._progress import Iteration, Log, listening, shown

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:
        """No callbacks."""

    def with_callbacks(method: Callable) -> Callable:
        """Leave a method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "fit_with_progress", "make_log", "with_callbacks"]


def make_log(estimator) -> Log | None:
    """The log of an estimator that is verbose."""
    verbose = getattr(estimator, "verbose", 0)
    return Log(type(estimator).__name__, verbose) if verbose else None


def fit_with_progress(estimator, learn: Callable[[], Any], X: Any, y: Any) -> Any:
    """Call `learn`; its iterations go to the log and to the callbacks of the estimator."""
    log = make_log(estimator)
    listeners = [] if log is None else [log]
    context = None
    if getattr(estimator, "_skl_callbacks", None):
        context = estimator._init_callback_context(max_subtasks=None)
        context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        listeners.append(lambda _: _end_iteration(estimator, context))
    with ExitStack() as stack:
        if log is not None:
            stack.enter_context(shown())
        if listeners:
            stack.enter_context(listening(_all_of(listeners)))
        learned = learn()
    if context is not None:
        context.call_on_fit_task_end(estimator=estimator, X=X, y=y)
    return learned


def _end_iteration(estimator, context) -> bool:
    """One iteration as a task of its own, whose end may ask for the end of the stage."""
    task = context.subcontext(task_name="iteration")
    task.call_on_fit_task_begin(estimator=estimator)
    return task.call_on_fit_task_end(estimator=estimator)


def _all_of(listeners: list) -> Callable[[Iteration], bool]:
    """A listener that asks for the end when one of several does; all of them hear."""
    return lambda iteration: any([listener(iteration) for listener in listeners])
