"""Messages about rows: labels, times, shapes and weights, whoever is asked."""

import numpy as np
import pandas as pd
import polars as pl
from message_makers import ROWS, TIMES, fit, rows, with_index

from mtds_sklearn import PrefixSplit, mask_future
from mtds_sklearn._sequences import pack_sequences

DAYS = np.datetime64("2020-01-01") + TIMES

# What is done, the kind of the answer, and its text; <number> stands for any number.
MESSAGES = {
    "groups that is the name of a column": (
        lambda: fit(groups="patient"),
        ValueError,
        "PooledLDS: groups needs one value per row, so 1 dimension; got 'patient'.",
    ),
    "groups of another length": (
        lambda: fit(groups=np.zeros(5)),
        ValueError,
        "PooledLDS: groups needs one value per row of X: X has 48 rows, groups has 5.",
    ),
    "labels that cannot be hashed": (
        lambda: fit(groups=[[g] for g in rows()["groups"]]),
        TypeError,
        "PooledLDS: groups must hold hashable labels (unhashable type: 'list').",
    ),
    "rows without a label": (
        lambda: fit(groups=np.where(TIMES == 3, None, "a")),
        ValueError,
        "PooledLDS: every row needs a label in groups; 4 of 48 rows have none, the first is row 3.",
    ),
    "times that are not whole": (
        lambda: fit(times=TIMES * 0.1),
        ValueError,
        "PooledLDS: times must be integers, or dates at a constant step; 40 of 48 rows have "
        "something else, the first is row 1 with time 0.1. Steps of another length can be "
        "counted: np.rint(times / step).",
    ),
    "a row index the wrong way round": (
        lambda: fit(X=with_index("minute", "patient"), groups=None, times=None),
        ValueError,
        "PooledLDS: times must be integers, or dates at a constant step; 48 of 48 rows have "
        "something else, the first is row 0 with time 'p0'. The levels of a row MultiIndex are "
        "(sequence, time).",
    ),
    "a row index that begins with a time": (
        lambda: fit(X=with_index("time", "patient"), groups=None, times=None),
        ValueError,
        "PooledLDS: a row index of X must have the levels (sequence, time), in this order; its "
        "levels are called ['time', 'patient']. X.swaplevel() puts the sequence first.",
    ),
    "a row index of three levels": (
        lambda: fit(X=with_index("minute", "patient", "minute"), groups=None, times=None),
        ValueError,
        "PooledLDS: a row index of X with several levels must have two, (sequence, time); it has "
        "3: ['minute', 'patient', 'minute']. Pass groups and times, or drop the other levels.",
    ),
    "times without groups": (
        lambda: fit(groups=None),
        ValueError,
        "PooledLDS: the times of a sequence must differ; sequence 0 has time 0 twice, in rows 0 "
        "and 12 of X (36 repeats in all). If the rows belong to several sequences, groups must "
        "tell them apart. In a search or cross-validation groups and times reach the estimator "
        "with sklearn.set_config(enable_metadata_routing=True).",
    ),
    "a gap": (
        lambda: fit(times=np.where(ROWS == 23, 20, TIMES)),
        ValueError,
        "PooledLDS: the times of a sequence must rise in steps of 1; sequence 1 jumps from time "
        "10 to time 20, in rows 22 and 23 of X (1 such jumps in all). Rows that fall into a gap "
        "belong in the data, with NaN as their outputs.",
    ),
    "steps of 5": (
        lambda: fit(times=5 * TIMES),
        ValueError,
        "PooledLDS: the times of a sequence must rise in steps of 1; sequence 0 jumps from time "
        "0 to time 5, in rows 0 and 1 of X (44 such jumps in all). Rows that fall into a gap "
        "belong in the data, with NaN as their outputs. The usual step is 5; if that is one row, "
        "divide times by it.",
    ),
    "trading days": (
        lambda: fit(times=pd.bdate_range("2026-01-01", periods=12)[TIMES]),
        ValueError,
        "PooledLDS: the times of a sequence must rise in steps of 1 day, 0:00:00; sequence 0 jumps "
        "from time 2026-01-02 to time 2026-01-05, in rows 1 and 2 of X (8 such jumps in all). "
        "Rows that fall into a gap belong in the data, with NaN as their outputs. Where gaps are "
        "no time, as between trading days, count the rows instead.",
    ),
    "no row": (
        lambda: next(PrefixSplit().split(np.zeros((0, 1)))),
        ValueError,
        "PrefixSplit: X needs at least 1 row; it has shape (0, 1).",
    ),
    "outputs in three dimensions": (
        lambda: mask_future(np.zeros((4, 1, 1)), None, None, 1),
        ValueError,
        "mask_future: y must have 1 or 2 dimensions; it has shape (4, 1, 1).",
    ),
    "outputs that are words": (
        lambda: mask_future(["high", "low"], None, None, 1),
        ValueError,
        "mask_future: y must be real numbers (could not convert string to float: 'high').",
    ),
    "complex outputs": (
        lambda: mask_future([1j, 2.0], None, None, 1),
        ValueError,
        "mask_future: y must be real numbers (Complex data not supported).",
    ),
    "infinite outputs in a table": (
        lambda: mask_future([1.0, np.inf, 2.0], None, None, 1),
        ValueError,
        "mask_future: y must be finite, or NaN where it was not observed; 1 of 3 values are not, "
        "the first is in row 1.",
    ),
    "packing without a number of outputs": (
        lambda: pack_sequences(np.zeros((4, 1)), None),
        ValueError,
        "pack_sequences: n_outputs is required if there are no outputs.",
    ),
    "packing outputs of other rows": (
        lambda: pack_sequences(np.zeros((4, 1)), np.zeros(3)),
        ValueError,
        "pack_sequences: X and y need the same number of rows: X has 4, y has 3.",
    ),
    "packing more outputs than known": (
        lambda: pack_sequences(np.zeros((4, 1)), np.zeros((4, 2)), n_outputs=1),
        ValueError,
        "pack_sequences: y must have 1 columns; it has 2.",
    ),
    "packing nothing observed": (
        lambda: pack_sequences(np.zeros((4, 1)), np.full(4, np.nan), needs_observation=True),
        ValueError,
        "pack_sequences: y has no observed value; at least 1 of its 4 must not be NaN.",
    ),
    "weights in two dimensions": (
        lambda: fit(sample_weight=np.ones((48, 1))),
        ValueError,
        "PooledLDS: sample_weight needs one value per row, so 1 dimension; it has shape (48, 1)",
    ),
    "labels passed as weights": (
        lambda: fit(sample_weight=["p1"] * 48),
        ValueError,
        "PooledLDS: sample_weight must be finite numbers (could not convert string to float: "
        "'p1'). Labels of sequences are passed by name, as groups=...",
    ),
    "weights of another length": (
        lambda: fit(sample_weight=np.ones(5)),
        ValueError,
        "PooledLDS: sample_weight needs one value per row of X: X has 48 rows, sample_weight has 5",
    ),
    "negative weights": (
        lambda: fit(sample_weight=np.where(rows()["groups"] == 1, -0.5, 1.0)),
        ValueError,
        "PooledLDS: sample_weight must be at least 0; 12 of 48 weights are negative, the "
        "smallest is -0.5",
    ),
    "weights that differ in a sequence": (
        lambda: fit(sample_weight=ROWS, groups=None, times=None),
        ValueError,
        "PooledLDS: sample_weight must be the same for all rows of a sequence; it differs in 1 "
        "of 1 sequences, the first is None (rows without labels are one sequence) with weights "
        "from 0 to 47. Labels of sequences are passed by name, as groups=...",
    ),
    "no weight": (
        lambda: fit(sample_weight=np.zeros(48)),
        ValueError,
        "PooledLDS: y has no observed value in a sequence that counts; sample_weight is zero in "
        "4 of 4 sequences",
    ),
    "y is None": (
        lambda: fit(y=None),
        ValueError,
        "This PooledLDS estimator requires y to be passed, but the target y is None.",
    ),
    "y that holds words": (
        lambda: fit(y=["high"] * 48),
        ValueError,
        "PooledLDS: y must be numbers, NaN where nothing was observed (could not convert string "
        "to float: 'high')",
    ),
    "y of other rows": (
        lambda: fit(y=np.zeros(47)),
        ValueError,
        "PooledLDS: y needs one row for each of the 48 rows of X, got 47; what was not observed is "
        "NaN",
    ),
    "an infinite y": (
        lambda: fit(y=np.where(ROWS == 3, np.inf, 1.0)),
        ValueError,
        "PooledLDS: y must be finite, or NaN where nothing was observed; got 1 infinite values "
        "out of 48",
    ),
    "X is None": (
        lambda: fit(X=None),
        ValueError,
        "PooledLDS: X is None; where nothing drives the sequences, pass a column of zeros, "
        "np.zeros((n_rows, 1))",
    ),
    "X without a column": (
        lambda: fit(X=np.zeros((48, 0))),
        ValueError,
        "PooledLDS: X has 0 feature(s) (shape=(48, 0)) while a minimum of 1 is required; where "
        "nothing drives the sequences, pass a column of zeros, np.zeros((n_rows, 1))",
    ),
    "X with columns of words and dates": (
        lambda: fit(X=pd.DataFrame({"day": DAYS, "dose": ROWS, "patient": ["p1"] * 48})),
        ValueError,
        "PooledLDS: X must hold numbers; 2 of its 3 columns do not: ['day', 'patient']. Which "
        "sequence a row belongs to and when it was is passed as groups and times",
    ),
    "X of words": (
        lambda: fit(X=[["high"]] * 48),
        ValueError,
        "PooledLDS: X must be a table of numbers (could not convert string to float: 'high')",
    ),
    "X that is not computed yet": (
        lambda: fit(X=pl.DataFrame({"dose": ROWS}).lazy()),
        ValueError,
        "PooledLDS: X must be a table of numbers (setting an array element with a sequence.)",
    ),
    "X with gaps": (
        lambda: fit(X=np.where(ROWS == 5, np.nan, rows()["X"].T).T),
        ValueError,
        "PooledLDS: X must be complete and finite; 2 of 96 values are NaN and 0 are infinite, "
        "the first in row 5, column 0. Inputs are what is known in advance: fill gaps in them, "
        "hide only y",
    ),
}
