"""Cheap ratings of unknown worth and a few trusted ones, made of ASAP's essays."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_encoder import write_tiny_encoder

from aes_dynloss.configfile import dump_yaml, read_mapping
from aes_dynloss.errors import DataError
from aes_dynloss.reports.comparison import Benchmark
from aes_dynloss.tables.score_range import ScoreRange

sys.path.append(str(Path(__file__).parents[2] / "recipes/essays"))
import noisy_raters
import noisy_raters_results

SHORT, LONG = ScoreRange(0, 4), ScoreRange(0, 60)
TRUSTED = 6


def essay_ids(place: Path, part: str) -> list[str]:
    return (place / f"{part}_ids.txt").read_text(encoding="utf-8").split()


def tables_of(place: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A fold's essays and the truth on those of train, by id."""
    tables = pd.read_parquet(place / "essays.parquet"), pd.read_csv(place / "truth.csv", dtype={"essay_id": str})
    return tables[0].set_index("essay_id"), tables[1].set_index("essay_id")


@pytest.fixture(scope="module")
def asap(tmp_path_factory) -> Path:
    """Made-up essays of prompts 1 and 3 in ASAP's layout, and two folds of them."""
    folder = tmp_path_factory.mktemp("asap")
    random = np.random.default_rng(0)
    lines = ["essay_id\tessay_set\tessay\trater1_domain1\trater2_domain1\trater3_domain1\tdomain1_score"]
    for number in range(120):
        first, second = random.integers(1, 4, 2)
        single = ("", "") if number % 10 == 0 else (first, second)
        score = first + second if number % 2 else first
        lines.append(f"{number}\t{1 if number % 2 else 3}\tessay {number}\t{single[0]}\t{single[1]}\t\t{score}")
    (folder / "asap.tsv").write_text("\r\n".join(lines) + "\r\n", encoding="cp1252", newline="")
    for fold in range(2):
        place = folder / "folds" / f"fold_{fold}"
        place.mkdir(parents=True)
        for part, places in {"train": (0, 1, 2, 3), "dev": (4,), "test": (5,)}.items():
            mine = [number for number in range(120) if (number // 2 + fold) % 6 in places]
            (place / f"{part}_ids.txt").write_text("".join(f"{one}\n" for one in mine), encoding="utf-8")
    return folder


@pytest.fixture
def made(asap, tmp_path, monkeypatch):
    """Makes the first fold of a draw."""
    monkeypatch.setattr(noisy_raters, "ASAP", asap / "asap.tsv")
    monkeypatch.setattr(noisy_raters, "FOLDS", asap / "folds")

    def make(kind: str, trusted: int = TRUSTED, draw: int = 0, where: str = "noisy") -> Path:
        noisy_raters.make(kind, trusted, draw, tmp_path / where)
        return tmp_path / where / f"{kind}_{trusted}" / f"draw_{draw}" / "fold_0"

    return make


@pytest.mark.parametrize("kind", noisy_raters.KINDS)
def test_what_is_clean_and_seen_is_trusted(made, asap, kind):
    place = made(kind)
    table, truth = tables_of(place)
    split = {part: essay_ids(place, part) for part in ("train", "dev", "test")}
    assert sorted(table.index) == sorted(one for ids in split.values() for one in ids)
    assert split["test"] == sorted(essay_ids(asap / "folds/fold_0", "test"))
    for part, expected in {"train": TRUSTED, "dev": TRUSTED}.items():
        rows = table.loc[split[part]]
        assert rows[rows["trusted"] == 1].groupby("prompt_id").size().to_dict() == {"1": expected, "3": expected}
    assert table.loc[split["dev"] + split["test"], "trusted"].eq(1).all()
    assert table["trusted"].eq(1).eq(table["rater"] == "adjudicated").all()
    scores = pd.read_csv(asap / "asap.tsv", sep="\t", dtype={"essay_id": str}).set_index("essay_id")["domain1_score"]
    believed = table[table["trusted"] == 1]["score"]
    assert believed.eq(scores.loc[believed.index]).all()
    assert list(truth.index) == split["train"]
    assert truth["score"].eq(scores.loc[truth.index]).all()
    assert truth["changed"].eq((table.loc[truth.index, "score"] != truth["score"]).astype(int)).all()
    assert truth["changed"].any()


def test_the_same_seeds_make_the_same_files(made):
    places = [made("half_bad", where=where) for where in ("a", "b")]
    for path in places[0].iterdir():
        assert path.read_bytes() == (places[1] / path.name).read_bytes()


def test_precision_of_suspects():
    truth = pd.DataFrame({"essay_id": list("abcd"), "score": 1, "changed": [0, 1, 1, 0]})
    found = noisy_raters_results.precision_at(pd.DataFrame({"essay_id": list("cba")}), truth, [1, 2, 3, 9])
    first = {"precision_at_1": 1.0, "precision_at_2": 1.0, "precision_at_3": 2 / 3, "precision_at_9": 2 / 3}
    assert found == pytest.approx(first | {"changed": 2 / 3})
    with pytest.raises(DataError, match=r"1 suspects are not in the truth"):
        noisy_raters_results.precision_at(pd.DataFrame({"essay_id": list("cbe")}), truth)


def test_draws_differ_and_numbers_of_trusted_essays_hardly_do(made):
    one, other = tables_of(made("half_bad"))[0], tables_of(made("half_bad", draw=1))[0]
    trusted = {name: set(table[table["trusted"] == 1].index) for name, table in {"one": one, "other": other}.items()}
    assert trusted["one"] != trusted["other"]
    more, _ = tables_of(made("half_bad", trusted=9))
    assert trusted["one"] < set(more[more["trusted"] == 1].index)
    cheap = more[more["trusted"] == 0]
    assert cheap.equals(one.loc[cheap.index])
    elsewhere, _ = tables_of(made("zero40"))
    assert set(elsewhere[elsewhere["trusted"] == 1].index) == trusted["one"]


def test_more_trusted_essays_than_there_are_are_refused(made):
    with pytest.raises(DataError, match=r"T is 11, but .*fold_0 has 10 train or dev essays of prompt"):
        made("half_bad", trusted=11)


def test_single_ratings_are_on_the_resolved_scale(made, asap):
    place = made("real")
    table, _ = tables_of(place)
    raters = pd.read_csv(asap / "asap.tsv", sep="\t", dtype={"essay_id": str}).set_index("essay_id")
    cheap = table[table["trusted"] == 0]
    assert set(cheap["rater"]) == {"rater1", "rater2"}
    given = [raters.loc[essay, f"{rater}_domain1"] for essay, rater in cheap["rater"].items()]
    factor = cheap["prompt_id"].map({"1": 2, "3": 1})  # of prompt 1, the resolved score is the sum
    assert np.array_equal(cheap["score"], np.array(given) * factor)
    left_out = set(essay_ids(asap / "folds/fold_0", "train")) - set(essay_ids(place, "train"))
    assert left_out
    assert raters.loc[sorted(left_out), "rater1_domain1"].isna().all()


ARMS = {
    "mse": {},
    "mae": {"set": {"loss.terms": {"mae": 1.0}}},
    "l2t_dlf": {"set": {"loss.terms": {"huber": 1.0}}},
    "l2t_mwn": {"set": {"teacher": {"kind": "mwn", "width": 5}}},
}


@pytest.mark.slow
def test_from_ratings_to_results(made, asap, tmp_path, monkeypatch):
    """Tuning, runs and results of a small grid; an arm with another loss stands for a taught one."""
    monkeypatch.chdir(tmp_path)
    values = read_mapping(noisy_raters.GRID) | {
        "arms": ARMS,
        "chosen": {"best_static": ["mse", "mae"]},
        "folds": [0],
    }
    values |= {"resamples": 100, "control": None}
    values["finetune"] |= {
        "model": {"encoder": str(write_tiny_encoder(tmp_path / "encoder")), "frozen_layers": "all"},
        "training": {
            "epochs": 1,
            "batch_size": 32,
            "head_learning_rate": 0.02,
            "device": "cpu",
            "precision": "float32",
        },
        "evaluation": {"resamples": 100},
    }
    (tmp_path / "results/grids").mkdir(parents=True)
    (tmp_path / "results/predictions").mkdir()
    for name, value in {
        "GRID": tmp_path / "grid.yaml",
        "HERE": tmp_path,
        "QUEUE": [("half_bad", TRUSTED, 2, None), ("zero40", TRUSTED, 2, ["mse", "l2t_dlf"]), ("real", 9, 2, None)],
        "RATES": [0.01, 0.03],
        "TUNED_ON": TRUSTED,
    }.items():
        monkeypatch.setattr(noisy_raters, name, value)
    (tmp_path / "grid.yaml").write_text(dump_yaml(values), encoding="utf-8")
    with pytest.raises(DataError, match=r"noisy_raters\.py tune half_bad` first"):
        noisy_raters.run([])
    with pytest.raises(DataError, match=r"holds no KIND_T/benchmark\.json"):
        noisy_raters.collect_results([], 1)
    noisy_raters.tune(["half_bad"])
    tuned = json.loads((tmp_path / "runs/noisy/tuning/half_bad.json").read_text())
    assert tuned.keys() == ARMS.keys()
    for entry in tuned.values():
        assert max(entry["dev_qwk"], key=entry["dev_qwk"].get) == json.dumps(entry["chosen"])
    noisy_raters.run([f"half_bad_{TRUSTED}"])
    noisy_raters.collect_results(["half_bad_6_best_static"], 1)
    content = json.loads((tmp_path / "results/grids/asap_noisy_raters.json").read_text())
    places = ("results/grids/asap_noisy_raters.json", "runs/noisy/half_bad_6/benchmark.json")
    report, own = (Benchmark.read(tmp_path / place, "report", "") for place in places)
    assert content["config"] == json.loads(json.dumps(values))
    for arm in ("mse", "mae", "l2t_dlf"):
        assert content["grids"]["half_bad_6"]["arms"][arm].items() >= tuned[arm]["chosen"].items()
    assert report.arms == {f"half_bad_6_{arm}": entry for arm, entry in own.arms.items()}
    assert content["grids"]["half_bad_6"]["suspects"].keys() == {"l2t_mwn"}
    assert own.raters.keys() == {"l2t_mwn"}
    assert report.raters is None  # each grid has its own
    assert content["grids"]["half_bad_6"]["raters"] == own.to_dict()["raters"]
    assert own.raters["l2t_mwn"].keys() == {"trusted", *(f"r{number}" for number in range(1, 9))}
    assert own.raters["l2t_mwn"]["r1"].runs == 2
    assert "Raters in the learned losses" in (tmp_path / "runs/noisy/half_bad_6/report.html").read_text("utf-8")
    found = content["grids"]["half_bad_6"]["suspects"]["l2t_mwn"]
    assert found.keys() == {"precision_at_50", "precision_at_100", "precision_at_200", "changed"}
    assert 0 < found["changed"] < 1
    assert found["precision_at_200"] == found["changed"]  # of all there are
    differences = report.differences["l2t_dlf"].arms
    assert differences.keys() == {f"half_bad_6_{arm}" for arm in ("mse", "mae", "l2t_mwn", "best_static")}
    for arm, entry in differences.items():
        figures = report.arms["half_bad_6_l2t_dlf"].mean, report.arms[arm].mean
        assert entry.mean.difference == pytest.approx(figures[0].qwk_rescaled - figures[1].qwk_rescaled)
        assert entry.mean.interval[0] <= entry.mean.difference <= entry.mean.interval[1]
        assert entry.mean.by_seed.keys() == {"0", "1"}
    published = pd.read_parquet(tmp_path / "results/predictions/asap_noisy_raters.half_bad_6_best_static.parquet")
    assert set(published["seed"]) == {0}
    assert set(published["arm"]) == {"half_bad_6_best_static"}
    drawn = (tmp_path / "results/grids/asap_noisy_raters.svg").read_text(encoding="utf-8")
    assert all(words in drawn for words in ("half_bad_6", "QWK of L2T-DLF minus", "the static loss"))
    assert "gold loss correction" not in drawn  # was not run


def ratings(kind: str, span: ScoreRange, essays: int = 8000) -> pd.DataFrame:
    random = np.random.default_rng(1)
    clean = span.to_point(random.normal((span.low + span.high) / 2, (span.high - span.low) / 6, essays))
    scores, rater = noisy_raters.NOISE[kind](np.random.default_rng(0), clean, span)
    return pd.DataFrame({"clean": clean, "score": span.to_point(scores), "rater": rater})


@pytest.mark.parametrize("span", [SHORT, LONG], ids=["short", "long"])
def test_kinds_of_noise(span):
    zero = ratings("zero40", span)
    assert ((zero["score"] == span.low) & (zero["clean"] > span.low)).mean() == pytest.approx(0.4, abs=0.02)
    assert (zero["score"] == zero["clean"])[zero["score"] > span.low].all()
    even = ratings("uniform50", span)
    assert (even["score"] != even["clean"]).mean() == pytest.approx(0.5 * (1 - 1 / span.count), abs=0.02)
    modal = ratings("modal50", span)
    changed = modal[modal["score"] != modal["clean"]]
    assert set(changed["score"]) == {modal["clean"].mode()[0]}
    bad = dict(tuple(ratings("half_bad", span).groupby("rater")))
    for rater in ("r1", "r2", "r3", "r4"):
        assert len(bad[rater]) == pytest.approx(1000, abs=100)
        assert bad[rater]["score"].corr(bad[rater]["clean"]) > (0.95 if span is LONG else 0.8)
    for rater in ("r5", "r6"):
        assert abs(bad[rater]["score"].corr(bad[rater]["clean"])) < 0.1
        assert bad[rater]["score"].std() == pytest.approx(bad[rater]["clean"].std(), rel=0.1)
    assert (bad["r7"]["score"] == span.low + span.high - bad["r7"]["clean"]).all()
    assert (bad["r8"]["score"] == span.low).all()
    severities = ratings("lenient", span).assign(shift=lambda table: table["score"] - table["clean"])
    shifts = severities.groupby("rater")["shift"].mean() / severities["clean"].std()
    assert np.diff(shifts).min() > -0.05  # small ones are lost in rounding on a short scale
    assert shifts[["r1", "r8"]].tolist() == pytest.approx([-1, 1], abs=0.4)
    spreads = ratings("central", span).groupby("rater").agg({"score": "std", "clean": "std"})
    factors = spreads["score"] / spreads["clean"]
    assert factors["r1"] == pytest.approx(1)
    assert factors["r8"] < (0.25 if span is LONG else 0.55)


def test_each_arm_has_as_many_settings():
    values = noisy_raters.grid_values("real", 25)
    assert values["finetune"]["data"]["source"] == "data/noisy/real_25/draw_{seed}/fold_{fold}/essays.parquet"
    assert values["splits_dir"] == "data/noisy/real_25/draw_{seed}"
    counts = {arm: len(noisy_raters.settings_of(arm)) for arm in values["arms"]}
    assert {arm for arm, count in counts.items() if count != len(noisy_raters.RATES)} == {"exact_head"}
    assert set(noisy_raters.FEW) < set(values["arms"])
