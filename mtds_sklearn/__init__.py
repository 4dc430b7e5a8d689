"""Multi-task linear dynamical systems with a scikit-learn interface."""

from mtds_sklearn import _compilation  # noqa: F401  before any kernel is defined
from mtds_sklearn.estimators._mtlds import MTLDSRegressor
from mtds_sklearn.estimators._pooled import PooledLDS
from mtds_sklearn.estimators._row_wise import RowWise
from mtds_sklearn.estimators._sequence_posterior import SequencePosterior
from mtds_sklearn.estimators._single_task import SingleTaskLDS
from mtds_sklearn.model_selection import (
    ForecastScorer,
    PrefixSplit,
    forecast_scorers,
    mask_future,
    stack_sequences,
    unstack,
)

__version__ = "0.1.0"

__all__ = [
    "ForecastScorer",
    "MTLDSRegressor",
    "PooledLDS",
    "PrefixSplit",
    "RowWise",
    "SequencePosterior",
    "SingleTaskLDS",
    "forecast_scorers",
    "mask_future",
    "stack_sequences",
    "unstack",
]
