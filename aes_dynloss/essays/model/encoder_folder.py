"""What the folder of a Transformer scorer holds: weights, tokenizer, n-grams, and what advisories need.

The encoder's weights are a file of their own, under transformers' names, and config.json has transformers' keys beside
ours. So ``AutoModel`` and ``AutoTokenizer`` open the folder too, and sentence-transformers does by ``modules.json``.
Version 1 of the format had all weights in one file, the encoder's behind a prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aes_dynloss.errors import AesDynlossError, CheckpointError, first_line
from aes_dynloss.essays.classical.strings import StringModel, strings_from_arrays, strings_to_arrays
from aes_dynloss.essays.model.encoders import (
    build_encoder,
    check_vocabulary,
    encoder_label,
    encoder_values,
    longest_window,
    tokenizer_fault,
)
from aes_dynloss.essays.model.lora import merged_state
from aes_dynloss.essays.model.model_folder import (
    CONFIG,
    FORMAT,
    HEAD,
    SCREENING,
    STRINGS,
    TRAINING,
    WEIGHTS,
    Fitted,
    check_files,
    damage_named,
    damaged,
    read_arrays,
    read_config,
    read_training,
    screen_arrays,
    screen_from_arrays,
    write_scorer_folder,
    write_training,
)
from aes_dynloss.essays.model.ood_distance import OodDistance
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.model.training_essays import TrainingEssays
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.intervals import Certainty, Intervals

_VECTORS, _THRESHOLDS = "vectors.", "distances"
_ENCODER = "encoder."
_POOLING = "1_Pooling"


@dataclass(frozen=True)
class Screening:
    """What was learned from training essays beside their scores.

    Args:
        text: From their words.
        ood_distance: From their vectors.
    """

    text: Screen
    ood_distance: OodDistance


def write_screening(screening: Screening, path: Path) -> None:
    """Write what was learned from training essays beside their scores.

    Args:
        screening: What is written.
        path: Where to.
    """
    from safetensors.numpy import save_file

    ood_distance = screening.ood_distance
    arrays = screen_arrays(screening.text) | {_THRESHOLDS: ood_distance.thresholds.cpu().numpy()}
    for number, vectors in enumerate(ood_distance.references):
        arrays[f"{_VECTORS}{number}"] = vectors.half().cpu().numpy()
    save_file(arrays, path)


def read_screening(path: Path) -> Screening:
    """Read what ``write_screening`` wrote.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is damaged.
    """
    arrays = read_arrays(path)
    try:
        thresholds = arrays[_THRESHOLDS]
        vectors = [torch.from_numpy(arrays[f"{_VECTORS}{number}"]) for number in range(len(thresholds))]
        return Screening(screen_from_arrays(arrays), OodDistance(vectors, thresholds.tolist()))
    except (KeyError, TypeError, ValueError, AesDynlossError) as error:
        raise damaged(path, error) from None


@dataclass(frozen=True)
class ModelParts:
    """What a model folder holds.

    Args:
        model: The torch module.
        tokenizer: Its encoder's tokenizer.
        postprocessing: From raw to score.
        intervals: Prediction intervals fitted on dev.
        certainty: Agreement probabilities calibrated on dev.
        screening: What was learned from training essays beside their scores; None for nothing.
        strings: What n-grams add to the head's output, by prompt; empty for nothing.
        training: What explanations put beside an essay; None for nothing.
    """

    model: ScoringModel
    tokenizer: Any
    postprocessing: Postprocessing
    intervals: Intervals
    certainty: Certainty
    screening: Screening | None
    strings: Mapping[str, StringModel] = field(default_factory=dict)
    training: TrainingEssays | None = None


def write_model_folder(parts: ModelParts, folder: Path, card: str | None = None) -> None:
    """Write a model folder; it appears whole or not at all, in the place of an older model.

    Args:
        parts: What it holds.
        folder: Where to.
        card: Text of README.md.

    Raises:
        CheckpointError: The folder cannot be written, or holds something that is no model.
    """
    from safetensors.numpy import save_file as save_arrays
    from safetensors.torch import save_file

    def write_files(new: Path) -> None:
        adapted = parts.model.config.lora is not None
        state = merged_state(parts.model) if adapted else parts.model.state_dict()
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        parts.tokenizer.save_pretrained(new)
        encoder = {name.removeprefix(_ENCODER): state.pop(name) for name in list(state) if name.startswith(_ENCODER)}
        save_file(encoder, new / WEIGHTS, metadata={"format": "pt"})
        save_file(state, new / HEAD, metadata={"format": "pt"})
        if not config.int8:
            _write_sentence_modules(parts, new)
        if parts.screening is not None:
            write_screening(parts.screening, new / SCREENING)
        if parts.strings:
            save_arrays(strings_to_arrays(parts.strings), new / STRINGS)
        write_training(parts.training, parts.model.scales, new)

    config = parts.model.config
    fitted = Fitted(config, parts.model.scales, parts.postprocessing, parts.intervals, parts.certainty)
    values = fitted.to_dict()
    values["model"]["encoder"] = encoder_label(config.encoder)
    values["encoder"] = encoder_values(parts.model.encoder)
    # Of layers in int8 transformers knows nothing: without model_type it refuses them.
    of_transformers = {} if config.int8 else encoder_values(parts.model.encoder, defaults=False)
    write_scorer_folder(folder, of_transformers | values, write_files, card)


def _write_sentence_modules(parts: ModelParts, folder: Path) -> None:
    """Write what sentence-transformers opens a folder by: the encoder, and the pooling of its last layer's tokens.

    That is what the scorer itself makes of one window with ``pooled_layers: 1`` and the pooling mean or cls. Of several
    layers it is the last one's part, and in the place of attention pooling, which has no such form, there is the mean.
    """
    config, encoder = parts.model.config, parts.model.encoder
    window = config.window or longest_window(encoder.config, parts.tokenizer)
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate([("", "Transformer"), (_POOLING, "Pooling")])
    ]
    pooling = {
        "word_embedding_dimension": encoder.config.hidden_size,
        "pooling_mode_cls_token": config.pooling == "cls",
        "pooling_mode_mean_tokens": config.pooling != "cls",
    }
    (folder / _POOLING).mkdir()
    for name, values in {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": window, "do_lower_case": False},
        f"{_POOLING}/config.json": pooling,
    }.items():
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_model_folder(folder: Path) -> ModelParts:
    """Open the folder of a Transformer scorer.

    Args:
        folder: The folder.

    Raises:
        CheckpointError: It is missing, damaged, not of this format, or its weights are not those that were written.
    """
    values = read_config(folder, FORMAT)
    check_files(folder, values)
    with damage_named(folder):
        fitted = Fitted.from_dict(values)
        config, scales = fitted.config, fitted.scales
        if config.kind != "encoder":
            raise CheckpointError(f"it holds a model of kind {config.kind}, where one with an encoder is expected")
        screening = read_screening(folder / SCREENING) if SCREENING in values["sha256"] else None
        strings = _read_strings(folder / STRINGS, [scale.prompt.id for scale in scales]) if config.strings else {}
        training = read_training(folder, values, fitted)
        encoder = build_encoder(dict(values["encoder"]))
        model = ScoringModel(encoder, config, scales)
        _load_weights(model, folder, apart=HEAD in values["sha256"])
        if screening is not None:
            known, width = screening.ood_distance.references, encoder.config.hidden_size
            if len(known) != len(scales) or any(len(vectors) and vectors.shape[1] != width for vectors in known):
                raise CheckpointError(f"{SCREENING} does not fit {CONFIG}. Fetch the folder again.")
        if training is not None:
            vectors = [] if screening is None else screening.ood_distance.references
            kept = {scale.prompt.id: len(one) for scale, one in zip(scales, vectors, strict=False)}
            if any(len(scores) != kept.get(scale, 0) for scale, scores in training.scores.items()):
                raise CheckpointError(f"{TRAINING} does not fit {SCREENING}. Fetch the folder again.")
    tokenizer = _read_tokenizer(folder, encoder.config)
    try:
        check_vocabulary(encoder, tokenizer)
    except (TypeError, ValueError) as error:  # a tokenizer that does not work
        raise CheckpointError(f"{folder} is damaged: {error}") from None
    calibration = fitted.postprocessing, fitted.intervals, fitted.certainty
    return ModelParts(model.eval(), tokenizer, *calibration, screening, strings, training)


def _read_strings(path: Path, prompts: Sequence[str]) -> dict[str, StringModel]:
    try:
        models = strings_from_arrays(read_arrays(path))
    except AesDynlossError as error:
        raise damaged(path, error) from None
    if set(models) != set(prompts):
        raise CheckpointError(f"{path.name} does not fit {CONFIG}. Fetch the folder again.")
    return models


def _load_weights(model: ScoringModel, folder: Path, *, apart: bool) -> None:
    """Load the weights of encoder and head, which are two files, or of version 1 one."""
    state = _read_weights(folder / WEIGHTS)
    if apart:
        state = {f"{_ENCODER}{name}": value for name, value in state.items()} | _read_weights(folder / HEAD)
    if model.kernel is not None:
        model.kernel.make_room(state, "kernel.")
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    if wrong:
        raise CheckpointError(f"The weights do not fit {CONFIG}: {len(wrong)} of them differ, such as {wrong[0]}.")
    model.load_state_dict(state)


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is damaged: {error}. Fetch the folder again.") from None
    return state


def _read_tokenizer(folder: Path, encoder_config: Any) -> Any:  # noqa: ANN401 - transformers is untyped
    from transformers import AutoTokenizer

    try:
        # The encoder's config is passed on: config.json has transformers' keys only since version 2, and not of int8.
        tokenizer = AutoTokenizer.from_pretrained(folder, config=encoder_config, use_fast=True, trust_remote_code=False)
        known = tokenizer_fault(tokenizer) is None and len(tokenizer) <= encoder_config.vocab_size
    except Exception as error:  # whatever transformers makes of damaged files
        raise CheckpointError(f"The tokenizer in {folder} cannot be read: {first_line(error)}.") from None
    if not known:
        raise CheckpointError(f"The tokenizer in {folder} is not that of its encoder. Fetch the folder again.")
    return tokenizer
