"""Sequences worked on in chunks, here or elsewhere; the numbers do not depend on where.

What an iteration of learning asks of the data is the same for every sequence, and its sums add up.
So sequences are cut into chunks, always at the same places: sums are added in one order, whoever
computes them. A crew, if there is one, works on chunks side by side and keeps them: what travels
between iterations is the family, the posteriors of z and sums.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen

# Sequences of a chunk: enough for vectors and threads, few enough that what a search over starting
# points needs for all of them together stays small.
CHUNK = 256


class Crew(Protocol):
    """Workers that keep chunks of sequences."""

    def __call__(
        self, function: Callable, sequences: PackedSequences, parts: list, arguments: list
    ) -> list:
        """[function(chunk, *rest)] of the parts (slices) of the sequences, in order."""


_crew: ContextVar[Crew | None] = ContextVar("crew", default=None)


@contextmanager
def working(crew: Crew | None) -> Iterator[None]:
    """Context in which a crew works on the chunks; None: they are worked on here."""
    token = _crew.set(crew)
    try:
        yield
    finally:
        _crew.reset(token)


def chunks_of(n_sequences: int) -> list[slice]:
    """Which sequences are worked on together, at least one chunk."""
    starts = range(0, max(n_sequences, 1), CHUNK)
    return [slice(start, min(start + CHUNK, n_sequences)) for start in starts]


def by_chunk(
    function: Callable, sequences: PackedSequences, own: tuple, shared: tuple
) -> list[Any]:
    """Call a function on every chunk of the sequences; the results in order.

    Parameters
    ----------
    function : callable
        Called as function(chunk, *own of the chunk, *shared); of the top of a module, so that it
        can be sent elsewhere.
    own : tuple of ndarray of shape (n_sequences, ...)
        What belongs to each sequence.
    shared : tuple
        What is the same for all.
    """
    parts = chunks_of(len(sequences.labels))
    if len(parts) == 1:
        return [function(sequences, *own, *shared)]
    arguments = [(*(array[part] for array in own), *shared) for part in parts]
    crew = _crew.get()
    if crew is not None:
        return crew(function, sequences, parts, arguments)
    return [
        function(slice_sequences(sequences, part), *rest)
        for part, rest in zip(parts, arguments, strict=True)
    ]


def joined(parts: list) -> np.ndarray:
    """Arrays below each other."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def slice_sequences(sequences: PackedSequences, part: slice) -> PackedSequences:
    """Return consecutive sequences as views of the same rows, nothing copied.

    Parameters
    ----------
    sequences : PackedSequences
        The sequences to choose from.
    part : slice
        With start and stop, step 1.

    Returns
    -------
    selected : PackedSequences
        Its ``row_order`` numbers its own rows in packed order.
    """
    rows = slice(sequences.offsets[part.start], sequences.offsets[part.stop])

    def cut(array: np.ndarray | None, where: slice) -> np.ndarray | None:
        return None if array is None else array[where]

    return PackedSequences(
        inputs=sequences.inputs[rows],
        outputs=sequences.outputs[rows],
        observed=sequences.observed[rows],
        offsets=frozen(sequences.offsets[part.start : part.stop + 1] - rows.start),
        labels=sequences.labels[part],
        row_order=frozen(np.arange(rows.stop - rows.start)),
        weights=cut(sequences.weights, part),
        precision=cut(sequences.precision, rows),
    )
