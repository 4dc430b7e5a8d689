import numpy as np
import pytest
from small_families import make_family

from mtds_sklearn.learning._poles import loadings_free_of_states
from mtds_sklearn.model._task_map import Family

# A pair of complex poles, two real ones, and a single one.
POLES = {("A", 0, 0): 1.4, ("A", 1, 0): 0.6, ("A", 2, 0): 0.4, ("A", 3, 0): 1.6, ("A", 4, 0): 0.7}


def family_of(rng, *, size: float = 0.3) -> Family:
    """Five states, two inputs, one output, whose poles are those of POLES at z = 0."""
    family = make_family(rng, (5, 2, 1), 2)
    bias = [
        POLES.get(entry, value)
        for entry, value in zip(family.chart.entries, family.bias, strict=True)
    ]
    return family._replace(bias=np.array(bias), loadings=size * family.loadings)


def rows_of(family: Family, *kinds: str) -> np.ndarray:
    return np.array([entry[0] in kinds for entry in family.chart.entries])


def everything(family: Family) -> np.ndarray:
    return loadings_free_of_states(family, np.ones(len(family.bias), dtype=bool))


def test_pairs_and_single_poles_have_the_coordinates_of_the_modal_chart(rng):
    family = family_of(rng)
    rows = everything(family)
    poles = family.loadings[rows_of(family, "A")]
    for expected in poles[[0, 1, 4]]:
        assert np.min(np.abs(rows - expected).max(axis=1)) < 1e-6


def test_responses_of_a_pair_are_its_amplitudes(rng):
    """In phase and in quadrature, twice the real and minus twice the imaginary part."""
    family = family_of(rng)
    only = rows_of(family, "x0")[:, None]
    family = family._replace(loadings=np.where(only, family.loadings, 0.0))
    rows = everything(family)
    for expected in family.loadings[rows_of(family, "x0")][:2]:
        off = [np.abs(sign * 2.0 * rows - expected).max(axis=1).min() for sign in (1.0, -1.0)]
        assert min(off) < 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["D", "offset"])
def test_what_no_state_has_to_do_with_is_taken_as_it_is(rng, kind):
    family = family_of(rng)
    relevant = rows_of(family, kind)
    rows = loadings_free_of_states(family, relevant)
    np.testing.assert_array_equal(rows[-relevant.sum() :], family.loadings[relevant])


def test_names_and_signs_of_states_mean_nothing(rng):
    """Two states of a contraction change places, and one its sign."""
    family = make_family(rng, (2, 1, 1), 2, block=3)
    psi = [(kind, i, j) for kind, i, j in family.chart.entries]
    order, sign = list(range(len(psi))), np.ones(len(psi))
    for row, (kind, i, j) in enumerate(psi):
        state = j if kind == "C" else i
        if kind == "A" and i == 2:  # the skew entry: twice turned round
            continue
        if kind in ("A", "B", "x0", "C"):
            other = (kind, i, 1 - j) if kind == "C" else (kind, 1 - i, j)
            order[row] = psi.index(other)
            sign[row] = -1.0 if state == 0 and kind != "A" else 1.0
    turned = family._replace(
        loadings=sign[:, None] * family.loadings[order], bias=sign * family.bias[order]
    )
    rows, again = everything(family), everything(turned)
    assert rows.shape == again.shape
    for row in rows:  # of a pair either pole may be the first
        assert np.min(np.abs(again - row).max(axis=1)) < 1e-6


def test_what_does_not_vary_has_no_row(rng):
    family = family_of(rng)
    nothing = family._replace(loadings=np.zeros_like(family.loadings))
    assert loadings_free_of_states(nothing, np.zeros(len(family.bias), dtype=bool)).shape == (0, 2)
    only_x0 = np.where(rows_of(family, "x0")[:, None], family.loadings, 0.0)
    some = loadings_free_of_states(family._replace(loadings=only_x0), rows_of(family, "x0"))
    assert 0 < len(some) <= 2 * 5
