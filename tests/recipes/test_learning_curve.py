"""The learning curve: which essays each size has, what is held against what."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_run import small_essays

from aes_dynloss.configfile import dump_yaml, read_mapping
from aes_dynloss.errors import DataError

sys.path.append(str(Path(__file__).parents[2] / "recipes/essays"))
import feedback_ell
import learning_curve

ROOT = Path(__file__).parents[2]
SIZES, FOLDS = (12, 24, 200), range(2)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a small set in the layout of Feedback-ELL."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    essays = small_essays(60)
    random = np.random.default_rng(0)
    table = pd.DataFrame({"essay_id": [f"e{n}" for n in range(len(essays))], "text": [one["text"] for one in essays]})
    for trait in feedback_ell.TRAITS:
        table[trait] = np.clip(np.array([one["score"] for one in essays]) + random.integers(0, 2, len(table)), 1, 5)
    table.assign(fold=np.arange(len(table)) % 2).to_parquet(feedback_ell.SOURCE)
    monkeypatch.setattr(learning_curve, "SIZES", SIZES)
    monkeypatch.setattr(learning_curve, "FOLDS", FOLDS)
    monkeypatch.setattr(feedback_ell, "FOLDS", FOLDS)
    return tmp_path


def ids(size: int, fold: int, part: str, *, choose: bool = False) -> set[str]:
    folder = learning_curve.splits("feedback_ell", size, choose=choose) / f"fold_{fold}"
    return set((folder / f"{part}_ids.txt").read_text().split())


def essays_of(found: set[str]) -> set[str]:
    return {one.rsplit("_", 1)[0] for one in found}


def test_fewer_essays_are_among_more_and_parts_are_disjoint(place):
    learning_curve.make("feedback_ell", choose=False)
    for fold in FOLDS:
        small, large, all_of_them = (ids(size, fold, "train") for size in SIZES)
        assert small < large < all_of_them
        assert len(small) == 12 * 6
        assert len(essays_of(small)) == 12  # the same ones for every trait
        test = ids(12, fold, "test")
        assert len(test) == 60 * 6
        assert test == ids(200, fold, "test")
        assert not test & (all_of_them | ids(200, fold, "dev"))
        assert not all_of_them & ids(200, fold, "dev")
        assert len(ids(24, fold, "dev")) == 6 * 6
    assert not ids(12, 0, "test") & ids(12, 1, "test")
    assert essays_of(ids(12, 0, "train")) != essays_of(ids(12, 1, "train"))


def test_candidates_are_chosen_without_a_test_essay(place):
    learning_curve.make("feedback_ell", choose=False)
    learning_curve.make("feedback_ell", choose=True)
    for fold in FOLDS:
        seen = set().union(*(ids(size, fold, part, choose=True) for size in SIZES for part in learning_curve.PARTS))
        assert not seen & ids(12, fold, "test")
        assert ids(12, fold, "test", choose=True) >= ids(200, fold, "dev")


def test_from_the_grid_to_the_picture(place, monkeypatch):
    grids = place / "grids"
    grids.mkdir()
    values = read_mapping(ROOT / "recipes/essays/grids/learning_curve.yaml")
    strings = {"preset": "fast", "model": {"kind": "strings"}}
    values["arms"] = {"balanced": {"set": strings}, "fast": {"set": {**strings, "evaluation.resamples": 100}}}
    values |= {"folds": list(FOLDS), "resamples": 100}
    (grids / "learning_curve.yaml").write_text(dump_yaml(values))
    monkeypatch.setattr(learning_curve, "GRIDS", grids)
    monkeypatch.setattr(learning_curve, "RESULTS", place)
    monkeypatch.setattr(feedback_ell, "TRAITS", ("grammar", "syntax"))
    with pytest.raises(DataError, match=r"learning_curve\.py run"):
        learning_curve.collect()
    learning_curve.run(["feedback_ell"], [12, 24], choose=False)
    learning_curve.collect()
    results = json.loads((place / "learning_curve.json").read_text())
    found = results["sets"]["feedback_ell"]
    assert list(found) == ["12", "24"]
    assert {"balanced", "fast", "length_rescaled"} < found["12"].keys()
    for entry in (found["12"]["fast"], found["24"]["length_rescaled"]):
        assert entry["mean"] == pytest.approx(np.mean(entry["draws"]))
        low, high = entry["interval"]
        assert low < entry["mean"] < high
    assert found["12"]["fast"]["default_minus_it"]["mean"] == pytest.approx(0, abs=1e-9)
    floor = found["24"]["length_rescaled"]
    assert floor["default_minus_it"]["mean"] == pytest.approx(found["24"]["balanced"]["mean"] - floor["mean"])
    lines = learning_curve.table(results).splitlines()
    assert lines[0] == "| essays | scorer | 12 | 24 |"
    own = " | ".join(f"{found[size]['balanced']['mean']:.3f}" for size in ("12", "24"))
    assert lines[2] == f"| Feedback-ELL, 6 traits | preset balanced, the default | {own} |"
    less = floor["default_minus_it"]
    assert lines[6].endswith(f" ({less['mean']:+.3f}, {less['interval'][0]:+.3f} to {less['interval'][1]:+.3f}) |")
    assert (place / "learning_curve.svg").read_text().count("<svg") == 1


def test_intervals_over_draws():
    found = learning_curve.over_draws([0.5, 0.6, 0.7])
    assert found["mean"] == pytest.approx(0.6)
    assert found["interval"] == pytest.approx([0.6 - 4.302653 * 0.1 / 3**0.5, 0.6 + 4.302653 * 0.1 / 3**0.5])
