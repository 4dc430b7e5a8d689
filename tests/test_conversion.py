import numpy as np
import pytest
import reference
from small_families import ALL_KINDS, draw_sequences, each, make_family, make_rows

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.learning._conversion import LEAST_GAP, convert_to_cayley, to_contractions
from mtds_sklearn.learning._e_step import e_step, sequence_bounds
from mtds_sklearn.learning._posterior import TaskPosterior, cubature_points, prior_posterior
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._task_map import natural_parameters

WITH_GAIN = {"free": (*ALL_KINDS, "K"), "gain": True}


def full(shape):
    """Shape of the Cayley chart."""
    return shape._replace(block=max(shape.n_states, 3))


def half_gaps(A):
    """Half the distance of the two poles of each block."""
    n = len(A) // 2 * 2
    poles = [np.linalg.eigvals(A[i : i + 2, i : i + 2]) for i in range(0, n, 2)]
    return np.array([np.abs(pair[0] - pair[1]) / 2.0 for pair in poles])


def draw_natural(rng, shape, options, coordinates=None):
    """A natural vector away from double poles, or with the given coordinates of the first block."""
    while True:
        family = make_family(rng, tuple(shape[:3]), 1, scale=1.0, **options)
        psi = natural_parameters(family, rng.standard_normal(1))
        if coordinates is not None:
            psi[:2] = coordinates
        A = reference.modal_matrix(psi[: shape.n_states])
        if np.all(half_gaps(A) > LEAST_GAP):
            return psi


@pytest.mark.parametrize("n_states", [2, 3, 4, 5])
@pytest.mark.parametrize("options", [{}, WITH_GAIN], ids=["deterministic", "gain"])
def test_contractions_have_the_same_outputs(rng, n_states, options):
    shape = Shape(n_states, 2, 2, 2)
    sequences = make_rows(rng, (25,), n_inputs=2, n_outputs=2, missing=0.2)
    (rows,) = each(sequences)
    for _ in range(10):
        psi = draw_natural(rng, shape, options)
        found = to_contractions(psi[None], shape)[0]
        expected, _ = reference.simulate(psi, tuple(shape), *rows)
        outputs, _ = reference.simulate(found, tuple(full(shape)), *rows)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(outputs / scale, expected / scale, atol=1e-8)


@pytest.mark.parametrize(
    ("coordinates", "is_real"),
    [([1.5, 0.3], False), ([1.0, -2.0], False), ([-0.5, 0.2], True), ([0.4, 1.8], True)],
    ids=["complex", "complex-negative", "real-opposite", "real"],
)
def test_every_kind_of_block_becomes_a_contraction(rng, coordinates, is_real):
    shape = Shape(2, 1, 1, 2)
    psi = draw_natural(rng, shape, {}, coordinates)
    old = reference.modal_matrix(psi[:2])
    poles = np.sort_complex(np.linalg.eigvals(old))
    assert (np.abs(poles.imag).max() == 0.0) == is_real
    A = reference.split(to_contractions(psi[None], shape)[0], tuple(full(shape)))["A"]
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(A)), poles, atol=1e-10)
    norms = np.linalg.norm(A, axis=1)
    Q = A / norms[:, None]
    np.testing.assert_allclose(Q @ Q.T, np.eye(2), atol=1e-10)
    assert np.all(norms < 1.0)


def test_contractions_are_block_diagonal_scaled_rotations(rng):
    shape = Shape(5, 1, 2, 2)
    psi = np.array([draw_natural(rng, shape, {}) for _ in range(20)])
    for row in to_contractions(psi, shape):
        A = reference.split(row, tuple(full(shape)))["A"]
        Q = A / np.linalg.norm(A, axis=1, keepdims=True)
        np.testing.assert_allclose(Q @ Q.T, np.eye(5), atol=1e-10)
        A[:2, :2] = A[2:4, 2:4] = A[4, 4] = 0.0
        np.testing.assert_allclose(A, 0.0, atol=1e-12)


def test_a_double_pole_is_met_within_its_gap(rng):
    """No contraction is similar to a double pole: outputs agree roughly, and nothing explodes."""
    shape = Shape(2, 0, 1, 2)
    q = np.tanh(1.2)  # p^2 / 4 = q: both poles are sqrt(q)
    double = np.array([1.2, np.arctanh(2.0 * np.sqrt(q) / (1.0 + q))])
    psi = np.concatenate([double, [1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0], [0.0]])
    found = to_contractions(psi[None], shape)[0]
    assert np.isfinite(found).all()
    rows = np.zeros((20, 0)), np.zeros((20, 1)), np.zeros((20, 1), dtype=bool)
    expected, _ = reference.simulate(psi, tuple(shape), *rows)
    outputs, _ = reference.simulate(found, tuple(full(shape)), *rows)
    np.testing.assert_allclose(outputs, expected, atol=0.1)


@pytest.mark.parametrize("n_states", [2, 3])
@pytest.mark.parametrize("options", [{}, WITH_GAIN], ids=["deterministic", "gain"])
def test_a_family_keeps_its_outputs_at_its_posteriors(rng, n_states, options):
    """Narrow posteriors of few latents: the regression of theta on z meets them nearly."""
    old = make_family(rng, (n_states, 1, 2), 1, scale=0.05, **options)
    slow = {("A", 0, 0): 1.5, ("A", 1, 0): 0.6}
    bias = [
        slow.get(entry, value) for entry, value in zip(old.chart.entries, old.bias, strict=True)
    ]
    old = old._replace(bias=np.array(bias))
    sequences, z = draw_sequences(rng, old, (15,) * 12, missing=0.2)
    posterior = TaskPosterior(z, np.full((12, 1, 1), 0.05))
    new = convert_to_cayley(old, posterior, ALL_KINDS)
    assert new.chart.shape == full(old.chart.shape)
    assert new.chart.gain == old.chart.gain
    np.testing.assert_array_equal(new.noise_std, old.noise_std)
    assert new.loadings.flags.c_contiguous
    for c in range(2):
        z = cubature_points(posterior)[:, c]
        psi = zip(
            natural_parameters(old, z), natural_parameters(new, z), each(sequences), strict=True
        )
        for a, b, rows in psi:
            expected, _ = reference.simulate(a, tuple(old.chart.shape), *rows)
            outputs, _ = reference.simulate(b, tuple(new.chart.shape), *rows)
            np.testing.assert_allclose(outputs, expected, atol=0.1 * old.noise_std.min())
    # So the bounds are those of before, up to a fraction of a nat.
    before = sequence_bounds(e_step(sequences, old, posterior), sequences, old)
    after = sequence_bounds(e_step(sequences, new, posterior), sequences, new)
    np.testing.assert_allclose(after, before, atol=0.3)


def test_without_latents_the_one_system_is_converted(rng):
    old = make_family(rng, (4, 1, 2), 0)
    new = convert_to_cayley(old, prior_posterior(3, 0), ())
    assert new.loadings.shape == (len(new.chart.entries), 0)
    expected = to_contractions(natural_parameters(old, np.zeros((1, 0))), old.chart.shape)
    np.testing.assert_allclose(natural_parameters(new, np.zeros((1, 0))), expected, atol=1e-9)


def test_what_may_not_vary_does_not_after_conversion(rng):
    old = make_family(rng, (2, 1, 1), 2, varying=("x0",))
    posterior = TaskPosterior(rng.standard_normal((9, 2)), np.tile(0.1 * np.eye(2), (9, 1, 1)))
    new = convert_to_cayley(old, posterior, ("x0",))
    varies = np.array([entry[0] == "x0" for entry in new.chart.entries])
    np.testing.assert_array_equal(new.loadings[~varies], 0.0)
    assert np.all(new.loadings[varies] != 0.0)
    np.testing.assert_array_equal(np.isfinite(new.precision), varies)
    # Relevance is where evidence would have it, if rows were known exactly.
    np.testing.assert_allclose(
        new.precision[varies], 2.0 / np.sum(new.loadings[varies] ** 2, axis=1)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_the_charts_are_equally_likely(seed):
    """Two oscillators a sequence: within 0.3 nats per held-out sequence."""
    train, new = make_oscillators(40, random_state=seed), make_oscillators(100, random_state=10_000)
    rows = {"groups": new.groups + 1000, "times": new.times}
    modal, cayley = (
        MTLDSRegressor(4, 4, transition=chart, disturbance="none", random_state=seed)
        .fit(train.X, train.y, groups=train.groups, times=train.times)
        .sequence_log_likelihood(new.X, new.y, **rows)
        .mean()
        for chart in ("modal", "cayley")
    )
    assert cayley > modal - 0.3


@pytest.mark.slow
def test_contractions_may_have_a_gain(rng):
    """Oscillations that are pushed about: found in both charts, and as likely."""
    n, n_steps = 16, 40
    turn = 0.95 * np.array([[np.cos(0.4), np.sin(0.4)], [-np.sin(0.4), np.cos(0.4)]])
    x, y = np.stack([rng.standard_normal(n), np.ones(n)]), np.empty((n_steps, n))
    for t in range(n_steps):
        y[t] = x[0] + 0.05 * rng.standard_normal(n)
        x = turn @ x + 0.1 * rng.standard_normal((2, n))
    rows = {"y": y.T.ravel(), "groups": np.repeat(np.arange(n), n_steps)}
    options = {"disturbance": "innovations", "max_iter": 60, "tol": 1e-4, "random_state": 0}
    modal, cayley = (
        MTLDSRegressor(2, 2, transition=chart, n_init=1, **options).fit(
            np.zeros((y.size, 1)), **rows
        )
        for chart in ("modal", "cayley")
    )
    assert (modal.disturbance_, cayley.disturbance_) == ("gain", "gain")
    assert cayley.task_map_.chart.shape.block > 2
    assert cayley.evidence_ == pytest.approx(modal.evidence_, abs=15.0)
