"""The tables of all READMEs are those that `recipes/readme_tables.py` makes of the results files."""

from __future__ import annotations

import subprocess
import sys

import pytest
from readmes import READMES, ROOT, each_readme

sys.path.append(str(ROOT / "recipes"))
import readme_tables

RESULTS = [
    path
    for folder in (
        "benchmarks/results",
        "essays/results/grids",
        "essays/results/peers",
        "essays/results/peers/finetuned",
        "essays/results/robustness",
        "vision/results",
        "translation/results",
    )
    for path in sorted((ROOT / "recipes" / folder).glob("*.json"))
]
MEMORY = "<!-- recipes/benchmarks/results/scoring_memory.json -->"


@each_readme
def test_tables_are_those_of_their_results(readme):
    assert readme_tables.with_tables(readme) == readme.read_text(encoding="utf-8")


def test_the_command_knows_every_readme():
    assert readme_tables.readmes() == READMES


def test_every_result_is_shown():
    """But those of tuning on dev; the folders of peers and of robustness are one table each."""
    shown = {path for readme in READMES for path in readme_tables.sources(readme).values()}
    assert shown
    hidden = {path for path in RESULTS if path not in shown and path.parent not in shown}
    assert {path.stem for path in hidden} == {
        path.stem for path in (ROOT / "recipes/vision/results").glob("*_tuning.json")
    }


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_hold_no_path_of_a_machine(path):
    assert not any(word in path.read_text(encoding="utf-8") for word in ("/home/", "/tmp/", "/work/", "/root/"))


def test_a_changed_digit_is_mended_and_a_missing_table_made(tmp_path):
    table = readme_tables.by_script("benchmarks", "scoring_memory")(
        ROOT / "recipes/benchmarks/results/scoring_memory.json", ""
    )
    whole = f"# One\n\n{MEMORY}\n{table}\n\nWords.\n\n| a | table |\n"
    readme = tmp_path / "README.md"
    for damaged in (whole.replace("1.001", "1.002"), whole.replace(table + "\n", "")):
        assert damaged != whole
        readme.write_text(damaged, encoding="utf-8")
        assert readme_tables.with_tables(readme) == whole


@pytest.mark.parametrize(
    ("comment", "error", "words"),
    [
        ("recipes/benchmarks/results/none.json", FileNotFoundError, "none.json"),
        ("recipes/readme_tables.py", ValueError, "TABLES"),
        ("recipes/essays/results/grids/asap_minilm.json nothing", ValueError, "qwk_rescaled"),
    ],
)
def test_a_source_of_no_table_is_told(comment, error, words, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- {comment} -->\n", encoding="utf-8")
    with pytest.raises(error, match=words):
        readme_tables.with_tables(readme)


def test_a_measure_takes_one_line_of_three_cells():
    lines = readme_tables.measures_table(ROOT, "").splitlines()
    assert len(lines) == 2 + len(readme_tables.MEASURES)
    assert {line.count("|") for line in lines} == {4}
    assert all(measure.definition and measure.reference for measure in readme_tables.MEASURES.values())


def test_bars_in_cells_are_escaped():
    """Unescaped, ``|p - y|`` would be three cells."""
    rows = readme_tables.parts_table(ROOT, "losses").splitlines()
    assert {row.replace(r"\|", "").count("|") for row in rows} == {4}
    assert any(r"\|p - y\|" in row for row in rows)


def test_the_command_finds_nothing_to_change():
    command = [sys.executable, str(ROOT / "recipes/readme_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
