from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from command_line import MODEL_LIBRARIES, command, output_without
from facts import facts

from aes_dynloss.cli.evaluate import evaluate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.reports.prompts import build_report

ROWS = [
    ("007", "1", 4, 3.6),
    ("b", "1", 2, 2.4),
    ("c", "1", 5, 4.8),
    ("d", "2", 0, 0.7),
    ("e", "2", 3, 2.6),
    ("f", "2", 1, 1.9),
]
PREDICTIONS = "essay_id,prompt_id,reference,raw\n" + "".join(f"{a},{b},{c},{d}\n" for a, b, c, d in ROWS)
DEV = "essay_id,prompt_id,reference,raw\n" + "".join(f"dev-{a},{b},{c},{d - 0.2}\n" for a, b, c, d in ROWS)


class Printed(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in (("p.csv", PREDICTIONS), ("d.csv", DEV)):
        (tmp_path / name).write_text(text, encoding="utf-8")

    def invoke(*arguments):
        evaluate.main(list(arguments), standalone_mode=False)
        return Printed(*capsys.readouterr())

    return invoke


def test_json_alone_on_stdout(run):
    result = run("p.csv", "--dev", "d.csv", "--json", "--range", "1=1:6", "--output-dir", "out")
    report = json.loads(result.stdout)
    assert list(report["prompts"]) == ["1", "2"]
    assert report["prompts"]["1"]["range"] == {"low": 1, "high": 6, "step": 1}
    assert report["prompts"]["1"]["qwk_rescaled"] is not None
    assert "Wrote out" in result.stderr


def test_the_command_is_the_function(run):
    expected = build_report(read_predictions("p.csv"), dev=read_predictions("d.csv"))
    assert json.loads(run("p.csv", "--dev", "d.csv", "--json").stdout) == expected


def test_the_table_on_stdout(run):
    result = run("p.csv")
    assert result.stdout.startswith("prompt")
    assert "\nmean" in result.stdout
    assert result.stdout.endswith("\n")
    assert result.stderr == ""


def test_the_report_is_written_and_not_replaced_without_force(run, tmp_path):
    run("p.csv", "--output-dir", "out/here")
    path = tmp_path / "out/here/report.json"
    assert json.loads(path.read_text())["prompts"]["1"]["qwk_rescaled"] is None
    with pytest.raises(DataError, match=r"report.json is there already. Choose another --output-dir, or give --force"):
        run("p.csv", "--dev", "d.csv", "--output-dir", "out/here")
    assert json.loads(path.read_text())["prompts"]["1"]["qwk_rescaled"] is None
    run("p.csv", "--dev", "d.csv", "--output-dir", "out/here", "--force")
    assert json.loads(path.read_text())["prompts"]["1"]["qwk_rescaled"] is not None


def test_each_file_has_its_own_names_of_columns(run, tmp_path):
    scores = "essay_id,prompt_id,raw,score,withheld,advisories,grade\n007,1,3.6,4,false,,x\nb,1,2.4,2,false,,y\n"
    (tmp_path / "scores.csv").write_text(scores, encoding="utf-8")
    (tmp_path / "human.csv").write_text("text_id,grammar,score\nb,2,9\n007,3,9\n", encoding="utf-8")
    dev = "text_id,prompt_id,raw,grammar\nx,1,2.5,3\ny,1,3.5,4\nz,1,1.5,2\n"
    (tmp_path / "dev.csv").write_text(dev, encoding="utf-8")
    words = ["scores.csv", "--references", "human.csv", "--map", "essay_id=text_id", "--map", "reference=grammar"]
    entry = json.loads(run(*words, "--range", "1=1:6", "--json").stdout)["prompts"]["1"]
    assert (entry["mean_reference"], entry["mean_raw"], entry["exact_agreement"]) == (2.5, 3.0, 0.5)
    entry = json.loads(run(*words, "--dev", "dev.csv", "--range", "1=1:6", "--json").stdout)["prompts"]["1"]
    assert entry["qwk_rescaled"] is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["essay_id"], ["--map essay_id", "ROLE=COLUMN", "second_reference"]),
        (["id=text_id"], ["--map id=text_id", "essay_id"]),
        (["raw=roar"], ["p.csv has no column 'roar'", "--map raw=roar"]),
        (["reference=raw", "raw=raw"], ["Column 'raw' is named for reference and for raw"]),
        (["raw=raw", "--raw-column", "raw"], ["raw is 'raw', and 'raw' by --map"]),
    ],
)
def test_names_of_columns_that_are_none(run, words, told):
    options = [word for one in words for word in (["--map", one] if "=" in one or one == "essay_id" else [one])]
    with pytest.raises((ConfigError, DataError), match=facts(*told)):
        run("p.csv", *options)


def test_columns_references_and_prompts(run, tmp_path):
    (tmp_path / "bare.csv").write_text("id,set,pred,points\n007,1,3.6,4\nb,1,2.4,2\n", encoding="utf-8")
    (tmp_path / "r.csv").write_text("id,set,human,other\nb,1,2,3\n007,1,4,4\n", encoding="utf-8")
    (tmp_path / "prompts.yaml").write_text("1: {low: 1, high: 6}\n", encoding="utf-8")
    arguments = ["--id-column", "id", "--prompt-column", "set", "--raw-column", "pred", "--score-column", "points"]
    arguments += ["--reference-column", "human", "--second-column", "other", "--references", "r.csv"]
    report = json.loads(run("bare.csv", *arguments, "--prompts", "prompts.yaml", "--json").stdout)
    entry = report["prompts"]["1"]
    assert entry["range"] == {"low": 1, "high": 6, "step": 1}
    assert entry["exact_agreement"] == 1
    assert entry["mean_raw"] == pytest.approx(3.0)
    assert entry["human_human"]["n"] == 2
    over = json.loads(run("bare.csv", *arguments, "--prompts", "prompts.yaml", "--range", "1=0:9", "--json").stdout)
    assert over["prompts"]["1"]["range"]["high"] == 9
    for spans, high in ((["--range", "1:8"], 8), (["--range", "1:8", "--range", "1=0:9"], 9)):
        every = json.loads(run("bare.csv", *arguments, *spans, "--json").stdout)
        assert every["prompts"]["1"]["range"]["high"] == high
        assert not any("ange" in note for note in every["notes"])


def test_a_row_a_rating(run, tmp_path):
    rows = [(*row, rater) for row in ROWS for rater in ("Ann", "Bo")] + [("007", "1", 3, 3.6, "Cy")]
    human = "".join(f"{essay},{prompt},{score},{rater}\n" for essay, prompt, score, _, rater in rows)
    (tmp_path / "human.csv").write_text(f"ID,prompt_id,grade,judge\n{human}", encoding="utf-8")
    (tmp_path / "s.csv").write_text(
        "essay_id,prompt_id,raw\n" + "".join(f"{a},{b},{d}\n" for a, b, _, d in ROWS), encoding="utf-8"
    )
    options = ("--references", "human.csv", "--map", "essay_id=ID", "--map", "reference=grade", "--rater-column=judge")
    entry = json.loads(run("s.csv", *options, "--dev", "d.csv", "--json").stdout)["prompts"]["1"]
    assert entry["human_human"]["n"] == entry["human_ratings"]["n_twice"] == 3
    assert entry["human_ratings"]["ratings"] == 7
    assert entry["qwk_rescaled"] is not None


def test_raters_dates_and_adjusted_scores(run, tmp_path):
    lines = [
        f"{essay},{(essay + rater) % 4 + 1},{essay % 4 + 1.2},{name},2026-01-{1 + essay % 28:02d}"
        for essay in range(40)
        for rater, name in enumerate(("Ann", "Bo"))
    ]
    (tmp_path / "rated.csv").write_text("\n".join(["essay_id,reference,raw,who,when", *lines]), encoding="utf-8")
    options = ("--rater-column", "who", "--date-column", "when", "--adjusted-scores", "adjusted.csv", "--dev", "d.csv")
    report = json.loads(run("rated.csv", *options, "--json").stdout)
    assert [one["rater"] for one in report["raters"]["raters"]] == ["Ann", "Bo"]
    assert report["raters"]["raters"][0]["drift"] is not None
    header, *rows = (tmp_path / "adjusted.csv").read_text(encoding="utf-8").splitlines()
    assert (header, len(rows)) == ("essay_id,prompt_id,ratings,mean_rating,adjusted", 40)
    with pytest.raises(ConfigError, match=r"adjusted\.csv is there already"):
        run("rated.csv", *options)
    rated = (tmp_path / "rated.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"would replace rated\.csv, which is read"):
        run("rated.csv", "--rater-column", "who", "--adjusted-scores", "rated.csv", "--force")
    assert (tmp_path / "rated.csv").read_bytes() == rated
    for option, value in (("--date-column", "when"), ("--adjusted-scores", "other.csv")):
        with pytest.raises(ConfigError, match=f"{option} needs to know who gave each score"):
            run("p.csv", option, value)


def test_criteria_title_and_smallest_group(run, tmp_path):
    (tmp_path / "criteria.yaml").write_text("qwk: 0.99\nsmd: null\n", encoding="utf-8")
    options = ("--criteria", "criteria.yaml", "--title", "Spring & autumn", "--min-group", "3")
    report = json.loads(run("p.csv", *options, "-o", "out", "--json").stdout)
    assert {flag["criterion"] for flag in report["flags"]} >= {"qwk", "score_level_gap"}
    assert "smd" not in {flag["criterion"] for flag in report["flags"]}
    assert report["rules"]["min_group"] == 3
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<title>Spring &amp; autumn</title>" in page
    (tmp_path / "criteria.yaml").write_text("quality: 1", encoding="utf-8")
    with pytest.raises(ConfigError, match="no criterion 'quality'"):
        run("p.csv", "--criteria", "criteria.yaml")


def test_errors_are_the_packages_own(run):
    with pytest.raises(DataError, match=r"There is no file none.csv"):
        run("none.csv")
    with pytest.raises(ConfigError, match="written ID=LOW:HIGH"):
        run("p.csv", "--range", "1-6")
    with pytest.raises(DataError, match=r"reference 5 is no score point of prompt 1's range 1 to 4"):
        run("p.csv", "--range", "1=1:4")
    with pytest.raises(DataError, match="6 essays are in dev and in the predictions"):
        run("p.csv", "--dev", "p.csv")


FEATURES = "essay_id,prompt_id,log_words,mine\n" + "".join(
    f"{essay},{prompt},{5 + raw / 7},{index % 3}\n" for index, (essay, prompt, _, raw) in enumerate(ROWS)
)


def test_features_are_held_against_the_scores(run, tmp_path):
    (tmp_path / "f.csv").write_text(FEATURES + "unseen,1,400,1\n", encoding="utf-8")
    result = run("p.csv", "--features", "f.csv", "--output-dir", "out")
    assert "Features: 2; largest correlations with the human score given length: mine" in result.stdout
    assert "report.html and out/features.csv" in result.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())["features"]
    assert (report["most_sd"], report["compared_with"]) == (4, "the essays of f.csv to the same prompt")
    assert {name: (one["group"], one["unit"]) for name, one in report["by_name"].items()} == {
        # One column of that name is no group of ours.
        "log_words": ("own", ""),
        "mine": ("own", ""),
    }
    assert [one["n"] for one in report["by_name"]["mine"]["prompts"].values()] == [3, 3]
    rows = (tmp_path / "out/features.csv").read_text().splitlines()
    assert rows[0] == "feature,group,unit,prompt_id,n,mean,sd,clamped,r,partial_r"
    assert len(rows) == 1 + 4
    assert "Features and human scores" in (tmp_path / "out/report.html").read_text()
    with pytest.raises(DataError, match=r"report.json is there already"):
        run("p.csv", "--features", "f.csv", "--output-dir", "out")


def test_features_of_our_own_have_groups_and_units(run, tmp_path):
    (tmp_path / "essays.csv").write_text(
        "essay_id,prompt_id,text\n" + "".join(f"{a},{b},So {a}\n" for a, b, *_ in ROWS)
    )
    features = command("features", "essays.csv", "--groups", "counts,overlap", "-o", "f.parquet")
    assert features.code == 0
    report = json.loads(run("p.csv", "--features", "f.parquet", "--json").stdout)["features"]["by_name"]
    assert len(report) == 9
    assert (report["log_words"]["group"], report["log_words"]["unit"]) == ("counts", "ln(1 + words)")


def test_features_that_are_refused(run, tmp_path):
    (tmp_path / "features.csv").write_text(FEATURES.replace("\nb,", "\nB,"), encoding="utf-8")
    with pytest.raises(DataError, match=facts("1 of 6", "no features", "'b'", "prompt '1'")):
        run("p.csv", "--features", "features.csv", "--output-dir", "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=facts("--features", "features.csv", "--output-dir")):
        run("p.csv", "--features", "features.csv", "--output-dir", ".", "--force")
    with pytest.raises(DataError, match=r"features.csv is there already"):
        run("p.csv", "--features", "p.csv", "--output-dir", ".")
    (tmp_path / "f.csv").write_text(FEATURES.replace("mine", "group").replace(",0\n", ",A\n"), encoding="utf-8")
    with pytest.raises(DataError, match=facts("f.csv", "'group'", "Row 2", "'007'", "'A'")):
        run("p.csv", "--features", "f.csv")


def test_help_loads_no_heavy_library():
    code = "from aes_dynloss.cli.evaluate import evaluate\nevaluate(['--help'], standalone_mode=False)"
    assert "PREDICTIONS" in output_without(code, {"numpy", "pandas", "sklearn", "scipy", "torch"})


def test_evaluation_loads_no_model_library():
    modules = ("reports.prompts", "reports.report_files", "reports.features", "essays.features.linguistic")
    output_without("".join(f"import aes_dynloss.{module}\n" for module in modules), MODEL_LIBRARIES)
