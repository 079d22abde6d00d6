"""What a run is made of: a table of scored essays, a configuration file, or the values of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import apply_overrides, read_mapping, validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.data_config import Columns, text_encoding
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.presets import settle
from aes_dynloss.tables.formats import SUFFIXES, is_table
from aes_dynloss.tables.frames import is_frame
from aes_dynloss.tables.score_range import ScoreRange

CONFIG_SUFFIXES = (".yaml", ".yml", ".json")


def run_values(
    source: str | Path,
    *,
    columns: Mapping[str, str | Sequence[str] | Mapping[str, str]],
    ranges: Mapping[str, ScoreRange],
    subgroups: Sequence[str],
    group: str | None,
    encoding: str | None,
    kind: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """A configuration's values: those of a configuration file, or those that suit a table of scored essays.

    Args:
        source: Either of them.
        columns: The table's columns that were named, by ``text``, ``essay_id``, ``prompt_id``, ``score`` and
            ``second_score``; of several traits ``score`` has a column for each, or lists columns called as they
            are.
        ranges: Score points by prompt; those of ``all`` are of all that have none.
        subgroups: Columns of groups of writers.
        group: Column of writer, class or school, whose essays stay in one part.
        encoding: Of a text file; None for UTF-8.
        kind: ``essays`` or ``answers``, what the texts are; None for essays.

    Returns:
        The values, and what was found out about a table, in words.

    Raises:
        ConfigError: The file is neither, is a configuration though a table is described, or there is no such role, or
            no such prompt as one that has a range.
        DataError: It cannot be read, or what a column of it is remains open.
    """
    path = Path(source)
    if path.suffix.lower() in CONFIG_SUFFIXES:
        _refuse_options_of_tables(path.name, columns, ranges, subgroups, group, encoding, kind)
        return read_mapping(path), []
    if not is_table(source):
        raise ConfigError(
            f"{path}: expected a configuration ({', '.join(CONFIG_SUFFIXES)}) or a table of scored essays "
            f"({', '.join(SUFFIXES)}). Save it as one of these."
        )
    if not is_frame(source) and not path.expanduser().exists():
        raise ConfigError(f"There is no file {path}. Correct the path of the essays.")
    from aes_dynloss.essays.data.table_layout import OPTIONS, table_layout  # loads pandas

    unknown = [role for role in columns if role not in OPTIONS]
    if unknown:
        raise ConfigError(f"columns: there is no role {unknown[0]!r}; known are {', '.join(OPTIONS)}. Correct it.")
    several = [role for role, column in columns.items() if role != "score" and not isinstance(column, str)]
    if several:
        raise ConfigError(
            f"columns: expected the name of one column for {several[0]}, found {columns[several[0]]!r}. Correct it, or "
            "leave it out; data.columns of a configuration may name second scores of several traits."
        )
    try:
        encoding = text_encoding(encoding or "utf-8")
    except ValueError as error:
        raise ConfigError(f"--encoding: {error}.") from None
    score = columns.get("score", "score")
    traits = None if isinstance(score, str) else validate(Columns, {"score": score}, "columns").scores
    named = {role: column for role, column in columns.items() if isinstance(column, str)}
    layout = table_layout(path, named, ranges, subgroups, group, traits=traits, encoding=encoding)
    if layout.unused:
        raise ConfigError(f"{layout.unused[0]} Correct --range (in Python: ranges), or leave it out.")
    if kind is not None:
        layout.data["kind"] = kind
    return {"data": layout.data}, layout.said + layout.slips


def _refuse_options_of_tables(name: str, *options: object) -> None:
    """Refuse a configuration beside which a table is described."""
    if any(options):
        raise ConfigError(
            f"{name} is a configuration, which says itself what the columns are. Leave out the options of "
            "tables, or set data.columns and data.prompts: KEY=VALUE does so for this run."
        )


def resolve_run(
    source: str | Path | Mapping[str, Any] | FinetuneConfig,
    *,
    preset: str | None,
    minutes: float,
    overrides: Sequence[str] | Mapping[str, Any],
    **table: Any,  # noqa: ANN401 - those of run_values
) -> tuple[FinetuneConfig, list[str]]:
    """The configuration of a run.

    Args:
        source: A table, a configuration file, or the values of one.
        preset: See :func:`aes_dynloss.essays.finetune.presets.settle`.
        minutes: That the run may take.
        overrides: See :func:`aes_dynloss.configfile.apply_overrides`.
        table: What a table holds, see :func:`run_values`.

    Returns:
        The configuration, and what was found and chosen, in words.

    Raises:
        AesDynlossError: The source cannot be read, or something in it is not valid.
    """
    said: list[str] = []
    if isinstance(source, FinetuneConfig | Mapping):
        _refuse_options_of_tables(type(source).__name__, *table.values())
    if isinstance(source, FinetuneConfig):
        if preset is None and not overrides:
            return source, said
        source = source.model_dump(mode="json", exclude_unset=True)
    if isinstance(source, Mapping):
        values, name, from_table = dict(source), "The configuration", False
    else:
        values, said = run_values(source, **table)
        name, from_table = str(source), is_table(source)
    values = apply_overrides(values, overrides)
    values, chosen = settle(values, minutes, preset=preset, table=from_table)
    return validate(FinetuneConfig, values, name), said + chosen
