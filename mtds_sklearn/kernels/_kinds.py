"""Kinds of arguments, as numba's types: what each kernel is compiled for.

Kernels that Python calls name them in their annotations. All callers keep to them, so that a kernel
is compiled once, and can be compiled before anybody has called it. The number at the end is that of
the axes; arrays are contiguous, in rows. Packed rows are `Fixed`: no kernel may write to them.
"""

from numba import types


def _array(dtype: types.Type, n_axes: int, fixed: bool = False) -> types.Array:
    return types.Array(dtype, n_axes, "C", readonly=fixed)


Flag, Count, Number = types.boolean, types.int64, types.float64

Flags1 = _array(Flag, 1)
Counts1, Counts2 = _array(Count, 1), _array(Count, 2)
Numbers1, Numbers2, Numbers3 = (_array(Number, n_axes) for n_axes in (1, 2, 3))
Numbers4, Numbers5 = (_array(Number, n_axes) for n_axes in (4, 5))
FixedFlags2 = _array(Flag, 2, fixed=True)
FixedCounts1 = _array(Count, 1, fixed=True)
FixedNumbers2 = _array(Number, 2, fixed=True)


def several(*kinds: types.Type) -> types.BaseTuple:
    """A tuple of values of these kinds."""
    return types.BaseTuple.from_types(kinds)


# Inputs, outputs and weights of the rows.
Data = several(FixedNumbers2, FixedNumbers2, FixedNumbers2)
# Numbers of states, inputs and outputs, and the chart.
Shape = several(Count, Count, Count, Count)
# What `differentiate` says of the entries it goes over.
Bounds = several(*[Count] * 9)
# How points become natural vectors, in whole and up to r.
Tables = several(Numbers2, Flags1, Number)
Way = several(Numbers2, Flags1, Number, Numbers2, Numbers1)
