"""The table of all grids that were measured on test, as the README shows it.

Run it by ``python recipes/vision/overview.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from grid import GridConfig, minutes, teaches, with_spread

from aes_dynloss.configfile import read_mapping, validate

HERE = Path(__file__).parent
# In the order of the README's sections; the others behind them.
FIRST = (
    "digits",
    "digits_transfer",
    "cifar10",
    "cifar10_dln",
    "cifar10_dln_odd",
    "bccd",
    "bccd_dln_odd",
    "camvid",
    "camvid_dln_odd",
)


def overview() -> str:
    """Task, student, loss, metric, minutes and command of every arm of every grid in ``results/`` that grid.py runs.

    Arms that only teach are left out.
    """
    lines = ["| task | student | loss | metric, mean (sd) | minutes | command |", "|---|---|---|---:|---:|---|"]
    stems = {path.stem for path in (HERE / "results").glob("*.json") if not path.stem.startswith("mnist_")}
    for stem in sorted(stems, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        figures = read_mapping(HERE / "results" / f"{stem}.json")
        grid = validate(GridConfig, read_mapping(HERE / "grids" / f"{stem}.yaml"), stem)
        if grid.measured_on == "test":
            shown = {arm: values for arm, values in figures["arms"].items() if not teaches(arm)}
            lines += [_line(stem, grid, arm, values) for arm, values in shown.items()]
    return "\n".join(lines)


def _line(stem: str, grid: GridConfig, arm: str, values: dict[str, Any]) -> str:
    cells = (
        grid.arms[arm].title or grid.title,
        grid.arms[arm].student or grid.student,
        arm,
        f"{grid.measure} {with_spread(values[grid.measure], 'sd')}",
        minutes(values),
        f"`grid.py grids/{stem}.yaml`",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(overview() + "\n")
