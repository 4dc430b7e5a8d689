"""A pooled recurrent network: gated units (Cho et al. 2014) with a normal output, PyTorch.

It reads inputs, the last outputs and whether they are known; in training the outputs after a random
row are hidden, so that one network forecasts from any context, one step or many ahead. Stopped
early by a fifth of the training sequences.
"""

from copy import deepcopy

import numpy as np
import torch
from sequences import Forecast, Sequence, gaussian_forecast
from torch import nn

N_UNITS = 48
N_EPOCHS, PATIENCE = 250, 25
BATCH = 40  # sequences
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)  # revealed of the sequences that stop training
MIN_STD = 0.01


class _Network(nn.Module):
    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.cells = nn.GRU(n_features, N_UNITS, batch_first=True)
        self.head = nn.Linear(N_UNITS, 2 * n_outputs)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, raw = self.head(self.cells(features)[0]).chunk(2, dim=-1)
        return mean, MIN_STD + nn.functional.softplus(raw)


class Recurrent:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, train: list[Sequence]) -> "Recurrent":
        torch.manual_seed(self.seed)
        torch.set_num_threads(1)
        outputs, inputs = (np.concatenate([s[i] for s in train]) for i in (1, 0))
        self.mean, self.std = np.nanmean(outputs, axis=0), np.nanstd(outputs, axis=0)
        self.size = np.maximum(np.sqrt(np.mean(inputs**2, axis=0)), 1e-12)
        self.n_rows = max(len(s.inputs) for s in train)
        order = np.random.RandomState(self.seed).permutation(len(train))
        n_stop = max(1, len(train) // 5)
        stop, learn = ([train[i] for i in part] for part in (order[:n_stop], order[n_stop:]))
        self._learn(self._tensors(learn), self._tensors(stop))
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        inputs, outputs = self._tensors(known)
        with torch.no_grad():
            mean, std = (part.numpy() for part in self.network(_features(inputs, outputs)))
        return [
            gaussian_forecast(self.mean + self.std * m[: len(s.inputs)],
                              self.std * v[: len(s.inputs)], s.outputs)
            for m, v, s in zip(mean.astype(float), std.astype(float), truth, strict=True)
        ]  # fmt: skip

    def _tensors(self, sequences: list[Sequence]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled inputs and the clock, and scaled outputs; padded, outputs with NaN."""
        n_rows = max(len(s.inputs) for s in sequences)
        inputs = np.zeros((len(sequences), n_rows, len(self.size) + 1), dtype=np.float32)
        outputs = np.full((len(sequences), n_rows, len(self.mean)), np.nan, dtype=np.float32)
        inputs[:, :, -1] = np.arange(n_rows) / self.n_rows
        for i, sequence in enumerate(sequences):
            inputs[i, : len(sequence.inputs), :-1] = sequence.inputs / self.size
            outputs[i, : len(sequence.outputs)] = (sequence.outputs - self.mean) / self.std
        return torch.from_numpy(inputs), torch.from_numpy(outputs)

    def _learn(self, learn: tuple, stop: tuple) -> None:
        n_features = learn[0].shape[2] + 2 * learn[1].shape[2]
        self.network = _Network(n_features, learn[1].shape[2])
        optimiser = torch.optim.Adam(self.network.parameters(), lr=5e-3, weight_decay=1e-5)
        best, waited, weights = np.inf, 0, None
        for _ in range(N_EPOCHS):
            for rows in torch.randperm(len(learn[0])).split(BATCH):
                optimiser.zero_grad()
                loss = self._loss(learn[0][rows], learn[1][rows], torch.rand(len(rows)) * 1.3)
                loss.backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimiser.step()
            with torch.no_grad():
                loss = sum(
                    self._loss(*stop, torch.full((len(stop[0]),), share)) for share in SHARES
                )
            if loss < best:
                best, waited, weights = float(loss), 0, deepcopy(self.network.state_dict())
            waited += 1
            if waited > PATIENCE:
                break
        self.network.load_state_dict(weights)

    def _loss(
        self, inputs: torch.Tensor, outputs: torch.Tensor, share: torch.Tensor
    ) -> torch.Tensor:
        """Negative log density of all outputs, those after a share of the rows being hidden."""
        rows = torch.arange(outputs.shape[1])
        hidden = rows >= share[:, None] * outputs.shape[1]
        known = outputs.masked_fill(hidden[:, :, None], torch.nan)
        mean, std = self.network(_features(inputs, known))
        seen = torch.isfinite(outputs)
        normal = torch.distributions.Normal(mean[seen], std[seen])
        return -normal.log_prob(outputs[seen]).mean()


def _features(inputs: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """Inputs of a row, outputs of the row before and whether they are known."""
    before = torch.cat([torch.full_like(outputs[:, :1], torch.nan), outputs[:, :-1]], dim=1)
    return torch.cat([inputs, before.nan_to_num(0.0), before.isfinite().float()], dim=2)
