"""The same likelihood in PyTorch: all evaluations at once, a loop over rows, autograd."""

import numpy as np
import torch

from speed_parts.problem import Problem

SMOOTHING = 1e-3


def transition(chart, n, modal):
    """A as blocks (E, n / 2, 2, 2) in the modal chart, else (E, n, n)."""
    if modal:
        q = torch.tanh(chart[:, 0::2])
        half = 0.5 * torch.tanh(chart[:, 1::2]) * (1.0 + q)
        d = q - half**2
        s = (d**2 + SMOOTHING**2) ** 0.25
        return torch.stack([half, s, -d / s, half], dim=2).reshape(len(chart), n // 2, 2, 2)
    rows, columns = np.tril_indices(n, -1)
    S = chart.new_zeros(len(chart), n, n)
    S[:, rows, columns] = chart[:, n:]
    S = S - S.transpose(1, 2)
    eye = torch.eye(n, dtype=chart.dtype)
    return torch.tanh(chart[:, :n, None]) * (2.0 * torch.linalg.inv(eye + S) - eye)


def kernels(problem: Problem) -> dict:
    """As `own_kernels`."""
    torch.set_num_threads(1)
    n, m, p = problem.size[3:]
    modal = problem.family.chart.shape.block == 2
    repeats, active = problem.size.n_samples, torch.as_tensor(problem.family.chart.active)
    u, y, seen = (
        torch.as_tensor(np.repeat(a, repeats, axis=0).swapaxes(0, 1).copy())
        for a in (problem.inputs, problem.outputs, problem.observed)
    )
    psi, z = torch.as_tensor(problem.psi), torch.as_tensor(problem.z)
    W, b = torch.as_tensor(problem.loadings), torch.as_tensor(problem.bias)
    noise = torch.as_tensor(problem.family.noise_std)
    sizes = [problem.n_transition, n * m, n, n * p, p * n, p * m, p, 1]

    def outputs_of(psi):
        chart, B, x0, _, C, D, offset, _ = psi.split(sizes, dim=1)
        A, C, D = transition(chart, n, modal), C.reshape(len(C), p, n), D.reshape(len(D), p, m)
        # Everything about inputs is done before the loop, and indexing inside it would cost a pass
        # over all rows for each of them in the backward sweep.
        pushes = torch.einsum("enm,tem->ten", B.reshape(len(B), n, m), u).unbind(0)
        states, state = [], x0
        for push in pushes:
            x = state + push
            states.append(x)
            pairs = x.reshape(len(x), n // 2, 2, 1) if modal else x[..., None]
            state = (A @ pairs).reshape(x.shape)
        return (
            torch.einsum("epn,ten->tep", C, torch.stack(states))
            + torch.einsum("epm,tem->tep", D, u) + offset
        )  # fmt: skip

    def log_density(psi):
        log_std = noise.log() + psi[:, -1:]
        r = torch.where(seen, y - outputs_of(psi), 0.0)
        parts = (r**2).sum(0) * torch.exp(-2.0 * log_std)
        return -0.5 * (parts + seen.sum(0) * (np.log(2.0 * np.pi) + 2.0 * log_std)).sum(1)

    def value():
        with torch.no_grad():
            return log_density(psi).numpy()

    def gradient():
        free = psi[:, active].clone().requires_grad_(True)
        log_density(psi.index_copy(1, active, free)).sum().backward()
        return free.grad.numpy()

    def curvature():
        columns = [
            torch.func.jvp(lambda z: outputs_of(z @ W.T + b), (z,), (unit.expand_as(z),))[1]
            for unit in torch.eye(z.shape[1], dtype=z.dtype)
        ]
        J = torch.where(seen, torch.stack(columns) / noise, 0.0)
        return (torch.einsum("atep,btep->eab", J, J) + torch.eye(z.shape[1])).numpy()

    return {"value": value, "gradient": gradient, "Gauss-Newton, z": curvature}
