import numpy as np
import pytest
import reference
from scipy.optimize import least_squares
from scipy.stats import multivariate_normal
from small_families import ALL_KINDS, assert_never_falls, each, pack

from mtds_sklearn._scaling import apply_scaling, fit_scaling
from mtds_sklearn._sequences import select_sequences
from mtds_sklearn.learning import _growth
from mtds_sklearn.learning._em import log_noise_prior
from mtds_sklearn.learning._growth import (
    Options,
    bias_factor,
    grow,
    n_stages,
    theta_size,
)
from mtds_sklearn.learning._initialization import residuals_at
from mtds_sklearn.learning._m_step import log_prior, posterior_normal, prior_precision
from mtds_sklearn.model._lds import lds_from_natural
from mtds_sklearn.model._task_map import natural_parameters

NOISE = 0.05


def learn(sequences, n_states, latent_dim=2, *, cayley=False, max_iter=100, seed=0, **options):
    """Grow a family on standardised sequences; returns it, the sequences and their scaling."""
    scaling = fit_scaling(sequences)
    scaled = apply_scaling(sequences, scaling)
    free, varying = options.get("free", ALL_KINDS), options.get("varying", ALL_KINDS)
    rng = np.random.default_rng(seed)
    m, p = sequences.inputs.shape[1], sequences.outputs.shape[1]
    # One table of draws for every limit on the number of states.
    normals = rng.standard_normal((n_stages(8), theta_size(8, m, p, free), latent_dim))
    points = rng.standard_normal((256, latent_dim))
    chosen = Options(n_states, latent_dim, free, varying, cayley, max_iter, 2e-5)
    return grow(scaled, chosen, points, normals), scaled, scaling


def assert_close(found, expected):
    """Equal up to rounding: it differs with where arrays lie in memory, and EM magnifies it."""
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def found(learned):
    return learned.family.chart.shape.n_states


def rms_error(learned, scaled, scaling, mean):
    """Size of the error of the fitted outputs (posterior means of z), in the units of y."""
    residuals = residuals_at(
        scaled._replace(observed=np.ones_like(scaled.observed)),
        learned.family,
        learned.posterior.mean,
    )
    fitted = (scaled.outputs - residuals) * scaling.output_scale + scaling.output_mean
    return np.sqrt(np.mean((fitted - mean) ** 2))


def noisy(rng, mean, inputs=None, missing=0.0, noise_std=NOISE, lengths=None):
    """Pack sequences (N, T) or (N, T, p) with noise; with `lengths`, only their first rows."""
    mean = mean.reshape(*mean.shape[:2], -1)
    y = mean + noise_std * rng.standard_normal(mean.shape)
    y[rng.uniform(size=y.shape[:2]) < missing] = np.nan
    N, T, _ = y.shape
    inputs = np.zeros((N, T, 0)) if inputs is None else inputs
    lengths = (T,) * N if lengths is None else lengths
    kept = np.arange(T) < np.array(lengths)[:, None]
    return pack(inputs[kept], y[kept], lengths), mean[kept]


def oscillations(rng, n_sequences, length, low=0.12, high=0.6):
    t = np.arange(length)
    frequency = rng.uniform(low, high, (n_sequences, 1))
    damping = 0.5 ** (1.0 / rng.uniform(10.0, 60.0, (n_sequences, 1)))
    return damping**t * np.sin(frequency * t)


def decays(rng, n_sequences, length, low=0.85, high=0.97):
    return rng.uniform(low, high, (n_sequences, 1)) ** np.arange(length)


# ----------------------------------------------------------------------- how many states it finds


def test_stages_tell_what_was_tried_and_kept(rng):
    sequences, _ = noisy(rng, oscillations(rng, 20, 40))
    learned, _, _ = learn(sequences, 4, 3)
    stages = learned.stages
    # One state in place of the pair is not tried: it could not explain an oscillation.
    assert [stage.n_states for stage in stages] == [0, 2, 4, 3, 2]
    assert [stage.kept for stage in stages] == [True, True, False, False, True]
    evidence = [stage.evidence for stage in stages]
    assert evidence[1] > max(evidence[0], *evidence[2:4])
    # Without states the outputs are linear in theta.
    assert [stage.n_annealed for stage in stages] == [0, *3 * [_growth.ANNEALING_STEPS], 0]
    assert all(len(stage.bounds) > stage.n_annealed for stage in stages)
    # The last one is the fit itself.
    assert stages[-1].evidence == learned.evidence
    np.testing.assert_array_equal(stages[-1].bounds, learned.bounds)


def test_stages_end_with_the_conversion_and_its_polish(rng):
    sequences, _ = noisy(rng, oscillations(rng, 20, 30))
    learned, _, _ = learn(sequences, 2, 2, cayley=True)
    assert [stage.n_states for stage in learned.stages] == [0, 2, 2, 2]
    assert [stage.kept for stage in learned.stages] == [True, True, True, True]


def test_one_oscillation_is_one_block(rng):
    sequences, mean = noisy(rng, oscillations(rng, 20, 40))
    learned, scaled, scaling = learn(sequences, 6, 3)
    assert found(learned) == 2
    assert learned.converged
    noise = learned.family.noise_std * scaling.output_scale
    np.testing.assert_allclose(noise, NOISE, rtol=0.1)
    assert rms_error(learned, scaled, scaling, mean) < 0.5 * NOISE


def test_two_oscillations_are_two_blocks(rng):
    mean = oscillations(rng, 30, 60, 0.12, 0.3) - 0.5 * oscillations(rng, 30, 60, 0.4, 0.6)
    sequences, mean = noisy(rng, mean)
    learned, scaled, scaling = learn(sequences, 6, 4)
    assert found(learned) == 4
    assert rms_error(learned, scaled, scaling, mean) < 0.6 * NOISE


def test_white_noise_has_no_states(rng):
    sequences, _ = noisy(rng, np.zeros((20, 30)), noise_std=1.0)
    learned, _, _ = learn(sequences, 6, 2)
    assert found(learned) == 0
    np.testing.assert_allclose(learned.family.noise_std, 1.0, rtol=0.03)
    assert np.all(learned.family.precision > 1000.0)


@pytest.mark.parametrize("seed", [102, 104])
def test_two_real_poles_are_one_block(seed):
    """Offsets, learned first, take the slow decay, and what is left looks like an oscillation."""
    rng = np.random.default_rng(seed)
    mean = decays(rng, 20, 30) - decays(rng, 20, 30, 0.3, 0.6)
    sequences, mean = noisy(rng, mean, noise_std=0.02)
    learned, scaled, scaling = learn(sequences, 6, 2)
    assert found(learned) == 2
    A = lds_from_natural(
        natural_parameters(learned.family, np.zeros(2)), learned.family.chart.shape
    ).A
    poles = np.sort(np.linalg.eigvals(A).real)
    np.testing.assert_allclose(poles, [0.45, 0.91], atol=0.05)
    assert rms_error(learned, scaled, scaling, mean) < 0.01


@pytest.mark.parametrize("limit", [1, 2, 3, 6])
def test_one_real_pole_is_one_state_whatever_the_limit(rng, limit):
    sequences, mean = noisy(rng, 2.0 * decays(rng, 20, 30) + 1.0)
    learned, scaled, scaling = learn(sequences, limit, 1)
    assert found(learned) == 1
    assert rms_error(learned, scaled, scaling, mean) < 0.5 * NOISE
    relevant = [
        entry
        for entry, precision in zip(
            learned.family.chart.entries, learned.family.precision, strict=True
        )
        if precision < 1000.0
    ]
    assert relevant == [("A", 0, 0)]


def test_an_odd_number_of_states_ends_with_a_single_one(rng):
    mean = oscillations(rng, 20, 40) + 2.0 * decays(rng, 20, 40)
    sequences, mean = noisy(rng, mean)
    learned, scaled, scaling = learn(sequences, 3, 3)
    assert found(learned) == 3
    assert rms_error(learned, scaled, scaling, mean) < 0.6 * NOISE


def test_a_generous_limit_changes_nothing(rng):
    sequences, _ = noisy(rng, oscillations(rng, 15, 40))
    tight, generous = learn(sequences, 3, 2)[0], learn(sequences, 8, 2)[0]
    assert found(tight) == found(generous) == 2
    assert_close(generous.family.bias, tight.family.bias)
    assert_close(generous.family.loadings, tight.family.loadings)
    assert_close(generous.evidence, tight.evidence)


def test_stages_and_sizes():
    assert [n_stages(n) for n in (0, 1, 2, 3, 8)] == [2, 2, 3, 3, 6]
    assert theta_size(0, 2, 3, ALL_KINDS) == 6 + 3
    # A (2), B (4), x0 (2), C in the free directions (4), D (6), offset (3)
    assert theta_size(2, 2, 3, ALL_KINDS) == 21
    assert theta_size(3, 0, 1, ("A", "x0", "offset")) == 7


# ------------------------------------------------------------------------ what the data may be like


def responses(lds, n_steps):
    """Impulse responses (N, n_steps, p, m) of stacked systems: C A^k B, with D at once."""
    out, power = [], lds.B
    for k in range(n_steps):
        out.append(lds.C @ power + (lds.D if k == 0 else 0.0))
        power = lds.A @ power
    return np.stack(out, axis=1)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_impulse_responses_are_recovered(rng, missing):
    """Each sequence answers two inputs with a gain and a decay of its own, and one at once."""
    N, T = 30, 50
    inputs = rng.standard_normal((N, T, 2))
    pole, gain = rng.uniform(0.6, 0.9, N), rng.uniform(0.5, 1.5, N)
    k = np.arange(12)
    truth = np.zeros((N, 12, 2))
    truth[:, :, 0] = gain[:, None] * pole[:, None] ** k
    truth[:, 0, 1] = 0.7
    mean = np.zeros((N, T))
    state = np.zeros(N)
    for t in range(T):
        state = pole * state + gain * inputs[:, t, 0]
        mean[:, t] = state + 0.7 * inputs[:, t, 1]
    lengths = tuple(T - 5 * (i % 4) for i in range(N))
    sequences, mean = noisy(rng, mean, inputs, missing, 0.1, lengths)
    learned, scaled, scaling = learn(sequences, 4, 3)
    assert found(learned) in (1, 2)
    psi = natural_parameters(learned.family, learned.posterior.mean)
    system = lds_from_natural(psi, learned.family.chart.shape)
    result = responses(system, 12)[:, :, 0] * scaling.output_scale / scaling.input_scale
    assert np.sqrt(np.mean((result - truth) ** 2)) < 0.03
    assert rms_error(learned, scaled, scaling, mean) < 0.05


def test_two_outputs_share_what_moves_them(rng):
    """One oscillation seen in both outputs, with another size and phase in the second."""
    N, T = 20, 40
    t = np.arange(T)
    frequency = rng.uniform(0.15, 0.6, (N, 1))
    mean = np.stack(
        [0.97**t * np.cos(frequency * t), 2.0 * 0.97**t * np.sin(frequency * t + 0.5)], axis=2
    )
    sequences, mean = noisy(rng, mean, missing=0.1)
    learned, scaled, scaling = learn(sequences, 6, 2)
    assert found(learned) == 2
    assert rms_error(learned, scaled, scaling, mean) < 0.5 * NOISE
    np.testing.assert_allclose(
        learned.family.noise_std * scaling.output_scale, [NOISE, NOISE], rtol=0.15
    )


def test_missing_rows_and_unequal_lengths_are_no_obstacle(rng):
    lengths = tuple(60 - 8 * (i % 5) for i in range(25))
    sequences, mean = noisy(rng, oscillations(rng, 25, 60), missing=0.3, lengths=lengths)
    learned, scaled, scaling = learn(sequences, 6, 2)
    assert found(learned) == 2
    assert rms_error(learned, scaled, scaling, mean) < 0.6 * NOISE


def test_an_output_that_is_seldom_seen_is_filled_in(rng):
    """The second output is the first, twice as large; one sequence shows it and 19 do so rarely."""
    first = oscillations(rng, 20, 40)
    sequences, mean = noisy(rng, np.stack([first, 2.0 * first], axis=2))
    hidden = rng.uniform(size=len(mean)) < 0.9
    hidden[:40] = False
    y = np.where(sequences.observed, sequences.outputs, np.nan)
    y[hidden, 1] = np.nan
    learned, scaled, scaling = learn(pack(sequences.inputs, y, (40,) * 20), 4, 2)
    assert found(learned) == 2
    assert rms_error(learned, scaled, scaling, mean) < NOISE


@pytest.mark.parametrize("kind", ["oscillation", "constant", "line"])
def test_outputs_without_noise_do_no_harm(rng, kind):
    """Posteriors are then a million times narrower in one direction than in another."""
    level, slope = rng.standard_normal((2, 10, 1))
    mean = {
        "oscillation": oscillations(rng, 10, 60),
        "constant": level + np.zeros((10, 60)),
        "line": (level + slope * np.arange(60)) / 60.0,
    }[kind]
    sequences, mean = noisy(rng, mean, noise_std=0.0)
    learned, scaled, scaling = learn(sequences, 4, 3)
    assert np.isfinite(learned.evidence)
    assert rms_error(learned, scaled, scaling, mean) < 0.05


@pytest.mark.parametrize("length", [1, 2])
def test_very_short_sequences_do_no_harm(rng, length):
    sequences, _ = noisy(rng, oscillations(rng, 30, 2)[:, :length] + rng.standard_normal((30, 1)))
    learned, _, _ = learn(sequences, 4, 2)
    assert np.isfinite(learned.evidence)


def test_a_sequence_without_values_leaves_no_trace(rng):
    sequences, _ = noisy(rng, oscillations(rng, 10, 30))
    y = np.concatenate([sequences.outputs[:90], np.full((25, 1), np.nan), sequences.outputs[90:]])
    lengths = (30,) * 3 + (25,) + (30,) * 7
    with_empty = pack(np.zeros((len(y), 0)), y, lengths)
    expected, _, _ = learn(sequences, 4, 2)
    learned, _, _ = learn(with_empty, 4, 2)
    seen = np.arange(11) != 3
    assert_close(learned.family.loadings, expected.family.loadings)
    assert_close(learned.posterior.mean[seen], expected.posterior.mean)
    assert_close(learned.posterior.factor[seen], expected.posterior.factor)
    np.testing.assert_array_equal(learned.posterior.mean[3], 0.0)
    np.testing.assert_array_equal(learned.posterior.factor[3], np.eye(2))
    assert_close(learned.evidence, expected.evidence)
    nothing, _, _ = learn(select_sequences(with_empty, [3]), 2, 2)
    assert found(nothing) == 0


# ----------------------------------------------------------------------------- how it is learned


@pytest.mark.parametrize("cayley", [False, True])
@pytest.mark.parametrize("latent_dim", [0, 2])
def test_the_last_stage_never_falls(rng, cayley, latent_dim):
    mean = oscillations(rng, 10, 30) + 2.0 * decays(rng, 10, 30)
    sequences, _ = noisy(rng, mean, missing=0.2)
    learned, _, _ = learn(sequences, 3, latent_dim, cayley=cayley)
    if found(learned) > 1:
        assert (learned.family.chart.shape.block == 2) == (not cayley)
    gains = np.array(learned.gains[1:])
    assert_never_falls(np.cumsum([1e3, *gains]))


def test_a_cayley_family_says_what_the_modal_one_says(rng):
    mean = oscillations(rng, 20, 40) + 2.0 * decays(rng, 20, 40)
    sequences, mean = noisy(rng, mean)
    errors = [rms_error(*learn(sequences, 3, 3, cayley=cayley), mean) for cayley in (False, True)]
    assert errors[1] < 1.2 * errors[0]


def test_one_system_for_all_is_least_squares(rng):
    """Without latents, no optimiser finds a better system from there."""
    truth = oscillations(rng, 1, 40) + 0.5
    sequences, _ = noisy(rng, np.repeat(truth, 5, axis=0), missing=0.2)
    learned, scaled, _ = learn(sequences, 2, 0)
    family = learned.family
    assert found(learned) == 2

    def residuals(theta):
        psi = family.chart.const + family.chart.basis @ theta
        shape = tuple(family.chart.shape)
        return np.concatenate(
            [(rows[1] - reference.simulate(psi, shape, *rows)[0])[rows[2]] for rows in each(scaled)]
        )

    best = least_squares(residuals, family.bias, xtol=1e-12, ftol=1e-12)
    assert np.sum(residuals(family.bias) ** 2) < (1.0 + 1e-4) * 2.0 * best.cost
    np.testing.assert_allclose(residuals(family.bias), residuals(best.x), atol=0.01)


def test_what_may_not_vary_is_shared(rng):
    sequences, mean = noisy(rng, oscillations(rng, 15, 40) + 0.5)
    learned, scaled, scaling = learn(sequences, 4, 2, varying=("A",))
    family = learned.family
    varies = np.array([entry[0] == "A" for entry in family.chart.entries])
    np.testing.assert_array_equal(family.loadings[~varies], 0.0)
    assert rms_error(learned, scaled, scaling, mean) < 0.5 * NOISE
    kinds = {
        entry[0] for entry in learn(sequences, 2, 2, free=("A", "offset"))[0].family.chart.entries
    }
    assert kinds == {"A", "offset"}


def test_the_same_draws_give_the_same_family(rng):
    sequences, _ = noisy(rng, oscillations(rng, 10, 30))
    first, second = learn(sequences, 4)[0], learn(sequences, 4)[0]
    assert_close(first.family.loadings, second.family.loadings)
    assert_close(first.posterior.mean, second.posterior.mean)
    assert_close(first.bounds, second.bounds)


def test_a_fit_that_is_cut_short_says_so(rng):
    sequences, _ = noisy(rng, oscillations(rng, 10, 30))
    learned, _, _ = learn(sequences, 2, max_iter=2)
    assert not learned.converged
    assert len(learned.bounds) == 2


def test_a_block_is_kept_only_if_the_evidence_rises(rng, monkeypatch):
    """Of all the trials the best was kept, and what came after a refusal was not."""
    sequences, _ = noisy(rng, oscillations(rng, 15, 40))
    trials = []
    stage = _growth._stage

    def watched(*args):
        trials.append(stage(*args))
        return trials[-1]

    monkeypatch.setattr(_growth, "_stage", watched)
    learned, _, _ = learn(sequences, 6, 2)
    sizes = [found(trial) for trial in trials]
    assert sizes == [0, 2, 4, 3]
    evidence = dict(zip(sizes, [trial.evidence for trial in trials], strict=True))
    assert found(learned) == max(evidence, key=evidence.get) == 2
    assert evidence[2] > evidence[0] + 100.0


@pytest.mark.parametrize("limit", [2, 4])
def test_a_single_state_that_is_not_tried_would_have_been_refused(rng, monkeypatch, limit):
    sequences, _ = noisy(rng, oscillations(rng, 15, 40))
    learned, _, _ = learn(sequences, limit, 2)
    monkeypatch.setattr(_growth, "HOPE", np.inf)
    patient, _, _ = learn(sequences, limit, 2)
    assert len(learned.stages) < len(patient.stages)
    assert found(learned) == found(patient)
    assert learned.evidence == patient.evidence


def test_the_evidence_of_a_random_offset_is_exact_in_z(rng):
    """For given (W, b) outputs are Gaussian; (W, b) enter by their Gauss-Newton determinant."""
    sequences, _ = noisy(rng, np.zeros((15, 6)) + rng.standard_normal((15, 1)))
    learned, scaled, _ = learn(sequences, 0, 1)
    family = learned.family
    covariance = family.noise_std**2 * np.eye(6) + family.loadings @ family.loadings.T
    fit = multivariate_normal(np.full(6, family.bias[0]), covariance)
    normal, free = posterior_normal(family, learned.curvature)
    precision = prior_precision(family).ravel()[free]
    expected = (
        fit.logpdf(scaled.outputs.reshape(15, 6)).sum()
        + log_prior(family)
        + log_noise_prior(family.noise_std)
        + 0.5 * np.sum(np.log(precision))
        - 0.5 * np.linalg.slogdet(normal)[1]
    )
    np.testing.assert_allclose(learned.evidence, expected, rtol=1e-8)


def test_the_factor_of_the_bias_is_that_of_its_covariance(rng):
    sequences, _ = noisy(rng, oscillations(rng, 5, 30))
    learned, _, _ = learn(sequences, 2, 0)
    factor = bias_factor(learned.family, learned.curvature)
    normal, free = posterior_normal(learned.family, learned.curvature)
    assert free.all()
    np.testing.assert_allclose(factor @ factor.T @ normal, np.eye(len(normal)), atol=1e-6)
