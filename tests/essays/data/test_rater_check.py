"""Raters of the bundled essays, compared before training: planted ones, trusted essays, and what cannot be compared."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from essay_files import config
from planted_raters import planted_table

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.rater_check import LEAST_ESSAYS, RaterCheck, check_raters
from aes_dynloss.essays.samples import PROMPTS
from aes_dynloss.measures.shrinkage import Heterogeneity


def checked(tmp_path, table: pd.DataFrame, *, train_only: bool = False, **values: object) -> RaterCheck:
    path = tmp_path / "essays.csv"
    table.to_csv(path, index=False)
    values = {"prompts": str(PROMPTS), "columns": {"rater": "rater"}, **values}
    return check_raters(config(path, **values), train_only=train_only)


def test_planted_raters(tmp_path):
    found = checked(tmp_path, planted_table(reversed_rater="R2", lowest_rater="R3"), trusted="gold")
    remarks = {one.rater: one.remarks for one in found.effects.raters}
    assert "reversed" in remarks.pop("R2")
    assert "lowest label" in remarks.pop("R3")
    assert set(remarks.values()) == {()}
    assert found.pays
    assert found.confounded == []
    assert (found.labels, sum(found.trusted.prompts.values())) == (180, 50)
    assert found.trusted.correlation.value > 0.15
    assert "are likely to pay" in found.conclusions[1]
    assert found.conclusions[3].startswith("Trusted essays: 50, enough;")


def test_sound_raters(tmp_path):
    found = checked(tmp_path, planted_table())
    assert {one.remarks for one in found.effects.raters} == {()}
    assert found.effects.efficiency > 0.95
    assert found.correlation.low > 0.7
    assert (found.pays, found.confounded, found.warnings, found.trusted) == (False, [], [], None)
    assert "unlikely to pay" in found.conclusions[1]
    assert "No essay is named as trusted" in found.conclusions[3]


@pytest.mark.parametrize("covariate", ["length", "predicted score"])
def test_essays_that_were_not_assigned_by_chance(tmp_path, covariate):
    table = planted_table()
    key = table["text"].str.split().str.len() if covariate == "length" else table["score"]
    ranks = key.groupby(table["prompt_id"]).rank(pct=True, method="first")
    table["rater"] = np.where(ranks > 0.5, "late", "early")
    found = checked(tmp_path, table)
    assert covariate in found.confounded
    warning = next(line for line in found.warnings if f"of {covariate} within prompts" in line)
    assert warning.startswith("Essays were not assigned to raters by chance: raters explain")


def test_few_trusted_essays_are_counted_by_prompt(tmp_path):
    table = planted_table()
    table.loc[table["prompt_id"] == "river", "gold"] = 0
    found = checked(tmp_path, table, trusted="gold")
    assert found.trusted.prompts == {"phones": 25, "river": 0}
    assert "too few on prompt river (0)" in found.conclusions[3]


def test_labels_that_are_too_low_as_a_whole(tmp_path):
    table = planted_table(lowest_rater="R3")
    shifted = (table["gold"] == 0) & (table["score"] > 1)
    table.loc[shifted, "score"] -= 1
    found = checked(tmp_path, table, trusted="gold")
    assert found.trusted.shift.low > 0
    assert "labels are too low as a whole" in found.conclusions[3]


def test_trusted_essays_are_no_rater_s(tmp_path):
    table = planted_table()
    table.loc[table["gold"] == 1, "rater"] = None
    named = checked(tmp_path, planted_table(), trusted="gold")
    assert checked(tmp_path, table, trusted="gold").effects == named.effects


def test_a_prompt_with_few_essays_is_not_compared(tmp_path):
    table = planted_table()
    river = table.index[table["prompt_id"] == "river"]
    found = checked(tmp_path, table.drop(river[LEAST_ESSAYS - 1 :]))
    assert found.unpredicted == ["river"]
    assert found.effects.compared == 115
    assert any("Labels of prompt river are not compared" in line for line in found.warnings)
    assert checked(tmp_path, table.drop(river[LEAST_ESSAYS:])).unpredicted == []


def test_raters_of_nothing_in_common_and_of_noise(tmp_path):
    table = planted_table()
    found = checked(tmp_path, table.assign(rater=table["prompt_id"].map({"phones": "A", "river": "B"})))
    assert any("No other rater shares a prompt with A, B" in line for line in found.warnings)
    assert "cannot be compared" in found.conclusions[1]
    noise = planted_table()
    noise["score"] = np.random.default_rng(0).permutation(noise["prompt_id"].map({"phones": 3, "river": 2})) + (
        np.arange(230) % 2
    )
    assert any("No rater's labels go with the predictions" in line for line in checked(tmp_path, noise).warnings)


@pytest.mark.parametrize(("sd", "words"), [(0.3, "standardise evens that out"), (0.06, "too little to matter")])
def test_only_severity_that_matters_is_to_be_evened_out(tmp_path, sd, words):
    found = checked(tmp_path, planted_table())
    effects = replace(found.effects, severity=Heterogeneity(q=60.0, dof=3, p=1e-9, sd=sd))
    assert words in replace(found, effects=effects).conclusions[2]


def test_texts_that_say_nothing(tmp_path):
    found = checked(tmp_path, planted_table().assign(text="The same words."))
    assert (found.confounded, found.warnings, found.effects.consistency.p) == ([], [], None)
    assert found.correlation is None


def test_too_few_essays(tmp_path):
    found = checked(tmp_path, planted_table().head(12))
    assert found.effects.compared == 0
    assert found.warnings[0].startswith("Labels of prompt phones are not compared")
    assert "cannot be compared" in found.conclusions[0]
    assert found.effects.raters[0].severity is None


def test_train_alone(tmp_path):
    table = planted_table().assign(part=["train", "train", "test", "dev", "train"] * 46)
    found = checked(tmp_path, table, train_only=True, split={"column": "part"})
    assert found.labels == 138


def test_plain_values(tmp_path):
    report = json.loads(json.dumps(checked(tmp_path, planted_table(), trusted="gold").as_dict(), allow_nan=False))
    assert set(report["effects"]["raters"][0]["severity"]) == {"value", "standard_error", "low", "high"}
    assert set(report["assignment"]) == {"length", "predicted score"}
    assert (report["pays"], report["confounded"], len(report["conclusions"])) == (False, [], 4)
    assert report["trusted"]["prompts"] == {"phones": 25, "river": 25}


class TestRefused:
    def test_no_column(self, tmp_path):
        with pytest.raises(ConfigError, match=r"Nothing says who gave the scores\. .*--rater-column"):
            checked(tmp_path, planted_table(), columns={})

    def test_one_rater(self, tmp_path):
        with pytest.raises(DataError, match=r"two or more, beside trusted ones; all 230 are of 'R1'\. Is 'rater'"):
            checked(tmp_path, planted_table().assign(rater="R1"))

    def test_trusted_alone(self, tmp_path):
        with pytest.raises(DataError, match="all essays are trusted"):
            checked(tmp_path, planted_table().assign(gold=1), trusted="gold")

    def test_a_rater_without_a_name(self, tmp_path):
        table = planted_table()
        table.loc[3, "rater"] = None
        with pytest.raises(DataError, match="1 essays without a rater"):
            checked(tmp_path, table)
