"""Print the README's table of robustness: how often scores rise that must not, by kind of change and arm.

    python recipes/essays/collect_robustness.py

It reads `results/robustness/ARM_seed_S.json`, each of them a robustness.json of `aes-dynloss robustness`, and
`asap_augmentation.json` beside them, the benchmark.json of the grid that trained the models. A share is the mean over
seeds; in brackets is that of unrounded scores. Kinds that an arm was trained on are marked.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from aes_dynloss.essays.data.data_config import AugmentationConfig

RESULTS = Path(__file__).parent / "results" / "robustness"
GRID = "asap_augmentation"
_TOGETHER = {"must_not_rise": "all that must not raise a score", "fall": "all that should lower it"}


def robustness_lines(folder: Path) -> list[str]:
    """The table's lines, markdown.

    Args:
        folder: Folder of the results files.
    """
    grid = json.loads((folder / f"{GRID}.json").read_text(encoding="utf-8"))
    arms = list(grid["config"]["arms"])
    measured = {arm: _by_seed(folder, arm) for arm in arms}
    trained = {kind for arm in arms for kind in _trained_on(grid["config"]["arms"][arm]["set"])}
    lines = [f"| change | {' | '.join(arms)} |", f"| --- |{' ---: |' * len(arms)}"]
    kinds: dict[str, Any] = next(iter(measured.values()))[0]["kinds"]
    for expected, words in (("fall", "should fall"), ("not_rise", "should not rise")):
        for name, kind in kinds.items():
            if kind["expected"] == expected:
                title = f"{kind['title']} ({words}){' *' if name in trained else ''}"
                lines.append(
                    _line(title, [[one["kinds"][name]["total"] for one in found] for found in measured.values()])
                )
    for group, title in _TOGETHER.items():
        lines.append(_line(title, [[one["expected"][group] for one in found] for found in measured.values()]))
    kept = [[share for one in found for share in _kept(one)] for found in measured.values()]
    lines.append(f"| score kept where it should stay | {' | '.join(_percent(statistics.fmean(own)) for own in kept)} |")
    return lines


def _line(title: str, arms: list[list[dict[str, Any]]]) -> str:
    cells = []
    for found in arms:
        share, raw = (statistics.fmean(one[name]["share"] for one in found) for name in ("rises", "raw_rises"))
        cells.append(f"{_percent(share)} ({_percent(raw)})")
    return f"| {title} | {' | '.join(cells)} |"


def _kept(measured: dict[str, Any]) -> list[float]:
    return [measured["expected"]["stay"]["stays"]["share"]]


def _by_seed(folder: Path, arm: str) -> list[dict[str, Any]]:
    files = sorted(path for path in folder.glob("*.json") if re.fullmatch(rf"{re.escape(arm)}_seed_\d+", path.stem))
    if not files:
        sys.exit(f"{folder} holds no {arm}_seed_0.json. Run `aes-dynloss robustness` on the grid's models first.")
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def _trained_on(changes: dict[str, Any]) -> list[str]:
    augmentation = changes.get("data.augmentation")
    return [] if augmentation is None else AugmentationConfig.model_validate(augmentation).kinds


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


if __name__ == "__main__":
    sys.stdout.write("\n".join(robustness_lines(RESULTS)) + "\n")
