"""Lanes: eight numbers that a processor works on at once, as a type for numba.

The kernels work on eight evaluations side by side, one in each lane. Compilers do not find this by
themselves in loops with as many arrays as theirs, so that it is said: a value of type `Lanes` is a
vector of eight doubles, and `+ - * /` between two of them, or with a float, are one instruction
each on processors with 512-bit vectors, two or four on others. One long array holds all lanes that
a kernel works with, and numbers say which:

    store(W, c, load(W, a) * load(W, b) + 1.0)      W[8 c : 8 c + 8] = W[8 a : ..] * W[8 b : ..] + 1

(With an array for each purpose, computing addresses took longer than computing.)

Products that are added are contracted to fused multiply-adds; nothing is reordered, so that a lane
does not depend on what the other lanes hold.
"""

import operator

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
)

LANES = 8

# Options of all kernels.
JIT = {"cache": True, "nogil": True, "fastmath": {"contract"}}
# Helpers are called by kernels alone.
HELPER = {key: value for key, value in JIT.items() if key != "cache"} | {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
# Those that allocate nothing do without reference counting: the atomic counter of every array
# argument would cost more than the arithmetic of one row.
LEAF = HELPER | {"_nrt": False}
INLINE = LEAF | {"forceinline": True}

VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_BITS = ir.VectorType(ir.IntType(64), LANES)
_FUSED = ("contract",)


class LanesType(types.Type):
    """Type of eight doubles."""

    def __init__(self):
        super().__init__(name="Lanes")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, of):
        super().__init__(manager, of, VECTOR)


def _constant(value: float):
    return ir.Constant(VECTOR, [value] * LANES)


def _spread(context, builder, value, of):
    """The vector of a value: lanes as they are, a number in every lane."""
    if isinstance(of, LanesType):
        return value
    number = context.cast(builder, value, of, types.float64)
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.IntType(32)(0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), everywhere)


def _register(operation, instruction):
    """Let `operation` work between lanes, and between lanes and a number."""

    @type_callable(operation)
    def typer(context):
        def result(a, b):
            either = isinstance(a, LanesType) or isinstance(b, LanesType)
            if either and all(isinstance(of, LanesType | types.Number) for of in (a, b)):
                return lanes

        return result

    def lower(context, builder, signature, arguments):
        pairs = zip(arguments, signature.args, strict=True)
        a, b = (_spread(context, builder, value, of) for value, of in pairs)
        return getattr(builder, instruction)(a, b, flags=_FUSED)

    for of in ((LanesType, LanesType), (LanesType, types.Number), (types.Number, LanesType)):
        lower_builtin(operation, *of)(lower)


_register(operator.add, "fadd")
_register(operator.sub, "fsub")
_register(operator.mul, "fmul")
_register(operator.truediv, "fdiv")


def _pointer(context, builder, array_type, array, index):
    """Where the lanes of number `index` begin in a one-dimensional array."""
    place = builder.mul(index, ir.Constant(index.type, LANES))
    return _pointer_at(context, builder, array_type, array, place)


def _pointer_at(context, builder, array_type, array, place):
    """Where the eight numbers from `place` on begin in a one-dimensional array."""
    if array_type.layout != "C" or array_type.ndim != 1:
        raise TypeError(f"lanes stand in contiguous one-dimensional arrays, not {array_type}")
    struct = context.make_array(array_type)(context, builder, array)
    if context.enable_boundscheck:
        last = builder.add(place, ir.Constant(place.type, LANES - 1))
        cgutils.do_boundscheck(context, builder, last, struct.nitems, 0)
    return builder.bitcast(builder.gep(struct.data, [place], inbounds=True), VECTOR.as_pointer())


@intrinsic
def load(typing_context, array, index):
    """Lanes of number `index` in a one-dimensional array."""

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=8)

    return lanes(array, types.intp), generate


@intrinsic
def load_at(typing_context, array, place):
    """The eight numbers of a one-dimensional array from `place` on, as lanes."""

    def generate(context, builder, signature, arguments):
        where = _pointer_at(context, builder, signature.args[0], *arguments)
        return builder.load(where, align=8)

    return lanes(array, types.intp), generate


@intrinsic
def store_at(typing_context, array, place, value):
    """The eight numbers of a one-dimensional array from `place` on <- lanes."""

    def generate(context, builder, signature, arguments):
        where = _pointer_at(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], where, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _keep_rolled(builder):
    """Have the compiler leave the loop around this as it is, not unroll it.

    Rows of lanes keep the processor busy as they are; unrolled, they would only take longer to
    compile, a third in all. An empty piece of assembler is what no compiler dares to repeat.
    """
    nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
    builder.call(nothing, [], attrs=("nounwind",))


@intrinsic
def rolled(typing_context):
    """Keeps a loop that stores no lanes from being unrolled."""

    def generate(context, builder, signature, arguments):
        _keep_rolled(builder)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def store(typing_context, array, index, value):
    """Lanes of number `index` <- value, which is lanes, or a number for every lane.

    Loops around it are not unrolled.
    """

    def generate(context, builder, signature, arguments):
        place = _pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(_spread(context, builder, arguments[2], signature.args[2]), place, align=8)
        _keep_rolled(builder)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@njit(**INLINE)
def add(W, index, value):
    """Lanes of number `index` <- themselves + value."""
    store(W, index, load(W, index) + value)


@intrinsic
def fill(typing_context, value):
    """A number in every lane."""

    def generate(context, builder, signature, arguments):
        return _spread(context, builder, arguments[0], signature.args[0])

    return lanes(value), generate


@intrinsic
def load_number(typing_context, array, index):
    """Number `index` >= 0 of a one-dimensional array, in every lane."""

    def generate(context, builder, signature, arguments):
        array_type = signature.args[0]
        struct = context.make_array(array_type)(context, builder, arguments[0])
        if context.enable_boundscheck:
            cgutils.do_boundscheck(context, builder, arguments[1], struct.nitems, 0)
        place = builder.gep(struct.data, [arguments[1]], inbounds=True)
        return _spread(context, builder, builder.load(place), array_type.dtype)

    return lanes(array, types.intp), generate


@intrinsic
def spread(typing_context, array, index, numbers, first, count):
    """Lanes of numbers `index` and on <- `count` numbers from `first` on, each in every lane."""

    def generate(context, builder, signature, arguments):
        W, place, values, start, number = arguments
        types_of = signature.args
        data = context.make_array(types_of[2])(context, builder, values).data
        with cgutils.for_range(builder, number) as loop:
            value = builder.load(builder.gep(data, [builder.add(start, loop.index)], inbounds=True))
            to = _pointer(context, builder, types_of[0], W, builder.add(place, loop.index))
            builder.store(_spread(context, builder, value, types_of[2].dtype), to, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, numbers, types.intp, types.intp), generate


@intrinsic
def choose(typing_context, condition, yes, no):
    """Lane by lane `yes` where `condition` > 0, else `no`."""

    def generate(context, builder, signature, arguments):
        positive = builder.fcmp_ordered(">", arguments[0], _constant(0.0))
        return builder.select(positive, arguments[1], arguments[2])

    return lanes(condition, yes, no), generate


@intrinsic
def any_positive(typing_context, value):
    """Whether a lane is > 0."""

    def generate(context, builder, signature, arguments):
        positive = builder.fcmp_ordered(">", arguments[0], _constant(0.0))
        bits = builder.bitcast(positive, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(value), generate


@intrinsic
def square_root(typing_context, value):
    """Roots of all lanes; NaN of negative ones."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(VECTOR, [VECTOR])
        name = f"llvm.sqrt.v{LANES}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)

    return lanes(value), generate


@intrinsic
def _shift_exponent(typing_context, value, shift):
    """value 2^n, for `shift` = n + 1.5 2^52, whose last bits are those of the integer n."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[1], _BITS)
        exponent = builder.shl(bits, ir.Constant(_BITS, [52] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(arguments[0], _BITS), exponent), VECTOR)

    return lanes(value, shift), generate


_ROUND = 1.5 * 2.0**52
_INVERSE_LOG_2 = 1.4426950408889634
# log 2 in two parts, of which the first has few enough digits for an exact product with n.
_LOG_2, _LOG_2_REST = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LARGEST = 700.0


@njit(**INLINE)
def exp(x):
    """Exponential of all lanes to about 2e-16, relative; x is held between -700 and 700.

    e^x = 2^n e^r with n the integer nearest to x / log 2, and a Taylor series for e^r,
    |r| < 0.35.
    """
    x = choose(x - _LARGEST, fill(_LARGEST), x)
    x = choose(-_LARGEST - x, fill(-_LARGEST), x)
    shift = x * _INVERSE_LOG_2 + _ROUND
    n = shift - _ROUND
    r = (x - n * _LOG_2) - n * _LOG_2_REST
    y = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0
    y = y * r + 1.0 / 39916800.0
    y = y * r + 1.0 / 3628800.0
    y = y * r + 1.0 / 362880.0
    y = y * r + 1.0 / 40320.0
    y = y * r + 1.0 / 5040.0
    y = y * r + 1.0 / 720.0
    y = y * r + 1.0 / 120.0
    y = y * r + 1.0 / 24.0
    y = y * r + 1.0 / 6.0
    y = y * r + 0.5
    y = y * r + 1.0
    y = y * r + 1.0
    return _shift_exponent(y, shift)


@njit(**INLINE)
def tanh(x):
    """Hyperbolic tangent of all lanes to about 3e-16."""
    return 1.0 - 2.0 / (exp(2.0 * x) + 1.0)
