"""Published predictions give every figure of our own rows in the README's table of systems, without the package."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from readmes import ROOT
from sklearn.metrics import cohen_kappa_score

from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.reports.comparison import compare_arms
from aes_dynloss.reports.published import MOST_BYTES, published_name, read_published

sys.path += [str(ROOT / "recipes"), str(ROOT / "recipes/essays")]
import readme_tables
import short_answers

RESULTS = ROOT / "recipes/essays/results"
FILES = sorted((RESULTS / "predictions").glob("*.parquet"))
GRIDS = {
    path.stem: readme_tables.grid_report(RESULTS / "grids", path.stem)
    for folder in ("grids", "comparisons")
    for path in (RESULTS / folder).glob("*.json")
}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)

SHORT_ANSWERS = "asap_sas"  # the grid whose essays are those of another set
TYPES = {
    "essay_id": pa.string(),
    "prompt_id": pa.string(),
    "fold": pa.int16(),
    "arm": pa.string(),
    "seed": pa.int64(),
    "raw": pa.float32(),
    "score": pa.float32(),
}
# Figures of the table without published predictions, by grid: this list may only become shorter.
WITHOUT_FILE = {
    "asap_frozen": {"mpnet"},
    "asap_losses": {"morris_standardised", "tuned_schedule", "l2t_dlf", "l2t_dln"},
}


def shown() -> dict[tuple[str, str], tuple[str, int]]:
    """Row and column of each of our own figures in the README's table, by grid and arm."""
    floors = {
        ("asap_exact", f"floor: {name}{version}"): (f"floor: {description}", column)
        for name, description in readme_tables.SHOWN_FLOORS.items()
        for version, column in (("", 1), ("_rescaled", 3))
    }
    arms = {
        (grid, arm): (f"**{description}**", 1)
        for grid, descriptions in readme_tables.SHOWN_ARMS.items()
        for arm, description in descriptions.items()
    }
    return floors | arms


SHOWN_WITH_FILE = [key for key in shown() if (RESULTS / "predictions" / published_name(*key)).exists()]


def readme_rows() -> dict[str, list[str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("<!-- recipes/essays/results/grids -->")[1]
    rows = [line.split("|")[1:-1] for line in text.lstrip().split("\n\n")[0].splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row] for row in rows}


@pytest.fixture(scope="module")
def asap():
    """ASAP's essays with their human scores, and the folder of their folds."""
    places = [os.environ.get("AES_DYNLOSS_ASAP"), ROOT / "data/asap", ROOT.parent / "shared/data/asap"]
    folders = [Path(place) for place in places if place is not None]
    folder = next((place for place in folders if (place / "asap_aes.parquet").exists()), None)
    if folder is None:
        pytest.skip("ASAP-AES, whose human scores cannot be redistributed, is not at hand: set AES_DYNLOSS_ASAP")
    return read_essays(DataConfig(source=str(folder / "asap_aes.parquet"), format="asap")), folder


@cache
def with_traits(grid: str, source: Path) -> EssayTable:
    """ASAP's essays with the scores of several traits, as a grid reads them."""
    data = GRIDS[grid]["config"]["finetune"]["data"]
    return read_essays(DataConfig(source=str(source), columns=data["columns"], prompts=data["prompts"]))


@cache
def short_answers_of(source: Path) -> EssayTable:
    """The answers of ASAP-SAS, as its grid reads them."""
    return read_essays(DataConfig(**{**GRIDS[SHORT_ANSWERS]["config"]["finetune"]["data"], "source": str(source)}))


def essays_of(grid: str, asap: tuple[EssayTable, Path]) -> EssayTable:
    """The essays that a grid scored, by prompt or by prompt and trait."""
    if grid == SHORT_ANSWERS:
        source = asap[1].parent / short_answers.SOURCE.name / "asap_sas_train.parquet"
        if not source.exists():
            pytest.skip("ASAP-SAS, whose human scores cannot be redistributed, is not at hand")
        return short_answers_of(source)
    score = GRIDS[grid]["config"]["finetune"]["data"].get("columns", {}).get("score")
    return with_traits(grid, asap[1] / "asap_aes.parquet") if isinstance(score, dict) else asap[0]


def ids_tested(grid: str, folder: Path, fold: int) -> set[str]:
    """Ids of a fold's test essays."""
    if grid == SHORT_ANSWERS:
        folds = pd.read_csv(short_answers.FOLDS, dtype={"essay_id": str}, index_col="essay_id")["fold"]
        return set(short_answers.parts_of(folds, fold)["test"])
    return set((folder / f"folds/fold_{fold}/test_ids.txt").read_text(encoding="utf-8").split())


def prompt_figures(predictions: pd.DataFrame, essays: EssayTable) -> dict[str, float]:
    """QWK by prompt: of each fold and seed, the mean over seeds, the mean over folds."""
    scales = essays.values("prompt_id")
    human = pd.DataFrame({"essay_id": essays.essay_ids, "prompt_id": scales, "human": essays.scores.astype(int)})
    joined = predictions.merge(human, on=["essay_id", "prompt_id"], validate="many_to_one")
    assert len(joined) == len(predictions)
    kappas: dict[str, dict[int, list[float]]] = {}
    for (prompt, fold, _), rows in joined.groupby(["prompt_id", "fold", "seed"], dropna=False):
        labels = essays.prompts[prompt].range.points.astype(int)  # of all score points, seen or not
        kappa = cohen_kappa_score(rows["human"], rows["score"].astype(int), labels=labels, weights="quadratic")
        kappas.setdefault(prompt, {}).setdefault(fold, []).append(kappa)
    return {prompt: float(np.mean([np.mean(seeds) for seeds in folds.values()])) for prompt, folds in kappas.items()}


def grid_figures(grid: str, arm: str, seeds: list[int]) -> dict[str, float]:
    """QWK by prompt that the grid's results file holds, of these seeds where not all are published."""
    if arm.startswith("floor: "):
        return GRIDS[grid]["floors"][arm.removeprefix("floor: ")]["prompts"]
    entry = GRIDS[grid]["arms"][arm]
    if not seeds or len(seeds) == len(entry["seeds"]):
        return {prompt: figures["qwk"] for prompt, figures in entry["prompts"].items()}
    each = {prompt: figures["over_seeds"]["qwk"]["by_seed"] for prompt, figures in entry["prompts"].items()}
    return {prompt: float(np.mean([by_seed[str(seed)] for seed in seeds])) for prompt, by_seed in each.items()}


def grid_and_arm(path) -> tuple[str, str]:
    return path.name.split(".")[0], pq.read_table(path, columns=["arm"])["arm"][0].as_py()


def test_every_figure_of_ours_has_predictions_but_these():
    missing: dict[str, set[str]] = {}
    for grid, arm in shown().keys() - set(SHOWN_WITH_FILE):
        missing.setdefault(grid, set()).add(arm)
    assert missing == WITHOUT_FILE


@each_file
def test_a_file_holds_what_it_should_and_no_more(path):
    assert path.stat().st_size <= MOST_BYTES
    file = pq.ParquetFile(path)
    assert dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True)) == TYPES
    assert file.schema_arrow.metadata is None
    assert {file.metadata.row_group(0).column(number).compression for number in range(len(TYPES))} == {"ZSTD"}
    table = file.read().to_pandas()
    assert set(table["arm"]) == {grid_and_arm(path)[1]}
    assert path.name == published_name(*grid_and_arm(path))
    assert table.drop(columns="seed").notna().all(axis=None)
    assert not table.duplicated(["essay_id", "prompt_id", "seed"]).any()  # each essay is test in one fold
    report = GRIDS[grid_and_arm(path)[0]]
    assert table.groupby("prompt_id").size().to_dict() == {
        prompt: essays * max(1, table["seed"].nunique()) for prompt, essays in report["essays"].items()
    }


@each_file
def test_figures_of_its_grid_are_those_of_the_file(path, asap):
    essays, folder = essays_of(grid_and_arm(path)[0], asap), asap[1]
    predictions = pd.read_parquet(path)
    scored = set(zip(essays.essay_ids, essays.values("prompt_id"), strict=True))
    measured = GRIDS[grid_and_arm(path)[0]]["essays"].keys()
    for fold, rows in predictions.groupby("fold"):
        ids = ids_tested(grid_and_arm(path)[0], folder, fold)
        expected = {(one, scale) for one, scale in scored if one in ids and scale in measured}
        assert set(zip(rows["essay_id"], rows["prompt_id"], strict=True)) == expected
    found = prompt_figures(predictions, essays)
    seeds = predictions["seed"].dropna().unique().tolist()
    assert found == pytest.approx(grid_figures(*grid_and_arm(path), seeds), abs=1e-9)


def test_figures_of_the_readme_are_those_of_the_files(asap):
    assert SHOWN_WITH_FILE
    rows = readme_rows()
    for grid, arm in SHOWN_WITH_FILE:
        name, column = shown()[grid, arm]
        predictions = pd.read_parquet(RESULTS / "predictions" / published_name(grid, arm))
        found = prompt_figures(predictions, asap[0])
        assert rows[name][column] == f"{np.mean(list(found.values())):.3f}", name
        if not arm.startswith("floor: "):
            rescaled = GRIDS[grid]["arms"][arm]["mean"]["qwk_rescaled"]  # cannot be had without dev predictions
            is_rescaled = readme_tables._postprocessed(GRIDS[grid]["config"], arm)
            assert rows[name][3] == ("" if is_rescaled else f"{rescaled:.3f}")


def test_intervals_of_the_readme_are_those_of_the_files(asap):
    """On the grid's own resamples."""
    rows = readme_rows()
    for grid, settings in ((grid, GRIDS[grid]["settings"]) for grid in readme_tables.SHOWN_ARMS):
        arms = {
            arm: read_published(RESULTS / "predictions" / published_name(grid, arm), asap[0].human_scores)
            for one, arm in SHOWN_WITH_FILE
            if one == grid and not arm.startswith("floor: ")
        }
        if not arms:
            continue
        draws = {key: settings[key] for key in ("resamples", "confidence", "seed")}
        comparison = compare_arms(arms, next(iter(arms)), fewest=1, **draws)
        for arm, entry in comparison.arms.items():
            low, high = entry.mean.qwk_interval
            assert rows[shown()[grid, arm][0]][2] == f"{low:.3f} to {high:.3f}", arm
            assert entry.mean.qwk == pytest.approx(GRIDS[grid]["arms"][arm]["mean"]["qwk"], abs=1e-9)


def test_means_over_traits_are_those_of_the_files(asap):
    """Over prompts for each trait, then over traits."""
    rows = readme_rows()
    for grid, arms in readme_tables.SHOWN_TRAITS.items():
        config = GRIDS[grid]["config"]  # predictions are published of ASAP's essays that are test in a fold
        if config["protocol"] != "folds" or "asap" not in config["finetune"]["data"]["source"]:
            continue
        for arm, description in arms.items():
            predictions = pd.read_parquet(RESULTS / "predictions" / published_name(grid, arm))
            by_trait: dict[str, list[float]] = {}
            for scale, figure in prompt_figures(predictions, essays_of(grid, asap)).items():
                by_trait.setdefault(scale.partition("/")[2], []).append(figure)
            mean = np.mean([np.mean(figures) for figures in by_trait.values()])
            assert rows[f"**{description}**"][1] == f"{mean:.3f}"


def test_a_single_changed_score_changes_a_figure(asap):
    predictions = pd.read_parquet(FILES[0])
    expected = prompt_figures(predictions, asap[0])
    predictions.loc[100, "score"] += 1
    found = prompt_figures(predictions, asap[0])
    changed = predictions.loc[100, "prompt_id"]
    assert abs(found[changed] - expected[changed]) > 1e-6
    assert {prompt for prompt in found if found[prompt] != expected[prompt]} == {changed}
