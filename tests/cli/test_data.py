from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result
from command_line import command, output_without
from folder_content import content

from aes_dynloss.cli.data import data
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays

HEADER = "essay_id,prompt_id,text,score,second,part\n"
ROWS = [
    f"e{number},{number % 2 + 1},{'word ' * (number + 1)},{number % 4 + 1},{number % 4 + 1},{part}\n"
    for number, part in enumerate(["train"] * 6 + ["dev"] * 2 + ["test"] * 2)
]
RANGES = ["--range", "1=0:4", "--range", "2=1:6:0.5"]


@pytest.fixture
def essays(tmp_path):
    path = tmp_path / "essays.csv"
    path.write_text(HEADER + "".join(ROWS))
    return path


def check(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(
        data, ["check", *(str(argument) for argument in arguments)], input=stdin, catch_exceptions=False
    )


def test_words(essays):
    result = check(essays, *RANGES, "--split-column", "part")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout == (
        "essays.csv: 10 rows read, 10 essays usable, 0 rows lost\n"
        "\n"
        "prompt  n  range                   seen    mean  sd    words min/25%/50%/75%/max\n"
        "1       5  0 to 4                  1 to 3  1.80  1.10  1 / 3 / 5 / 7 / 9\n"
        "2       5  1 to 6 in steps of 0.5  2 to 4  2.80  1.10  2 / 4 / 6 / 8 / 10\n"
        "\n"
        "essays per score:\n"
        "  1       1: 3  3: 2\n"
        "  2       2: 3  4: 2\n"
        "\n"
        "splits: train 6, dev 2, test 2, teacher_dev 0\n"
    )


def test_lost_rows_give_exit_code_2(essays):
    essays.write_text(HEADER + "".join(ROWS) + "e10,1,x,9,,\ne11,1,x\n")
    result = check(essays, *RANGES)
    assert result.exit_code == 2
    assert "12 rows read, 10 essays usable, 2 rows lost" in result.stdout
    assert "lost rows:\n  row 12 (essay e10): score 9 is outside prompt 1's range 0 to 4." in result.stdout
    assert "  row 13: expected 6 values as in the header, found 3." in result.stdout


def test_warnings_do_not(essays):
    odd = "e20,1,one\u200btext,1,,train\ne21,1,ONE\u200bTEXT,2,,dev\n"
    hiding = 'e22,1,"open\ne23,1,more, x, 3",3,,test\n'
    essays.write_text(HEADER + "".join(ROWS) + odd + hiding + ROWS[0], encoding="utf-8")
    result = check(essays, "--split-column", "part")
    assert result.exit_code == 0
    warnings = result.stdout.split("warnings:\n")[1].splitlines()
    assert [line.strip().split(":")[0] for line in warnings] == [
        "ranges are taken from the scores seen; give them by --range, --prompts or data.prompts",
        "1 rows say again what an earlier row said",
        "in 1 texts, further rows seem to hide",
        "1 texts stand more than once",
        "1 texts stand in more than one split",
        "hidden character U+200B ZERO WIDTH SPACE in 2 essays",
    ]
    assert "e20 = e21" in warnings[3]
    assert "e20 (train) = e21 (dev)" in warnings[4]


def test_errors_give_exit_code_2(essays):
    result = check(essays, "--folds-dir", essays.parent)
    assert result.exit_code == 2
    assert "errors:\n  " in result.stdout
    assert "train_ids.txt cannot be read" in result.stdout


def test_long_lists_are_cut(essays):
    essays.write_text(
        HEADER + "".join(f"e{number},1,a\u200b{number},{number % 3},,\n" for number in range(14)), encoding="utf-8"
    )
    assert "e8; e9; ... and 4 more" in check(essays, *RANGES).stdout


def test_json(essays):
    result = check(essays, *RANGES, "--keep-prompt", "2", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["clean"], report["used"], report["left_out"], report["splits"]) == (True, 5, 5, None)
    assert report["prompts"]["2"]["range"] == "1 to 6 in steps of 0.5"
    assert "5 essays of prompts that are not kept" in check(essays, *RANGES, "--keep-prompt", "2").stdout


def test_column_options(tmp_path):
    path = tmp_path / "essays.tsv"
    path.write_bytes('id\tessay\tgrade\tagain\n1\tcaf\xe9 "\t2\t3\n2\ty\t3\t\n'.encode("cp1252"))
    named = ["--id-column", "id", "--text-column", "essay", "--score-column", "grade", "--second-score-column", "again"]
    result = check(path, *named, "--prompt", "1", "--range", "1=0:4", "--encoding", "cp1252", "--quoting", "none")
    assert result.exit_code == 0
    assert "2 essays usable" in result.stdout
    with pytest.raises(DataError, match="no column 'set'"):
        check(path, *named, "--prompt-column", "set", "--encoding", "cp1252")


def test_standard_input():
    result = check("-", *RANGES, stdin=HEADER + "".join(ROWS))
    assert (result.exit_code, result.stdout.split(":")[0]) == (0, "standard input")


def test_prompts_file(essays):
    prompts = essays.parent / "prompts.json"
    prompts.write_text(json.dumps({"1": {"low": 0, "high": 4}, "2": {"low": 1, "high": 4}}))
    assert "1 to 4" in check(essays, "--prompts", prompts).stdout
    with pytest.raises(ConfigError, match=r"both in a file of prompts and by --range\. Use one of the two"):
        check(essays, "--prompts", prompts, *RANGES)


class TestConfig:
    def write(self, tmp_path, text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    def test_data_of_a_run(self, essays, tmp_path):
        run = self.write(
            tmp_path,
            f"seed: 1\ndata:\n  source: {essays}\n"
            "  prompts: {1: {low: 1, high: 3}, 2: {low: 2, high: 4}}\n  split: {column: part}\n",
        )
        assert "splits: train 6, dev 2, test 2" in check("--config", run).stdout

    def test_data_keys_alone_and_options_before_them(self, essays, tmp_path):
        run = self.write(
            tmp_path,
            "source: none.csv\ncolumns: {score: second, text: none}\nprompts: {1: {low: 1, high: 2}}\n"
            "split: {fractions: {}, seed: 3}\n",
        )
        result = check(essays, "--config", run, "--text-column", "text", *RANGES, "--split-column", "part", "--json")
        report = json.loads(result.stdout)
        assert (report["used"], report["prompts"]["1"]["range"], report["splits"]["train"]) == (10, "0 to 4", 6)

    def test_no_source(self, tmp_path):
        with pytest.raises(ConfigError, match="the command line has 1 fault:\n  source: this key is required"):
            check()

    def test_no_mapping(self, tmp_path):
        with pytest.raises(ConfigError, match=r"run\.yaml: data should be a mapping of keys to values"):
            check("--config", self.write(tmp_path, "data: 3\n"))

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ("--text-column=x", "data: columns holds a list, so nothing in it can be set"),
            ("--range=1=0:4", r"data\.prompts should be a mapping of keys to values, found \[1\]"),
            ("--split-column=x", "data: split holds a list, so nothing in it can be set"),
        ],
    )
    def test_options_over_what_is_no_mapping(self, tmp_path, option, words):
        key = re.search(r"columns|prompts|split", words)[0]
        with pytest.raises(ConfigError, match=words):
            check("a.csv", "--config", self.write(tmp_path, f"{key}: [1]\n"), option)


@pytest.mark.parametrize("words", ["1", "=1:6", "1=6", "1=1:2:3:4", "1=a:6"])
def test_bad_ranges(essays, words):
    with pytest.raises(ConfigError, match=rf"written ID=LOW:HIGH or ID=LOW:HIGH:STEP, such as 2=1:6; found '{words}'"):
        check(essays, "--range", words)


def test_errors_are_left_to_the_main_command(tmp_path):
    with pytest.raises(DataError, match="There is no file or folder"):
        check(tmp_path / "none.csv")


def test_help_does_not_wait_for_heavy_imports():
    code = "from aes_dynloss.cli.data import data\ndata(['check', '--help'], standalone_mode=False)"
    assert "--range" in output_without(code, {"torch", "datasets", "pyarrow", "numpy", "pydantic", "yaml"})


def test_two_ranges_of_a_prompt(essays):
    with pytest.raises(ConfigError, match=r"--range names prompt '1' twice. Give each prompt one range"):
        check(essays, "--range", "1=0:4", "--range", "1=0:5")


class TestSplit:
    def test_folds_of_a_grid(self, tmp_path):
        outcome = command("data", "split", "made-up-essays", "--folds", 3, "-o", tmp_path / "folds")
        assert (outcome.code, outcome.out) == (0, "")
        assert "230 essays in 3 folds" in outcome.err
        seen = []
        for fold in range(3):
            parts = {
                part: (tmp_path / f"folds/fold_{fold}/{part}_ids.txt").read_text().split()
                for part in ("train", "dev", "test")
            }
            ids = [one for part in parts.values() for one in part]
            assert len(ids) == len(set(ids)) == 230
            assert 25 <= len(parts["dev"]) <= 36
            seen += parts["test"]
        assert len(seen) == len(set(seen)) == 230
        config = DataConfig(source="made-up-essays", split={"folds_dir": str(tmp_path / "folds/fold_2")})
        assert split_essays(read_essays(config), config.split).test.essay_ids == parts["test"]

    def test_essays_of_several_traits_are_counted_once(self, tmp_path):
        path = tmp_path / "essays.csv"
        rows = [f"e{number},p,word {number},{number % 4},{number % 3}\n" for number in range(30)]
        path.write_text("essay_id,prompt_id,text,form,style\n" + "".join(rows), encoding="utf-8")
        scores = ("--score-column", "form", "--score-column", "style")
        outcome = command("data", "split", path, *scores, "--folds", 3, "-o", tmp_path / "folds")
        assert outcome.code == 0
        assert "30 essays in 3 folds" in outcome.err

    def test_what_is_there_stays(self, tmp_path):
        words = ["data", "split", "made-up-essays", "-o", tmp_path / "folds"]
        assert command(*words).code == 0
        before = content(tmp_path / "folds")
        again = command(*words, "--seed", 1)
        assert again.code == 2
        assert "holds folds already" in again.error
        assert content(tmp_path / "folds") == before

    def test_another_seed_is_another_split(self, tmp_path):
        for seed in (0, 1):
            command("data", "split", "made-up-essays", "--seed", seed, "-o", tmp_path / str(seed))
        assert content(tmp_path / "0") != content(tmp_path / "1")


def test_a_table_with_columns_of_other_names(tmp_path):
    rows = [f"{'my dog runs ' * 10},{mark}" for mark in [1, 1.5, 2, 2.5, 3] * 20]
    (tmp_path / "marked.csv").write_text("composition,mark\n" + "\n".join([*rows, "a cat,35"]), encoding="utf-8")
    outcome = command("data", "check", tmp_path / "marked.csv")
    assert outcome.code == 0
    assert "Look at row 102: its score 35 is far from the others, 1 to 3." in outcome.err
    assert "marked.csv: 101 rows read, 101 essays usable, 0 rows lost" in outcome.out
    ranged = command("data", "check", tmp_path / "marked.csv", "--range", "all=0:40:0.5")
    assert (ranged.code, "Look at" in ranged.err) == (0, False)
    quoted = [f'r{number},"My" dog number {number} is big,{1 + number % 4}\n' for number in range(30)]
    (tmp_path / "quoted.csv").write_text("id,essay,grade\n" + "".join(quoted), encoding="utf-8")
    plain = command("data", "check", tmp_path / "quoted.csv", "--quoting", "none")
    assert (plain.code, plain.error) == (0, "")
    assert "30 essays usable, 0 rows lost" in plain.out
    # What is not plain stays the check's to say.
    (tmp_path / "open.csv").write_text("composition,mark,age\na b,1,9\n", encoding="utf-8")
    assert "Name the right one in data.columns" in command("data", "check", tmp_path / "open.csv").error


def test_a_range_of_a_prompt_that_is_not_there_is_told(tmp_path):
    rows = [f"e{number},phones,word {number},{1 + number % 6},{1 + number % 4}\n" for number in range(12)]
    (tmp_path / "essays.csv").write_text("essay_id,prompt_id,text,form,style\n" + "".join(rows), encoding="utf-8")
    told = "A range is given for prompt 'phone', of which essays.csv holds no essay; did you mean 'phones'?"
    spans = ("--range", "all=1:6", "--range", "phone=1:4")
    for scores in (("form",), ("form", "style")):
        words = [tmp_path / "essays.csv", *(word for score in scores for word in ("--score-column", score)), *spans]
        outcome = command("data", "check", *words)
        assert (outcome.code, told in outcome.err) == (0, True)
        outcome = command("init", *words, "-o", tmp_path / "run.yaml")
        assert outcome.code == 2
        assert outcome.error.endswith(f"{told} Correct --range (in Python: ranges), or leave it out.")
        assert not (tmp_path / "run.yaml").exists()
