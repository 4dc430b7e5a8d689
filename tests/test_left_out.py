"""What few sequences cannot show of a family: specific variances asked of sequences left out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_families import draw_sequences, make_family

from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn._progress import listening
from mtds_sklearn._sequences import frozen, select_sequences
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.learning import _left_out
from mtds_sklearn.learning._e_step import e_step
from mtds_sklearn.learning._em import run_em
from mtds_sklearn.learning._growth import with_evidence
from mtds_sklearn.learning._latent_shape import fit_latent_shape
from mtds_sklearn.learning._learned import Options
from mtds_sklearn.learning._left_out import (
    N_FOLDS,
    learn_from_left_out,
    rank_different,
    scores_of_left_out,
)
from mtds_sklearn.learning._posterior import prior_posterior
from mtds_sklearn.learning._specific import entry_scores, linear_entries
from mtds_sklearn.model._latent_prior import first_of
from mtds_sklearn.model._task_map import n_shared, specific_variances, without_specific

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ("A", "B", "x0", "offset")
OPTIONS = Options(2, 2, KINDS, KINDS, cayley=False, max_iter=30, tol=1e-4, specific="auto")
POINTS = make_draws(2, 0).points


@pytest.fixture
def few(rng):
    """Ten sequences, which differ in more ways than the two latents of the family learned."""
    family = make_family(rng, (2, 1, 1), 2, varying=KINDS)
    more = 0.5 * rng.standard_normal((len(family.bias), 4))
    truth = family._replace(loadings=np.hstack([family.loadings, more]), noise_std=np.full(1, 0.1))
    sequences, _ = draw_sequences(rng, truth, (20,) * 10)
    result = run_em(sequences, family, prior_posterior(10, 2), POINTS, max_iter=30)
    learned = with_evidence(sequences, result)
    prior = fit_latent_shape(learned.family, learned.posterior)
    return sequences, learned._replace(family=learned.family._replace(prior=prior))


def reordered(sequences, learned, index):
    """The same sequences, or some of them, in another order."""
    parts = [part[index] for part in learned.posterior]
    posterior = type(learned.posterior)(*parts)
    return select_sequences(sequences, index), learned._replace(posterior=posterior)


def variances(sequences, learned, options=OPTIONS):
    return specific_variances(learn_from_left_out(sequences, learned, options, 0).family)


def test_a_sequence_is_ranked_by_what_it_is(few):
    sequences, _ = few
    ranks = rank_different(sequences)
    assert_array_equal(np.sort(ranks), np.arange(10))
    index = np.array([3, 3, 7, 0, 9, 0])
    again = rank_different(select_sequences(sequences, index))
    assert_array_equal(again, np.unique(ranks[index], return_inverse=True)[1])
    unseen = sequences.observed.copy()
    unseen[sequences.offsets[4] : sequences.offsets[5]] = False
    outputs = np.where(unseen, sequences.outputs, 0.0)
    assert rank_different(sequences._replace(observed=unseen, outputs=outputs))[4] == -1


def test_the_scores_are_those_under_the_family_of_the_others(few):
    sequences, learned = few
    folds = rank_different(sequences) % N_FOLDS
    found = scores_of_left_out(sequences, learned, folds, POINTS)
    assert_array_equal(found.entries, linear_entries(learned.family))
    family = learned.family._replace(prior=None)
    for fold in range(N_FOLDS):
        out = folds == fold
        rest, known = reordered(sequences, learned, ~out)
        other = run_em(
            rest, family, known.posterior, POINTS, max_iter=_left_out.FORGETTING_STEPS, tol=0.0
        ).family
        own, start = reordered(sequences, learned, out)
        posterior = start.posterior
        for _ in range(_left_out.SETTLING_STEPS):
            posterior = e_step(own, other, posterior, POINTS)
        score, information = entry_scores(own, other, posterior)
        assert_allclose(found.score[out], score * found.unit)
        assert_allclose(found.information[out], information * np.outer(found.unit, found.unit))


def test_a_family_does_not_know_the_sequence_that_is_left_out(few):
    """What the others say stays, whatever becomes of the outputs of a fold."""
    sequences, learned = few
    folds = rank_different(sequences) % N_FOLDS
    seen = []

    def families(given):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                _left_out, "entry_scores",
                lambda own, family, posterior: seen.append(family) or entry_scores(
                    own, family, posterior
                ),
            )  # fmt: skip
            scores_of_left_out(given, learned, folds, POINTS)
        return [seen.pop(0) for _ in range(N_FOLDS)]

    rows = np.repeat(folds == 2, np.diff(sequences.offsets))[:, None]
    moved = sequences._replace(outputs=frozen(sequences.outputs + 3.0 * rows))
    before, after = families(sequences), families(moved)
    assert_array_equal(before[2].loadings, after[2].loadings)
    assert np.abs(before[1].loadings - after[1].loadings).max() > 1e-3


def test_few_sequences_ask_for_them_once_they_are_left_out(few):
    sequences, learned = few
    found = learn_from_left_out(sequences, learned, OPTIONS, 0)
    assert found.family.specific
    assert found.evidence == learned.evidence
    assert_array_equal(without_specific(found.family).loadings, learned.family.loadings)
    assert_array_equal(found.family.noise_std, learned.family.noise_std)
    alone = first_of(found.family.prior, n_shared(found.family))
    assert_array_equal(alone.quantiles, learned.family.prior.quantiles)
    assert found.posterior.mean.shape == (10, 2 + len(found.family.specific))


def test_neither_order_nor_repetition_changes_them(few, rng):
    sequences, learned = few
    expected = variances(sequences, learned)
    assert expected.any()
    mixed = variances(*reordered(sequences, learned, rng.permutation(10)))
    assert_allclose(mixed, expected, rtol=1e-4, atol=1e-8)
    weights = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 4.0, 1.0, 2.0, 1.0, 1.0])
    weighted = variances(sequences._replace(weights=weights), learned)
    repeated = np.repeat(np.arange(10), weights.astype(int))
    assert_allclose(
        variances(*reordered(sequences, learned, repeated)), weighted, rtol=1e-4, atol=1e-8
    )
    assert np.abs(weighted - expected).max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS._replace(specific="none"),
        OPTIONS._replace(specific="all"),
        OPTIONS._replace(sequence_noise=True),
    ],
)
def test_who_does_not_ask_gets_none(few, options):
    sequences, learned = few
    assert learn_from_left_out(sequences, learned, options, 0) is learned


def test_many_sequences_and_a_single_one_are_left_alone(few, monkeypatch):
    sequences, learned = few
    lonely, one = reordered(sequences, learned, np.zeros(4, dtype=int))
    assert learn_from_left_out(lonely, one, OPTIONS, 0) is one
    monkeypatch.setattr(_left_out, "MANY", 10)
    assert learn_from_left_out(sequences, learned, OPTIONS, 0) is learned


def test_nobody_hears_of_it(few):
    heard = []
    with listening(heard.append):
        assert learn_from_left_out(*few, OPTIONS, 0).family.specific
    assert not heard


# ------------------------------------------------------------------------------ public methods


def draw_offsets(n, seed, n_outputs=8, length=12):
    """Noise around offsets that all differ by themselves."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, 1, n_outputs)) + 0.2 * rng.standard_normal((n, length, n_outputs))
    groups, times = np.repeat(np.arange(n), length), np.tile(np.arange(length), n)
    rows = {"X": np.zeros((n * length, 1)), "groups": groups, "times": times}
    return rows, y.reshape(n * length, n_outputs)


def forecast_from_three_rows(new, truth):
    """Share of hidden values in 90 % intervals, and their mean log density, after a fit to few."""
    rows, y = draw_offsets(8, 0)
    model = MTLDSRegressor(1, 6, disturbance="none", n_init=1, random_state=0).fit(y=y, **rows)
    context = mask_future(truth, new["groups"], new["times"], 3)
    where = new | {"groups": new["groups"] + 100, "y_context": context}
    low, high = np.moveaxis(model.predict(quantiles=(0.05, 0.95), **where)[1], -1, 0)
    inside, hidden = (low < truth) & (truth < high), np.isnan(context)
    return np.mean(inside[hidden]), np.mean(model.forecast_log_density(y=truth, **where)[hidden])


def test_intervals_of_few_sequences_are_honest(monkeypatch):
    new, truth = draw_offsets(40, 1)
    covered, density = forecast_from_three_rows(new, truth)
    assert 0.87 < covered < 0.93
    monkeypatch.setattr(_left_out, "MANY", 0)
    without = forecast_from_three_rows(new, truth)
    assert without[0] < 0.75
    assert density > without[1] + 1.0
