"""What the grids of noisy_raters.py gave, in one results file, its table and its picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import DataError
from aes_dynloss.essays.benchmark.cells import EssayCell, grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.benchmark.results import REPORT
from aes_dynloss.essays.finetune.suspects import SUSPECTS
from aes_dynloss.measures.differences import difference_entry, fill_holm
from aes_dynloss.measures.paired_bootstrap import mean_figure, prompt_figures
from aes_dynloss.plot_style import COLOURS, INK, empty_figure, explain, plot_style
from aes_dynloss.reports.arms import ScoredRun, build_cells
from aes_dynloss.reports.chosen import chosen_runs
from aes_dynloss.reports.published import published_name, write_published
from aes_dynloss.reports.read_runs import read_run
from aes_dynloss.tables.atomic import write_text

COUNTS = (50, 100, 200)  # of suspects, over all prompts
TAUGHT = "l2t_"
CHOSEN = f"{TAUGHT}dlf"  # the taught loss with the best dev
NAME = "asap_noisy_raters"

NOTE = (
    "Differences are those of a taught arm minus the arm, with the same KIND_T. Their intervals cover the choice of "
    "test essays, the same for all arms and draws, and of draws; those of the arms' own figures that of essays alone. "
    "suspects: shares of changed ratings among a run's first suspects of all prompts, the mean over folds and draws; "
    "changed is that of all cheap ratings."
)


def collect(
    names: Sequence[str], grid: Path, data: Path, runs: Path, results: Path, published: Sequence[str], draws: int
) -> None:
    """Merge the grids' reports, with paired differences of each taught arm, and publish some arms' predictions.

    Args:
        names: The grids that were run, as KIND_T.
        grid: Their configuration, without what is set for each.
        data: Folder of the ratings, ``data/KIND_T/draw_D/fold_F/truth.csv``.
        runs: Folder of the grids, ``runs/KIND_T``.
        results: Folder of results, ``results/grids/asap_noisy_raters.json`` and ``.svg``, ``results/predictions``.
        published: Arms, as KIND_T_ARM.
        draws: Predictions of so many draws are published.
    """
    arms: dict[str, Any] = {}
    grids: dict[str, Any] = {}
    differences: dict[str, dict[str, Any]] = {}
    for name in names:
        report = json.loads((runs / name / REPORT).read_text(encoding="utf-8"))
        arms |= {f"{name}_{arm}": entry for arm, entry in report["arms"].items()}
        config = report["config"]
        settings = {arm: entry["set"] for arm, entry in config["arms"].items()}
        grids[name] = {"seeds": config["seeds"], "arms": settings, "notes": report["notes"], "runs": report["runs"]}
        cells = grid_cells(validate(BenchmarkConfig, config, f"{name}/{REPORT}"), list(report["essays"]), runs / name)
        grids[name] |= {"suspects": _precisions(data / name, cells), "raters": report.pop("raters", {})}
        scored = _runs(config, cells)
        for taught, entries in _differences(scored, report["settings"]).items():
            own = {f"{name}_{arm}": {"mean": entry, "prompts": {}} for arm, entry in entries.items()}
            differences.setdefault(taught, {}).update(own)
        for arm in scored:
            if f"{name}_{arm}" in published:
                path = results / "predictions" / published_name(NAME, f"{name}_{arm}")
                first = [run for run in scored[arm] if int(run.seed) < draws]
                write_published(path, f"{name}_{arm}", first, seeded=True)
    families = {taught: _family(taught, own) for taught, own in differences.items()}
    report |= {"arms": arms, "control": next(iter(arms)), "differences": families, "notes": [NOTE], "grids": grids}
    report["config"] = read_mapping(grid)
    content = {key: report[key] for key in report if key != "runs"}
    compact = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    write_text(results / "grids" / f"{NAME}.json", f"{compact}\n")
    if CHOSEN in families:
        figure = picture(report)
        with plot_style():
            figure.savefig(results / "grids" / f"{NAME}.svg", metadata={"Date": None})


def precision_at(suspects: pd.DataFrame, truth: pd.DataFrame, counts: Sequence[int] = COUNTS) -> dict[str, float]:
    """Shares of changed ratings among the first ones of a list of suspects.

    Args:
        suspects: Of a run, the most suspicious first.
        truth: Of its fold.
        counts: Lengths of the list's beginning.

    Returns:
        By ``precision_at_K``; and ``changed``, the share of the whole list, which is expected of a list by chance.
    """
    changed = truth.set_index("essay_id")["changed"].reindex(suspects["essay_id"]).to_numpy(dtype=np.float64)
    if np.isnan(changed).any():
        raise DataError(f"{int(np.isnan(changed).sum())} suspects are not in the truth. Is it that of another fold?")
    return {f"precision_at_{count}": float(changed[:count].mean()) for count in counts} | {
        "changed": float(changed.mean())
    }


def _precisions(data: Path, cells: Sequence[EssayCell]) -> dict[str, dict[str, float]]:
    """Precision of the lists of suspects by arm, the mean over folds and draws, where runs have such lists."""
    found: dict[str, list[dict[str, float]]] = {}
    for cell in cells:
        path = cell.folder / SUSPECTS
        if path.exists():
            truth = data / f"draw_{cell.seed}" / cell.part / "truth.csv"
            suspects, changed = (pd.read_csv(table, dtype={"essay_id": str}) for table in (path, truth))
            found.setdefault(cell.arm, []).append(precision_at(suspects, changed))
    return {arm: {key: fmean(one[key] for one in own) for key in own[0]} for arm, own in found.items()}


def _runs(config: dict[str, Any], cells: Sequence[EssayCell]) -> dict[str, list[ScoredRun]]:
    """A grid's runs by arm, with what is chosen among them."""
    runs: dict[str, list[ScoredRun]] = {arm: [] for arm in config["arms"]}
    for cell in cells:
        runs[cell.arm].append(read_run(cell.part, str(cell.seed), cell.folder))
    return runs | {best: chosen_runs({arm: runs[arm] for arm in own})[0] for best, own in config["chosen"].items()}


def _differences(runs: dict[str, list[ScoredRun]], settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By taught arm and other arm, the difference of their QWK, the mean over prompts, folds and draws."""
    cells, _ = build_cells(runs, next(iter(runs)))
    drawn = [prompt_figures(own, settings["resamples"], settings["seed"], draw_seeds=True) for own in cells.values()]
    means = {arm: mean_figure([figures[arm, "qwk_rescaled"] for figures in drawn]) for arm in runs}
    taught = [arm for arm in runs if arm.startswith(TAUGHT)]
    return {
        one: {arm: difference_entry(means[one].minus(means[arm]), settings["confidence"]) for arm in runs if arm != one}
        for one in taught
    }


def _family(taught: str, entries: dict[str, Any]) -> dict[str, Any]:
    """The differences of one taught arm, as the report of a grid has them."""
    size = fill_holm([entry["mean"] for entry in entries.values()])
    words = f"QWK, rescaled on dev, of {taught} minus that of the arm, of the same kind and T"
    return {"difference": words, "comparisons": {"mean": size, "prompts": 0}, "arms": entries}


def table(report: dict[str, Any]) -> str:
    """The README's table: rescaled QWK by arm and KIND_T; in brackets the chosen L2T-DLF less it, with an interval."""
    names = list(report["grids"])
    rows: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        differences = report["differences"].get(CHOSEN, {"arms": {}})["arms"]
        own = {full: entry for full, entry in report["arms"].items() if full.startswith(f"{name}_")}
        for full, entry in own.items():
            cells = rows.setdefault(full.removeprefix(f"{name}_"), ["-"] * len(names))
            cells[place] = f"{entry['mean']['qwk_rescaled']:.3f}"
            if full in differences:
                found = differences[full]["mean"]
                low, high = found["interval"]
                cells[place] += f" ({found['difference']:+.3f}, {low:+.3f} to {high:+.3f})"
    lines = [["arm", *names], ["---", *["---:"] * len(names)], *([arm, *cells] for arm, cells in rows.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# What the picture holds the chosen L2T-DLF against, and what the legend calls it.
RIVALS = {
    "best_static": "the static loss that is best on dev",
    "trusted_only": "trusted essays alone",
    "reliability_weights": "reliability weights",
    "glc": "gold loss correction",
    "mwn": "Meta-Weight-Net",
}


def picture(report: dict[str, Any]) -> Figure:
    """Rescaled QWK of the chosen L2T-DLF minus that of others, by KIND_T, with intervals."""
    names = list(report["grids"])
    differences = report["differences"][CHOSEN]["arms"]
    with plot_style():
        figure = empty_figure(
            "A taught loss beside others: cheap ratings, few trusted ones", 9.0, 1.6 + 0.62 * len(names)
        )
        axes = figure.add_subplot()
        axes.axvline(0.0, color=INK, lw=1)
        for number, (rival, label) in enumerate(RIVALS.items()):
            found = [
                (place, differences[f"{name}_{rival}"]["mean"])
                for place, name in enumerate(names)
                if f"{name}_{rival}" in differences
            ]
            if not found:
                continue
            heights = [place + 0.15 * (number - (len(RIVALS) - 1) / 2) for place, _ in found]
            middle = np.array([entry["difference"] for _, entry in found])
            ends = np.array([entry["interval"] for _, entry in found]).T
            errors = np.abs(ends - middle)
            axes.errorbar(
                middle, heights, xerr=errors, fmt="osD^v"[number], ms=4, color=COLOURS[number], ls="none", label=label
            )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(xlabel="QWK of L2T-DLF minus that of the other, rescaled on dev, 95 % intervals", ylabel="Ratings, T")
        explain(axes, "The other")
    return figure
