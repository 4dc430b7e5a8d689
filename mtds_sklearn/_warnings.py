"""Warnings that show the line of whoever called the package, however deep they come from."""

import sys
import warnings

# What a user did not write: this package, and the tools that call it.
TOOLS = ("mtds_sklearn", "sklearn", "joblib")


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither of this package nor of the tools around it."""
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in TOOLS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
