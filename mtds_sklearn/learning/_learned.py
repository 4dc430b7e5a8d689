"""What learning is asked for, and what it hands back."""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.learning._m_step import Curvature
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._noise import Growth
from mtds_sklearn.model._task_map import Family


class Options(NamedTuple):
    """What to learn and how long.

    Attributes
    ----------
    n_states, latent_dim : int
        Upper limit of the number of states; dimension of z (0: one theta for all).
    free, varying : tuple of str
        Kinds of entries that are learned, and those that may differ between sequences.
    cayley : bool
        Whether to convert the finished fit to the Cayley chart and refine it there.
    max_iter, tol : int, float
        See `run_em`.
    disturbance : {"none", "innovations", "joint", "auto"}
        What to learn after growth; see `_disturbance`.
    sequence_noise : bool
        Whether noise levels may differ between sequences.
    find_latents : bool
        Whether latent_dim is only where to begin; see `_latents`.
    growth : Growth or None
        How the noise grows with the outputs, by which their values are weighted.
    specific : {"none", "auto", "all"}
        Which entries may have specific variances; see `_specific`.
    """

    n_states: int
    latent_dim: int
    free: tuple
    varying: tuple
    cayley: bool
    max_iter: int
    tol: float
    disturbance: str = "none"
    sequence_noise: bool = False
    find_latents: bool = False
    growth: Growth | None = None
    specific: str = "none"


class Stage(NamedTuple):
    """What one stage of learning came to, for those who want to look.

    Attributes
    ----------
    n_states : int
    bounds : ndarray of shape (n_iterations,)
        Bound after each iteration, in nats.
    n_annealed : int
        Number of the first iterations that held the noise up.
    evidence : float
        Laplace log evidence, in nats.
    kept : bool
        Whether learning went on from here; not where a stage before had more evidence.
    """

    n_states: int
    bounds: np.ndarray
    n_annealed: int
    evidence: float
    kept: bool


class Learned(NamedTuple):
    """A learned family with the posteriors of its training sequences.

    Attributes
    ----------
    family : Family
    posterior : TaskPosterior
    evidence : float
        Laplace log evidence, in nats.
    curvature : Curvature
        Derivatives in (W, b) at the end.
    bounds, gains : list of float
        Of the last stage; see `run_em`.
    converged : bool
    stages : tuple of Stage
        Everything that was tried, in order; the last one led here.
    smaller : tuple of Learned
        What growth came by: families with fewer and fewer states, with the posteriors of the
        sequences that have an observed value, or of the sample of them that growth saw.
    level : ndarray of shape (n_sequences,) or None
        Noise level of each sequence, if they differ.
    """

    family: Family
    posterior: TaskPosterior
    evidence: float
    curvature: Curvature
    bounds: list
    gains: list
    converged: bool
    stages: tuple
    smaller: tuple = ()
    level: np.ndarray | None = None


def may_have_specific(family: Family, options: Options) -> bool:
    """Whether the options ask for any, and densities with e integrated out are normal."""
    gain = family.chart.gain and options.specific == "auto"
    levels = options.sequence_noise or family.growth is not None  # not one noise for all values
    return not (options.specific == "none" or gain or levels)
