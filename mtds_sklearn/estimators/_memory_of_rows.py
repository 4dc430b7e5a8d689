"""What `fit` remembers of its rows, to notice later rows that cannot be what they are taken for."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtds_sklearn._rows import as_column, number_times, show
from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn._warnings import warn_caller
from mtds_sklearn.estimators._checks import as_columns

# Half of the values this many standard deviations off: not the units of y.
FAR = 10.0


class RowMemory(NamedTuple):
    """Where sequences began, and what y was like.

    Attributes
    ----------
    starts : dict
        Label to first time, as a number or date; empty where rows had no times.
    mean, std : ndarray of shape (n_outputs,)
        Of the observed values; a constant output has its size (or one) as std.
    """

    starts: dict
    mean: np.ndarray
    std: np.ndarray


def remember(sequences: PackedSequences, times: Any, targets: np.ndarray, who: str) -> RowMemory:
    """What is to be remembered of checked rows; `targets` in the caller's order."""
    columns = as_columns(targets)
    seen = ~np.isnan(columns)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.sum(columns, axis=0, where=seen) / count
    spread = np.where(seen, np.abs(columns - mean), 0.0)
    size = np.maximum(spread.max(axis=0), 1e-300)  # squares of 1e200 leave the range of floats
    std = size * np.sqrt(np.sum((spread / size) ** 2, axis=0) / count)
    std = np.where(std > 1e-12 * np.abs(mean), std, np.where(mean == 0.0, 1.0, np.abs(mean)))
    return RowMemory(starts_of(sequences, times, who), mean, std)


def starts_of(sequences: PackedSequences, times: Any, who: str) -> dict:
    """Label to first time of each sequence."""
    if times is None:
        return {}
    column = as_column(times, len(sequences.row_order), name="times", who=who)
    first = number_times(column, who)[sequences.row_order][sequences.offsets[:-1]]
    return dict(zip(sequences.labels.tolist(), first, strict=True))


def check_starts(memory: RowMemory, sequences: PackedSequences, times: Any, who: str) -> None:
    """Refuse a known sequence that does not begin where it began.

    Raises
    ------
    ValueError
        As when cross-validation without groups cuts sequences in two.
    """
    now = starts_of(sequences, times, who)
    known = [label for label in now if label in memory.starts]
    moved = [
        label
        for label in known
        if now[label].dtype.kind == memory.starts[label].dtype.kind
        and now[label] != memory.starts[label]
    ]
    if moved:
        label = moved[0]
        raise ValueError(
            f"{who} needs each sequence from its first row; sequence {show(label)} began at time "
            f"{show(memory.starts[label])} when it was learned and begins at {show(now[label])} "
            f"here ({len(moved)} of {len(known)} known sequences differ). Rows to come go below "
            "the known ones, with NaN in y_context; what is another sequence needs another label; "
            "cross-validation must not cut sequences (GroupKFold, PrefixSplit)"
        )


def warn_if_mistyped(sequences: PackedSequences, labels: np.ndarray, who: str) -> None:
    """Warn of labels that are spelled like some of `fit`, 3 and "3", and are not the same."""
    known = set(labels.tolist())
    strangers = [label for label in sequences.labels.tolist() if label not in known]
    spelled = {str(label): label for label in known} if strangers else {}
    twins = [label for label in strangers if str(label) in spelled]
    if twins:
        twin = spelled[str(twins[0])]
        warn_caller(
            f"{who}: {len(twins)} of {len(sequences.labels)} labels are those of sequences of fit "
            f"but for their type, the first is {twins[0]!r} where fit had {twin!r}: they are taken "
            "for new sequences"
        )


def warn_if_unseen(sequences: PackedSequences, who: str) -> None:
    """Warn of outputs of which there is no value to learn from."""
    unseen = np.flatnonzero(~sequences.observed.any(axis=0))
    if len(unseen):
        warn_caller(
            f"{who}: {len(unseen)} of {sequences.observed.shape[1]} outputs have no observed value "
            f"in y, the first is output {unseen[0]}; what is forecast for them means nothing"
        )


def warn_if_far(memory: RowMemory, outputs: ArrayLike, *, name: str, who: str) -> None:
    """Warn of outputs that cannot be in the units of the y of `fit`."""
    for j, column in enumerate(as_columns(np.asarray(outputs)).T):
        values = column[~np.isnan(column)]
        if not values.size:
            continue
        away = float(np.median(np.abs(values - memory.mean[j]))) / memory.std[j]
        if away > FAR:
            warn_caller(
                f"{who}: half of the {values.size} values of {name} (output {j}) lie at least "
                f"{away:.3g} standard deviations from the mean of y in fit, which was "
                f"{memory.mean[j]:.4g} with standard deviation {memory.std[j]:.4g}. Is {name} in "
                "the units of y? (TransformedTargetRegressor transforms y, but not y_context.)"
            )
