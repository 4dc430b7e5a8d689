"""Log likelihoods of many points v, against a loop over points and rows."""

import numpy as np
import pytest
import reference
from small_families import each, make_family, make_rows
from systems import assert_close

from mtds_sklearn._sequences import pack_sequences, truncate_sequences
from mtds_sklearn.inference._coordinates import latents
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._target import log_likelihoods, make_target
from mtds_sklearn.model._latent_prior import NODES, LatentPrior
from mtds_sklearn.model._lds import kind_slices
from mtds_sklearn.model._likelihood import evaluations, predicted_outputs, theta_quantities
from mtds_sklearn.model._noise import Growth, noise_factor
from mtds_sklearn.model._task_map import natural_parameters

# Points: more than one group of lanes, and one that is not full.
N_POINTS = 11
CASES = {
    "modal": {"shape": (4, 1, 2)},
    "odd": {"shape": (3, 0, 1)},
    "cayley": {"shape": (3, 2, 2), "block": 3},
    "gain": {"shape": (4, 1, 2), "gain": True, "free": ("A", "B", "x0", "K", "C", "offset")},
    "level": {"shape": (2, 1, 2), "free": ("A", "x0", "C", "noise")},
    "no states": {"shape": (0, 2, 2), "free": ("D", "offset")},
}


def make_case(rng, case):
    """Sequences with gaps, points of each, and a family whose first coordinate is bent."""
    options = {"free": ("A", "B", "x0", "C", "D", "offset")} | CASES[case]
    options["varying"] = options["free"]
    family = make_family(rng, latent_dim=2, **options)
    tables = np.stack([np.sinh(NODES / 2.0), NODES])
    family = family._replace(prior=LatentPrior(np.eye(2), tables))
    _, m, p = options["shape"]
    sequences = make_rows(rng, n_inputs=m, n_outputs=p, missing=0.3)
    return family, sequences, rng.standard_normal((len(sequences.labels), 2, N_POINTS))


def target_of(sequences, family):
    return make_target(with_gap_weights(sequences, family), family)


def expected_log_likelihoods(family, sequences, v, target):
    """By `reference`, one point after the other; noise grows with each point's own outputs."""
    psi = natural_parameters(family, np.swapaxes(latents(target.coordinates, v), 1, 2))
    shape = tuple(family.chart.shape)
    out = np.empty(psi.shape[:2])
    mean = natural_parameters(family, np.zeros(2))
    for i, rows in enumerate(each(sequences)):
        certain = reference.gap_weights(mean, shape, rows[2], family.noise_std)
        for s in range(N_POINTS):
            yhat, _ = reference.simulate(psi[i, s], shape, *rows)
            weights = certain / noise_factor(family.growth, yhat)
            out[i, s] = reference.log_likelihood(psi[i, s], shape, *rows, family.noise_std, weights)
    return out


@pytest.mark.parametrize("case", CASES)
def test_they_are_those_of_each_point(rng, case):
    family, sequences, v = make_case(rng, case)
    target = target_of(sequences, family)
    expected = expected_log_likelihoods(family, sequences, v, target)
    assert_close(log_likelihoods(v, target), expected)


@pytest.mark.parametrize("case", ["modal", "cayley", "no states"])
def test_noise_that_grows_is_that_of_each_point(rng, case):
    family, sequences, v = make_case(rng, case)
    p = family.chart.shape.n_outputs
    growth = Growth(rng.standard_normal(p), np.full(p, 0.4), np.full(p, 2.5))
    family = family._replace(growth=growth)
    target = target_of(sequences, family)
    expected = expected_log_likelihoods(family, sequences, v, target)
    assert_close(log_likelihoods(v, target), expected)


def test_an_output_whose_noise_does_not_grow_beside_one_whose_does(rng):
    family, sequences, v = make_case(rng, "modal")
    growth = Growth(np.zeros(2), np.array([np.inf, 0.4]), np.array([1.0, 2.5]))
    family = family._replace(growth=growth)
    target = target_of(sequences, family)
    expected = expected_log_likelihoods(family, sequences, v, target)
    assert_close(log_likelihoods(v, target), expected)


@pytest.mark.parametrize("grows", [False, True])
def test_outputs_that_run_away_are_impossible_not_nan(rng, grows):
    family, sequences, v = make_case(rng, "gain")
    loadings = family.loadings.copy()
    loadings[[entry[0] == "K" for entry in family.chart.entries]] = 1e40
    family = family._replace(loadings=loadings)
    if grows:
        family = family._replace(growth=Growth(np.zeros(2), np.full(2, 0.4), np.ones(2)))
    found = log_likelihoods(v, target_of(sequences, family))
    assert np.isfinite(found).all()
    assert (found[2] < -1e20).all()  # the longest


def test_a_point_does_not_depend_on_its_neighbours(rng):
    family, sequences, v = make_case(rng, "modal")
    target = target_of(sequences, family)
    together = log_likelihoods(v, target)
    alone = [log_likelihoods(v[:, :, s : s + 1], target)[:, 0] for s in range(N_POINTS)]
    np.testing.assert_array_equal(together, np.stack(alone, axis=1))


def test_points_beyond_the_tables_stand_at_their_ends(rng):
    family, sequences, v = make_case(rng, "modal")
    target = target_of(sequences, family)
    v[:, 0] = np.where(v[:, 0] > 0.0, 8.0, -8.0)
    expected = log_likelihoods(v, target)
    np.testing.assert_array_equal(
        log_likelihoods(v * np.array([2.0, 1.0])[:, None], target), expected
    )


# ------------------------------------------------------------------------------ what has died out


def test_states_that_have_died_out_are_zero_and_change_nothing(rng):
    """Of 3000 rows; else the last thousands would be made of numbers that take long."""
    family = make_family(rng, (3, 0, 1), free=("A", "x0", "C", "offset"))
    n = 3000
    sequence = pack_sequences(np.zeros((n, 0)), rng.standard_normal(n))
    psi = natural_parameters(family, rng.standard_normal((1, 2)))
    at = kind_slices(family.chart.shape)
    psi[:, at["A"]] = [1.1, 0.1, 1.4]  # poles of moduli near 0.9
    run = evaluations(sequence)
    yhat, states = predicted_outputs(psi, run, family.chart)
    assert not states.any()
    np.testing.assert_array_equal(yhat[-500:, 0], np.repeat(psi[0, at["offset"]], 500))
    rows = next(each(sequence))
    expected, _ = reference.simulate(psi[0], tuple(family.chart.shape), *rows)
    assert_close(yhat, expected, 1e-14)
    first = truncate_sequences(sequence, [700])
    early, late = (
        theta_quantities(psi, evaluations(part), family.chart, family.noise_std)
        for part in (first, sequence)
    )
    dynamic = np.isin(family.chart.active, np.r_[at["A"], at["x0"], at["C"]])
    assert_close(late.gradient[:, dynamic], early.gradient[:, dynamic], 1e-12)
