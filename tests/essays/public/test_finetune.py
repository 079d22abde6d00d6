"""`finetune` in Python: the run that the command makes, of a file, a DataFrame or a configuration; and its result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import command
from matplotlib.figure import Figure
from small_run import RANGE_OPTIONS, read_rows, report_of, small_essays, write_rows

from aes_dynloss import ConfigError, DataError, EssayScorer, FinetuneConfig, ScoreRange, finetune
from aes_dynloss.configfile import read_mapping
from aes_dynloss.essays.finetune.run_input import run_values

QUICK = {
    "model.kind": "strings",
    "model.linguistic": ["counts"],
    "data.split.cross_fit": 3,
    "evaluation.resamples": 100,
    "evaluation.floors": False,
    "evaluation.page": False,
    "evaluation.explained": 2,
}
RANGES = {"phones": ScoreRange(1, 6), "river": ScoreRange(0, 4)}
FILES = ["predictions_test.csv", "predictions_oof.csv", "report.csv", "model/model.safetensors"]


def essays() -> list[dict[str, object]]:
    """Essays whose columns have names of their own."""
    return [
        {"id": row["essay_id"], "task": row["prompt_id"], "essay": row["text"], "mark": row["score"]}
        for row in small_essays()
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    write_rows(folder / "essays.csv", essays())
    return folder


@pytest.fixture(scope="module")
def result(place):
    return finetune(place / "essays.csv", place / "python", preset="none", overrides=QUICK, ranges=RANGES)


def same_products(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def test_a_file_as_the_command_does(place, result):
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in QUICK.items()]
    done = command("finetune", place / "essays.csv", "--preset", "none", *RANGE_OPTIONS, *words, "-o", place / "shell")
    assert done.code == 0, done.err
    assert same_products(place / "python", place / "shell")
    assert (place / "python" / "config.yaml").read_bytes() == (place / "shell" / "config.yaml").read_bytes()
    assert [line for line in done.err.splitlines() if ":" in line][: len(result.chosen)] == result.chosen
    assert result.report == report_of(place / "shell")


def test_a_data_frame_and_its_text_stays_in_memory(place, result, tmp_path):
    frame = pd.DataFrame(essays(), index=range(100, 160))
    made = finetune(frame, tmp_path / "run", preset="none", overrides=QUICK, ranges=RANGES)
    assert same_products(result.folder, tmp_path / "run")
    source = read_mapping(tmp_path / "run" / "config.yaml")["data"]["source"]
    assert source.startswith("dataframe:")
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file() and b"I think" in path.read_bytes()]
    again = finetune(frame, tmp_path / "run", preset="none", overrides=QUICK, ranges=RANGES, resume=True)
    assert again.report == made.report
    with pytest.raises(ConfigError, match=r"data\.source"):
        finetune(frame[::-1], tmp_path / "run", preset="none", overrides=QUICK, ranges=RANGES, resume=True)
    with pytest.raises(DataError, match="was in memory when the run began"):
        finetune(tmp_path / "run" / "config.yaml", tmp_path / "other")


def test_a_configuration_in_any_form(result, tmp_path):
    path = result.folder / "config.yaml"
    values = read_mapping(path)
    for name, source in {"file": path, "values": values, "model": FinetuneConfig(**values)}.items():
        finetune(source, tmp_path / name)
        assert same_products(result.folder, tmp_path / name)
    changed = finetune(FinetuneConfig(**values), tmp_path / "changed", overrides={"evaluation.resamples": 200})
    assert changed.report.settings.resamples == 200


def test_result(result, place):
    assert len(repr(result)) < 300
    assert repr(result).startswith(f"FinetuneResult({str(place / 'python')!r}: QWK is ")
    assert "QWK is" in result._repr_html_()
    assert "<table" in result._repr_html_()
    assert result.chosen[0] == "text: column 'essay', by its name"
    assert isinstance(result.scorer, EssayScorer)
    assert repr(result.scorer) == "EssayScorer(prompts: phones, river)"
    assert result.scorer is result.scorer


def test_report(result):
    report = result.report
    assert repr(report) == f"Report(60 scores, 2 prompts, QWK {report.mean.qwk:.3f})"
    frame = report.to_frame()
    assert list(frame.index) == ["phones", "river", "mean"]
    assert frame.loc["river", "qwk"] == report.prompts["river"].qwk
    assert frame.loc["mean", "qwk"] == report.mean.qwk
    assert (frame.loc["phones", "qwk_low"], frame.loc["phones", "qwk_high"]) == tuple(
        report.prompts["phones"].qwk_interval
    )
    assert frame["n"].tolist() == [30, 30, pd.NA]
    assert {"exact_agreement", "smd", "sd_ratio", "rmse"} <= set(frame)
    assert f"{report.mean.qwk:.3f}" in report._repr_html_()


def test_plot(result, tmp_path):
    figure = result.plot()
    assert isinstance(figure, Figure)
    assert [axes.get_xlabel() for axes in figure.axes] == ["QWK"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Prompt phones", "Prompt river", "Mean"]
    values = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    entries = [*result.report.prompts.values(), result.report.mean]
    np.testing.assert_allclose(values, [entry.qwk for entry in entries])
    figure.savefig(tmp_path / "plot.png")


def test_scorer_gives_the_scores_of_the_command(result, place, tmp_path):
    frame = pd.DataFrame(essays())[["id", "task", "essay"]].rename(columns={"task": "prompt_id"})
    scores = result.scorer.score(frame)
    words = ["--prompt-column", "task", "-o", tmp_path / "scores.csv"]
    assert command("score", result.folder, place / "essays.csv", *words).code == 0
    rows = read_rows(tmp_path / "scores.csv")
    assert scores.essay_ids == [row["essay_id"] for row in rows]
    np.testing.assert_array_equal(scores.raw, [float(row["raw"] or "nan") for row in rows])


def test_traits(tmp_path):
    rows = [row | {"style": min(row["mark"] + 1, 4)} for row in essays()]
    columns = {"score": {"overall": "mark", "style": "style"}}
    run = finetune(pd.DataFrame(rows), tmp_path / "run", preset="none", overrides=QUICK, columns=columns)
    frame = run.report.to_frame()
    assert list(frame.index) == ["phones/overall", "river/overall", "phones/style", "river/style", "mean"]
    assert len(run.plot().axes[0].get_yticklabels()) == 5
    scores = run.scorer.score([rows[0]["essay"]], "phones", policy={"too_short": "off", "unlike_training": "off"})
    assert repr(scores) == "EssayScores(1 essay on overall, style)"
    table = scores.to_frame()
    for trait in ("overall", "style"):
        own = scores[trait]
        assert own.score.tolist() == table[trait].tolist()
        assert own.raw.tolist() == table[f"{trait}_raw"].tolist()
        assert own.low.tolist() == table[f"{trait}_low"].tolist()
        assert (own.trait_names, list(own.to_frame())[:4]) == ((), ["essay_id", "prompt_id", "score", "raw"])
    assert scores.raw.tolist() == scores["overall"].raw.tolist() != scores["style"].raw.tolist()
    style = run.scorer.score([rows[0]["essay"]] * 2, "phones")
    assert "duplicate" in style["style"].advisories[1]


def test_traits_in_columns_of_their_names(tmp_path):
    rows = [row | {"content": row["mark"], "org": min(row["mark"] + 1, 4)} for row in essays()]
    described, named = {"ranges": {}, "subgroups": (), "group": None, "encoding": None}, ["content", "org"]
    path = write_rows(tmp_path / "essays.csv", rows)
    values = [
        run_values(path, columns={"score": score}, **described)
        for score in (named, tuple(named), {"content": "content", "org": "org"})
    ]
    assert values[0] == values[1] == values[2]
    assert values[0][0]["data"]["columns"]["score"] == named


@pytest.mark.parametrize(
    "described",
    [
        {"columns": {"text": "essay"}},
        {"ranges": RANGES},
        {"subgroups": ["region"]},
        {"group": "writer"},
        {"encoding": "cp1252"},
    ],
)
@pytest.mark.parametrize("form", ["run.yaml", "dict", "FinetuneConfig"])
def test_a_configuration_says_itself_what_the_columns_are(tmp_path, form, described):
    values = {"data": {"source": "none.csv"}}
    source = {"run.yaml": "run.yaml", "dict": values, "FinetuneConfig": FinetuneConfig(**values)}[form]
    with pytest.raises(ConfigError, match=f"{form} is a configuration, which says itself what the columns are"):
        finetune(source, tmp_path / "run", **described)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "essays.doc"}, "expected a configuration"),
        ({"source": "none.csv"}, "There is no file none.csv"),
        ({"columns": {"mark": "mark"}}, "there is no role 'mark'; known are text, essay_id"),
        ({"columns": {"score": "grade"}}, "grade"),
        ({"columns": {"score": ["mark", "grade"]}}, "grade"),
        ({"columns": {"score": []}}, "score names no column"),
        ({"columns": {"score": None}}, "score"),
        ({"columns": {"second_score": {"style": "mark"}}}, "expected the name of one column for second_score"),
        ({"preset": "quick"}, "preset"),
        ({"overrides": {"evaluation.resamples": 1}}, r"evaluation\.resamples"),
        ({"source": pd.DataFrame({"essay": [], "mark": []})}, "The DataFrame holds no rows"),
        ({"source": pd.DataFrame([["a", "b"]], columns=["essay", "essay"])}, "names the column 'essay' 2 times"),
        ({"source": pd.DataFrame({"essay": ["a b"], "mark": ["good"]})}, "the DataFrame: which column holds the human"),
    ],
)
def test_refusals(place, tmp_path, options, message):
    with pytest.raises((ConfigError, DataError), match=message):
        finetune(**{"source": place / "essays.csv", "output_dir": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()
