from __future__ import annotations

import pandas as pd
from scored_runs import RANGES, grid, scored_run

from aes_dynloss.reports.comparison import COVERS, Comparison, ScoredRun, compare_arms
from aes_dynloss.reports.comparison_tables import comparison_text
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.tables.score_range import ScoreRange


def run(scores):
    table = pd.DataFrame({"essay_id": list("abcd"), "prompt_id": "1", "reference": [0, 0, 1, 1], "score": scores})
    table["raw"] = table["score"]
    return [ScoredRun("", "", check_predictions(table, ranges={"1": ScoreRange(0, 1)}), None)]


def test_tables_to_the_letter():
    comparison = compare_arms({"plain": run([1, 1, 1, 1]), "new": run([0, 0, 1, 1])}, "plain", resamples=100).to_dict()
    comparison["differences"]["qwk"]["arms"]["new"]["mean"] |= {"interval": [-0.0001, 1.0], "p": 0.25, "p_holm": 3e-5}
    comparison["arms"]["plain"]["mean"]["qwk_interval"] = [0.0, 1.0]
    comparison["notes"] = ["A note."]
    assert comparison_text(Comparison.from_dict(comparison)) == "\n".join(
        [
            "Test essays: 4, one prompt. Control: plain",
            "arm    runs    QWK            95 %",
            "plain     1  0.000  0.000 to 1.000",
            "new       1  1.000  1.000 to 1.000",
            "",
            "QWK minus that of plain (one prompt; comparisons that Holm p corrects for: 1)",
            "     difference             95 %       p   Holm p",
            "new      +1.000  0.000 to +1.000  0.2500  <0.0001",
            "",
            f"{COVERS} Resamples: 100.",
            "Note: A note.",
        ]
    )


def test_means_come_first_and_then_prompts():
    comparison = compare_arms({"mse": grid("mse"), "stde": grid("stde")}, "mse", resamples=240)
    lines = comparison_text(comparison).splitlines()
    titles = [line for line in lines if "comparisons that Holm p corrects for" in line]
    assert titles == [
        "QWK minus that of mse (mean over 2 prompts; comparisons that Holm p corrects for: 1)",
        "rescaled QWK minus that of mse (mean over 2 prompts; comparisons that Holm p corrects for: 1)",
        "QWK as it is minus the rescaled QWK of mse (mean over 2 prompts; comparisons that Holm p corrects for: 2)",
        "QWK minus that of mse (each prompt; comparisons that Holm p corrects for: 2)",
        "rescaled QWK minus that of mse (each prompt; comparisons that Holm p corrects for: 2)",
        "QWK as it is minus the rescaled QWK of mse (each prompt; comparisons that Holm p corrects for: 4)",
    ]
    start = lines.index(titles[3])
    assert [line.split("  ")[0] for line in lines[start + 2 : start + 4]] == ["prompt 2, stde", "prompt 10, stde"]
    assert "cut points" in lines[1]
    assert lines[-1].startswith("Intervals and p values cover the choice of test essays")


def test_what_some_arm_lacks_is_a_dash_and_what_all_lack_is_left_out():
    arms = {"mse": [scored_run("mse")], "a": [scored_run("a", dev=False)], "b": [scored_run("b")]}
    lines = comparison_text(compare_arms(arms, "mse", resamples=400)).splitlines()
    assert lines[3].split()[6:] == ["-"] * 4
    start = next(place for place, line in enumerate(lines) if line.startswith("rescaled QWK minus"))
    assert lines[start + 2].split() == ["a", "-", "-", "-", "-"]
    arms = {name: [scored_run(name, dev=False)] for name in ("mse", "a")}
    text = comparison_text(compare_arms(arms, "mse", resamples=400))
    assert "rescaled QWK" not in text.split("Note:")[0]
    assert len(RANGES) == 2
    assert text.count("QWK minus that of mse") == 2
