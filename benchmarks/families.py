"""Families of sequences to compare methods on, as training and test parts.

Synthetic families are tested on fresh sequences, real ones by cross-validation over sequences.
"""

from collections.abc import Callable
from typing import NamedTuple

import made_families
import numpy as np
import real_families
from sequences import Sequence, sequences_of
from sklearn.model_selection import KFold, LeaveOneOut
from sklearn.utils import Bunch

from mtds_sklearn import datasets

N_FOLDS = 5
LEAVE_ONE_OUT_BELOW = 15  # sequences


class Part(NamedTuple):
    """Sequences to learn from and sequences to forecast."""

    train: list[Sequence]
    test: list[Sequence]


class Family(NamedTuple):
    """A family as drawn with one seed, or as read."""

    kind: str  # "synthetic" or "real"
    parts: list[Part]

    @property
    def output_std(self) -> np.ndarray:
        """Standard deviations (n_outputs,) of all observed values: the units of the errors."""
        known = [s for part in self.parts for s in part.train + part.test]
        return np.nanstd(np.concatenate([s.outputs for s in known]), axis=0)


# Makers of synthetic families, and the numbers of training and test sequences.
SYNTHETIC: dict[str, tuple[Callable[..., Bunch], dict, int, int]] = {
    "one oscillator": (datasets.make_oscillators, {"n_oscillators": 1}, 40, 40),
    "two oscillators": (datasets.make_oscillators, {}, 40, 40),
    "oscillators, pushed": (made_families.make_pushed_oscillators, {}, 40, 40),
    "oscillators, noise varies": (made_families.make_unequally_noisy_oscillators, {}, 40, 40),
    "eight outputs": (made_families.make_eight_outputs, {}, 200, 40),
    "drug response": (datasets.make_drug_response, {}, 60, 40),
    "stores": (datasets.make_stores, {}, 100, 40),
    "input-driven": (datasets.make_input_driven, {}, 120, 40),
    "bouncing balls": (datasets.make_bouncing_balls, {}, 40, 40),
}


def family_names() -> list[str]:
    """Names of all families, present or not."""
    return [*SYNTHETIC, *real_families.LOADERS]


def load(name: str, seed: int, data: str | None, quick: bool = False) -> Family | None:
    """Draw or read a family; None where its file is absent.

    `quick` keeps at most 40 training and 10 test sequences, and one fold (four of single ones).
    """
    if name in SYNTHETIC:
        make, options, n_train, n_test = SYNTHETIC[name]
        if quick:
            n_train, n_test = min(n_train, 40), 10
        train = make(n_sequences=n_train, random_state=seed, **options)
        test = make(n_sequences=n_test, random_state=10_000 + seed, **options)
        return Family("synthetic", [Part(sequences_of(train), sequences_of(test))])
    sequences = real_families.LOADERS[name](data)
    if sequences is None:
        return None
    parts = _folds(sequences, seed)
    if quick:
        n_parts = -(-4 // len(parts[0].test))  # at least four test sequences
        parts = [Part(part.train[:40], part.test[:10]) for part in parts[:n_parts]]
    return Family("real", parts)


def _folds(sequences: list[Sequence], seed: int) -> list[Part]:
    few = len(sequences) < LEAVE_ONE_OUT_BELOW
    splitter = LeaveOneOut() if few else KFold(N_FOLDS, shuffle=True, random_state=seed)
    return [
        Part([sequences[i] for i in train], [sequences[i] for i in test])
        for train, test in splitter.split(sequences)
    ]
