"""Warm starts: a run that begins with the weights of an earlier one, such as one on all prompts before the target's.

Where both know a prompt on the same score range, the new run's first predictions are the earlier model's, exactly. So
two things are kept with its head: the standardisation of the encoder's vectors, which gives the weights their units,
and the prompt's scale (mean and SD of the earlier training scores and lengths), which gives them to the outputs. Essays
that the earlier run was trained on are reported where the new one is measured on them.

A head in closed form takes the encoder alone, and is fitted anew. Where the encoder has learned from the same training
essays, their vectors fit their scores better than those of new essays do; leave-one-out errors do not see that.

References:
    Song et al. (2020), Multi-stage pre-training for automated Chinese essay scoring (all prompts, then the target's).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aes_dynloss.configfile import read_mapping, user_path
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.model.encoder_folder import read_model_folder
from aes_dynloss.essays.model.encoders import build_encoder, encoder_label, encoder_values, set_dropout
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.model_folder import CONFIG, MODEL
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.model.scoring_model import ScoreHead, ScoringModel
from aes_dynloss.essays.model.sharing import locate_model
from aes_dynloss.reports.predictions import PREDICTIONS_DEV, PREDICTIONS_TEST
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.formats import read_cells
from aes_dynloss.training.run_folder import MANIFEST

logger = logging.getLogger(__name__)

# What shapes the weights that are handed on, or says what they mean; all else may change between the stages.
_EXACT = {"ridge", "kernel_ridge"}
_ENCODER = {"kind", "form", "keep_layers", "int8"}
_KEPT = {
    *_ENCODER,
    "pooling",
    "pooled_layers",
    "log_length",
    "head",
    "link",
    "hidden",
    "prompts",
    "linguistic",
    "own_features",
    "strings",
}


@dataclass(frozen=True)
class WarmStart:
    """An earlier model that a run starts from.

    Args:
        model: The earlier scorer's module.
        tokenizer: Its tokenizer.
        sha256: Digest of its config.json, which holds those of its other files.
        folder: Its folder.
    """

    model: ScoringModel
    tokenizer: Any  # transformers is untyped
    sha256: str
    folder: Path

    def encoder(self, dropout: float | None) -> Any:  # noqa: ANN401 - transformers is untyped
        """A copy of the earlier encoder.

        Args:
            dropout: Dropout within it, or None to leave it as it was in the earlier run.
        """
        earlier = self.model.encoder
        set_dropout(earlier.config, dropout)
        encoder = build_encoder(encoder_values(earlier))
        encoder.load_state_dict(earlier.state_dict())
        return encoder

    def scales(self, measured: Sequence[PromptScale]) -> list[PromptScale]:
        """The scales of a run's prompts: those of the earlier model where it knows the prompt on the same range."""
        scales = list(measured)
        if self.model.config.prompts == "shared":  # one scale for all prompts, unknown ones too, or for each trait
            names = ("mean", "sd", "length_mean", "length_sd")
            known = {scale.prompt.trait: scale for scale in reversed(self.model.scales)}
            common = {trait: {name: getattr(scale, name) for name in names} for trait, scale in known.items()}
            return [replace(scale, **common.get(scale.prompt.trait, {})) for scale in scales]
        for new, old in _shared(measured, self.model.scales):
            scales[new] = replace(self.model.scales[old], prompt=measured[new].prompt)
        return scales

    def copy_weights_to(self, model: ScoringModel) -> None:
        """Copy pooling, standardisation, and the head: the rows of shared prompts, and whatever all prompts share.

        Args:
            model: The run's, on a copy of the earlier encoder and with :meth:`scales`; its other rows stay.
        """
        with torch.no_grad():
            model.pooling.load_state_dict(self.model.pooling.state_dict())
            model.feature_mean.copy_(self.model.feature_mean)
            model.feature_sd.copy_(self.model.feature_sd)
            model.head.body.load_state_dict(self.model.head.body.state_dict())
            if not model.head.own:
                for new, old in _shared_heads(model, self.model):
                    for name in ("weight", "bias"):
                        mine, earlier = getattr(model.head.answer, name), getattr(self.model.head.answer, name)
                        _lay_over(_by_head(mine, model.head)[new], _by_head(earlier, self.model.head)[old])
            ours, theirs = _rows_by_prompt(model.head), _rows_by_prompt(self.model.head)
            shared = _shared(model.scales, self.model.scales)
            for new, old in shared:
                for name, rows in ours.items():
                    _lay_over(rows[new], theirs[name][old])
                if model.config.feature_names:
                    model.linguistic_mean[new] = self.model.linguistic_mean[old]
                    model.linguistic_sd[new] = self.model.linguistic_sd[old]
        names = [model.scales[new].prompt.id for new, _ in shared]
        known = f"the prompt{'s' if len(names) > 1 else ''} {', '.join(names)}"
        if not names:
            known = "none of this run's prompts: what belongs to a prompt starts anew"
        logger.info("Starting from an earlier model, which knows %s.", known)


def read_warm_start(config: ModelConfig) -> WarmStart | None:
    """Open the model that a run starts from.

    Args:
        config: The run's; ``start_from`` is a model folder, or the folder of a run with one in it.

    Returns:
        The start, or None where the run starts from a pretrained encoder.

    Raises:
        CheckpointError: There is no such model, or it is damaged.
        ConfigError: The run's scorer is built otherwise than the earlier one.
    """
    if config.start_from is None:
        return None
    folder = locate_model(user_path(config.start_from, "model.start_from"))
    parts = read_model_folder(folder)
    then, now = (_what_is_handed_on(each, anew=config.solver in _EXACT) for each in (parts.model.config, config))
    differing = [f"model.{name} is {now[name]!r}, there {then[name]!r}" for name in now if now[name] != then[name]]
    if differing:
        raise ConfigError(
            f"model.start_from: the scorer in {folder} is built otherwise than this run's: {'; '.join(differing)}. Set "
            "these keys as they are there (the encoder is read from there, so its name need not lead anywhere), or "
            "leave start_from out."
        )
    return WarmStart(parts.model, parts.tokenizer, file_sha256(folder / CONFIG), folder.resolve())


def _what_is_handed_on(config: ModelConfig, *, anew: bool) -> dict[str, Any]:
    """What shapes the weights that one run hands to another: the encoder's alone, where the head is fitted anew."""
    encoder = {"encoder": Path(encoder_label(config.encoder)).name}
    if anew:
        return config.model_dump(include=_ENCODER) | encoder
    # A linear head is one, however it was fitted.
    solver = "sgd" if config.solver == "ridge" else config.solver
    return config.model_dump(include=_KEPT) | encoder | {"solver": solver}


def _shared(new: Sequence[PromptScale], old: Sequence[PromptScale]) -> list[tuple[int, int]]:
    """Numbers, in both models, of the prompts that both know on the same score range."""
    numbers = {(scale.prompt.id, scale.prompt.range): number for number, scale in enumerate(old)}
    keys = [(scale.prompt.id, scale.prompt.range) for scale in new]
    return [(number, numbers[key]) for number, key in enumerate(keys) if key in numbers]


def _shared_heads(new: ScoringModel, old: ScoringModel) -> list[tuple[int, int]]:
    """Numbers, in both models, of heads that several prompts share: of the same trait, or of what has no traits."""
    ours, theirs = (
        {scale.prompt.trait: int(head) for scale, head in zip(model.scales, model.head.heads.tolist(), strict=True)}
        for model in (new, old)
    )
    if new.head.embedded:  # one head for all
        return [(0, 0)]
    return [(head, theirs[trait]) for trait, head in ours.items() if trait in theirs]


def _by_head(weights: Tensor, head: ScoreHead) -> Tensor:
    """A view of the last layer's weights, (heads, answers of each, ...)."""
    return weights.view(head.head_count, -1, *weights.shape[1:])


def _rows_by_prompt(head: ScoreHead) -> dict[str, Tensor]:
    """Views of a head's weights that have one row a prompt."""
    prompts = len(head.counts)
    rows = {name: getattr(head, name) for name in ("prior", "first_border", "border_steps") if hasattr(head, name)}
    if head.own:
        rows["answer.weight"] = head.answer.weight.view(prompts, -1, head.answer.in_features)
        rows["answer.bias"] = head.answer.bias.view(prompts, -1)
    elif head.embedded:
        rows["embedding"] = head.embedding.weight
    return rows


def _lay_over(new: Tensor, old: Tensor) -> None:
    """Copy what both have: one model may have more score points than the other, for other prompts' sake."""
    part = tuple(slice(min(size, other)) for size, other in zip(new.shape, old.shape, strict=True))
    new[part] = old[part]


# In which parts of the first run an essay may have been, to be new to its weights and to their choice.
_CLEAN = {"dev": (PREDICTIONS_DEV, PREDICTIONS_TEST), "test": (PREDICTIONS_TEST,)}


def contamination_notes(start: WarmStart | None, parts: Mapping[str, EssayTable]) -> list[str]:
    """Words on dev and test essays that the first model may have been trained on, or chosen by.

    A run does not keep all ids that it was trained on; but of a prompt that it knows, an essay which is not among its
    held-out predictions may have been. The model of a cross-fitted run is fitted to the essays of its test, too.

    Args:
        start: The first model, if there is one.
        parts: This run's essays by part; of a cross-fitted run those of all parts as test.

    Returns:
        A note for each part with such essays; it is logged, too.

    Raises:
        DataError: The first run's predictions are damaged.
    """
    if start is None:
        return []
    prompts = {scale.prompt.prompt_id for scale in start.model.scales}
    run = start.folder.parent if start.folder.name == MODEL else None
    notes = []
    for name, clean in _CLEAN.items():
        if name not in parts:
            continue
        part = parts[name].once
        essays = [key for key in zip(part.answered, part.essay_ids, strict=True) if key[0] in prompts]
        held_out: set[tuple[str, str]] = set()
        for path in () if run is None else _held_out(run, clean):
            cells = read_cells(path)
            held_out |= set(zip(cells["prompt_id"].astype(str), cells["essay_id"].astype(str), strict=True))
        doubtful = [essay for prompt, essay in essays if (prompt, essay) not in held_out]
        if doubtful:
            note = (
                f"{len(doubtful)} of {len(part)} {name} essays, such as {doubtful[0]}, are not known to be held out of "
                "the run whose weights this one starts with: it may have been trained on them, and then the figures "
                "flatter. Split both runs by the same files (data.split), and start from the run's own folder."
            )
            logger.warning("%s", note)
            notes.append(note)
    return notes


def _held_out(run: Path, files: Sequence[str]) -> list[Path]:
    """Those of a run's files of predictions whose essays its model has not learned from; none without a manifest."""
    if not (run / MANIFEST).exists():
        return []
    cross_fitted = bool(read_mapping(run / MANIFEST).get("split", {}).get("parts"))
    known = [run / file for file in files if not (cross_fitted and file == PREDICTIONS_TEST)]
    return [path for path in known if path.exists()]
