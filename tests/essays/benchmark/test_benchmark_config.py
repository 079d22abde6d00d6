"""What a grid's configuration takes, and what it refuses in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_grid import small_grid

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.benchmark.cells import grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.floors import FLOORS

PROMPTS = ["phones", "river"]
DRAWN = {"floors": False, "ensembles": False}


def config(**changes: object) -> BenchmarkConfig:
    return validate(BenchmarkConfig, small_grid(**changes), "grid.yaml")


def names(grid: BenchmarkConfig) -> list[str]:
    return [cell.name.as_posix() for cell in grid_cells(grid, PROMPTS, Path("grid"))]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {}}, "arms"),
        ({"arms": {"a/b": {}}}, "names a folder"),
        ({"arms": {"..": {}}}, "names a folder"),
        ({"control": "huber"}, "expected one of the arms: mse, mae"),
        ({"arms": {"a": {"set": {"data.split.folds_dir": "x"}}}}, "is the grid's to set"),
        ({"arms": {"a": {"set": {"data": {"split": {}}}}}}, "is the grid's to set"),
        ({"arms": {"a": {"set": {"training.seed": 3}}}}, "is the grid's to set"),
        ({"arms": {"a": {"set": {"model.start_from": "x"}}}}, "is the grid's to set"),
        ({"arms": {"a": {"set": {"model": {"kind": "encoder", "start_from": "x"}}}}}, "is the grid's to set"),
        ({"arms": {"a": {"set": {"model": {"solver": "ridge"}}}}}, "is the grid's to set"),
        ({"arms": {"a": {"set": {"data.keep_prompts": ["river"]}}}}, "is the grid's to set"),
        ({"arms": {"a": {"set": {"data.source": "other.csv"}}}}, "finetune.data for all arms; found data.source"),
        ({"arms": {"a": {"set": {"training": {"epochs": 3}}}}}, "such as {training.epochs: 3}"),
        (
            {"arms": {"a": {"set": {"loss.terms": {"mae": 1}, "loss": {"standardise": True}}}}},
            "loss.terms and loss set",
        ),
        ({"arms": {"a": {}, "b": {"teacher_of": "a", "set": {"teacher.kind": "dlf"}}}}, "teacher_of and teacher.kind"),
        ({"arms": {"a": {"after": "b"}}}, "expected another of the arms"),
        ({"arms": {"a": {"after": "a"}}}, "expected another of the arms"),
        ({"arms": {"a": {"after": "b"}, "b": {"teacher_of": "c"}, "c": {"after": "a"}}}, "starts from itself"),
        ({"arms": {"a": {"after": "b"}, "b": {"models": "one_per_prompt"}}}, "a model for each prompt"),
        ({"protocol": "leave_one_prompt_out", "models": "one_per_prompt"}, "no model of its own"),
        ({"folds": [0, 0]}, "each once"),
        ({"folds": []}, "folds"),
        ({"folds": [-1]}, "folds"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [1, 1]}, "each once"),
        ({"splits_dir": ""}, "splits_dir"),
        ({"mixtures": {"both": ["mse"]}}, "mixtures"),
        ({"mixtures": {"both": ["mse", "huber"]}}, "expected arms, each once"),
        ({"mixtures": {"both": ["mse", "mse"]}}, "expected arms, each once"),
        ({"mixtures": {"mae": ["mse", "mae"]}}, "expected arms, each once"),
        ({"stacks": {"both": ["mse"]}}, "stacks"),
        ({"stacks": {"both": ["mse", "huber"]}}, "stacks.both: expected arms, each once"),
        ({"stacks": {"mae": ["mse", "mae"]}}, "stacks.mae: expected arms, each once"),
        ({"trait_stacks": {"both": ["huber"]}}, "trait_stacks.both: expected arms, each once"),
        ({"protocol": "leave_one_prompt_out", "trait_stacks": {"both": ["mse"]}}, "no train essay answers an unseen"),
        ({"mixtures": {"both": ["mse", "mae"]}, "stacks": {"both": ["mse", "mae"]}}, "a mixture has this name"),
        ({"chosen": {"best": ["mse"]}}, "chosen"),
        ({"chosen": {"best": ["mse", "huber"]}}, "chosen.best: expected arms, each once"),
        ({"chosen": {"mae": ["mse", "mae"]}}, "chosen.mae: expected arms, each once"),
        ({"stacks": {"both": ["mse", "mae"]}, "chosen": {"both": ["mse", "mae"]}}, "a stack has this name"),
        ({"protocol": "leave_one_prompt_out", "chosen": {"best": ["mse", "mae"]}}, "no dev essay answers an unseen"),
        ({"splits_dir": "folds/{fold}"}, "splits_dir names {fold}"),
        ({"finetune": {"data": {"source": "{fold}.csv"}}, "protocol": "leave_one_prompt_out"}, "finetune.data names"),
        ({"splits_dir": "draw_{seed}", "ensembles": False}, "floors: the data differ by {seed}"),
        ({"finetune": {"data": {"source": "{fold}.csv"}}}, "floors: the data differ by {fold}"),
        ({"splits_dir": "draw_{seed}", "floors": False}, "expected ensembles: false"),
        ({"floors": ["tfidf_ridge", "guesses"]}, "expected true, false or some of mean_score, length"),
        ({"floors": ["length", "length"]}, "each once"),
        (
            {**DRAWN, "finetune": {"data": {"source": "x", "trusted": "{seed}"}}, "mixtures": {"both": ["mse", "mae"]}},
            "mixtures: seeds are draws of the data here",
        ),
        ({"protocol": "leave_one_prompt_out", "stacks": {"both": ["mse", "mae"]}}, "no train essay answers an unseen"),
    ],
)
def test_faults_are_named(changes, words):
    with pytest.raises(ConfigError, match="fault") as error:
        config(**changes)
    assert words in str(error.value)


def test_floors_by_name():
    assert config(floors=["tfidf_ridge", "length"]).floor_names == ("tfidf_ridge", "length")
    assert (config(floors=False).floor_names, config().floor_names) == ((), tuple(FLOORS))


def test_an_arm_may_be_of_another_kind():
    (cell,) = grid_cells(config(arms={"a": {"set": {"model": {"kind": "boosting"}}}}, folds=[0]), PROMPTS, Path("grid"))
    assert (cell.config.model.kind, cell.config.model.postprocessing) == ("boosting", "auto")


def test_every_cell_is_there_once():
    cells = names(config(seeds=3, folds=[1, 4]))
    assert cells == [f"{arm}/fold_{fold}/seed_{seed}" for arm in ("mse", "mae") for fold in (1, 4) for seed in range(3)]


def test_one_model_for_each_prompt():
    cells = grid_cells(config(models="one_per_prompt", folds=[0]), PROMPTS, Path("grid"))
    assert [cell.name.as_posix() for cell in cells][:2] == [
        "mse/fold_0/prompt_phones/seed_0",
        "mse/fold_0/prompt_river/seed_0",
    ]
    assert [cell.config.data.keep_prompts for cell in cells] == [["phones"], ["river"]] * 2


def test_left_out_prompts():
    cells = grid_cells(
        config(protocol="leave_one_prompt_out", arms={"a": {"set": {"model.prompts": "shared"}}}), PROMPTS, Path("grid")
    )
    assert [cell.name.as_posix() for cell in cells] == ["a/target_phones/seed_0", "a/target_river/seed_0"]
    split = cells[1].config.data.split
    assert (split.target_prompt, split.target_dev_ids) == ("river", "folds/target_river_dev_ids.txt")
    assert cells[1].config.data.keep_prompts == PROMPTS


def test_one_prompt_left_out_is_learned_from_all_others():
    arms = {"a": {"set": {"model.prompts": "shared"}}}
    grid = config(protocol="leave_one_prompt_out", prompts=["river"], arms=arms)
    (cell,) = grid_cells(grid, PROMPTS, Path("grid"))
    assert cell.part == "target_river"
    assert cell.config.data.keep_prompts == PROMPTS


@pytest.mark.parametrize("prompt", ["a/b", "../../x", "/x"])
def test_a_prompts_name_leads_nowhere_else(prompt):
    cell = grid_cells(config(models="one_per_prompt"), [prompt], Path("grid"))[0]
    assert len(cell.name.parts) == 4
    assert cell.config.data.keep_prompts == [prompt]


def test_an_arm_changes_what_it_names_and_nothing_else():
    mse, mae = (cell for cell in grid_cells(config(folds=[0]), PROMPTS, Path("grid")))
    assert mae.config.loss.terms == {"mae": 1.0}
    assert mae.config.model_copy(update={"loss": mse.config.loss}) == mse.config


def test_seeds_reach_training_and_the_choice_of_the_teachers_essays():
    cells = grid_cells(config(seeds=[7, 9], folds=[0]), PROMPTS, Path("grid"))
    assert [(cell.config.training.seed, cell.config.data.split.seed) for cell in cells[:2]] == [(7, 7), (9, 9)]


def test_each_cell_has_its_own_data():
    finetune = small_grid()["finetune"]
    finetune["data"]["source"] = "noisy/draw_{seed}/fold_{fold}/essays.jsonl"
    grid = config(finetune=finetune, splits_dir="noisy/draw_{seed}", seeds=[7, 9], folds=[1, 4], **DRAWN)
    cells = {cell.name.as_posix(): cell.config.data for cell in grid_cells(grid, PROMPTS, Path("grid"))}
    assert len({(data.source, data.split.folds_dir) for data in cells.values()}) == 4
    data = cells["mae/fold_4/seed_9"]
    assert (data.source, data.split.folds_dir) == ("noisy/draw_9/fold_4/essays.jsonl", "noisy/draw_9/fold_4")


def test_stages_come_in_order_and_know_their_places():
    arms = {
        "target": {"after": "all", "models": "one_per_prompt"},
        "all": {},
        "taught": {"set": {"teacher": {"kind": "dlf"}, "data.split.teacher_dev_fraction": 0.2}},
        "steered": {"teacher_of": "taught"},
    }
    cells = {cell.name.as_posix(): cell for cell in grid_cells(config(arms=arms, folds=[1]), PROMPTS, Path("grid"))}
    order = list(cells)
    assert order.index("all/fold_1/seed_0") < order.index("target/fold_1/prompt_river/seed_0")
    assert order.index("taught/fold_1/seed_0") < order.index("steered/fold_1/seed_0")
    target = cells["target/fold_1/prompt_river/seed_0"]
    assert target.needs == {"model.start_from": Path("all/fold_1/seed_0")}
    assert target.config.model.start_from == "grid/cells/all/fold_1/seed_0/model"
    steered = cells["steered/fold_1/seed_0"]
    assert steered.config.teacher is not None
    assert steered.config.teacher.model_dump(by_alias=True)["from"] == "grid/cells/taught/fold_1/seed_0/teacher"
    assert {name for name, cell in cells.items() if cell.keeps_model} == {"all/fold_1/seed_0"}


def test_who_teaches_nothing_cannot_be_asked_to():
    with pytest.raises(ConfigError, match=r"arms\.b\.teacher_of: a has no teacher that learns"):
        grid_cells(config(arms={"a": {}, "b": {"teacher_of": "a"}}), PROMPTS, Path("grid"))


def test_an_exact_head_over_an_encoder_that_has_learned_leaves_none():
    """The encoder knows the essays that the head is fitted without."""
    exact = {"after": "a", "set": {"model.solver": "ridge", "model.frozen_layers": "all"}}
    cells = grid_cells(config(arms={"a": {}, "b": exact}, folds=[0]), PROMPTS, Path("grid"))
    assert [cell.config.leaves_out_of_fold for cell in cells] == [False, False]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, False),
        ({"model.frozen_layers": "all"}, False),
        ({"model.solver": "ridge", "model.frozen_layers": "all"}, True),
        ({"model.cross_fit": 5, "model.frozen_layers": "all"}, True),
    ],
)
def test_which_arms_leave_out_of_fold_predictions(keys, expected):
    (cell,) = grid_cells(config(arms={"a": {"set": keys}}, folds=[0]), PROMPTS, Path("grid"))
    assert cell.config.leaves_out_of_fold == expected


def test_stacks_across_traits_need_traits():
    arms = {"a": {"set": {"model.solver": "ridge", "model.frozen_layers": "all"}}}
    with pytest.raises(ConfigError, match=r"^trait_stacks: essays have one score\. Name several traits in finetune\."):
        grid_cells(config(arms=arms, trait_stacks={"both": ["a"]}), PROMPTS, Path("grid"))


def test_a_fault_of_an_arm_is_named_with_it():
    with pytest.raises(ConfigError, match=r"arms\.mse"):
        grid_cells(config(arms={"mse": {"set": {"training.epochs": 0}}}), PROMPTS, Path("grid"))
