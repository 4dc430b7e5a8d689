import datetime
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mtds_sklearn._sequences import (
    frozen,
    pack_sequences,
    resolve_rows,
    select_sequences,
    unpack_rows,
)

LABELS = ["b", "a", "b", "c", "a", "b"]
TIMES = [2, 0, 1, 7, 1, 3]
# Sorted by first appearance of the label, then by time.
PACKED = [2, 0, 5, 1, 4, 3]


def make_rows(n_rows=6, n_inputs=2, n_outputs=1):
    inputs = np.arange(n_rows * n_inputs, dtype=float).reshape(n_rows, n_inputs)
    return inputs, 100.0 + np.arange(n_rows * n_outputs, dtype=float).reshape(n_rows, n_outputs)


def pack(labels=LABELS, times=TIMES, **options):
    inputs, outputs = make_rows()
    return pack_sequences(inputs, outputs, labels=labels, times=times, who="fit", **options)


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def raises(*parts):
    """Expect a ValueError that contains all parts, numbers included."""
    return pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, parts)))


def test_raises_needs_every_part():
    with pytest.raises(AssertionError), raises("X has 5", "y has 4"):
        raise ValueError("X has 5 rows, y has 3")


# --- what is packed, and in what order


def test_rows_are_sorted_by_first_appearance_then_time():
    inputs, outputs = make_rows()
    sequences = pack()
    np.testing.assert_array_equal(sequences.row_order, PACKED)
    np.testing.assert_array_equal(sequences.inputs, inputs[PACKED])
    np.testing.assert_array_equal(sequences.outputs, outputs[PACKED])
    np.testing.assert_array_equal(sequences.offsets, [0, 3, 5, 6])
    assert sequences.labels.tolist() == ["b", "a", "c"]
    assert sequences.observed.all()


def test_without_times_rows_keep_the_order_of_the_caller():
    np.testing.assert_array_equal(pack(times=None).row_order, [0, 2, 5, 1, 4, 3])


def test_without_labels_all_rows_are_one_sequence():
    sequences = pack(labels=None, times=[3, 1, 2, 6, 5, 4])
    np.testing.assert_array_equal(sequences.row_order, [1, 2, 0, 5, 4, 3])
    np.testing.assert_array_equal(sequences.offsets, [0, 6])
    assert sequences.labels.tolist() == [0]


def test_row_order_of_the_caller_does_not_matter(rng):
    expected = pack()
    inputs, outputs = make_rows()
    shuffled = rng.permutation(6)
    labels, times = np.array(LABELS)[shuffled], np.array(TIMES)[shuffled]
    actual = pack_sequences(inputs[shuffled], outputs[shuffled], labels=labels, times=times)
    for i, label in enumerate(expected.labels):
        (j,) = np.flatnonzero(actual.labels == label)
        assert_same(select_sequences(actual, [j])[:4], select_sequences(expected, [i])[:4])


def test_missing_outputs_become_zeros_that_are_not_observed():
    inputs, outputs = make_rows(n_outputs=2)
    outputs[[0, 3, 4], [0, 1, 1]] = np.nan
    sequences = pack_sequences(inputs, outputs)
    np.testing.assert_array_equal(sequences.observed, ~np.isnan(outputs))
    np.testing.assert_array_equal(sequences.outputs, np.nan_to_num(outputs))
    sorted_sequences = pack_sequences(inputs, outputs, labels=LABELS, times=TIMES)
    np.testing.assert_array_equal(sorted_sequences.observed, sequences.observed[PACKED])
    np.testing.assert_array_equal(sorted_sequences.outputs, sequences.outputs[PACKED])


def test_no_outputs_means_nothing_is_observed():
    inputs, _ = make_rows()
    sequences = pack_sequences(inputs, None, n_outputs=3)
    np.testing.assert_array_equal(sequences.outputs, np.zeros((6, 3)))
    assert not sequences.observed.any()
    with raises("n_outputs is required"):
        pack_sequences(inputs, None)


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda values: values.astype(np.float32),
        lambda values: values.astype(object),
        lambda values: np.repeat(values, 2, axis=0)[::2],
        lambda values: values.tolist(),
        pd.DataFrame,
        lambda values: pd.DataFrame(values).convert_dtypes(),
        pl.DataFrame,
    ],
)
def test_all_containers_give_the_same_frozen_arrays(convert):
    inputs, outputs = make_rows(n_outputs=2)
    outputs[1, 0] = np.nan
    expected = pack_sequences(inputs, outputs, labels=LABELS, times=TIMES)
    actual = pack_sequences(convert(inputs), convert(outputs), labels=LABELS, times=TIMES)
    assert_same(actual, expected)
    for array in actual[:6]:
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert actual.inputs.dtype == actual.outputs.dtype == np.float64


@pytest.mark.parametrize(
    "outputs",
    [
        [1.0, None, 3.0],
        np.array([1.0, np.nan, 3.0]),
        np.ma.masked_array([1, 2, 3], mask=[False, True, False]),
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1.0, None, 3.0], index=[9, 9, 7]),
        pd.DataFrame({"y": pd.array([1, pd.NA, 3], dtype="Int64")}),
        pl.Series([1, None, 3]),
        pl.DataFrame({"y": [1, None, 3]}),
    ],
)
def test_missing_outputs_of_any_kind(outputs):
    sequences = pack_sequences(np.zeros((3, 1)), outputs)
    assert sequences.outputs.ravel().tolist() == [1.0, 0.0, 3.0]
    assert sequences.observed.ravel().tolist() == [True, False, True]


def test_nothing_of_the_caller_is_changed():
    inputs, outputs = make_rows()
    outputs[2] = np.nan
    before = inputs.copy(), outputs.copy()
    sequences = pack_sequences(inputs, outputs)
    assert_same((inputs, outputs), before)
    assert inputs.flags.writeable
    assert outputs.flags.writeable
    assert not np.shares_memory(outputs, sequences.outputs)


def test_rows_in_order_are_not_copied_and_others_are():
    inputs, outputs = make_rows()
    labels = np.arange(len(inputs)) // 2
    assert np.shares_memory(pack_sequences(inputs, outputs, labels=labels).inputs, inputs)
    mixed = np.arange(len(inputs)) % 2
    assert not np.shares_memory(pack_sequences(inputs, outputs, labels=mixed).inputs, inputs)


# --- labels

DATES = [datetime.date(2020, 1, day) for day in (5, 1, 9)]
STAMPS = pd.to_datetime(["2020-01-05 12:00", "2020-01-01 00:00", "2020-01-09 00:00"])


@pytest.mark.parametrize(
    ("names", "convert"),
    [
        (["x", "w", "é"], list),
        (["x", "w", "é"], np.array),
        (["x", "w", "é"], lambda names: np.array(names, dtype=object)),
        (["x", "w", "é"], lambda names: pd.Series(names, index=[5, 5, 4, 3, 2, 1])),
        (["x", "w", "é"], lambda names: pd.Series(names).astype("category")),
        (["x", "w", "é"], pd.Categorical),
        (["x", "w", "é"], pl.Series),
        (["x", "w", "é"], lambda names: pl.Series(names, dtype=pl.Categorical)),
        ([30, 10, 20], list),
        ([30, 10, 20], np.array),
        ([30, 10, 20], pl.Series),
        ([30, 10, 20], lambda names: pd.Series(names, dtype="Int64")),
        ([2**70, 1, -3], list),
        ([2.5, 1.0, 3.0], list),
        ([1, "1", (1, 1)], list),
        ([("x", 1), ("x", 2), ("w", 1)], list),
        ([("x", 1), ("x", 2), ("w", 1)], pd.MultiIndex.from_tuples),
        ([True, False, "maybe"], list),
        (DATES, list),
        (DATES, pl.Series),
        (DATES, lambda names: np.array(names, dtype="datetime64[D]")),
        (list(STAMPS), list),
        (list(STAMPS), pd.Series),
        (list(STAMPS), pd.DatetimeIndex),
        (list(STAMPS), lambda names: np.array(names, dtype="datetime64[ns]")),
        (list(STAMPS.tz_localize("Europe/Paris")), pd.Series),
        (list(pd.period_range("2020-01", periods=3, freq="M")), pd.Series),
        (list(pd.to_timedelta([3, 1, 2], unit="D")), list),
    ],
)
def test_labels_of_any_hashable_kind(names, convert):
    labels = convert([names[i] for i in (0, 1, 0, 2, 1, 0)])
    sequences = pack(labels=labels)
    np.testing.assert_array_equal(sequences.row_order, PACKED)
    np.testing.assert_array_equal(sequences.offsets, [0, 3, 5, 6])
    assert {label: i for i, label in enumerate(sequences.labels)} == dict(
        zip(names, range(3), strict=True)
    )


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "a", "b", None, "b", float("nan")],
        ["a", "a", "b", pd.NA, "b", pd.NaT],
        [1, 1, 2, None, 2, None],
        np.array([1.0, 1.0, 2.0, np.nan, 2.0, np.nan]),
        pd.Series(["a", "a", "b", None, "b", None]),
        pd.Series([1, 1, 2, None, 2, None], dtype="Int64"),
        pd.Categorical(["a", "a", "b", None, "b", None]),
        pd.to_datetime(["2020", "2020", "2021", None, "2021", None]),
        np.array(["2020", "2020", "2021", "NaT", "2021", "NaT"], dtype="datetime64[us]"),
        pl.Series(["a", "a", "b", None, "b", None]),
        pl.Series([1, 1, 2, None, 2, None]),
    ],
)
def test_missing_labels_are_rejected(labels):
    with raises("fit: every row needs a label", "2 of 6 rows have none", "first is row 3."):
        pack(labels=labels, times=None)


def test_labels_that_cannot_be_hashed_are_rejected():
    with pytest.raises(TypeError, match="fit: groups must hold hashable labels"):
        pack(labels=[[1], [2], [1], [1], [2], [3]])


# --- times


def to_dates(times, *, start="2020-02-28", step="D"):
    return np.datetime64(start, "ns") + np.array(times) * np.timedelta64(1, step)


MONTHS = np.datetime64("2020-01", "M") + np.array(TIMES)


@pytest.mark.parametrize(
    "times",
    [
        np.array(TIMES, dtype=np.uint8),
        np.array(TIMES, dtype=float),
        np.array(TIMES, dtype=object),
        [2, 0.0, 1, 7, 1, 3],
        [-8, -10, -9, -3, -9, -7],
        pd.Series(TIMES, index=[3, 3, 1, 1, 0, 0]),
        pd.Series(TIMES, dtype="Int64"),
        pl.Series(TIMES),
        [2, 500, 1, 7, 501, 3],
        to_dates(TIMES),
        to_dates(TIMES).astype("datetime64[D]"),
        to_dates(TIMES, step="m"),
        to_dates(np.array(TIMES) * 15, step="m"),
        to_dates(TIMES).astype("datetime64[D]").tolist(),
        to_dates(TIMES).astype("datetime64[us]").tolist(),
        list(pd.to_datetime(to_dates(TIMES))),
        pd.Series(to_dates(TIMES, step="h")).dt.tz_localize("UTC").dt.tz_convert("Europe/Paris"),
        pl.Series(to_dates(TIMES)),
        pl.Series(to_dates(TIMES).astype("datetime64[D]")),
        np.array(TIMES) * np.timedelta64(10, "s"),
        list(pd.to_timedelta(TIMES, unit="h")),
        MONTHS,
        MONTHS.astype("datetime64[ns]"),
        MONTHS.astype("datetime64[ns]") + np.timedelta64(14, "D"),
        (MONTHS + 1).astype("datetime64[ns]") - np.timedelta64(1, "D"),
        MONTHS.astype("datetime64[ns]") + np.array([0, 3, 0, 9, 3, 0]) * np.timedelta64(1, "D"),
        (np.datetime64("2020", "Y") + np.array(TIMES)).astype("datetime64[s]"),
        (np.datetime64("2020-01", "M") + 3 * np.array(TIMES)).astype(object).tolist(),
        pd.PeriodIndex(MONTHS, freq="M"),
        pd.Series(pd.PeriodIndex(MONTHS.astype("datetime64[ns]"), freq="W")[[0] * 6] + TIMES),
        list(pd.PeriodIndex(np.datetime64("2020-01", "M") + 3 * np.array(TIMES), freq="M")),
    ],
)
def test_times_of_any_regular_kind(times):
    np.testing.assert_array_equal(pack(times=times).row_order, PACKED)


def test_sequences_of_one_row_need_no_step():
    dates = to_dates([5, 3, 8, 1, 1, 0])
    assert len(pack(labels=[1, 2, 3, 4, 5, 6], times=dates).labels) == 6


def test_the_way_from_one_sequence_to_the_next_is_no_step():
    dates = to_dates([0, 5, 10, 15, 20, 21])
    assert len(pack(labels=[1, 2, 3, 4, 5, 5], times=dates).labels) == 5


@pytest.mark.parametrize(
    ("times", "parts"),
    [
        (
            [2, 0, 1, 7, 1, 5],
            ["fit: ", "steps of 1; sequence 'b' jumps from time 2 to time 5, in rows 0 and 5"],
        ),
        ([2, 0, 1, 7, 1, 5], ["1 such jumps", "belong in the data, with NaN as their outputs"]),
        ([2, 0, 0, 7, 2, 4], ["'b' jumps from time 0 to time 2", "rows 2 and 0", "3 such jumps"]),
        ([2, 0, 0, 7, 2, 4], ["The usual step is 2; if that is one row, divide times by it."]),
        ([2, 0, 2, 7, 1, 3], ["must differ", "'b' has time 2 twice", "rows 0 and 2", "1 repeats"]),
        ([0, 0, 3, 7, 1, 3], ["'b' has time 3 twice, in rows 2 and 5", "1 repeats"]),
        (to_dates([4] * 6), ["'b' has time 2020-03-03 twice, in rows 0 and 2", "3 repeats"]),
        ([2, 0, 0, 7, 0, 0], ["'b' has time 0 twice, in rows 2 and 5", "2 repeats"]),
        (
            to_dates([2, 0, 1, 7, 1, 4]),
            ["steps of 1 day, 0:00:00", "'b' jumps from time 2020-03-01 to time 2020-03-03"],
        ),
        (
            # Each sequence is regular by itself, but not in the same steps.
            to_dates([2, 0, 1, 7, 2, 3]),
            ["steps of 1 day, 0:00:00", "sequence 'a' jumps from time 2020-02-28 to", "03-01"],
        ),
        (to_dates([2, 0, 2, 7, 1, 3]), ["'b' has time 2020-03-01 twice, in rows 0 and 2"]),
        (
            (np.datetime64("2020-01", "M") + np.array([2, 0, 1, 7, 1, 4])).astype("M8[s]"),
            ["steps of 1 month(s)", "'b' jumps from time 2020-03-01 to time 2020-05-01"],
        ),
        (
            pd.PeriodIndex(np.datetime64("2020-01", "M") + np.array([2, 0, 1, 7, 1, 4]), freq="M"),
            ["steps of 1 period(s)", "'b' jumps from time 2020-03 to time 2020-05"],
        ),
    ],
)
def test_irregular_times_are_rejected(times, parts):
    with raises(*parts):
        pack(times=times)


@pytest.mark.parametrize(
    ("times", "parts"),
    [
        ([2, 0, 1.5, 7, 1, 0.25], ["2 of 6 rows", "first is row 2 with time 1.5."]),
        ([2.0, 0.0, 1.0, np.inf, 1.0, 3.0], ["1 of 6 rows", "first is row 3 with time inf."]),
        ([2.0, 0.0, 1.0, 1e17, 1.0, 3.0], ["1 of 6 rows", "first is row 3 with time 1e+17."]),
        (["2", "0", "1", "7", "1", "3"], ["6 of 6 rows", "first is row 0 with time '2'."]),
        ([2, 0, 1, "7", 1, 3], ["6 of 6 rows"]),
        ([True, False, False, True, True, False], ["6 of 6 rows"]),
        ([datetime.date(2020, 1, 1), 3, 4, 5, 6, 7], ["6 of 6 rows"]),
        ([pd.Period("2020-01", "M")] * 5 + [pd.Period("2020", "Y")], ["6 of 6 rows"]),
        ([pd.Period("2020-01", "M")] * 5 + [3], ["6 of 6 rows"]),
        ([1, 1j, 2, 3, 4, 5], ["6 of 6 rows"]),
    ],
)
def test_times_of_another_kind_are_rejected(times, parts):
    with raises("fit: times must be integers, or dates at a constant step", *parts):
        pack(times=times)


@pytest.mark.parametrize(
    "times",
    [
        [2, 0, 1, None, 1, None],
        [2.0, 0.0, 1.0, np.nan, 1.0, np.nan],
        pd.Series([2, 0, 1, None, 1, None], dtype="Int64"),
        pl.Series([2, 0, 1, None, 1, None]),
        pd.to_datetime(["2020", "2021", "2022", None, "2023", None]),
        [*DATES, None, DATES[0], pd.NaT],
    ],
)
def test_missing_times_are_rejected(times):
    with raises("fit: every row needs a time", "2 of 6 rows have none", "first is row 3."):
        pack(times=times)


# --- rejections


def test_lengths_must_agree():
    inputs, outputs = make_rows()
    with raises("fit: X and y need the same number of rows: X has 6, y has 5."):
        pack_sequences(inputs, outputs[:5], who="fit")
    with raises("fit: groups needs one value per row of X: X has 6 rows, groups has 5."):
        pack(labels=LABELS[:5])
    with raises("fit: times needs one value per row of X: X has 6 rows, times has 7."):
        pack(times=[*TIMES, 8])


def test_shapes_must_be_right():
    inputs, outputs = make_rows()
    with raises("fit: y must have 1 or 2 dimensions; it has shape (6, 1, 1)."):
        pack_sequences(inputs, outputs[:, :, np.newaxis], who="fit")
    with raises("fit: X must have 2 dimensions; it has shape (6,)."):
        pack_sequences(inputs[:, 0], outputs, who="fit")
    with raises("fit: X needs at least 1 row; it has shape (0, 2)."):
        pack_sequences(inputs[:0], outputs[:0], who="fit")
    with raises("predict: y must have 2 columns; it has 1."):
        pack_sequences(inputs, outputs, n_outputs=2, who="predict")
    with raises("fit: groups needs one value per row, so 1 dimension; got shape (6, 1)."):
        pack(labels=np.array(LABELS)[:, np.newaxis])
    with raises("fit: groups needs one value per row, so 1 dimension; got 'abcdef'."):
        pack(labels="abcdef")


def test_values_must_be_finite():
    inputs, outputs = make_rows(n_outputs=2)
    outputs[[1, 2, 2], [0, 0, 1]] = np.nan, np.inf, -np.inf
    with raises("fit: y must be finite, or NaN", "2 of 12 values are not", "first is in row 2."):
        pack_sequences(inputs, outputs, who="fit")
    outputs[1, 1], outputs[2] = np.inf, 0.0
    with raises("1 of 12 values are not", "first is in row 1."):
        pack_sequences(inputs, outputs, who="fit")
    inputs[4, 0] = np.nan
    with raises("fit: X must be finite; 1 of 12 values are not", "first is in row 4."):
        pack_sequences(inputs, None, n_outputs=1, who="fit")


@pytest.mark.parametrize("bad", [np.full(6, 1j), ["x"] * 6, [1j] * 6])
def test_values_must_be_real_numbers(bad):
    with raises("fit: y must be real numbers"):
        pack_sequences(make_rows()[0], bad, who="fit")


def test_an_observation_can_be_required():
    inputs, outputs = make_rows()
    with raises("fit: y has no observed value; at least 1 of its 6 must not be NaN."):
        pack_sequences(inputs, outputs * np.nan, needs_observation=True, who="fit")
    assert not pack_sequences(inputs, outputs * np.nan).observed.any()
    outputs[1:] = np.nan
    assert pack_sequences(inputs, outputs, needs_observation=True).observed.sum() == 1


# --- labels and times of a DataFrame


def make_indexed(n_levels=2):
    arrays = [LABELS, TIMES, range(6)][:n_levels]
    index = pd.MultiIndex.from_arrays(arrays, names=["store", "week", "other"][:n_levels])
    return pd.DataFrame(make_rows()[0], index=index)


def test_arguments_come_before_the_index():
    labels, times = resolve_rows(make_indexed(), None, None)
    assert (list(labels), list(times)) == (LABELS, TIMES)
    labels, times = resolve_rows(make_indexed(), [1] * 6, None)
    assert (list(labels), list(times)) == ([1] * 6, TIMES)
    labels, times = resolve_rows(make_indexed(), None, [1] * 6)
    assert (list(labels), list(times)) == (LABELS, [1] * 6)
    # Nothing is asked of an index that is not needed.
    assert resolve_rows(make_indexed(3), LABELS, TIMES) == (LABELS, TIMES)


def test_index_with_other_levels_is_rejected():
    with raises("must have two, (sequence, time)", "has 3: ['store', 'week', 'other']"):
        resolve_rows(make_indexed(3), LABELS, None)


@pytest.mark.parametrize(
    "X", [np.zeros((6, 1)), [[0.0]], pd.DataFrame(np.zeros((6, 1))), pl.DataFrame({"u": [0.0]})]
)
def test_other_containers_tell_nothing(X):
    assert resolve_rows(X, None, None) == (None, None)
    assert resolve_rows(X, LABELS, None) == (LABELS, None)


def test_index_levels_can_be_packed():
    X = make_indexed()
    labels, times = resolve_rows(X, None, None)
    assert_same(pack_sequences(X, None, labels=labels, times=times, n_outputs=1).row_order, PACKED)


def test_frozen_arrays_are_contiguous():
    array = frozen(np.zeros((3, 2), order="F"))
    assert array.flags.c_contiguous
    assert not array.flags.writeable


# --- back to rows, and to fewer sequences


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 4)])
def test_unpacked_rows_are_in_the_order_of_the_caller(rng, shape):
    values = rng.normal(size=shape)
    unpacked = unpack_rows(values[PACKED], pack())
    np.testing.assert_array_equal(unpacked, values)
    assert unpacked.flags.writeable


def test_selected_sequences_are_whole():
    sequences = pack()
    selected = select_sequences(sequences, [2, 0])
    inputs, outputs = make_rows()
    np.testing.assert_array_equal(selected.inputs, inputs[[3, 2, 0, 5]])
    np.testing.assert_array_equal(selected.outputs, outputs[[3, 2, 0, 5]])
    np.testing.assert_array_equal(selected.offsets, [0, 1, 4])
    assert selected.labels.tolist() == ["c", "b"]
    # Of the caller's rows 0, 2, 3, 5 the packed rows are 3, 2, 0, 5.
    np.testing.assert_array_equal(selected.row_order, [2, 1, 0, 3])
    caller_inputs = unpack_rows(selected.inputs, selected)
    np.testing.assert_array_equal(caller_inputs, inputs[[0, 2, 3, 5]])
    for array in selected[:6]:
        assert not array.flags.writeable


@pytest.mark.parametrize(
    ("indices", "labels"),
    [
        ([0, 1, 2], ["b", "a", "c"]),
        (slice(None, None, 2), ["b", "c"]),
        (np.array([False, True, True]), ["a", "c"]),
        ([-1], ["c"]),
        ([1, 1, 0], ["a", "a", "b"]),
        ([], []),
    ],
)
def test_sequences_can_be_selected_in_many_ways(indices, labels):
    sequences = pack()
    selected = select_sequences(sequences, indices)
    assert selected.labels.tolist() == labels
    n_rows = selected.offsets[-1]
    assert sorted(selected.row_order) == list(range(n_rows))
    assert selected.inputs.shape == (n_rows, 2)
    for i, label in enumerate(labels):
        j = sequences.labels.tolist().index(label)
        actual = selected.inputs[selected.offsets[i] : selected.offsets[i + 1]]
        expected = sequences.inputs[sequences.offsets[j] : sequences.offsets[j + 1]]
        np.testing.assert_array_equal(actual, expected)


def test_selecting_all_sequences_changes_nothing():
    assert_same(select_sequences(pack(), [0, 1, 2]), pack())


def test_a_selection_of_unpacked_rows_is_a_part_of_the_whole(rng):
    labels = rng.choice(list("pqrst"), size=200)
    sequences = pack_sequences(np.arange(200.0)[:, np.newaxis], None, labels=labels, n_outputs=1)
    chosen = rng.permutation(5)[:3]
    selected = select_sequences(sequences, chosen)
    rows = np.flatnonzero(np.isin(labels, sequences.labels[chosen]))
    np.testing.assert_array_equal(unpack_rows(selected.inputs, selected)[:, 0], rows)


def test_a_million_rows_are_packed_without_a_loop(rng):
    n_sequences, n_rows = 10_000, 1_000_000
    order = rng.permutation(n_rows)
    labels = np.repeat(np.arange(n_sequences).astype(str), n_rows // n_sequences)[order]
    times = np.tile(np.arange(n_rows // n_sequences), n_sequences)[order]
    sequences = pack_sequences(order[:, np.newaxis], None, labels=labels, times=times, n_outputs=1)
    steps = np.diff(sequences.inputs.reshape(n_sequences, -1), axis=1)
    assert (steps == 1.0).all()
