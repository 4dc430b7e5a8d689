"""Multi-task dynamical systems for families of sequences, as scikit-learn estimators."""

__version__ = "0.1.0"
