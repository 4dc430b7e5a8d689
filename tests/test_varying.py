"""Which block differs between sequences is found, whichever it is.

For each block a family of one decaying state in which that block alone varies; the gauge of a
block has g'C = 1 for its direction g, so that a C that varies does so across g.
"""

import numpy as np
import pytest
from scipy.stats import zscore

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.model._task_map import log_levels

N_SEQUENCES, N_STEPS, NOISE = 30, 30, 0.05
# Entry of the mean system, and what a standard deviation of z adds.
MEAN = {"A": 0.8, "B": 0.5, "C": 0.0, "D": 0.3, "offset": 0.2, "x0": 1.0, "K": 0.0, "noise": 0.0}
SPREAD = {"A": 0.08, "B": 0.2, "C": 0.4, "D": 0.2, "offset": 0.4, "x0": 0.3, "noise": 0.5}
BLOCKS = ("A", "B", "C", "D", "offset", "x0")
ALONG, ACROSS = np.array([1.0, 1.0]) / 2**0.5, np.array([-1.0, 1.0]) / 2**0.5


def draw(block, n=N_SEQUENCES, seed=0):
    """Rows of n sequences of two outputs and one input; only `block` differs between them."""
    rng = np.random.default_rng(seed)
    X, y = np.tile(rng.uniform(size=N_STEPS) < 0.2, (n, 1)).astype(float), np.empty((n, N_STEPS, 2))
    # Without a mean, so that the mean direction of C is the one along which g'C is 1.
    for i, z in enumerate(zscore(rng.standard_normal(n))):
        theta = MEAN | {block: MEAN[block] + SPREAD[block] * z}
        state = theta["x0"]
        C = ALONG + theta["C"] * ACROSS
        for t, u in enumerate(X[i]):
            x = state + theta["B"] * u
            y[i, t] = C * x + theta["D"] * u + theta["offset"]
            state = theta["A"] * x
        y[i] += NOISE * np.exp(theta["noise"]) * rng.standard_normal((N_STEPS, 2))
    return {
        "X": X.reshape(-1, 1),
        "y": y.reshape(-1, 2),
        "groups": np.repeat(np.arange(n), N_STEPS),
    }


def model(**options):
    sizes = {"n_states": 1, "latent_dim": 2, "disturbance": "none", "max_iter": 40, "tol": 1e-4}
    return MTLDSRegressor(**(sizes | options), random_state=0)


def named(fitted):
    """Blocks with an entry that varies."""
    pairs = zip(fitted.theta_names_, fitted.relevance_, strict=True)
    return {name.split("[")[0] for name, relevance in pairs if relevance > 0.0}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_block_that_varies_is_named(block):
    fitted = model().fit(**draw(block))
    assert fitted.n_states_ == 1
    assert named(fitted) == {block}


@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_not_named_in_varying_stays_shared(block):
    """Also where it is what differs: another block may not stand in for it unless it is named."""
    data = draw(block)
    free = model(varying=(block,)).fit(**data)
    assert named(free) == {block}
    other = BLOCKS[BLOCKS.index(block) - 1]
    held = model(varying=(other,)).fit(**data)
    kinds = np.array([kind for kind, _, _ in held.task_map_.chart.entries])
    assert np.all(held.task_map_.loadings[kinds != other] == 0.0)
    assert free.evidence_ > held.evidence_ + 10.0


def test_a_noise_level_that_varies_is_named():
    data = draw("noise")
    fitted = model(varying=(*BLOCKS, "noise")).fit(**data)
    assert named(fitted) == {"noise"}
    plain = model().fit(**data)
    assert named(plain) == set()
    assert fitted.evidence_ > plain.evidence_ + 50.0
    assert np.std(np.log(fitted.noise_level_)) == pytest.approx(SPREAD["noise"], rel=0.1)


@pytest.fixture(scope="module")
def noisy():
    return model(varying=("offset", "noise")).fit(**draw("noise"))


def test_forecasts_know_how_noisy_a_sequence_is(noisy):
    """From ten rows: the spread of a mixture of normals, each with a noise of its own."""
    levels = np.exp([-0.5, 0.5])
    shocks = np.random.default_rng(3).standard_normal((10, 2))
    shocks *= NOISE / np.sqrt(np.mean(shocks**2))
    context = np.full((2, N_STEPS, 2), np.nan)
    context[:, :10] = mean_course()[:10] + levels[:, None, None] * shocks
    rows = {"X": np.zeros((2 * N_STEPS, 1)), "groups": np.repeat([100, 101], N_STEPS)}
    _, std = noisy.predict(**rows, y_context=context.reshape(-1, 2), return_std=True)
    ahead = std.reshape(2, N_STEPS, 2)[:, 10:].mean(axis=(1, 2))
    np.testing.assert_allclose(ahead, NOISE * levels, rtol=0.25)
    np.testing.assert_allclose(ahead[1] / ahead[0], levels[1] / levels[0], rtol=0.2)


def mean_course():
    """Outputs (N_STEPS, 2) of the mean system without input and noise."""
    states = MEAN["x0"] * MEAN["A"] ** np.arange(N_STEPS)
    return states[:, None] * ALONG + MEAN["offset"]


def test_row_by_row_is_all_at_once(noisy):
    X, y = (draw("noise", seed=5)[name][:N_STEPS] for name in ("X", "y"))
    whole = noisy.sequence_posterior(X, y, groups=np.zeros(N_STEPS))[0]
    online = noisy.sequence_posterior(X[:4], y[:4], groups=np.zeros(4))[0]
    for u, row in zip(X[4:], y[4:], strict=True):
        online = online.update(u, row)
    assert online.log_evidence == pytest.approx(whole.log_evidence, abs=0.1)
    pair = [each.predict(X[:5], return_std=True)[1] for each in (whole, online)]
    np.testing.assert_allclose(*pair, rtol=0.05)


def test_new_members_have_noise_of_their_own(noisy):
    y, z = noisy.sample_sequences(np.zeros((400, 1)), 40, random_state=0)
    log_spread = np.log(y[:, 100:].std(axis=(1, 2)))
    assert np.corrcoef(log_spread, log_levels(noisy.task_map_, z))[0, 1] > 0.95


def test_streams_learn_noise_levels(noisy):
    data, more = draw("noise"), draw("noise", seed=7)
    half = data["groups"] < 15
    stream = model(varying=("offset", "noise"), n_init=2)
    stream.fit(**{name: rows[half] for name, rows in data.items()})
    stream.partial_fit(**{name: rows[~half] for name, rows in data.items()})
    new = more | {"groups": more["groups"] + 1000}
    at_once, streamed = (m.sequence_log_likelihood(**new).mean() for m in (noisy, stream))
    assert streamed == pytest.approx(at_once, abs=1.0)
    level = np.log(stream.noise_level_)
    assert np.corrcoef(level, np.log(noisy.noise_level_))[0, 1] > 0.98


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"varying": ("A", "noise"), "sequence_noise": True}, "not both"),
        ({"varying": ("A", "K"), "disturbance": "none"}, "needs one: varying=.'A', 'K'. names"),
        ({"varying": ("A", "Q")}, "must be 'all' or a tuple of names among .* unknown .'Q'"),
    ],
)
def test_what_cannot_vary_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options).fit(**draw("A", n=2))


def draw_pushed(n=20, n_steps=50):
    """Rows of sequences that differ in how much of an innovation goes on, and in nothing else."""
    rng = np.random.default_rng(0)
    gains = 0.5 + 0.3 * zscore(rng.standard_normal(n))
    y = np.empty((n, n_steps))
    for i, gain in enumerate(gains):
        state = 1.0
        for t, shock in enumerate(0.1 * rng.standard_normal(n_steps)):
            y[i, t] = state + shock
            state = 0.9 * (state + gain * shock)
    return {"X": np.zeros((y.size, 1)), "y": y.ravel(), "groups": np.repeat(np.arange(n), n_steps)}


def test_a_gain_that_varies_is_named():
    options = {"latent_dim": 1, "disturbance": "joint", "tol": 2e-6, "max_iter": 150}
    fitted = model(**options).fit(**draw_pushed())
    assert fitted.disturbance_ == "gain"
    assert named(fitted) == {"K"}
    row = list(fitted.theta_names_).index("K[0, 0]")
    assert fitted.relevance_[row] == pytest.approx(0.3, rel=0.3)
    shared = model(**options, varying=BLOCKS).fit(**draw_pushed())
    assert "K" not in named(shared)
    assert fitted.evidence_ > shared.evidence_ + 10.0
