"""Low-rank adapters: put into an encoder before it is trained, merged into its weights when it is saved.

An adapted linear layer answers W x + (alpha / rank) B A x. W stays as it was pretrained, A and B learn, and B starts at
0, so that an adapted encoder first answers as it did without. The adapters are those of peft, which only this module
knows; a model folder holds none, and is opened without peft.

References:
    Hu et al. 2022, LoRA: Low-rank adaptation of large language models, arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.model_config import LoraConfig

# How encoders name the layers that make queries and values, some both in one; for kinds that peft has no default for.
_QUERY_AND_VALUE = (
    *("query", "value", "query_proj", "value_proj", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v"),
    *("Wqkv", "qkv_proj", "in_proj"),
)
_ADAPTER = "default"


def require_peft() -> None:
    """Refuse to train adapters where peft is not installed.

    Raises:
        ConfigError: It is not.
    """
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ConfigError(
            'model.lora needs peft, which is not installed. Install the extra: pip install "aes-dynloss[lora]", or '
            "leave lora out."
        ) from None


def add_adapters(encoder: Any, config: LoraConfig) -> None:  # noqa: ANN401 - transformers is untyped
    """Put adapters beside linear layers of an encoder; then they alone learn.

    Args:
        encoder: The encoder. Layers whose weights do not learn get no adapter.
        config: Rank, scale, dropout and targets.

    Raises:
        ConfigError: A target is not there, none is known for this kind of encoder, or peft is not installed.
    """
    require_peft()
    import peft

    linear = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    adapted = _adapted(linear, config.targets, encoder.config.model_type)
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=adapted
    )
    peft.inject_adapter_in_model(settings, encoder, adapter_name=_ADAPTER)


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state as it would be without adapters: they are merged into the weights, which have their own names.

    Args:
        module: The module; it stays as it is.
    """
    from peft.tuners.lora import LoraLayer

    state = dict(module.state_dict())
    for name, layer in module.named_modules():
        if isinstance(layer, LoraLayer):
            weights = {key: state.pop(key) for key in list(state) if key.startswith(f"{name}.")}
            base = f"{name}.base_layer."
            state |= {key.replace(base, f"{name}."): value for key, value in weights.items() if key.startswith(base)}
            state[f"{name}.weight"] = weights[f"{base}weight"] + layer.get_delta_weight(_ADAPTER).detach()
    return state


def _adapted(linear: Collection[str], targets: Collection[str] | None, kind: str) -> list[str]:
    """Names of the linear layers that get an adapter, out of those that learn."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS

    def matches(target: str) -> list[str]:
        return [name for name in linear if f".{name}".endswith(f".{target}")]

    available = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
    if targets is not None:
        unknown = [target for target in targets if not matches(target)]
        if unknown:
            raise ConfigError(
                f"model.lora.targets names {unknown[0]}, which is no linear layer that learns in this encoder. Name "
                f"some of: {available}; or null for the default."
            )
        return sorted({name for target in targets for name in matches(target)})
    for defaults in (DEFAULTS.get(kind, ()), _QUERY_AND_VALUE):
        if not isinstance(defaults, str) and (found := sorted({name for one in defaults for name in matches(one)})):
            return found
    raise ConfigError(
        f"model.lora has no default for an encoder of the kind {kind}. Set model.lora.targets to some of: {available}."
    )
