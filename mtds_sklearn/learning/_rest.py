"""What is learned after growth: fewer latents, disturbances, noise levels, more ways to differ.

Shocks that push sequences off their course look like ways to differ, and ways to differ that W z +
b has no room for look like shocks. Where the number of latents is found, growth has enough of them,
and where a disturbance is asked for there are shocks: disturbances come first, and more ways to
differ are asked for where there are none. Where the number is given, it may be too small: what is
left goes to specific variances first. If residuals or forecasts speak of a disturbance all the
same, the family without specific variances may have one, and forecasts choose between the two.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.learning._disturbance import is_disturbed, judged_sample, learn_rest
from mtds_sklearn.learning._judgement import Judgement, is_ahead, judge
from mtds_sklearn.learning._latents import reduce_latents, widen_latents
from mtds_sklearn.learning._learned import Learned, Options
from mtds_sklearn.learning._specific import learn_specific


def learn_after_growth(
    sequences: PackedSequences, grown: Learned, options: Options, points: np.ndarray, seed: int
) -> Learned:
    """Everything that the options ask for beyond a deterministic family with one noise.

    Parameters
    ----------
    points : ndarray of shape (n_points, options.latent_dim)
        Quasi-random draws of the prior of z.
    seed : int
        Of the draws of the prior of more or fewer latents, and of inference.
    """

    def draw(k: int) -> np.ndarray:
        return make_draws(k, seed).points

    best = grown
    if options.find_latents:
        best = reduce_latents(sequences, grown, options, points)
    elif options.disturbance in ("none", "auto"):
        return _with_given_latents(sequences, grown, options, points, seed)
    best = _disturbed(sequences, best, options, points, seed)
    if options.find_latents and not best.family.chart.gain and best.level is None:
        best = widen_latents(sequences, best, options, draw)
    return learn_specific(sequences, best, options, draw)


def _with_given_latents(sequences, grown, options, points, seed) -> Learned:
    """As many latents as were asked for, and what they leave: ways to differ, or shocks."""
    own = learn_specific(sequences, grown, options, lambda k: points)
    either = options.specific == "auto" and options.disturbance == "auto"
    if not (either and own.family.specific):
        return _disturbed(sequences, own, options, points, seed)
    sample = judged_sample(sequences)

    def forecasts(learned: Learned) -> Judgement:
        return judge(sample, learned.family, make_draws(learned.family.loadings.shape[1], seed))

    found = forecasts(own)
    if not is_disturbed(sequences, own, found):
        return own
    other = _disturbed(sequences, grown, options, points, seed)
    if not other.family.chart.gain or is_ahead(found.density, forecasts(other).density):
        return _disturbed(sequences, own, options, points, seed)
    n = len(grown.stages)
    tried = tuple(stage._replace(kept=False) for stage in own.stages[n:])
    return other._replace(stages=(*grown.stages, *tried, *other.stages[n:]))


def _disturbed(sequences, learned, options, points, seed) -> Learned:
    """With a disturbance and noise levels, as far as the options ask for them."""
    if options.disturbance == "none" and not options.sequence_noise:
        return learned
    k, more = learned.family.loadings.shape[1], len(learned.family.specific)
    points = np.pad(points[:, : k - more], ((0, 0), (0, more)))
    return learn_rest(sequences, learned, options, points, make_draws(k, seed))
