"""Tables of the comparison, in markdown."""

import numpy as np
from methods import ORACLE, OURS
from scoring import METRICS, TASKS

FEWEST = 3  # sequences that a difference is told from chance by
COMPARED = ("rmse", "nll")  # what wins and losses are counted by


def family_table(name: str, results: dict) -> str:
    """Three rows per method: error, negative log density and coverage of every task."""
    head = ["method", "", *(task.name for task in TASKS), "fit s", "forecast s"]
    lines = [f"### {name}\n", _row(head), _row([":---", ":---"] + ["---:"] * (len(head) - 2))]
    for method, result in results.items():
        if "failed" in result:
            lines.append(_row([method, "failed: " + result["failed"]]))
            continue
        seconds = [f"{result[key]:.1f}" for key in ("fit", "forecast")]
        for metric in METRICS:
            cells = [_cell(result["tasks"].get(task.name), metric) for task in TASKS]
            lines.append(_row([method, metric, *cells, *seconds]))
            method, seconds = "", ["", ""]
    return "\n".join(lines) + "\n"


def _cell(scores: dict | None, metric: str) -> str:
    if scores is None:
        return "-"
    values = _values(scores, metric)
    if metric == "coverage":
        return f"{100 * np.mean(values):.0f} %"
    return f"{np.mean(values):.3f} ± {_standard_error(values):.3f}"


def _values(scores: dict, metric: str) -> np.ndarray:
    values = np.array(scores[metric], dtype=float)  # None becomes NaN
    return values[np.isfinite(values)]


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def outcome(ours: dict, rival: dict, metric: str) -> tuple[str, float, float]:
    """("win" | "tie" | "loss", mean paired difference ours - rival, its standard error)."""
    pair = np.array([ours[metric], rival[metric]], dtype=float)
    pair = pair[:, np.isfinite(pair).all(axis=0)]
    difference = pair[0] - pair[1]
    mean, error = float(np.mean(difference)), _standard_error(difference)
    if abs(mean) <= error or len(difference) < FEWEST:
        return "tie", mean, error
    return ("win" if mean < 0 else "loss"), mean, error


def outcomes(all_results: dict) -> list[tuple]:
    """(family, kind, rival, task, metric, outcome, difference, standard error), all comparisons."""
    rows = []
    for family, (kind, results) in all_results.items():
        ours = results.get(OURS, {"failed": ""})
        for rival, result in results.items():
            if (
                rival in (OURS, ORACLE)
                or rival.endswith("log1p")
                or "failed" in result
                or "failed" in ours
            ):
                continue
            for task in result["tasks"].keys() & ours["tasks"].keys():
                for metric in COMPARED:
                    found = outcome(ours["tasks"][task], result["tasks"][task], metric)
                    rows.append((family, kind, rival, task, metric, *found))
    return rows


def summary(all_results: dict) -> str:
    """Wins, ties and losses of `MTLDSRegressor` against each rival, then every loss."""
    rows = outcomes(all_results)
    rivals = list(dict.fromkeys(row[2] for row in rows))
    lines = [_row(["rival", "families", "rmse: win / tie / loss", "nll: win / tie / loss"])]
    lines.append(_row([":---", ":---", "---:", "---:"]))
    for kind in ("real", "synthetic"):
        for rival in [*rivals, "all"]:
            chosen = [row for row in rows if row[1] == kind and rival in (row[2], "all")]
            counts = [_count([row[5] for row in chosen if row[4] == metric]) for metric in COMPARED]
            if chosen:
                lines.append(_row([rival, kind, *counts]))
    lines += [
        "",
        _row(["loss on", "to", "task", "metric", "behind by"]),
        _row([":---"] * 4 + ["---:"]),
    ]
    order = {task.name: i for i, task in enumerate(TASKS)}
    losses = [row for row in rows if row[5] == "loss"]
    for family, _, rival, task, metric, _, mean, error in sorted(
        losses, key=lambda row: (list(all_results).index(row[0]), row[2], order[row[3]])
    ):
        lines.append(_row([family, rival, task, metric, f"{mean:.3f} ± {error:.3f}"]))
    return "\n".join(lines) + "\n"


def _count(found: list[str]) -> str:
    return " / ".join(str(found.count(kind)) for kind in ("win", "tie", "loss"))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
