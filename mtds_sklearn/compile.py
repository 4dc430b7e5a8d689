"""Compile everything beforehand: `python -m mtds_sklearn.compile`.

For images of containers, test servers and clusters: what is compiled is kept, and the first fit
there waits for nothing. Where it is all kept already, the command takes a second. Kernels belong to
a kind of processor: run it on one like those that will use them.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence

from mtds_sklearn import _ahead
from mtds_sklearn._compilation import keeps_kernels
from mtds_sklearn._progress import shown

KERNELS = {
    _ahead.name_of(kernel): kernel
    for kernel in (*_ahead.OWN_HALF, *_ahead.OTHER_HALF, *_ahead.NOT_IN_EVERY_FIT)
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile all kernels, or those that are named.

    Parameters
    ----------
    arguments : sequence of str, default=None
        As on the command line, where None takes them from.

    Raises
    ------
    SystemExit
        If the arguments are wrong, or what is compiled cannot be kept.
    """
    parser = argparse.ArgumentParser(
        prog="python -m mtds_sklearn.compile",
        description="Compile the kernels of mtds_sklearn that are not kept yet, and keep them.",
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="all if none is named")
    parser.add_argument(
        "--while-stdin-is-open",
        action="store_true",
        help="end early if standard input ends: with the process that has started this one",
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.kernels) - set(KERNELS))
    if unknown:
        parser.error(f"there are no kernels {unknown}, only {sorted(KERNELS)}")
    if not keeps_kernels():
        parser.error("what is compiled cannot be kept; let NUMBA_CACHE_DIR name a folder")
    if options.while_stdin_is_open:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    start = time.perf_counter()
    with shown():
        _compile(options.kernels)
    folder = _ahead.OWN_HALF[0].stats.cache_path
    n_kernels = len(options.kernels or KERNELS)
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{n_kernels} kernels are kept in {folder} ({seconds:.1f} s).\n")


def _compile(names: Sequence[str]) -> None:
    """Compile kernels: those that are named here alone, all together in two processes."""
    if not names and _ahead.may_start_a_second():
        derivatives, *rest = _ahead.NOT_IN_EVERY_FIT
        own, others = (*_ahead.OWN_HALF, derivatives), (*_ahead.OTHER_HALF, *rest)
        _ahead.compile_in_two(own, others, stderr=None)
    _ahead.compile_kernels(KERNELS[name] for name in names or KERNELS)


def _end_with_stdin() -> None:
    """Wait for the end of standard input; then the process that started this one is gone."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
