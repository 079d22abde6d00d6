"""Changed copies of training essays: what they are, what they are worth, and what they must not touch."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from command_line import command
from datasets import Dataset
from safetensors.torch import load_file
from small_run import read_rows, records, small_essays, tune, write_rows
from tiny_scorer import values_of
from word_counter import PROMPTS, TEXT, sentences

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.augmentation import BUNDLED_OTHERS, augment, deserved_score
from aes_dynloss.essays.data.data_config import AugmentationConfig, DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.finetune import encoder_run, fitting
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.training.run_folder import CHECKPOINT

HALVES = ScoreRange(1, 4, 0.5)


def table(prompts=("a", "b"), each=10):
    rows = [
        {
            "essay_id": f"{prompt}{number}",
            "prompt_id": prompt,
            "text": f"For {prompt}. {sentences(3, number + 3)}",
            "score": float(number),
        }
        for prompt in prompts
        for number in range(each)
    ]
    return EssayTable(Dataset.from_list(rows), {prompt: PROMPTS[prompt] for prompt in prompts})


def rows_of(found):
    names = ("essay_id", "prompt_id", "text", "score")
    return list(zip(*(found.table.values(name) for name in names), strict=True))


def made(train, **values):
    return augment(train, AugmentationConfig(**values))


@pytest.mark.parametrize(
    ("kind", "score", "penalty", "expected"),
    [
        *((kind, 3.5, 0, 1.0) for kind, own in PERTURBATIONS.items() if own.worthless),
        ("repeat_essay", 3.5, 0, 3.5),
        ("repeat_essay", 3.5, 1, 3.0),
        ("append_off_topic", 1.5, 3, 1.0),
        ("typos", 4.0, 2, 3.0),
        ("synonyms", 3.5, 2, 3.5),
        ("babble", 3.5, 2, 1.0),
    ],
)
def test_what_a_change_deserves(kind, score, penalty, expected):
    assert deserved_score(kind, score, HALVES, penalty) == expected


def test_copies_are_of_their_essays_and_have_their_due():
    train = table()
    texts = dict(zip(train.essay_ids, train.values("text"), strict=True))
    scores = dict(zip(train.essay_ids, train.scores, strict=True))
    found = made(train, share=1.0, kinds=["babble", "repeat_essay", "off_topic"], penalty=1)
    assert len(found.table) == 20
    assert found.kinds == {"babble": 8, "repeat_essay": 6, "off_topic": 6}
    assert len(set(found.table.essay_ids)) == 20
    for name, prompt, text, score in rows_of(found):
        essay, kind = name.split()
        if kind == "repeat_essay":
            assert text == f"{texts[essay]}\n\n{texts[essay]}"
            assert score == max(scores[essay] - 1, 0)
        else:
            assert score == 0
            assert text != texts[essay]
        if kind == "off_topic":
            assert text in {texts[other] for other in texts if not other.startswith(prompt)}


def test_the_share_is_that_of_training_essays():
    assert len(made(table(each=50), share=0.1).table) == 10
    assert len(made(table(each=50), share=0.25).table) == 25


def test_the_seed_says_what_is_drawn():
    train = table(each=30)
    one, again, other = (made(train, share=0.3, seed=seed) for seed in (0, 0, 1))
    assert rows_of(one) == rows_of(again)
    assert one.summary() == again.summary()
    assert rows_of(one) != rows_of(other)
    assert one.summary()["sha256"] != other.summary()["sha256"]


def test_essays_without_anything_to_change_have_no_copy():
    """Or an honest essay would be learned with the score of nonsense."""
    train = table()
    texts = ["word" if row % 2 else text for row, text in enumerate(train.values("text"))]
    train = EssayTable(train.essays.remove_columns("text").add_column("text", texts), train.prompts)
    found = made(train, share=1.0, kinds=["shuffle_words"])
    assert (len(found.table), found.unchanged, found.kinds) == (10, 10, {"shuffle_words": 10})
    assert "word" not in found.table.values("text")
    assert "10 drawn essays had nothing to change." in found.notes[-1]


def test_prompts_whose_text_is_unknown_take_other_kinds():
    found = made(table(), share=1.0, kinds=["copy_prompt", "babble"])
    kinds = {(prompt, name.split()[1]) for name, prompt, _, _ in rows_of(found)}
    assert kinds == {("a", "copy_prompt"), ("a", "babble"), ("b", "babble")}
    assert {text for name, _, text, _ in rows_of(found) if "copy" in name} == {TEXT}
    assert "copy_prompt is left out for want of the prompt's text: prompt b." in found.notes
    only = made(table(), share=1.0, kinds=["copy_prompt"])
    assert {prompt for _, prompt, _, _ in rows_of(only)} == {"a"}
    with pytest.raises(DataError, match="names copy_prompt, which cannot be made for want of the prompt's text"):
        made(table("b"), kinds=["copy_prompt"])


def test_one_prompt_takes_the_packages_essays_for_those_off_topic():
    assert BUNDLED_OTHERS in made(table("a"), share=1.0, kinds=["off_topic"]).notes


def test_a_share_that_is_nothing():
    with pytest.raises(DataError, match=r"share of 0.01 of 20 training essays gives no changed copy\. Raise"):
        made(table(), share=0.01)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 0}, "share"),
        ({"share": 1.5}, "share"),
        ({"kinds": []}, "kinds"),
        ({"kinds": ["babel"]}, "no perturbation 'babel'. Did you mean babble"),
        ({"kinds": ["delete_last"]}, "kinds names delete_last, after which nobody knows the deserved score"),
        ({"kinds": ["babble", "babble"]}, "kinds names babble twice"),
        ({"penalty": -1}, "penalty"),
        ({"seed": -1}, "seed"),
        ({"rate": 1}, "rate"),
    ],
)
def test_faults_of_the_configuration(values, message):
    with pytest.raises(ConfigError, match=message):
        validate(DataConfig, {"source": "x.csv", "augmentation": values}, "run.yaml")


def test_off_topic_needs_a_model_that_is_told_the_prompt():
    values = {"data": {"source": "x.csv", "augmentation": {}}, "model": {"prompts": "shared"}}
    with pytest.raises(ConfigError, match=r"kinds names off_topic, but with model\.prompts shared the model is not"):
        validate(FinetuneConfig, values, "run.yaml")
    values["data"]["augmentation"] = {"kinds": ["babble"]}
    assert validate(FinetuneConfig, values, "run.yaml").data.augmentation.share == 0.1


# Whole runs.


WORDS = ("data.augmentation={share: 0.5}", "evaluation.floors=true", "model.log_length=true")


@pytest.fixture(scope="module")
def runs(run_yaml, tmp_path_factory):
    """The same run without and with changed copies."""
    folder = tmp_path_factory.mktemp("runs")
    for name, words in (("plain", WORDS[1:]), ("augmented", WORDS)):
        assert tune(run_yaml, folder / name, *words).code == 0
    return folder


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_the_manifest_tells_them_apart(runs):
    plain, augmented = manifest(runs / "plain"), manifest(runs / "augmented")
    assert plain["augmentation"] is None
    found = augmented["augmentation"]
    assert found["essays"] == sum(found["kinds"].values()) == round(0.5 * augmented["split"]["essays"]["train"])
    assert augmented["split"] == plain["split"]
    assert augmented["data"] == plain["data"]


def test_they_are_learned_from(runs):
    steps = {name: sum("loss" in line for line in records(runs / name)) for name in ("plain", "augmented")}
    assert steps["augmented"] > steps["plain"]
    assert read_rows(runs / "plain/predictions_test.csv") != read_rows(runs / "augmented/predictions_test.csv")


def test_nothing_that_is_measured_on_train_knows_them(runs):
    """Scales and floors are those of a run without."""
    one, two = (values_of(runs / name / "model") for name in ("plain", "augmented"))
    assert one["prompts"] == two["prompts"]
    plain, augmented = (json.loads((runs / name / "report.json").read_text()) for name in ("plain", "augmented"))
    assert plain["floors"] == augmented["floors"] != {}
    (note,) = [note for note in augmented["notes"] if "data.augmentation" in note]
    assert note.startswith("18 changed copies of training essays were learned from, too (data.augmentation): ")
    assert not [note for note in plain["notes"] if "changed copies" in note]


def test_advisories_are_learned_from_genuine_train_essays(run_yaml, tmp_path, monkeypatch):
    """Neither from dev nor from changed copies."""
    texts, vectors = [], []
    fit_screen, fit_vectors = Screen.fit, encoder_run.fit_ood_distance

    def record_texts(given, *rest):
        texts.extend(given)
        return fit_screen(given, *rest)

    def record_vectors(accelerator, model, train, dev, seed):
        vectors.append((len(train), len(dev)))
        return fit_vectors(accelerator, model, train, dev, seed)

    monkeypatch.setattr(Screen, "fit", record_texts)
    monkeypatch.setattr(encoder_run, "fit_ood_distance", record_vectors)
    run = tmp_path / "run"
    assert tune(run_yaml, run, WORDS[0], "training.epochs=1").code == 0
    held_out = {row["essay_id"] for part in ("dev", "test") for row in read_rows(run / f"predictions_{part}.csv")}
    assert sorted(texts) == sorted(row["text"] for row in small_essays() if row["essay_id"] not in held_out)
    essays = manifest(run)["split"]["essays"]
    assert vectors == [(essays["train"], essays["dev"])]


@pytest.mark.parametrize("part", ["dev", "test"])
def test_dev_and_test_are_as_they_were(runs, part):
    kept = ("essay_id", "prompt_id", "reference", "words")
    one, two = (
        [{key: row[key] for key in kept} for row in read_rows(runs / name / f"predictions_{part}.csv")]
        for name in ("plain", "augmented")
    )
    assert one == two


def test_texts_of_dev_and_test_are_in_no_copy(run_yaml, tmp_path, monkeypatch):
    """Nor those of the teacher."""
    seen = []
    original = fitting.augment
    monkeypatch.setattr(fitting, "augment", lambda *words: seen.append(original(*words)) or seen[-1])
    splits = ["train", "train", "dev", "test", "teacher_dev"]
    rows = [row | {"split": splits[number % 5]} for number, row in enumerate(small_essays())]
    marked = [row | {"text": f"{row['text']} The end is {row['split']}mark here."} for row in rows]
    source = write_rows(tmp_path / "marked.jsonl", marked)
    kinds = "data.augmentation={share: 1, kinds: [off_topic, append_off_topic, repeat_essay, shuffle_sentences]}"
    outcome = tune(run_yaml, tmp_path / "run", f"data.source={source}", "data.split.column=split", kinds)
    assert outcome.code == 0, outcome.err
    (found,) = seen
    assert len(found.table) == 24
    marks = {word for text in found.table.values("text") for word in text.split() if word.endswith("mark")}
    assert marks == {"trainmark"}


def test_frozen_features_are_kept_and_scaled_by_train(run_yaml, tmp_path):
    """By the genuine essays alone; the features cache takes the copies' vectors."""
    words = ["model.frozen_layers=all", "model.pooling=mean", f"model.features_cache={tmp_path / 'features'}"]
    assert tune(run_yaml, tmp_path / "plain", *words).code == 0
    outcome = tune(run_yaml, tmp_path / "augmented", *words, "data.augmentation={share: 0.5}")
    assert outcome.code == 0
    assert "60 in" in outcome.err.split("Encoded essays: ")[1]
    made = manifest(tmp_path / "augmented")["augmentation"]
    new = made["essays"] - made["kinds"]["off_topic"]  # those are whole essays of train
    assert f"{new} to compute" in outcome.err
    one, two = (load_file(tmp_path / name / "model/head.safetensors") for name in ("plain", "augmented"))
    for name in ("feature_mean", "feature_sd"):
        (key,) = [key for key in one if key.endswith(name)]
        assert np.array_equal(one[key], two[key])


@pytest.mark.parametrize(
    "words",
    [
        ["model.head=softmax", "loss.terms={cross_entropy: 1.0}"],
        ["data.split.teacher_dev_fraction=0.3", "teacher={kind: dlf, episodes: 1}", "loss.terms={mse: 0.7, mae: 0.3}"],
        ["data.keep_prompts=[river]"],
    ],
    ids=["softmax", "teacher", "one prompt"],
)
def test_other_runs_take_them_too(run_yaml, tmp_path, words):
    outcome = tune(run_yaml, tmp_path / "run", *words, "data.augmentation={share: 0.3, penalty: 1}")
    assert outcome.code == 0, outcome.err
    assert manifest(tmp_path / "run")["augmentation"]["essays"] > 0


def test_a_run_does_not_go_on_with_other_copies(run_yaml, tmp_path):
    """Another version of the package may make others."""
    words = "data.augmentation={share: 0.5}"
    assert tune(run_yaml, tmp_path / "run", words).code == 0
    before = manifest(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    (tmp_path / "run" / "report.json").unlink()
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"")
    before["augmentation"]["sha256"] = "other"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(before))
    outcome = tune(run_yaml, tmp_path / "run", words, "--resume")
    assert outcome.code == 2
    assert "the changed copies of training essays differ from those that the run began with" in outcome.error


def test_the_template_has_it(tmp_path):
    assert command("init", tmp_path / "config.yaml").code == 0
    assert read_mapping(tmp_path / "config.yaml")["data"]["augmentation"] is None
