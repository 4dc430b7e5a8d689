"""Lanes in straight lines: loops over states and outputs that are written out for known sizes.

A loop over eight states costs about as much for counting and addresses as for the products in it,
and what it sums goes through memory. Where the sizes are known while compiling, none of that is
needed. A function under `@written_out` is therefore ordinary Python that runs once, *while the
kernel is compiled*: its lists and loops are gone afterwards, and what is left are the operations
that they led to, on `Lane` values that the compiler keeps in registers:

    @written_out
    def add_vectors(at, first, count, sizes):
        with at.loop(first, count) as t:            a loop of the compiled code
            x = at.X.row(t, sizes.n)
            for i in range(sizes.n):                a loop of Python, written out
                x[i] = x[i] + at.s[i]

    add_vectors(W, at, first, count, known)         in a kernel

`known` are `Known` sizes: for numba every one is a type of its own, for which a kernel is compiled
(and kept on disk) the first time that it meets them.
"""

from contextlib import contextmanager
from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    register_model,
    typeof_impl,
    unbox,
)

from mtds_sklearn.kernels._lanes import LANES, VECTOR

_NUMBER = ir.IntType(64)
# Of the matrices of several rows together; with more the compiler takes too long.
MOST_ENTRIES = 800


class Sizes(NamedTuple):
    """What a written-out kernel is compiled for.

    Attributes
    ----------
    n, m, p, block : int
        States, inputs, outputs, and rows of a block of A, as in `shape`.
    gain : bool
        Whether errors are fed back.
    """

    n: int
    m: int
    p: int
    block: int
    gain: bool

    @property
    def modal(self) -> bool:
        """Whether A consists of blocks of two."""
        return self.block == 2 or self.n == 1

    @property
    def together(self) -> int:
        """How many rows are worked on at once (`_lifted`): 1, 2 or 4, as takes least."""
        n, m, p = self.n, self.m, self.p
        kept = n * (2 if self.modal else n)

        def entries(rows):
            return kept + rows * n * (m + p) + rows * (rows + 1) // 2 * p * m

        possible = [1] if self.gain else [1, 2, 4]
        short = [rows for rows in possible if entries(rows) <= MOST_ENTRIES] or [1]
        return min(short, key=lambda rows: entries(rows) / rows)


class Known:
    """Wraps `Sizes` for a kernel: numbers that the compiler knows."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes


class _KnownType(types.Type):
    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        super().__init__(name=f"Known{tuple(sizes)}")


@typeof_impl.register(Known)
def _type_of(known, context):
    return _KnownType(known.sizes)


register_model(_KnownType)(models.OpaqueModel)


@unbox(_KnownType)
def _no_content(of, known, context):
    return NativeValue(context.context.get_dummy_value())


@intrinsic
def shape_of(typing_context, known):
    """The tuple (n, m, p, block) of known sizes."""
    kind = types.UniTuple(types.intp, 4)

    def generate(context, builder, signature, arguments):
        numbers = [_NUMBER(number) for number in known.sizes[:4]]
        return context.make_tuple(builder, kind, numbers)

    return kind(known), generate


@intrinsic
def has_gain(typing_context, known):
    """Whether errors are fed back."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.boolean, known.sizes.gain)

    return types.boolean(known), generate


@intrinsic
def together(typing_context, known):
    """How many rows are worked on at once."""

    def generate(context, builder, signature, arguments):
        return _NUMBER(known.sizes.together)

    return types.intp(known), generate


class Lane:
    """Eight numbers of the code that is being written."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def _with(self, other, instruction):
        operate = getattr(self.builder, instruction)
        return Lane(self.builder, operate(self.value, other.value, flags=("contract",)))

    def __add__(self, other):
        return self._with(other, "fadd")

    def __sub__(self, other):
        return self._with(other, "fsub")

    def __mul__(self, other):
        return self._with(other, "fmul")

    def where(self, condition: "Lane") -> "Lane":
        """The same lane by lane where `condition` > 0, else 0."""
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        positive = self.builder.fcmp_ordered(">", condition.value, zero)
        return Lane(self.builder, self.builder.select(positive, self.value, zero))


class Register(Lane):
    """A lane that changes from round to round of a loop."""

    def __init__(self, builder, first):
        self.builder = builder
        self.slot = cgutils.alloca_once(builder, VECTOR)
        self.set(first)

    @property
    def value(self):
        return self.builder.load(self.slot)

    def set(self, lane):
        """Take the value of a lane."""
        self.builder.store(lane.value, self.slot)


class Place:
    """Lanes of W from a place on; [i] is the one i places further on."""

    def __init__(self, builder, pointer):
        self.builder, self.pointer = builder, pointer

    def _at(self, i):
        return self.builder.gep(self.pointer, [_NUMBER(i)], inbounds=True)

    def __getitem__(self, i):
        return Lane(self.builder, self.builder.load(self._at(i), align=8))

    def __setitem__(self, i, lane):
        self.builder.store(lane.value, self._at(i), align=8)

    def after(self, count: int) -> "Place":
        """The place `count` further on."""
        return Place(self.builder, self._at(count))

    def row(self, t, width: int) -> "Place":
        """Row t of rows of `width` lanes."""
        step = self.builder.mul(t, _NUMBER(width))
        return Place(self.builder, self.builder.gep(self.pointer, [step], inbounds=True))


class Places:
    """A named tuple of places: its attributes as `Place`."""

    def __init__(self, builder, origin, numbers):
        self.builder, self._origin, self._numbers = builder, origin, numbers

    def __getattr__(self, name):
        pointer = self.builder.gep(self._origin, [self._numbers[name]], inbounds=True)
        return Place(self.builder, pointer)

    @property
    def zero(self) -> Lane:
        """Zero in every lane."""
        return Lane(self.builder, ir.Constant(VECTOR, [0.0] * LANES))

    def register(self, first: Lane) -> Register:
        """A register that holds a lane at first."""
        return Register(self.builder, first)

    def minus(self, t, first):
        """Difference of two numbers of the compiled code."""
        return self.builder.sub(t, first)

    def settle(self):
        """Have all that is stored in W by now, and read what is used from now on.

        Otherwise the compiler would keep sums of one loop in registers throughout the next, of
        which it has too few.
        """
        kind = ir.FunctionType(ir.VoidType(), [])
        self.builder.call(ir.InlineAsm(kind, "", "~{memory}", side_effect=True), [])

    @contextmanager
    def loop(self, first, count, *, down=False):
        """Numbers first .. first + count - 1 of a loop that is not written out, or backwards."""
        with cgutils.for_range(self.builder, count) as loop:
            passed = loop.index
            if down:
                passed = self.builder.sub(self.builder.sub(count, _NUMBER(1)), passed)
            yield self.builder.add(first, passed)


def written_out(function):
    """A function of kernels, f(W, at, first, count, known), from one that writes it.

    The latter is called with `at` as `Places`, first and count as numbers of the compiled code, and
    the `Sizes` that are known.
    """

    @intrinsic
    def written(typing_context, W, at, first, count, known):
        def generate(context, builder, signature, arguments):
            array, places = signature.args[:2]
            data = context.make_array(array)(context, builder, arguments[0]).data
            numbers = {
                name: builder.extract_value(arguments[1], i) for i, name in enumerate(places.fields)
            }
            origin = builder.bitcast(data, VECTOR.as_pointer())
            writer = Places(builder, origin, numbers)
            writer.settle()
            function(writer, *arguments[2:4], known.sizes)
            writer.settle()
            return context.get_dummy_value()

        return types.void(W, at, types.intp, types.intp, known), generate

    return written


class Matrix:
    """A matrix in W, of which some entries may be known to be zero.

    Parameters
    ----------
    place : Place
    rows, columns : int
    steps : tuple of (int, int), optional
        Lanes from an entry to that of the next row, and to that of the next column.
    kept : dict, optional
        {(row, column): lanes from `place` to it} where only some entries stand in W.
    """

    def __init__(self, place, rows, columns, steps=None, kept=None):
        self.place, self.rows, self.columns = place, rows, columns
        self.steps, self.full = steps or (columns, 1), kept is None
        down, right = self.steps
        self.kept = kept or {
            (i, j): i * down + j * right for i in range(rows) for j in range(columns)
        }

    def __getitem__(self, entry):
        return self.place[self.kept[entry]]

    def __setitem__(self, entry, lane):
        self.place[self.kept[entry]] = lane

    @property
    def T(self) -> "Matrix":  # noqa: N802
        """The transpose, which stands where the matrix stands."""
        kept = None if self.full else {(j, i): where for (i, j), where in self.kept.items()}
        return Matrix(self.place, self.columns, self.rows, self.steps[::-1], kept)

    def part(self, i: int, j: int, rows: int, columns: int) -> "Matrix":
        """Rows from i on and columns from j on of a full matrix."""
        place = self.place.after(i * self.steps[0] + j * self.steps[1])
        return Matrix(place, rows, columns, self.steps)

    def row(self, t) -> "Matrix":
        """Row t of a full matrix, t a number of the compiled code."""
        return Matrix(self.place.row(t, self.steps[0]), 1, self.columns, self.steps)


def times(M: Matrix, v, sums: list) -> list:
    """sums + M v; a sum may be None where there is none yet."""
    sums = list(sums)
    for i, j in M.kept:
        product = M[i, j] * v[j]
        sums[i] = product if sums[i] is None else sums[i] + product
    return sums


def add_matrix(to: Matrix, M: Matrix) -> None:
    """to <- to + M."""
    for entry in to.kept:
        to[entry] = to[entry] + M[entry]


def add_product(at: Places, to: Matrix, left: Matrix, right: Matrix) -> None:
    """to <- to + left right, in the entries that are kept; full ones row by row in a loop."""
    if to.full and left.full and to.rows > 2:
        with at.loop(_NUMBER(0), _NUMBER(to.rows)) as t:
            add_product(at, to.row(t), left.row(t), right)
        return
    rows = {}
    for i, j in left.kept:
        rows.setdefault(i, {})[j] = left[i, j]
    for i, k in to.kept:
        total = to[i, k]
        for j, number in rows.get(i, {}).items():
            if (j, k) in right.kept:
                total = total + number * right[j, k]
        to[i, k] = total


TILE = 4  # rows and columns of a matrix whose sums are kept in registers together
SUMS = 16  # in registers


def add_outer(at: Places, count, products: list) -> None:
    """Add the products l r' of `count` pairs of vectors to the kept entries of matrices.

    products: (matrix, (first l, step), (first r, step)) of each.
    """
    together = []
    for matrix, left, right in products:
        tiles = {}
        for i, j in matrix.kept:
            entry = matrix, (i, j), (left, i), (right, j)
            tiles.setdefault((i // TILE, j // TILE), []).append(entry)
        for tile in tiles.values():
            if together and len(together) + len(tile) > SUMS:
                _add_tile(at, count, together)
                together = []
            together = together + tile
    if together:
        _add_tile(at, count, together)


def _add_tile(at: Places, count, tile: list) -> None:
    """Some of these sums, in one loop."""
    at.settle()
    sums = [at.register(matrix[entry]) for matrix, entry, *_ in tile]
    with at.loop(_NUMBER(0), count) as t:
        for total, (_, _, *sides) in zip(sums, tile, strict=True):
            left, right = (first.row(t, step)[i] for (first, step), i in sides)
            total.set(total + left * right)
    for total, (matrix, entry, *_) in zip(sums, tile, strict=True):
        matrix[entry] = total
