"""Kernels against JAX, PyTorch and NumPy: seconds per call, ratios, agreement, share of the peak.

    python benchmarks/speed.py kernels

All run on one core, in turn, in one process; a sample is the least of a burst of calls, in seconds
of the processor. The ratio is the median over rounds of rival / ours, with the quartiles.
"""

import os
import time

import numpy as np

ROUNDS, BURST_SECONDS = 5, 0.1
OPERATIONS = ("value", "gradient", "Gauss-Newton, z", "Gauss-Newton, theta")


def on_one_core() -> None:
    """Keep this process to one core, before JAX counts them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def burst(function) -> float:
    """Least seconds of a few calls."""
    least, start = np.inf, time.perf_counter()
    while True:
        before = time.process_time()
        function()
        least = min(least, time.process_time() - before)
        if time.perf_counter() - start > BURST_SECONDS:
            return least


def compare(functions: dict, rounds: int) -> dict:
    """{name: seconds (rounds,)}, in turn."""
    for function in functions.values():
        function()
    samples = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            samples[name].append(burst(function))
    return {name: np.array(values) for name, values in samples.items()}


def difference(ours, theirs, stored) -> float:
    """Largest difference in units of the largest value; `stored`: rows and columns of matrices."""
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.ndim == 2 and b.ndim == 3:
        b = b[(slice(None), *stored)]
    b = b.T if b.shape != a.shape else b
    return float(np.max(np.abs(a - b)) / np.max(np.abs(a)))


def table(name: str, dense: bool, quick: bool, full: bool = False) -> str:
    """Rows of one problem; `full`: of all its sequences, gradients alone, against JAX alone."""
    from mtds_sklearn.model._normal import normal_entries
    from speed_parts import jax_kernels, numpy_kernels, own_kernels, torch_kernels
    from speed_parts.problem import SIZES, make_problem, operations

    size = SIZES[name]
    if quick or (name == "medium" and not full):
        size = size._replace(n_sequences=20 if quick else 60)
    problem = make_problem(size, dense)
    stored = normal_entries(problem.family.chart)
    own, flops, peak = own_kernels.kernels(problem), operations(problem), own_kernels.peak_rate()
    rivals = {
        "JAX, vmap of scan": jax_kernels.kernels(problem, "scan"),
        "JAX, arrays": jax_kernels.kernels(problem, "arrays"),
        "PyTorch": {} if full else torch_kernels.kernels(problem),
        "NumPy": {} if full else numpy_kernels.kernels(problem),
    }
    lines = []
    for operation in ("gradient",) if full else OPERATIONS:
        some = {rival: found[operation] for rival, found in rivals.items() if operation in found}
        apart = max(difference(own[operation](), function(), stored) for function in some.values())
        seconds = compare({"ours": own[operation], **some}, 2 if quick else ROUNDS)
        ours = np.median(seconds["ours"])
        share = flops[operation] / ours / peak
        what = f"{name}{' in full' if full else ''}, {'dense' if dense else 'modal'}"
        ratios = [quartiles(seconds.get(rival), seconds["ours"]) for rival in rivals]
        cells = [what, operation, f"{1e3 * ours:.3g}", *ratios, f"{share:.2f}", f"{apart:.0e}"]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def floors(quick: bool) -> str:
    """What gradients take at least, and what they take, one evaluation."""
    from speed_parts import own_kernels
    from speed_parts.problem import SIZES, gradient_floor, make_problem

    lines = [
        "| work | row by row | rows, as done | around them | bytes kept | at the peak, us | "
        "in the time of a product, us | measured, us |",
        "| :--- |" + " ---: |" * 7,
    ]
    for name in ("small", "medium"):
        for dense in (True, False):
            problem = make_problem(SIZES[name]._replace(n_sequences=40), dense)
            floor, gradient = gradient_floor(problem), own_kernels.kernels(problem)["gradient"]
            done = floor.rows + floor.around
            seconds = np.median(compare({"ours": gradient}, 2 if quick else ROUNDS)["ours"])
            least = [done / own_kernels.fused_rate(), done / own_kernels.peak_rate()]
            times = [1e6 * t for t in (*least, seconds / len(problem.z))]
            cells = [f"{x:,.0f}" for x in floor] + [f"{t:.2f}" for t in times]
            lines.append(f"| {name}, {'dense' if dense else 'modal'} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def quartiles(theirs, ours) -> str:
    """Median of the ratios, quartiles in brackets."""
    if theirs is None:
        return "-"
    low, middle, high = np.percentile(theirs / ours, [25, 50, 75])
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def report(quick: bool) -> str:
    """The section of the results."""
    on_one_core()
    heads = ["work", "kernel", "ours, ms", "JAX, vmap of scan", "JAX, arrays", "PyTorch", "NumPy"]
    heads += ["share of a matrix product's rate", "apart"]
    rows = [table(name, dense, quick) for name in ("small", "medium") for dense in (True, False)]
    rows += [] if quick else [table("medium", dense, quick, full=True) for dense in (True, False)]
    notes = (
        "small: 40 sequences of 80 rows, 20 latents each, 8 states, one output, no inputs; medium: "
        "60 of 200 rows, 8 latents each, 8 states, two outputs, two inputs (in full: 1000); 5 % of "
        "the values missing. Ratios rival / ours, median [quartiles]. The share is that of the "
        "operations of a recursion row by row per second, in what OpenBLAS reaches on this core "
        "(matrices of 768 x 768); gradients do with fewer. `apart`: largest difference between the "
        "results, relative."
    )
    below = (
        "Floor of the gradient, one evaluation: operations of its products row by row, several "
        "rows at once as the kernel does it, and around the rows (chart, matrices of several rows, "
        "and back); bytes of states and residuals kept for the way back (read and written once); "
        "the time of what is done, at the rate of fused multiply-adds in registers alone, and at "
        "that of a matrix product. Between that and what is measured stand the filling of lanes, "
        "loads (a loop of sixteen sums with eight loads reaches 0.7 of the rate in registers), and "
        "around the rows, roots, divisions and exponentials."
    )
    head = "| " + " | ".join(heads) + " |\n|" + " :--- | :--- |" + " ---: |" * (len(heads) - 2)
    return "\n".join(["# Kernels\n", "", notes, "", head, *rows, "", below, "", floors(quick), ""])
