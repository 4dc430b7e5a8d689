"""`warm_start`: what a second `fit` goes on from, and what it may not change."""

from typing import Any

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn._transforms import check_domain
from mtds_sklearn.estimators._fitting import Units, outputs_of_rows
from mtds_sklearn.learning._streaming import Stream

# What may differ between a fit and its continuation: the rest says what is learned.
FREE_PARAMETERS = ("max_iter", "tol", "n_init", "n_jobs", "random_state", "verbose", "warm_start")


def shape_parameters(estimator) -> dict[str, Any]:
    """The parameters that say what is learned."""
    params = estimator.get_params(deep=False)
    return {name: params[name] for name in params if name not in FREE_PARAMETERS}


def warm_stream(estimator, sequences: PackedSequences) -> tuple[Stream, Units] | None:
    """Where the earlier fit stands, and its units; None if there is none to go on from.

    Raises
    ------
    ValueError
        If data or parameters are not those of the earlier fit, or a value is outside the domain
        of its `y_transform`.
    """
    if not (estimator.warm_start and hasattr(estimator, "_stream_")):
        return None
    who = f"{type(estimator).__name__} with warm_start=True goes on from the earlier fit"
    chart = estimator._stream_.family.chart
    before = (len(estimator._units_.used), chart.shape.n_outputs)
    now = (sequences.inputs.shape[1], sequences.outputs.shape[1])
    if before != now:
        raise ValueError(
            f"{who}, which had {before[0]} inputs and {before[1]} outputs; got {now[0]} inputs and "
            f"{now[1]} outputs"
        )
    old, new = estimator._shape_parameters_, shape_parameters(estimator)
    changed = [
        f"{name}={new[name]!r} (was {old[name]!r})" for name in new if new[name] != old[name]
    ]
    if changed:
        raise ValueError(
            f"{who}, whose parameters must stay; got {', '.join(changed)}. Set warm_start=False to "
            "learn anew."
        )
    units = estimator._units_
    y = outputs_of_rows(sequences)
    check_domain(units.transform, y, name="y", who=type(estimator).__name__)
    return estimator._stream_, units
