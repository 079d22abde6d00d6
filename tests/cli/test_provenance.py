"""Where products come from: every command that writes leaves it beside, and `aes-dynloss verify` finds what differs."""

from __future__ import annotations

import html
import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import click
import pytest
import yaml
from command_line import command
from explained_scorers import TEXTS, classical
from planted_raters import planted_table
from small_run import small_essays, write_rows
from three_prompts import essays as three_prompts
from three_prompts import write_config
from tiny_encoder import write_tiny_encoder

from aes_dynloss.cli.main import COMMANDS
from aes_dynloss.cli.options import ExistingPath
from aes_dynloss.configfile import read_mapping
from aes_dynloss.essays import samples
from aes_dynloss.tables import provenance
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.provenance import PROVENANCE, _write, provenance_path, read_provenance, verify

ROWS = [{"essay_id": str(number), "prompt_id": "a", "text": text} for number, text in enumerate(TEXTS)]
BY_HAND = ["essays.csv", "scored.csv", "human.csv", "machine.csv", "ratings.csv", "planted.csv", "trials.yaml"]
BY_HAND += ["grid.yaml", "scored_0.csv", "scored_1.csv", "river.csv", "quickstart.yaml", "made_up.jsonl"]
BY_HAND += ["transfer/essays.jsonl", "transfer/transfer.yaml", "parts/first.csv", "parts/second.csv"]
SCORED = [{**row, "score": number % 6 + 1} for number, row in enumerate(ROWS * 4)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run of each kind of product, with the commands that made them."""
    folder = tmp_path_factory.mktemp("provenance")
    classical().save_pretrained(folder / "model")
    write_rows(folder / "essays.csv", ROWS)
    write_rows(folder / "scored.csv", [{**row, "essay_id": str(number)} for number, row in enumerate(SCORED)])
    write_rows(folder / "human.csv", [{"essay_id": row["essay_id"], "reference": 3} for row in ROWS])
    essays, model = folder / "essays.csv", folder / "model"
    train = ("finetune", folder / "scored.csv", "--preset", "fast", "--range", "1:6", "evaluation.resamples=100")
    ok(*train, "-o", folder / "run")
    ok(*train, "-o", folder / "other", "model.solver=ridge")
    ok("ensemble", folder / "run", folder / "other", "-o", folder / "ensemble")
    explained = ("--explain", folder / "why.jsonl")
    ok("score", model, essays, "-o", folder / "scores.csv", "--review", folder / "review.csv", *explained)
    (folder / "parts").mkdir()
    for name, rows in (("first.csv", ROWS[:2]), ("second.csv", ROWS[2:])):
        write_rows(folder / "parts" / name, rows)
    ok("score", model, folder / "parts", "-o", folder / "scored_parts")
    ok("features", essays, "-o", folder / "features.csv", "--groups", "counts")
    human = ("--references", folder / "human.csv", "--range", "1:6")
    ok("evaluate", folder / "scores.csv", *human, "-o", folder / "report", "--export", "rsmeval", folder / "rsmeval")
    ok("compare", folder / "run", folder / "other", "-o", folder / "comparison", "--resamples", "100")
    ok("explain", model, essays, "-o", folder / "why", "--essays", "1,2")
    ok("robustness", model, essays, "-o", folder / "robustness", "--kinds", "shuffle_sentences")
    ok("explain", model, essays, "-o", folder / "tests", "--check", "--most", "2")
    ok(*train, "-o", folder / "calibrated")
    ok("calibrate", folder / "calibrated", "--postprocessing", "none")
    ok("calibrate", folder / "calibrated" / "model", "--scale", "0:100")
    ok("score", folder / "ensemble", essays, "-o", folder / "of_ensemble.csv")
    wanted = ("--half-width", "qwk=0.1", "--assume-qwk", "0.7", "--markers", "2")
    ok("plan", folder / "scores.csv", *wanted, "-o", folder / "plan")
    ok("monitor", folder / "run", folder / "run" / "predictions_test.csv", "-o", folder / "monitor")
    told = ("--monitor", folder / "monitor", "--format", "html")
    ok("dossier", folder / "run", *told, "-o", folder / "dossier")
    make_with_raters(folder)
    make_searched(folder)
    make_for_a_new_prompt(folder)
    make_quickstart(folder)
    return folder


def make_with_raters(folder: Path) -> None:
    """What is made of a row for each rating."""
    rated = [row | {"rater": f"R{number % 2}", "reference": int(row["essay_id"]) % 5 + 1 + number % 2}
             for number, row in enumerate(row for row in ROWS for _ in range(2))]  # fmt: skip
    write_rows(folder / "ratings.csv", [{k: row[k] for k in ("essay_id", "rater", "reference")} for row in rated])
    machine = [{"essay_id": row["essay_id"], "raw": number % 6 + 1} for number, row in enumerate(ROWS)]
    write_rows(folder / "machine.csv", machine)
    human = ("--references", folder / "ratings.csv", "--range", "1:6")
    adjusted = ("--rater-column", "rater", "--adjusted-scores", folder / "adjusted.csv")
    ok("evaluate", folder / "machine.csv", *human, *adjusted)
    planted_table().to_csv(folder / "planted.csv", index=False)
    columns = ("--rater-column", "rater", "--trusted", "gold", "--prompts", samples.PROMPTS)
    ok("data", "raters", folder / "planted.csv", *columns, "-o", folder / "raters.csv")


def make_searched(folder: Path) -> None:
    """A search and a grid, whose folds have essays of their own."""
    (folder / "trials.yaml").write_text(yaml.safe_dump({"strings": {"preset": "fast"}}))
    quick = ("evaluation.resamples=100", "evaluation.floors=false", "evaluation.screen=false", "data.split.cross_fit=3")
    trials = ("--range", "1:6", "--trials", folder / "trials.yaml")
    ok("tune", folder / "scored.csv", "-o", folder / "search", *trials, *quick)
    ok("data", "split", folder / "scored.csv", "-o", folder / "folds", "--folds", "2")
    for fold in ("0", "1"):
        shutil.copy(folder / "scored.csv", folder / f"scored_{fold}.csv")
    data = {"source": str(folder / "scored_{fold}.csv"), "prompts": {"a": {"low": 1, "high": 6}}}
    finetune = {"data": data, "model": {"kind": "strings"}, "evaluation": {"resamples": 100}}
    grid = {"finetune": finetune, "arms": {"strings": {}}, "splits_dir": str(folder / "folds"), "folds": [0, 1]}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid | {"resamples": 100, "floors": False}))
    ok("benchmark", folder / "grid.yaml", "-o", folder / "grid")


def make_for_a_new_prompt(folder: Path) -> None:
    """What is made when a model is adapted to a prompt."""
    known = [row for row in three_prompts() if row["prompt_id"] != "river"]
    (folder / "transfer").mkdir()
    config = write_config(folder / "transfer", known, "with_target_essays")
    ok("finetune", config, "-o", folder / "transfer" / "run", "data.keep_prompts=[phones, trumpet]")
    river = [row for row in three_prompts() if row["prompt_id"] == "river"]
    write_rows(folder / "river.csv", [{name: row[name] for name in ("essay_id", "text")} for row in river])
    new = ("--prompt", "river", "--range", "0:4", "--mark-first", "5", folder / "to_mark.csv")
    words = (folder / "transfer" / "run", folder / "river.csv", *new, "--adapted", folder / "adapted")
    ok("score", *words, "-o", folder / "river_scores.csv")


def make_quickstart(folder: Path) -> None:
    """The quickstart, with a tiny encoder in place of the packaged one."""
    values = read_mapping(samples.QUICKSTART)
    values |= {"model": {"encoder": str(write_tiny_encoder(folder / "encoder"))}, "evaluation": {"resamples": 100}}
    values["training"] |= {"device": "cpu"}
    (folder / "quickstart.yaml").write_text(yaml.safe_dump(values))
    made_up = write_rows(folder / "made_up.jsonl", small_essays())
    with (
        mock.patch("aes_dynloss.essays.data.sources.ESSAYS", made_up),
        mock.patch.multiple(samples, QUICKSTART=folder / "quickstart.yaml", ESSAYS=made_up),
    ):
        ok("quickstart", "-o", folder / "quickstart")
        ok("quickstart", "-o", folder / "quickstart", "--force")


def ok(*words: object) -> None:
    outcome = command(*words)
    assert outcome.code == 0, f"{words}: {outcome.err}"


# Each product with the words of its command, and one of the files or folders that it is made from.
PRODUCTS = {
    "run": ("finetune", "scored.csv"),
    "ensemble": ("ensemble", "run"),
    "scores.csv": ("score", "essays.csv"),
    "review.csv": ("score", "essays.csv"),
    "why.jsonl": ("score", "essays.csv"),
    "scored_parts": ("score", None),
    "to_mark.csv": ("score", "river.csv"),
    "adapted": ("score", "river.csv"),
    "of_ensemble.csv": ("score", "essays.csv"),
    "features.csv": ("features", "essays.csv"),
    "report": ("evaluate", "scores.csv"),
    "rsmeval": ("evaluate", "scores.csv"),
    "adjusted.csv": ("evaluate", "ratings.csv"),
    "comparison": ("compare", "run"),
    "why": ("explain", "essays.csv"),
    "robustness": ("robustness", "essays.csv"),
    "dossier": ("dossier", None),
    "tests": ("explain", "essays.csv"),
    "calibrated": ("calibrate", "scored.csv"),
    "raters.csv": ("data raters", "planted.csv"),
    "folds": ("data split", "scored.csv"),
    "search": ("tune", "trials.yaml"),
    "grid": ("benchmark", "scored_1.csv"),
    "grid/cells/strings/fold_0/seed_0": ("benchmark", "scored_0.csv"),
    "plan": ("plan", "scores.csv"),
    "monitor": ("monitor", None),
    "quickstart": ("quickstart", None),
    "quickstart/scores.csv": ("quickstart", "made_up.jsonl"),
}
# Options and arguments that name what a command writes, with the products above.
WRITTEN = {
    "finetune --output-dir": ["run"],
    "tune --output-dir": ["search"],
    "score --output": ["scores.csv", "of_ensemble.csv", "scored_parts"],
    "score --review": ["review.csv"],
    "score --explain": ["why.jsonl"],
    "score --adapted": ["adapted"],
    "score --mark-first": ["to_mark.csv"],
    "explain --output-dir": ["why", "tests"],
    "ensemble --output-dir": ["ensemble"],
    "calibrate RUN": ["calibrated"],
    "evaluate --output-dir": ["report"],
    "evaluate --export": ["rsmeval"],
    "evaluate --adjusted-scores": ["adjusted.csv"],
    "compare --output-dir": ["comparison"],
    "robustness --output-dir": ["robustness"],
    "benchmark --output-dir": ["grid", "grid/cells/strings/fold_0/seed_0"],
    "data raters --output": ["raters.csv"],
    "data split --output-dir": ["folds"],
    "features --output": ["features.csv"],
    "plan --output-dir": ["plan"],
    "monitor --output-dir": ["monitor"],
    "dossier --output-dir": ["dossier"],
    "quickstart --output-dir": ["quickstart", "quickstart/scores.csv"],
}
# Others that name a file or folder: it is read, is a log that only grows, or is a configuration to be edited.
OTHERS = {
    *("tune --trials", "calibrate --on", "verify PRODUCT", "verify [SOURCE]...", "audit verify FILE"),
    *("finetune INPUT", "tune INPUT", "benchmark CONFIG"),
    *("score --audit", "serve --audit", "evaluate --audit"),
    *("init NAME", "init --output"),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_product_says_where_it_comes_from(place, name):
    made = read_provenance(place / name)
    verb, source = PRODUCTS[name]
    assert made.version is not None
    assert made.made.endswith("+00:00")
    assert made.command.startswith(f"aes-dynloss {verb} ")
    assert str(place) not in made.command
    known = [] if source is None or (place / source).is_dir() else [place / source]
    assert source is None or source in made.sources
    assert [made.sources[path.name] for path in known] == list(map(file_sha256, known))
    assert made.products
    outcome = command("verify", place / name, *known)
    assert outcome.code == 0, outcome.out
    assert f"{place / name}: " in outcome.out


def named_paths(words: str, one: click.Command) -> Iterator[str]:
    """The options and arguments of a command, and of those below it, that name a file or folder."""
    for name, below in one.commands.items() if isinstance(one, click.Group) else ():
        yield from named_paths(f"{words} {name}", below)
    for option in one.params:
        kinds = option.type.types if isinstance(option.type, click.Tuple) else [option.type]
        if any(isinstance(kind, click.Path) and not isinstance(kind, ExistingPath) for kind in kinds):
            called = option.opts[0] if isinstance(option, click.Option) else option.human_readable_name
            yield f"{words} {called}"


def test_each_file_that_a_command_writes_is_in_the_list():
    """A new command, or a new option of one, belongs to WRITTEN with a product, or to OTHERS."""
    found = set()
    for name, where in COMMANDS.items():
        module, attribute = where.split(":")
        found |= set(named_paths(name, getattr(importlib.import_module(module), attribute)))
    assert found == {*WRITTEN, *OTHERS}
    assert {product for products in WRITTEN.values() for product in products} == PRODUCTS.keys()


@pytest.mark.parametrize("name", ["scores.csv", "review.csv", "report", "why", "robustness"])
def test_what_a_model_made_tells_its_hash(place, name):
    assert read_provenance(place / name).model == file_sha256(place / "model/config.json")


@pytest.mark.parametrize("name", ["report/report.html", "comparison/comparison.html", "robustness/robustness.html"])
def test_pages_say_at_their_foot_where_they_come_from(place, name):
    page, made = (place / name).read_text("utf-8"), read_provenance((place / name).parent)
    assert (made.model or "") in page
    for words in made.about().values():
        assert html.escape(words, quote=False) in html.unescape(page).replace("\u200b", "") or words in html.unescape(
            page
        )


def test_nothing_that_commands_write_is_left_out(place):
    """Each file below the folder is a source made by hand, or told of by what stands beside it."""
    told = {place / name for name in BY_HAND}
    for path in place.rglob(f"*{PROVENANCE}"):
        single = path.name != PROVENANCE
        product = path.with_name(path.name.removesuffix(f".{PROVENANCE}")) if single else path.parent
        folder = product.parent if single else product
        told |= {path, *(folder / name for name in read_provenance(product).products)}
    files = {path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")}
    made = {path.relative_to(place) for path in files - told}
    own = {path for path in made if path.parts[0] in {"model", "encoder"} or path.suffix == ".lock"}
    own |= {path for path in made if path.parts[:2] == ("plan", "sheets")}  # to be filled in
    assert {path.as_posix() for path in made - own} == {"grid/precision.json"}  # in which cells are to run


def test_verify_names_what_was_changed_and_what_is_gone(place, tmp_path):
    write_rows(tmp_path / "essays.csv", ROWS)
    scores = tmp_path / "scores.jsonl"
    ok("score", place / "model", tmp_path / "essays.csv", "-o", scores)
    assert verify(scores).found == []
    scores.write_bytes(scores.read_bytes().replace(b'"a"', b'"b"', 1))
    write_rows(tmp_path / "essays.csv", ROWS[1:])
    outcome = command("verify", scores, tmp_path / "essays.csv")
    assert outcome.code == 3
    assert outcome.out.splitlines()[-2:] == [
        "Differs: scores.jsonl was changed.",
        "Differs: it was made from another essays.csv.",
    ]
    (place / "report" / "report.csv").rename(tmp_path / "report.csv")
    outcome = command("verify", place / "report", tmp_path / "scores.jsonl")
    (tmp_path / "report.csv").rename(place / "report" / "report.csv")
    assert outcome.code == 3
    assert "Differs: report.csv is gone." in outcome.out
    assert "Differs: it was not made from a scores.jsonl; it was from scores.csv, human.csv." in outcome.out


def test_what_nothing_is_told_of_is_refused(tmp_path):
    (tmp_path / "own.csv").write_text("a")
    outcome = command("verify", tmp_path / "own.csv")
    assert outcome.code == 2
    assert "there is no own.csv.provenance.json" in outcome.error
    provenance_path(tmp_path / "own.csv").write_text(json.dumps({"made": 1}))
    assert "is damaged" in command("verify", tmp_path / "own.csv").error


def test_two_sources_of_one_name_are_told_apart(place, tmp_path):
    for name, rows in (("a", ROWS), ("b", ROWS[1:])):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "essays.csv", [{**row, "essay_id": f"{name}{row['essay_id']}"} for row in rows])
    inputs = [tmp_path / name / "essays.csv" for name in ("a", "b")]
    ok("score", place / "model", *inputs, "-o", tmp_path / "scores.csv")
    assert list(read_provenance(tmp_path / "scores.csv").sources) == ["a/essays.csv", "b/essays.csv"]
    assert verify(tmp_path / "scores.csv", inputs).found == []


def test_a_command_hides_absolute_paths_behind_an_equals_sign_too(place, tmp_path):
    ok("score", place / "model", place / "essays.csv", f"--output={tmp_path / 'scores.csv'}")
    assert str(tmp_path) not in read_provenance(tmp_path / "scores.csv").command


def test_another_report_in_the_folder_has_its_own_sources_alone(place, tmp_path):
    human = ("--references", place / "human.csv", "--range", "1:6", "-o", tmp_path / "out", "--force")
    for name in ("first", "second"):
        (tmp_path / f"{name}.csv").write_bytes((place / "scores.csv").read_bytes())
        ok("evaluate", tmp_path / f"{name}.csv", *human)
    made = read_provenance(tmp_path / "out")
    assert list(made.sources) == ["second.csv", "human.csv"]
    assert made.earlier == []


def test_what_was_changed_by_hand_is_not_certified_by_another_command(place, tmp_path):
    shutil.copytree(place / "calibrated", tmp_path / "out" / "run")
    (tmp_path / "out" / PROVENANCE).write_bytes((place / "report" / PROVENANCE).read_bytes())  # of another product
    run = tmp_path / "out" / "run"
    predictions = (run / "predictions_test.csv").read_bytes()
    (run / "predictions_test.csv").write_bytes(predictions.replace(b",3.0,", b",4.0,"))
    refused = command("calibrate", run, "--scale", "0:50")
    assert (refused.code, "predictions_test.csv is not what the run wrote" in refused.error) == (2, True)
    (run / "predictions_test.csv").write_bytes(predictions)
    (run / "predictions_inner.csv").write_text("forged")
    ok("calibrate", run, "--scale", "0:50")
    assert verify(run).found == ["predictions_inner.csv was changed"]
    assert [one["command"].split()[1] for one in read_provenance(tmp_path / "out" / "run").earlier][-1] == "calibrate"


@pytest.mark.parametrize("explained", [False, True])
def test_a_process_that_is_killed_before_it_tells_leaves_nothing_stale(place, tmp_path, explained):
    """Scores of other essays are never beside an older provenance, and --resume tells what a kill left untold."""
    (tmp_path / "essays.csv").write_bytes((place / "essays.csv").read_bytes())
    scores, why = tmp_path / "scores.csv", tmp_path / "why.jsonl"
    words = (
        "score",
        place / "model",
        tmp_path / "essays.csv",
        "-o",
        scores,
        *(["--explain", why] if explained else []),
    )
    last = why if explained else scores
    ok(*words)
    write_rows(tmp_path / "essays.csv", ROWS[1:])

    def killed(product: Path, *rest: object) -> None:
        if product == last:
            raise KeyboardInterrupt
        _write(product, *rest)

    with mock.patch.object(provenance, "_write", killed):
        assert command(*words, "--force").code == 130
    assert not provenance_path(last).exists()
    assert len(last.read_text().splitlines()) == len(ROWS) - explained
    ok(*words, "--resume")
    assert verify(last, [tmp_path / "essays.csv"]).found == []
    ok(*words, "--resume")  # nothing is left to do


def test_what_nobody_looked_at_again_is_not_certified(place, tmp_path):
    """A complete run that --resume finds says what it said, also where its scores were changed since."""
    words = ("score", place / "model", place / "essays.csv", "-o", tmp_path / "scores.csv")
    ok(*words)
    (tmp_path / "scores.csv").write_text("forged")
    ok(*words, "--resume", "--explain", tmp_path / "why.jsonl")
    assert verify(tmp_path / "scores.csv").found == ["scores.csv was changed"]


def test_finetune_does_not_certify_what_it_did_not_write(place, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    train = ("finetune", place / "scored.csv", "--preset", "fast", "--range", "1:6", "evaluation.resamples=100")
    ok(*train, "-o", tmp_path / "run")
    assert "notes.txt" not in read_provenance(tmp_path / "run").products
