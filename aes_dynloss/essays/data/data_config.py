"""Configuration of the data: source, layout of the table, splits, augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from aes_dynloss.configfile import ConfigModel, read_mapping, user_path
from aes_dynloss.essays.features.linguistic import FEATURES
from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS, check_kinds
from aes_dynloss.essays.samples import BUNDLED, PROMPTS
from aes_dynloss.tables.columns import TABLE_COLUMNS, TRAIT_COLUMNS
from aes_dynloss.tables.csv_jsonl import Quoting
from aes_dynloss.tables.scale_ids import SEPARATOR
from aes_dynloss.tables.score_range import ScoreRange

_BESIDE_ASAP: dict[str, object] = {"features": [], "weight": None, "rater": None}  # columns that ASAP has not
ONE_SCORE = "score"  # what the one score of essays without traits is called
ID_FILE = ".txt"  # what data.trusted ends with where it names a file
_OF_SCORES = {  # columns of a table of scores that are none of a trait's
    *("essay_id", "prompt_id", "trait", "withheld", "advisories", "reasons", "dropped_tokens", "text", "words"),
    *("raw", "reference", "second_reference"),
}


def _word(value: object) -> object:
    """Whole numbers as words: YAML and the command line read ``prompt: 1`` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Word = Annotated[str, BeforeValidator(_word), Field(min_length=1)]
TextKind = Literal["essays", "answers"]
# Texts of so many words in the median, or fewer, may be answers; those of ASAP-SAS have 40, of ASAP-AES 100 and more.
ANSWER_WORDS = 60


def _dash(value: object) -> object:
    """A lone dash as a word: YAML reads ``data.source=-`` as a list of nothing."""
    return "-" if value == [None] else value


def text_encoding(name: str) -> str:
    """The name of a text encoding, as it is, if there is one.

    Raises:
        ValueError: There is none of that name.
    """
    try:
        # Codecs that cannot replace what they cannot read, such as idna, are for other things than files.
        b"\xff".decode(name, errors="replace")
    except (LookupError, ValueError):
        raise ValueError(f"there is no text encoding {name!r}; known are utf-8, cp1252, latin-1, ...") from None
    return name


class Columns(ConfigModel):
    """Names of the table's columns."""

    essay_id: str | None = Field(
        default="essay_id", description="Column of the essay's id, which stands once; null: rows are numbered."
    )
    prompt_id: str = Field(default="prompt_id", description="Column of the prompt that the essay answers.")
    text: str = Field(default="text", description="Column of the essay itself.")
    score: str | list[str] | dict[Word, str] = Field(
        default="score",
        description="Column of the human score that is learned and measured. Several traits: {TRAIT: COLUMN, ...}, or "
        "a list where columns are called as the traits; an essay may lack some traits, not all.",
    )
    second_score: str | dict[Word, str] | None = Field(
        default=None,
        description="Column of a second rater's score on the same scale, for human-human agreement; may have gaps. "
        "Of several traits: {TRAIT: COLUMN, ...}.",
    )
    features: list[str] = Field(
        default=[],
        description="Numeric columns of your own that the model sees beside the text, in training and in scoring; "
        "without gaps.",
    )
    weight: str | None = Field(
        default=None,
        description="Column of what an essay counts in training, a number above 0; only ratios matter.",
    )
    rater: str | None = Field(
        default=None,
        description="Column of who, or what source, gave the essay's score, for ratings of unequal worth: see loss.by.",
    )

    @property
    def scores(self) -> dict[str, str]:
        """Columns of scores by trait; that of the one score as ``score``."""
        if isinstance(self.score, str):
            return {ONE_SCORE: self.score}
        return dict(self.score) if isinstance(self.score, dict) else {name: name for name in self.score}

    @property
    def second_scores(self) -> dict[str, str]:
        """Columns of a second rater's scores by trait, where there are such."""
        if self.second_score is None:
            return {}
        return {ONE_SCORE: self.second_score} if isinstance(self.second_score, str) else dict(self.second_score)

    @property
    def traits(self) -> tuple[str, ...]:
        """Traits that essays are scored on; none where they have one score, which is called ``score``."""
        return () if list(self.scores) == [ONE_SCORE] else tuple(self.scores)

    @model_validator(mode="after")
    def _check_traits(self) -> Self:
        if not self.scores:
            raise ValueError("score names no column; name one, or several as {TRAIT: COLUMN, ...}")
        if isinstance(self.score, list) and len(set(self.score)) < len(self.score):
            raise ValueError(f"score names a column twice: {', '.join(self.score)}")
        if unknown := set(self.second_scores) - set(self.scores):
            names = ", ".join(self.scores)
            raise ValueError(f"second_score is of {', '.join(sorted(unknown))}; score has the traits {names}")
        taken = {*_OF_SCORES, *(name + behind for name in self.traits for behind in TRAIT_COLUMNS.values() if behind)}
        for name in self.traits:
            if name in taken or SEPARATOR in name or "=" in name or name != name.strip():
                raise ValueError(
                    f"score names a trait {name!r}, but tables of scores have a column of that name, or it holds / or "
                    "=, or blanks around it; call it otherwise: {OTHER: COLUMN, ...}"
                )
        return self

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        names = [*self.single, *self.features]
        if len(set(names)) < len(names):
            raise ValueError(f"two of the columns have one name: {', '.join(names)}")
        taken = {*TABLE_COLUMNS, *(feature.name for feature in FEATURES)}
        for name in self.features:
            if name in taken:
                raise ValueError(f"features names {name!r}, which has a meaning of its own here; rename that column")
        return self

    @property
    def single(self) -> list[str]:
        """Columns that are named one by one."""
        scores = [*self.scores.values(), *self.second_scores.values()]
        named = [self.essay_id, self.prompt_id, self.text, *scores, self.weight, self.rater]
        return [name for name in named if name is not None]


Levels = dict[Word, str]


def _check_levels(levels: Levels, score_range: ScoreRange) -> None:
    """Refuse words on what is no score point; points are written as numbers are, 3 and not 3.0."""
    for point in list(levels):
        try:
            known = bool(score_range.is_score_point([float(point)])[0])
        except ValueError:
            known = False
        if not known:
            raise ValueError(f"levels has words on {point!r}, which is no score point of {score_range}")
        levels[f"{float(point):g}"] = levels.pop(point)


class TraitConfig(ConfigModel):
    """The score points of one trait."""

    low: float = Field(description="Lowest score point.")
    high: float = Field(description="Highest score point.")
    step: float = Field(default=1.0, description="Distance of neighbouring score points.")
    levels: Levels = Field(default={}, description="The rubric's words for score points, by score point.")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        _check_levels(self.levels, self.range())
        return self

    def range(self) -> ScoreRange:
        """The score points."""
        return ScoreRange(self.low, self.high, self.step)


class PromptConfig(ConfigModel):
    """One prompt: its score points, and its text."""

    low: float | None = Field(description="Lowest score point.")
    high: float | None = Field(description="Highest score point.")
    step: float = Field(
        default=1.0, description="Distance of neighbouring score points: 1 for whole scores, .5 for half points."
    )
    text: str | None = Field(default=None, description="The prompt's own words.")
    levels: Levels = Field(default={}, description="The rubric's words for score points, by score point.")
    traits: dict[Word, TraitConfig] = Field(
        default={}, description="Score points of traits that have others than low to high, by trait."
    )

    @model_serializer(mode="wrap")
    def _known(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is empty."""
        return {name: value for name, value in write(self).items() if value != {}}

    @model_validator(mode="before")
    @classmethod
    def _range_of_traits_alone(cls, values: object) -> object:
        """Where traits have score points, the prompt needs none."""
        if isinstance(values, Mapping) and values.get("traits") and not {"low", "high"} & set(values):
            return {"low": None, "high": None, **values}
        return values

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if not self.traits or self.levels or self.low is not None or self.high is not None:
            _check_levels(self.levels, self._own())
        return self

    def words(self, trait: str | None = None) -> Levels:
        """The rubric's words for score points, of a trait where it has score points of its own."""
        return self.traits[trait].levels if trait in self.traits else self.levels

    def _own(self) -> ScoreRange:
        if self.low is None or self.high is None:
            lacking = " and ".join(name for name in ("low", "high") if getattr(self, name) is None)
            raise ValueError(f"the score points lack {lacking}")
        return ScoreRange(self.low, self.high, self.step)

    def range(self, trait: str | None = None) -> ScoreRange | None:
        """The score points, of a trait where it has its own; None where neither it nor the prompt has any.

        Args:
            trait: A trait; None where essays have one score.
        """
        if trait in self.traits:
            return self.traits[trait].range()
        return None if self.low is None else self._own()


class Fractions(ConfigModel):
    """Parts of the essays that go to each split; they add up to 1."""

    train: float = Field(default=0.6, gt=0, le=1, description="Part of the essays to train on.")
    dev: float = Field(default=0.2, gt=0, le=1, description="Part of the essays for early stopping and rescaling.")
    test: float = Field(default=0.2, ge=0, le=1, description="Part of the essays for the reported figures; may be 0.")

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        total = self.train + self.dev + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, dev and test must add up to 1, found {total:g}")
        return self


class SplitConfig(ConfigModel):
    """Train, dev and test: by id files, a column, a prompt left out, or, where none is named, seeded fractions."""

    folds_dir: str | None = Field(
        default=None,
        description=(
            "Folder of train_ids.txt, dev_ids.txt, test_ids.txt and, if wanted, teacher_dev_ids.txt, one id a line."
        ),
    )
    column: str | None = Field(
        default=None, description="Column that says train, dev, test or teacher_dev for each essay."
    )
    target_prompt: Word | None = Field(
        default=None,
        description="Leave one prompt out: all of its essays are test, none train or dev. Needs model.prompts shared "
        "or model.kind transfer.",
    )
    target_dev_ids: str | None = Field(
        default=None,
        description="With target_prompt: file of the other prompts' dev ids, one a line; the rest is train. null: a "
        "seeded fifth is dev.",
    )
    fractions: Fractions | None = Field(
        default=None,
        description="Seeded split, stratified by prompt and score; .6, .2 and .2 if no other way is named. Where "
        "data.trusted names essays, they are divided, and all others are train.",
    )
    cross_fit: int | None = Field(
        default=None,
        ge=2,
        le=20,
        description="Every essay is train and test: so many scorers are fitted, each without one part of the essays, "
        "which it scores; the figures are of these scores. The model is then fitted to all essays.",
    )
    group: str | None = Field(
        default=None,
        description="Column of writer, class or school: with fractions or cross_fit, essays with one value stay in one "
        "part; those that data.trusted does not name are left out where others of the value are no train essays. A "
        "blank is a group of its own.",
    )
    seed: int = Field(default=0, description="Seed of the fractions, of cross_fit and of the teacher's part.")
    teacher_dev_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Part of train that is set apart for the teacher; its hypergradient is taken there.",
    )
    allow_unassigned: bool = Field(
        default=False, description="Whether essays may be in no split; otherwise they are an error."
    )

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        ways = ("folds_dir", "column", "target_prompt", "fractions", "cross_fit")
        named = [name for name in ways if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"name one way to split, found {' and '.join(named)}")
        if self.target_dev_ids is not None and self.target_prompt is None:
            raise ValueError("target_dev_ids belongs to target_prompt; name the prompt that is left out")
        if self.group is not None and named and named[0] not in {"fractions", "cross_fit"}:
            raise ValueError(f"group has no part in {named[0]}, which says itself where each essay goes; leave it out")
        return self


class AugmentationConfig(ConfigModel):
    """Changed copies of training essays, with the scores that the changes deserve."""

    share: float = Field(default=0.1, gt=0, le=1, description="Changed copies, as a part of the training essays.")
    kinds: list[str] = Field(
        default=["off_topic", "babble", "shuffle_words", "append_off_topic", "repeat_paragraph"],
        min_length=1,
        description="Kinds of change, as `aes-dynloss robustness --list` tells them, in turn. What is worthless gets "
        "the prompt's lowest score; other kinds keep the essay's.",
    )
    penalty: int = Field(
        default=0, ge=0, description="Score points off for changes that must not raise a score, such as repetition."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draw and of the changes.")

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        check_kinds(self.kinds)
        for kind in self.kinds:
            if PERTURBATIONS[kind].expected == "fall" and not PERTURBATIONS[kind].worthless:
                raise ValueError(f"kinds names {kind}, after which nobody knows the deserved score; leave it out")
            if self.kinds.count(kind) > 1:
                raise ValueError(f"kinds names {kind} twice; name each kind once")
        return self


class DataConfig(ConfigModel):
    """Essays and how to read them.

    Example:
        >>> config = DataConfig(source="essays.csv", columns={"text": "essay"}, prompts={1: {"low": 2, "high": 12}})
        >>> config.prompts["1"].range().count, config.columns.text, config.columns.score
        (11, 'essay', 'score')
        >>> [prompt.text[:11] for prompt in DataConfig(source="made-up-essays").prompts.values()]
        ['Your school', 'Read the no']
    """

    source: Annotated[str, Field(min_length=1), BeforeValidator(_dash)] = Field(
        description=(
            "A .csv, .tsv, .jsonl, .ndjson or .parquet file, a folder of .txt files, - for standard input,"
            f" the id of a data set on the Hugging Face hub, or {BUNDLED}, which come with the package."
        ),
    )
    kind: TextKind = Field(
        default="essays",
        description="essays; or answers: a few words or sentences each, in answer to a question. Of an answer it is no "
        "fault that it is short, in the question's words, or the same as another's: see advisories.",
    )
    format: Literal["table", "asap"] = Field(
        default="table",
        description="table: columns named below. asap: the ASAP-AES training set, with its columns and score ranges.",
    )
    encoding: Annotated[str, AfterValidator(text_encoding)] | None = Field(
        default=None, description="Of text files, such as cp1252. Default: utf-8, and cp1252 for the .tsv of ASAP."
    )
    quoting: Quoting | None = Field(
        default=None,
        description=(
            "Of csv and tsv. minimal: values with delimiters stand in double quotes; none: quotes are plain characters."
            " Default: minimal, and none for the .tsv of ASAP."
        ),
    )
    columns: Columns = Field(default=Columns(), description="Names of the table's columns.")
    subgroups: list[str] = Field(
        default=[],
        description="Columns that say which group of writers an essay comes from, such as [gender, first_language]; "
        "the report then tells how each group is scored.",
    )
    prompts: dict[Word, PromptConfig] | None = Field(
        default=None,
        description=(
            "Score range of each prompt id, in place or as the path of a YAML or JSON file."
            " Without it, ranges are taken from the scores seen, with a warning."
        ),
    )
    prompt: Word | None = Field(default=None, description="The one prompt of a table that has no prompt column.")
    keep_prompts: list[Word] | None = Field(
        default=None, min_length=1, description="Prompts whose essays are used; those of others are left out."
    )
    trusted: str | None = Field(
        default=None,
        min_length=1,
        description="Column of 1 and 0, or .txt file of ids, one a line: essays whose scores are adjudicated and "
        "believed. A teacher learns on those of train; dev and test should be such.",
    )
    untrusted: Literal["keep", "leave_out", "standardise", "weigh"] = Field(
        default="keep",
        description="Training essays that are not trusted. keep: as they are; leave_out: none of them; standardise: "
        "each rater's scores with the mean and sd of the trusted ones; weigh: each rater by the squared correlation of "
        "the scores with a model of the trusted ones.",
    )
    trusted_weight: float = Field(
        default=1.0, gt=0, le=1e6, description="What a trusted essay counts in training beside one that is not."
    )
    balance: Literal["none", "inverse_frequency"] = Field(
        default="none", description="inverse_frequency: training essays of rare scores count more, prompt by prompt."
    )
    split: SplitConfig = Field(default=SplitConfig(), description="How essays are split.")
    hub_split: str | None = Field(default=None, description="Split of a hub data set to read, such as train.")
    augmentation: AugmentationConfig | None = Field(
        default=None,
        description="Changed copies of training essays to learn from, too, such as {share: 0.1, kinds: [babble, "
        "shuffle_words, repeat_paragraph], penalty: 0, seed: 0}; dev and test stay as they are.",
    )

    @field_validator("prompts", mode="before")
    @classmethod
    def _read_prompts(cls, value: object) -> object:
        """Load a file of prompts; a prompt's text may be called ``prompt`` there."""
        if isinstance(value, str):
            value = read_mapping(user_path(value, "data.prompts"))
            for key, entry in value.items():
                if isinstance(entry, Mapping) and "prompt" in entry and "text" not in entry:
                    value[key] = {"text" if name == "prompt" else name: inner for name, inner in entry.items()}
        if not isinstance(value, Mapping):
            return value
        prompts = {_word(key): entry for key, entry in value.items()}
        if len(prompts) < len(value):
            raise ValueError("one prompt id stands twice, as a number and as a word")
        return prompts

    @model_validator(mode="before")
    @classmethod
    def _know_bundled(cls, values: object) -> object:
        """The bundled essays bring their prompts along."""
        if isinstance(values, Mapping) and values.get("source") == BUNDLED and values.get("prompts") is None:
            return {**values, "prompts": str(PROMPTS)}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Groups of writers need columns that are nothing else, here or in the table of predictions.
        others = {*self.columns.single, *self.columns.features, self.split.column}
        taken = {*others, self.trusted, *TABLE_COLUMNS}
        for name in self.subgroups:
            if name in taken or self.subgroups.count(name) > 1:
                raise ValueError(
                    f"subgroups names {name!r}, which is no column of groups of its own; name each column once, and "
                    "none that holds ids, texts or scores, or has such a column's name"
                )
        traits = self.columns.traits
        for prompt, entry in (self.prompts or {}).items():
            if unknown := [name for name in entry.traits if name not in traits]:
                known = f"; known are {', '.join(traits)}" if traits else ", and columns.score names no traits"
                raise ValueError(f"prompts.{prompt}.traits has {', '.join(unknown)}{known}")
        if self.trusted is not None and self.trusted in others:
            raise ValueError(f"trusted names {self.trusted!r}, which is another column's; name a column of 1 and 0")
        if self.trusted is None and (self.untrusted != "keep" or self.trusted_weight != 1):
            raise ValueError(
                "untrusted and trusted_weight need to know which scores are adjudicated; name them in trusted"
            )
        # The range of a prompt that is left out cannot be told from its human scores.
        if self.split.target_prompt is not None and self.format == "table" and self.prompts is None:
            raise ValueError(
                "split.target_prompt needs the score ranges in prompts; without them they are taken from the scores "
                "seen, those of the prompt that is left out too"
            )
        if self.format == "asap" and self.columns.model_copy(update=_BESIDE_ASAP) != Columns():
            raise ValueError(
                "format: asap has columns of its own; remove columns, but for features, weight and rater, or set "
                "format: table"
            )
        if self.format == "asap" and self.prompt is not None:
            raise ValueError("format: asap has a column of prompts; use keep_prompts instead of prompt")
        return self
