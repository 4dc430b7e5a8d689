"""Sequences worked on in chunks, here or elsewhere; the numbers do not depend on where.

What an iteration of learning asks of the data is the same for every sequence, and its sums add up.
So sequences are cut into chunks, always at the same places: sums are added in one order, whoever
computes them. A crew, if there is one, works on chunks side by side and keeps them. What belongs
to the sequences, such as the posteriors of z, may stay with it as well (`Kept`), so that nothing
travels between iterations but the family and sums.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen

# Sequences of a chunk: enough for vectors and threads, few enough that what a search over starting
# points needs for all of them together stays small.
CHUNK = 256


class Kept(NamedTuple):
    """What belongs to the sequences of each chunk, where it is; handles of a crew, or the values.

    Attributes
    ----------
    parts : list
        One for each chunk, in order.
    """

    parts: list


class Reweighted(NamedTuple):
    """Sequences whose values have other weights, known where their chunk is.

    Attributes
    ----------
    given : PackedSequences
    precision : Kept
        Weights (n_rows, n_outputs) of the values of each chunk.
    """

    given: PackedSequences
    precision: Kept


class Crew(Protocol):
    """Workers that keep chunks of sequences, and what they are told to."""

    def work(
        self, function: Callable, sequences: PackedSequences, parts: list, arguments: list
    ) -> list:
        """Handles of function(chunk, *rest) of the parts (slices) of the sequences, in order.

        The rest may be handles.
        """

    def fetch(self, handles: list) -> list:
        """What the handles stand for."""


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


def map_by_chunk(
    function: Callable,
    sequences: PackedSequences | Reweighted,
    own: tuple = (),
    shared: tuple = (),
) -> Kept:
    """Call a function on every chunk of the sequences, and leave the results there.

    Parameters
    ----------
    function : callable
        Called as function(chunk, *own of the chunk, *shared); of the top of a module, so that it
        can be sent elsewhere.
    own : tuple
        What belongs to each sequence: arrays of shape (n_sequences, ...), tuples of them, None, or
        `Kept`.
    shared : tuple
        What is the same for all.
    """
    given = given_sequences(sequences)
    if isinstance(sequences, Reweighted):
        function, own = partial(_reweighted, function), (sequences.precision, *own)
    parts = chunks_of(len(given.labels))
    arguments = [(*(_cut(each, part, i) for each in own), *shared) for i, part in enumerate(parts)]
    crew = _crew.get()
    if len(parts) == 1:
        return Kept([function(given, *arguments[0])])
    if crew is not None:
        return Kept(crew.work(function, given, parts, arguments))
    return Kept(
        [
            function(slice_sequences(given, part), *rest)
            for part, rest in zip(parts, arguments, strict=True)
        ]
    )


def given_sequences(sequences: PackedSequences | Reweighted) -> PackedSequences:
    """The sequences as they were given; values may have other weights."""
    return sequences.given if isinstance(sequences, Reweighted) else sequences


def _reweighted(
    function: Callable, sequences: PackedSequences, precision: np.ndarray, *rest: Any
) -> Any:
    return function(sequences._replace(precision=precision), *rest)


def _cut(own: Any, part: slice, number: int) -> Any:
    """What of it belongs to the sequences of a chunk."""
    if isinstance(own, Kept):
        return own.parts[number]
    if isinstance(own, tuple):
        return _like(own, (_cut(each, part, number) for each in own))
    return own if own is None else own[part]


def fetched(kept: Kept) -> list:
    """The parts themselves."""
    crew = _crew.get()
    return kept.parts if crew is None or len(kept.parts) == 1 else crew.fetch(kept.parts)


def sum_by_chunk(
    function: Callable,
    sequences: PackedSequences | Reweighted,
    own: tuple = (),
    shared: tuple = (),
) -> tuple:
    """Sums over the chunks of what a function returns, a tuple; see `map_by_chunk`."""
    first, *others = fetched(map_by_chunk(function, sequences, own, shared))
    for other in others:
        first = [one + more for one, more in zip(first, other, strict=True)]
    return tuple(first)


def whole(kept: Kept) -> Any:
    """Arrays of all sequences, or a tuple of them, from those of each chunk."""
    first, *others = parts = fetched(kept)
    if not others:
        return first
    if isinstance(first, tuple):
        return _like(first, (np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    return np.concatenate(parts)


def _like(example: tuple, items: Iterable) -> tuple:
    """The items as a tuple of the same type."""
    return getattr(type(example), "_make", tuple)(items)


def alike(found: Kept, given: Any) -> Any:
    """What was found for each sequence: left where it is if `given` was, else fetched."""
    return found if isinstance(given, Kept) else whole(found)


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
