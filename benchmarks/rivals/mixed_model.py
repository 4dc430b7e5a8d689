"""A linear mixed model on filtered inputs, with an Ornstein-Uhlenbeck residual.

Every curve is a sum of a constant, the inputs, and the responses of a few poles to its start and
its inputs (`response_bank`), with coefficients that are normal over the family (`random_effects`).
How many poles is chosen by forecasts of training sequences that are left out.
"""

import numpy as np
from sequences import Forecast, Sequence, gaussian_forecast, revealed

from rivals.conditioning import condition
from rivals.random_effects import fit_effects
from rivals.response_bank import choose_poles, columns

N_POLES = (0, 1, 2, 4, 7)
SHARES = (0.05, 0.1, 0.25, 0.5)  # of the left-out sequences that are revealed
MOST_COEFFICIENTS = 160


class MixedModel:
    """See the module."""

    def fit(self, train: list[Sequence]) -> "MixedModel":
        self._scale(train)
        scaled = [self._scaled(s) for s in train]
        poles = choose_poles(scaled, max(N_POLES))
        candidates = [
            n for n in N_POLES if self._n_coefficients(scaled[0], poles[:n]) <= MOST_COEFFICIENTS
        ]
        left_out = np.arange(len(train)) % 3 == 2
        if len(train) > 2 and len(candidates) > 1:
            inner = [s for s, out in zip(scaled, left_out, strict=True) if not out]
            outer = [s for s, out in zip(scaled, left_out, strict=True) if out]
            losses = [self._learn(inner, poles[:n], n_rounds=1)._loss(outer) for n in candidates]
            best = candidates[int(np.argmin(losses))]
        else:
            best = candidates[0]
        return self._learn(scaled, poles[:best], n_rounds=3)

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        result = []
        for sequence, true in zip(known, truth, strict=True):
            mean, std = self._predict(self._scaled(sequence), horizon)
            mean = self.output_mean + self.output_scale * mean
            result.append(gaussian_forecast(mean, self.output_scale * std, true.outputs))
        return result

    def _predict(self, scaled: Sequence, horizon: int | None) -> tuple[np.ndarray, np.ndarray]:
        mean, cov = self.effects.moments(self._design(scaled))
        return condition(mean, cov, scaled.outputs, horizon)

    def _learn(self, scaled: list[Sequence], poles: list, n_rounds: int) -> "MixedModel":
        self.poles = poles
        rows = np.concatenate([columns(s, poles) for s in scaled])
        self.kept = np.any(rows[:, 1:] != rows[0, 1:], axis=0)
        self.sizes = np.maximum(np.sqrt(np.mean(rows**2, axis=0)), 1e-9)
        designs = [self._design(s) for s in scaled]
        self.effects = fit_effects(designs, [s.outputs for s in scaled], n_rounds)
        return self

    def _design(self, scaled: Sequence) -> np.ndarray:
        design = columns(scaled, self.poles) / self.sizes
        return design[:, np.concatenate([[True], self.kept])]

    def _n_coefficients(self, scaled: Sequence, poles: list) -> int:
        return columns(scaled, poles).shape[1] * scaled.outputs.shape[1]

    def _loss(self, sequences: list[Sequence]) -> float:
        """Mean negative log density of what follows the contexts."""
        losses = []
        for sequence in sequences:
            for share in SHARES:
                n_known = max(1, round(share * len(sequence.inputs)))
                mean, std = self._predict(revealed(sequence, n_known), None)
                forecast = gaussian_forecast(mean, std, sequence.outputs)
                losses.append(-np.nanmean(forecast.log_density[n_known:]))
        return float(np.nanmean(losses))

    def _scale(self, train: list[Sequence]) -> None:
        """Means and scales from the training rows; inputs are not centred, zero is no input."""
        outputs = np.concatenate([s.outputs for s in train])
        self.output_mean = np.nanmean(outputs, axis=0)
        self.output_scale = np.maximum(np.nanstd(outputs, axis=0), 1e-12)
        inputs = np.concatenate([s.inputs for s in train])
        self.input_scale = np.maximum(np.sqrt(np.mean(inputs**2, axis=0)), 1e-12)

    def _scaled(self, sequence: Sequence) -> Sequence:
        outputs = (sequence.outputs - self.output_mean) / self.output_scale
        return Sequence(sequence.inputs / self.input_scale, outputs)
