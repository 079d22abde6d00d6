"""`aes-dynloss init`: a configuration to start from."""

from __future__ import annotations

import pytest
from command_line import command
from small_run import small_essays, write_rows

from aes_dynloss.configfile import parse_yaml
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.finetune.config import FinetuneConfig


def test_what_it_writes_is_the_default(tmp_path):
    outcome = command("init", tmp_path / "mine.yaml")
    assert (outcome.code, outcome.out) == (0, "")
    assert f"aes-dynloss finetune {tmp_path / 'mine.yaml'} --output-dir" in outcome.err
    shown = command("finetune", tmp_path / "mine.yaml", "--print-config")
    assert shown.code == 0
    default = FinetuneConfig(data=DataConfig(source="essays.csv")).model_dump(mode="json")
    # The template spells out what is otherwise chosen later: how essays are split.
    found = parse_yaml(shown.out, "shown")
    assert found == default


@pytest.mark.parametrize("kind", ["strings", "boosting", "forest"])
def test_another_kind_needs_one_word(tmp_path, kind):
    """What the template spells out fits every kind of model."""
    command("init", tmp_path / "mine.yaml")
    outcome = command("finetune", tmp_path / "mine.yaml", f"model.kind={kind}", "--print-config")
    assert outcome.code == 0, outcome.err
    assert parse_yaml(outcome.out, "shown")["model"]["strings"] == (kind == "strings")


def test_default_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("init").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["finetune.yaml"]


def test_print(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = command("init", "-")
    command("init", "a.yaml")
    assert (printed.code, printed.err) == (0, "")
    assert printed.out == (tmp_path / "a.yaml").read_text(encoding="utf-8")
    assert not (tmp_path / "-").exists()


def test_nothing_is_replaced(tmp_path):
    (tmp_path / "mine.yaml").write_text("precious")
    outcome = command("init", tmp_path / "mine.yaml")
    assert (outcome.code, outcome.error) == (2, f"{tmp_path / 'mine.yaml'} is there already. Choose another NAME.")
    assert (tmp_path / "mine.yaml").read_text() == "precious"
    assert "is there already" in command("init", tmp_path).error


def test_no_such_folder(tmp_path):
    outcome = command("init", tmp_path / "none" / "mine.yaml")
    assert outcome.code == 2
    assert "cannot be written: No such file or directory" in outcome.error


class TestTable:
    ROWS = "essay,points,school\nShort one.,2.5,a\nAnother one.,4,b\n"

    @pytest.fixture
    def table(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "essays.csv").write_text(self.ROWS, encoding="utf-8")  # the template's name: no advice to set it
        return "essays.csv"

    def test_short_form(self, table, tmp_path):
        outcome = command("init", table, "--preset", "fast")
        assert (outcome.code, outcome.out) == (0, "")
        assert "score: column 'points', the only other column of numbers" in outcome.err
        assert "Wrote finetune.yaml. Then: aes-dynloss finetune finetune.yaml" in outcome.err
        written = (tmp_path / "finetune.yaml").read_text(encoding="utf-8")
        assert parse_yaml(written, "written") == {
            "preset": "fast",
            "data": {
                "source": table,
                "columns": {"essay_id": None, "text": "essay", "score": "points"},
                "prompt": "all",
                "prompts": {"all": {"low": 2.5, "high": 4, "step": 0.5}},
                "split": {"cross_fit": 5},
            },
        }

    def test_all_keys_and_the_table_itself_mean_the_same(self, table):
        command("init", table, "-o", "short.yaml", "--subgroup", "school", "--range", "0:5:0.5")
        command("init", table, "-o", "full.yaml", "--full", "--subgroup", "school", "--range", "0:5:0.5")
        shown = [command("finetune", name, "--print-config") for name in ("short.yaml", "full.yaml")]
        shown.append(command("finetune", table, "--print-config", "--subgroup", "school", "--range", "all=0:5:0.5"))
        assert {one.code for one in shown} == {0}
        assert len({one.out for one in shown}) == 1
        assert parse_yaml(shown[0].out, "shown")["data"]["prompts"]["all"]["high"] == 5
        assert parse_yaml(shown[0].out, "shown")["data"]["subgroups"] == ["school"]

    def test_nothing_is_replaced(self, table, tmp_path):
        (tmp_path / "finetune.yaml").write_text("precious")
        assert command("init", table).code == 2
        assert (tmp_path / "finetune.yaml").read_text() == "precious"

    @pytest.mark.parametrize(
        "words",
        [
            ["mine.yaml", "--full"],
            ["mine.yaml", "-o", "a"],
            ["-", "--text-column", "a"],
            ["mine.yaml", "--minutes", "5"],
            ["mine.yaml", "--minutes", "10"],  # though it is the default
        ],
    )
    def test_options_of_tables(self, table, words):
        outcome = command("init", *words)
        assert outcome.code == 2
        assert "is no table of scored essays" in outcome.err

    def test_no_table(self, table):
        assert "There is no file other.csv" in command("init", "other.csv").error


def test_short_answers(tmp_path):
    rows = write_rows(tmp_path / "answers.csv", small_essays(5))
    shown = command("init", rows, "--kind", "answers", "-o", "-")
    assert (shown.code, parse_yaml(shown.out, "shown")["data"]["kind"]) == (0, "answers")
    assert "kind" not in parse_yaml(command("init", rows, "-o", "-").out, "shown")["data"]
    command("init", tmp_path / "mine.yaml")
    outcome = command("finetune", tmp_path / "mine.yaml", "--kind", "answers", "--print-config")
    assert (outcome.code, "Leave out the options of tables" in outcome.error) == (2, True)
