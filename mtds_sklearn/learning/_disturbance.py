"""What becomes of a deterministic family that real sequences do not quite obey.

After growth: coloured noise and a gain (`_gain`), chosen by forecasts; levels of the noise that
differ between sequences (`_levels`), by evidence.

Whether there is a disturbance is not for the evidence to say: it counts the next row as much as all
later ones, and the next row is where a gain helps most. So each candidate forecasts the rest of
the training sequences from their first quarter and first half, and one with a gain is taken
only where its forecasts are better than those without by more than their standard error, or as good
within it while the evidence speaks for it. The number of states is chosen anew, by forecasts and
evidence: states that stood for shocks are not needed any more.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._draws import Draws, first_draws
from mtds_sklearn.learning._em import EMResult, Held, run_em, update_relevance
from mtds_sklearn.learning._gain import (
    learn_gain,
    learn_noise,
    learn_together,
    start_noise,
    with_noise_states,
)
from mtds_sklearn.learning._growth import DECIDING_TOLERANCE, resume, with_evidence
from mtds_sklearn.learning._initialization import spread_sample
from mtds_sklearn.learning._judgement import Judgement, is_ahead, judge
from mtds_sklearn.learning._learned import Learned, Options
from mtds_sklearn.learning._levels import fit_levels, weighted_by_level
from mtds_sklearn.learning._seen import go_on_with_the_seen
from mtds_sklearn.model._likelihood import evaluations, squared_residuals
from mtds_sklearn.model._task_map import natural_parameters

# Forecasts of so many sequences decide.
JUDGED_SEQUENCES = 40
# Draws and rounds of inference for them; the errors that fewer make are small beside the scatter of
# forecasts, most of which candidates have in common. A disturbance that forecasts better by so many
# standard errors needs no second look with all draws.
ROUGH_DRAWS, ROUGH_ROUNDS, CLEARLY = 1024, 3, 2.0
# Coloured noise that explains fewer nats than this of the next rows is not pursued.
LEAST_GAIN = 5.0
# Squared forecast errors, in units of their variance, above which a disturbance is looked for.
MOST_SURPRISE = 1.5
# Standard errors by which forecasts must be better where the evidence is worse: forecasts of
# sequences that were learned from flatter a larger family.
AGAINST_EVIDENCE = 3.0
LEVEL_ROUNDS, LEVEL_ITERATIONS = 3, 10


def learn_rest(
    sequences: PackedSequences, learned: Learned, options: Options, points: np.ndarray, draws: Draws
) -> Learned:
    """What the options ask for beyond a deterministic family with one noise.

    Parameters
    ----------
    learned : Learned
        Grown.
    points, draws
        Quasi-random numbers of the E-step and of inference.
    """

    def learn(sequences: PackedSequences, learned: Learned) -> Learned:
        if options.disturbance != "none":
            learned = add_disturbance(sequences, learned, points, draws, options)
        if options.sequence_noise:
            learned = add_levels(sequences, learned, points, draws)
        return learned

    return go_on_with_the_seen(sequences, learned, learn)


class Candidate(NamedTuple):
    """A family with a disturbance, and the log densities (n_judged,) of its forecasts."""

    learned: Learned
    density: np.ndarray


class Search(NamedTuple):
    """What candidates are learned from and judged on.

    Attributes
    ----------
    sequences, judged : PackedSequences
        All of them, and those that are forecast.
    points : ndarray of shape (n_points, latent_dim)
        Of the E-step.
    draws : Draws
        Of inference.
    options : Options
    """

    sequences: PackedSequences
    judged: PackedSequences
    points: np.ndarray
    draws: Draws
    options: Options


class Size(NamedTuple):
    """A family as it was grown, with coloured noise, and the latter as a candidate."""

    grown: Learned
    noise: EMResult
    candidate: Candidate


def add_disturbance(
    sequences: PackedSequences, learned: Learned, points: np.ndarray, draws: Draws, options: Options
) -> Learned:
    """The grown family, or one with coloured noise or a gain where that forecasts better.

    Families with more and more states are tried with coloured noise, from none, as long as each is
    better than the one before: states that stood for shocks are not needed any more. The best is
    tried with a gain too. With "auto" forecasts may refuse the disturbance; with "joint" everything
    is learned together in any case.
    """
    rough = first_draws(draws, ROUGH_DRAWS, ROUGH_ROUNDS)
    judged = judged_sample(sequences)
    search = Search(sequences, judged, points, rough, options)
    before, auto = judge(judged, learned.family, rough), options.disturbance == "auto"
    if len(before.density) == 0 or (auto and not is_disturbed(sequences, learned, before)):
        return learned
    size, tried = _best_with_noise(search, learned)
    best, others = _best_kind(search, size)
    chosen = best.learned
    if auto and not _stands_up(
        search._replace(draws=draws), best, Candidate(learned, before.density)
    ):
        chosen = learned
    stages = [
        one.learned.stages[0]._replace(kept=one.learned is chosen) for one in (*tried, *others)
    ]
    return chosen._replace(stages=(*learned.stages, *stages))


def judged_sample(sequences: PackedSequences) -> PackedSequences:
    """The sequences whose forecasts decide."""
    return spread_sample(sequences, JUDGED_SEQUENCES)


def _best_with_noise(search: Search, learned: Learned) -> tuple[Size, list[Candidate]]:
    """The best family with coloured noise, from no state upwards, and all that were tried.

    The largest is tried in any case: a family that is far too small has no use for noise.
    """
    best, tried = None, []
    sizes, rising = (*learned.smaller[::-1], learned), True
    for grown in sizes:
        if not (rising or grown is learned):
            continue
        each = _known_to_all(search, grown)
        spent = share_spent(search.sequences, each)
        noise = learn_noise(search.sequences, each.family, each.posterior, search.points, spent)
        size = Size(each, noise, _candidate(search, noise))
        tried.append(size.candidate)
        if best is None or _is_better(size.candidate, best.candidate):
            best = size
        else:
            rising = False
    return best, tried


def _known_to_all(search: Search, learned: Learned) -> Learned:
    """The same; if it was grown on a sample, one iteration tells it what all sequences say."""
    if len(learned.posterior.mean) == len(search.sequences.labels):
        return learned
    once = search.options._replace(max_iter=1)
    return resume(search.sequences, learned.family, once, search.points)


def _best_kind(search: Search, size: Size) -> tuple[Candidate, list[Candidate]]:
    """The best kind of disturbance for a family, and the candidates besides coloured noise."""
    sequences, points, options = search.sequences, search.points, search.options
    spent = share_spent(sequences, size.grown)
    gain = _candidate(search, learn_gain(sequences, size.noise, points, spent))
    trial = max(size.candidate, gain, key=lambda candidate: np.mean(candidate.density))
    start, limit = gain.learned, DECIDING_TOLERANCE * options.tol
    together = _candidate(
        search,
        learn_together(
            sequences, (start.family, start.posterior), points, options.varying,
            max_iter=options.max_iter, tol=limit,
        ),
    )  # fmt: skip
    is_clear = _rises(together, trial) and is_ahead(together.density, trial.density)
    if options.disturbance == "joint" or is_clear:
        trial = together
    return trial, [gain, together]


def _candidate(search: Search, result: EMResult) -> Candidate:
    """What was learned, judged."""
    learned = with_evidence(with_gap_weights(search.sequences, result.family), result)
    return Candidate(learned, judge(search.judged, result.family, search.draws).density)


def _stands_up(search: Search, best: Candidate, without: Candidate) -> bool:
    """Whether a disturbance is worth it; with all draws of inference, where it is not clear."""
    if is_ahead(best.density, without.density, CLEARLY):
        return True
    best, without = (
        one._replace(density=judge(search.judged, one.learned.family, search.draws).density)
        for one in (best, without)
    )
    return is_worth_it(best, without)


def _is_better(trial: Candidate, other: Candidate) -> bool:
    """Whether nothing speaks against the trial, or forecasts far more than the evidence does."""
    return _rises(trial, other) or is_ahead(trial.density, other.density, AGAINST_EVIDENCE)


def is_worth_it(best: Candidate, without: Candidate) -> bool:
    """Whether a disturbance forecasts better; or as well, where the evidence speaks for it.

    The sequences that are forecast were learned from, which favours the family without: a tie is
    half a victory.
    """
    if is_ahead(best.density, without.density):
        return True
    more_evident = best.learned.evidence > without.learned.evidence
    return more_evident and not is_ahead(without.density, best.density)


def _rises(trial: Candidate, other: Candidate) -> bool:
    """Whether both evidence and forecasts are better, by however little.

    Evidence knows the next row, and what a family costs; forecasts know the far ones.
    """
    more_evident = trial.learned.evidence > other.learned.evidence
    return bool(more_evident and np.mean(trial.density) > np.mean(other.density))


def is_disturbed(sequences: PackedSequences, learned: Learned, judged: Judgement) -> bool:
    """Whether residuals remember, or forecasts miss by more than they should.

    With states to spare, residuals are white and forecasts too sure.
    """
    surprised = float(np.mean(judged.surprise)) > MOST_SURPRISE
    return surprised or _explained(sequences, learned) >= LEAST_GAIN


def _explained(sequences: PackedSequences, learned: Learned) -> float:
    """Nats of the next rows that coloured noise, at its best start, explains at the means of z."""
    family, mean = learned.family, learned.posterior.mean
    run = evaluations(sequences)
    started = start_noise(sequences, with_noise_states(family), learned.posterior)
    before, after = (
        squared_residuals(natural_parameters(each, mean), run, each.chart).sum(axis=0)
        for each in (family, started)
    )
    count = run.n_observed.sum(axis=0)
    return float(
        0.5 * np.sum(count * np.log(np.maximum(before, 1e-300) / np.maximum(after, 1e-300)))
    )


def share_spent(sequences: PackedSequences, learned: Learned) -> float:
    """Share of the observed values that the well-determined entries of (W, b) use up."""
    _, n_determined = update_relevance(learned.family, learned.curvature)
    return min(n_determined / max(float(sequences.observed.sum()), 1.0), 0.9)


def add_levels(
    sequences: PackedSequences, learned: Learned, points: np.ndarray, draws: Draws
) -> Learned:
    """Noise levels of their own for the sequences, where evidence and forecasts want them."""
    base = with_gap_weights(sequences, learned.family)
    levels = fit_levels(base, learned.family, learned.posterior)
    other, held = learned, _all_held(sequences, learned) if learned.family.chart.gain else None
    for _ in range(LEVEL_ROUNDS):
        if np.isinf(levels.dof):
            return learned
        result = run_em(
            weighted_by_level(base, levels.weights),
            other.family._replace(noise_std=levels.noise_std), other.posterior, points,
            max_iter=LEVEL_ITERATIONS, tol=2e-4, held=held,
        )  # fmt: skip
        other = other._replace(
            family=result.family, posterior=result.posterior, curvature=result.last
        )
        levels = fit_levels(base, other.family, other.posterior)
    family = other.family._replace(noise_std=levels.noise_std, noise_dof=levels.dof)
    sample = judged_sample(sequences)
    before, after = (judge(sample, each, draws).density for each in (learned.family, family))
    if np.isinf(levels.dof) or np.sum(after) <= np.sum(before):
        return learned
    return other._replace(family=family, level=levels.weights**-0.5)


def _all_held(sequences: PackedSequences, learned: Learned) -> Held:
    """Nothing of (W, b) moves."""
    shape = (learned.family.loadings.shape[1] + 1, len(learned.family.bias))
    return Held(np.zeros(shape, dtype=bool), share_spent(sequences, learned))
