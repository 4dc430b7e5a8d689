"""Real families: data that come with statsmodels, and csv files of a folder of one's own.

The files are named by `FILES`, tidy: `seq_id` sequence, `t` step on a regular grid, `u_*` inputs,
`y_*` outputs (empty: not observed). Those that are absent are left out.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sequences import Sequence

FILES = {
    "remifentanil": "remifentanil_1min.csv",
    "theophylline": "theoph_15min.csv",
    "indometacin": "indometh_15min.csv",
    "walmart": "walmart_dept12.csv",
    "chick weight": "chickweight_2day.csv",
    "cascaded tanks": "cascaded_tanks.csv",
}
# Outputs that are never negative, whose errors grow with them.
POSITIVE = ("remifentanil", "theophylline", "indometacin", "chick weight")
TANK_ROWS = 128  # of the windows that the two long runs are cut into
FERTILITY_YEARS = range(1960, 2012)


def read_folder(name: str, folder: str | None) -> list[Sequence] | None:
    """Sequences of a csv file; None if the folder is not given or does not have it."""
    if folder is None or not (Path(folder) / FILES[name]).exists():
        return None
    table = pd.read_csv(Path(folder) / FILES[name])
    columns = [[c for c in table if c.startswith(prefix)] for prefix in ("u_", "y_")]
    sequences = []
    for _, rows in table.groupby("seq_id", sort=False):
        rows = rows.sort_values("t")
        if not (np.diff(rows["t"]) == 1).all():
            raise ValueError(f"{FILES[name]}: the steps of a sequence must be consecutive.")
        inputs, outputs = (rows[names].to_numpy(float) for names in columns)
        sequences.append(Sequence(inputs if inputs.shape[1] else no_inputs(rows), outputs))
    return sequences


def tanks(folder: str | None) -> list[Sequence] | None:
    """Windows of two runs of one machine: nothing differs but the state they start from."""
    runs = read_folder("cascaded tanks", folder)
    if runs is None:
        return None
    return [
        Sequence(run.inputs[start : start + TANK_ROWS], run.outputs[start : start + TANK_ROWS])
        for run in runs
        for start in range(0, len(run.inputs), TANK_ROWS)
    ]


def elnino(folder: None = None) -> list[Sequence]:
    """Sea surface temperature off Peru: years of twelve months."""
    return _curves(_table("elnino").drop(columns="YEAR"))


def fertility(folder: None = None) -> list[Sequence]:
    """Births per woman, 1960 to 2011: every third country without a gap."""
    years = _table("fertility")[[str(year) for year in FERTILITY_YEARS]]
    return _curves(years.dropna().iloc[::3])


def co2(folder: None = None) -> list[Sequence]:
    """Carbon dioxide at Mauna Loa: years of 52 weeks, some of them not observed."""
    table = _table("co2")["co2"]
    years = table.index.year
    complete = [year for year in years.unique() if (years == year).sum() >= 52]
    return _curves(pd.DataFrame([table[years == year].to_numpy()[:52] for year in complete]))


def grunfeld(folder: None = None) -> list[Sequence]:
    """Gross investment of 11 firms over 20 years; inputs are market value and stock of capital."""
    return [
        Sequence(rows[["value", "capital"]].to_numpy(float), rows[["invest"]].to_numpy(float))
        for _, rows in _table("grunfeld").groupby("firm", sort=False)
    ]


def no_inputs(rows) -> np.ndarray:
    """One column of zeros."""
    return np.zeros((len(rows), 1))


def _table(name: str) -> pd.DataFrame:
    from statsmodels import datasets  # imports much, and only real families need it

    return getattr(datasets, name).load_pandas().data


def _curves(table: pd.DataFrame) -> list[Sequence]:
    return [Sequence(no_inputs(row), row[:, None]) for row in table.to_numpy(float)]


LOADERS: dict[str, Callable[[str | None], list[Sequence] | None]] = {
    "el nino": elnino,
    "fertility": fertility,
    "co2": co2,
    "grunfeld": grunfeld,
    **{name: partial(read_folder, name) for name in FILES},
    "cascaded tanks": tanks,
}
