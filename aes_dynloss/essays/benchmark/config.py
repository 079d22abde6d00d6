"""The configuration of a grid: the file that ``aes-dynloss benchmark`` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.essays.data.data_config import Word

# What the grid itself sets for each cell.
GRID_KEYS = ("data", "training.seed", "evaluation.floors", "model.start_from")
# Keys of ``data`` that are an arm's own, with what is in them.
ARM_DATA = (
    "data.augmentation",
    "data.split.teacher_dev_fraction",
    "data.untrusted",
    "data.trusted_weight",
    "data.balance",
)
# Keys of ``finetune.data`` whose {fold} and {seed} are filled for each cell.
FILLED = ("source", "trusted")
FOLD, SEED = "{fold}", "{seed}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Models = Literal["all_prompts", "one_per_prompt"]


class ArmConfig(ConfigModel):
    """What one arm of the comparison changes."""

    changes: dict[str, Any] = Field(
        default={},
        alias="set",
        description="Keys of the fine-tuning configuration and their values here, such as {loss.terms: {mse: 1.0}}.",
    )
    after: str | None = Field(
        default=None,
        description="Arm whose model of the same fold and seed this one starts from: the second of two stages.",
    )
    teacher_of: str | None = Field(
        default=None,
        description="Arm whose teacher of the same fold and seed steers this one, frozen: taught there, used here.",
    )
    models: Models | None = Field(default=None, description="One model for all prompts or one each; null: as the grid.")

    @property
    def starts_from(self) -> dict[str, str]:
        """The arms that it starts from, by the key that names them: ``after`` or ``teacher_of``."""
        return self.model_dump(include={"after", "teacher_of"}, exclude_none=True)


class BenchmarkConfig(ConfigModel):
    """Arms x parts (folds or unseen prompts) x seeds."""

    finetune: dict[str, Any] = Field(
        description="The fine-tuning configuration that all arms share. {fold} and {seed} in data.source and "
        "data.trusted stand for a cell's: grids whose training essays or scores differ by fold or seed."
    )
    arms: dict[str, ArmConfig] = Field(min_length=1, description="The arms by name, each with what it changes.")
    control: str | None = Field(default=None, description="Arm with which the others are compared; null: the first.")
    protocol: Literal["folds", "leave_one_prompt_out"] = Field(
        default="folds",
        description="folds: fold_0, fold_1, ... in splits_dir, each with train_ids.txt, dev_ids.txt, test_ids.txt. "
        "leave_one_prompt_out: all essays of one prompt are test, target_P_dev_ids.txt in splits_dir are dev, the rest "
        "of the other prompts train.",
    )
    splits_dir: str = Field(
        min_length=1, description="Folder of the folds, or of the lists of dev ids; {seed} stands for a cell's."
    )
    folds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 3, 4], min_length=1, description="Folds to run.")
    prompts: list[Word] | None = Field(
        default=None, min_length=1, description="Prompts to use, or to leave out in turn; null: all of the data."
    )
    models: Models = Field(default="all_prompts", description="One model for all prompts, or one for each.")
    seeds: Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=0)]] = Field(
        default=1, description="Number of seeds, counted from 0, or the seeds."
    )
    ensembles: bool = Field(
        default=True, description="With several seeds: also report the mean of the seeds' predictions as one scorer."
    )
    mixtures: dict[str, Annotated[list[str], Field(min_length=2)]] = Field(
        default={},
        description="Further ensembles by name: arms whose predictions, of all seeds, are averaged as one scorer.",
    )
    stacks: dict[str, Annotated[list[str], Field(min_length=2)]] = Field(
        default={},
        description="Such ensembles with weights by fold and prompt, fitted on the arms' out-of-fold predictions of "
        "train, which exact solvers and model.cross_fit leave; on dev where an arm leaves none.",
    )
    trait_stacks: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        default={},
        description="Such stacks of essays that are scored on several traits: each trait's score takes from the "
        "predictions of all traits of the prompt.",
    )
    chosen: dict[str, Annotated[list[str], Field(min_length=2)]] = Field(
        default={},
        description="Further scorers by name: in each fold and seed, the arm of these with the best QWK on dev, the "
        "mean over prompts; of equal ones the first.",
    )
    floors: bool | list[str] = Field(
        default=True,
        description="Whether simple scorers' figures stand beside the arms'; or which of them, such as [tfidf_ridge].",
    )
    measured_on: Literal["test", "dev"] = Field(
        default="test", description="dev: for tuning; the report then has no figure of test."
    )
    resamples: int = Field(default=4000, ge=100, le=1_000_000, description="Bootstrap resamples behind each interval.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    published: Literal["asap"] | None = Field(
        default=None, description="asap: published systems' figures stand below the arms', with their sources."
    )
    keep_models: bool = Field(
        default=False, description="Keep every cell's model folder; otherwise only those that another arm starts from."
    )

    @property
    def arm_order(self) -> list[str]:
        """The arms, each behind those that it starts from."""
        return list(
            TopologicalSorter({name: arm.starts_from.values() for name, arm in self.arms.items()}).static_order()
        )

    def models_of(self, arm: str) -> Models:
        """Whether an arm has one model for all prompts or one for each."""
        return self.arms[arm].models or self.models

    @property
    def varies(self) -> frozenset[str]:
        """By what the data differ from cell to cell: FOLD, SEED, both or neither."""
        data = self.finetune.get("data")
        texts = [str(data.get(key)) for key in FILLED] if isinstance(data, dict) else []
        return frozenset(name for name in (FOLD, SEED) if any(name in text for text in (*texts, self.splits_dir)))

    @field_validator("seeds", "folds", "prompts")
    @classmethod
    def _check_once(cls, value: object) -> object:
        if isinstance(value, list) and (len(set(value)) < len(value) or not value):
            raise ValueError("expected each once, and at least one")
        return value

    @property
    def floor_names(self) -> tuple[str, ...]:
        """The simple scorers that stand beside the arms."""
        from aes_dynloss.essays.floors import FLOORS  # loads scikit-learn

        return tuple(self.floors) if isinstance(self.floors, list) else tuple(FLOORS) if self.floors else ()

    @field_validator("floors")
    @classmethod
    def _check_floors(cls, value: bool | list[str]) -> bool | list[str]:
        if isinstance(value, bool):
            return value
        from aes_dynloss.essays.floors import FLOORS

        if not set(value) <= set(FLOORS) or len(set(value)) < len(value):
            raise ValueError(f"expected true, false or some of {', '.join(FLOORS)}, each once")
        return value

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name, arm in self.arms.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"arms.{name}: a name is made of letters, digits, _, - and ., as it names a folder")
            for key in arm.changes:
                _check_free(f"arms.{name}.set", key, arm.changes[key])
                inside = [other for other in arm.changes if other.startswith(f"{key}.")]
                if inside or (key.split(".")[0] == "teacher" and arm.teacher_of is not None):
                    raise ValueError(f"arms.{name}: {inside[0] if inside else 'teacher_of'} and {key} set the same")
        if self.control is not None and self.control not in self.arms:
            raise ValueError(f"control is {self.control!r}, expected one of the arms: {', '.join(self.arms)}")
        return self

    @model_validator(mode="after")
    def _check_made_of_arms(self) -> Self:
        taken = dict.fromkeys(self.arms, "an arm")
        for key in ("mixtures", "stacks", "trait_stacks", "chosen"):
            for name, members in getattr(self, key).items():
                unknown = [arm for arm in members if arm not in self.arms]
                if unknown or name in self.arms or len(set(members)) < len(members):
                    raise ValueError(f"{key}.{name}: expected arms, each once: {', '.join(self.arms)}")
                if name in taken:
                    raise ValueError(f"{key}.{name}: {taken[name]} has this name, expected another")
                taken[name] = {"mixtures": "a mixture"}.get(key, "a stack")
        if self.protocol == "leave_one_prompt_out":
            if self.stacks or self.trait_stacks:
                key = "stacks" if self.stacks else "trait_stacks"
                raise ValueError(
                    f"{key}: no train essay answers an unseen prompt, so that it has no weights; use mixtures"
                )
            if self.chosen:
                raise ValueError("chosen: no dev essay answers an unseen prompt, so that nothing is known to choose by")
        return self

    @model_validator(mode="after")
    def _check_varying_data(self) -> Self:
        if FOLD in self.splits_dir or (FOLD in self.varies and self.protocol == "leave_one_prompt_out"):
            where = "splits_dir" if FOLD in self.splits_dir else "finetune.data"
            raise ValueError(f"{where} names {FOLD}: expected it in finetune.data, with protocol: folds")
        averaged = [key for key in ("ensembles", "mixtures", "stacks", "trait_stacks") if getattr(self, key)]
        if SEED in self.varies and averaged:
            raise ValueError(
                f"{averaged[0]}: seeds are draws of the data here ({SEED}), with dev essays of their own, and are not "
                f"averaged; expected ensembles: false, and neither mixtures nor stacks"
            )
        if self.varies and self.floors:
            raise ValueError(f"floors: the data differ by {' and '.join(sorted(self.varies))}; expected floors: false")
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        for name, arm in self.arms.items():
            for key, other in arm.starts_from.items():
                if other not in self.arms or other == name:
                    raise ValueError(f"arms.{name}.{key} is {other!r}, expected another of the arms")
                if self.models_of(name) == "all_prompts" and self.models_of(other) == "one_per_prompt":
                    raise ValueError(f"arms.{name}.{key}: {other} has a model for each prompt, {name} one for all")
        try:
            _ = self.arm_order
        except CycleError as error:
            raise ValueError(f"arms.{error.args[1][0]} starts from itself, by way of after and teacher_of") from None
        models = {self.models_of(name) for name in self.arms}
        if self.protocol == "leave_one_prompt_out" and models != {"all_prompts"}:
            raise ValueError("an unseen prompt can have no model of its own; leave models out")
        return self


def _check_free(where: str, key: str, value: object) -> None:
    # A model of another kind has keys of its own, and none of the shared ones.
    other_kind = key == "model" and isinstance(value, Mapping) and "kind" in value and "start_from" not in value
    for taken in GRID_KEYS:
        inside = key == taken or taken.startswith(f"{key}.") or key.startswith(f"{taken}.")
        inside = inside and not other_kind
        if inside and not f"{key}.".startswith(tuple(f"{own}." for own in ARM_DATA)):
            raise ValueError(
                f"{where}: {taken} is the grid's to set, by its own keys for folds, seeds and stages, and by "
                f"finetune.data for all arms; found {key}. Name other keys in full, such as {{training.epochs: 3}}"
            )
