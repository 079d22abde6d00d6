"""``aes-dynloss data``: look at essays before they are trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import FILE, Command, check_sources, read_data_values, score_columns
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.data_check import DataReport
    from aes_dynloss.essays.data.data_config import DataConfig
    from aes_dynloss.essays.data.rater_check import RaterCheck
    from aes_dynloss.reports.table import Table

_LISTED_IDS = 10


@click.group()
def data() -> None:
    """Look at essays before they are trained on."""


# An option is called after the key of the configuration that it sets, __ for the dot.
_DATA_OPTIONS = (
    click.argument("source", metavar="INPUT", required=False),
    click.option("--config", "config_file", metavar="FILE", help="YAML with the key data, or with data's own keys."),
    click.option(
        "--format", type=click.Choice(["table", "asap"]), help="asap: columns and ranges of ASAP-AES are known."
    ),
    click.option("--encoding", help="Encoding of text files, such as cp1252.  [default: utf-8; ASAP's tsv: cp1252]"),
    click.option("--quoting", type=click.Choice(["minimal", "none"]), help="none: quotes are plain characters."),
    click.option("--id-column", "columns__essay_id", help="Column of the essay's id.  [default: essay_id, else found]"),
    click.option(
        "--prompt-column", "columns__prompt_id", help="Column of the prompt's id.  [default: prompt_id, else found]"
    ),
    click.option("--text-column", "columns__text", help="Column of the essay.  [default: text, else found]"),
    click.option(
        "--score-column",
        "columns__score",
        multiple=True,
        metavar="[TRAIT=]COLUMN",
        help="Column of the score; of each of several traits, if repeated.  [default: score]",
    ),
    click.option("--second-score-column", "columns__second_score", help="Column of a second rater's score."),
    click.option("--rater-column", "columns__rater", help="Column of who, or what source, gave the score."),
    click.option("--trusted", metavar="COLUMN|FILE.txt", help="Column of 1 and 0, or file of ids: adjudicated scores."),
    click.option("--prompt", help="The one prompt of a table that has no prompt column."),
    click.option(
        "--keep-prompt", "keep_prompts", multiple=True, metavar="ID", help="Use this prompt; may be repeated."
    ),
    click.option(
        "--range",
        "ranges",
        multiple=True,
        metavar="[ID=]LOW:HIGH[:STEP]",
        help="Score range of a prompt, or of all; may be repeated.",
    ),
    click.option("--prompts", metavar="FILE", help="YAML or JSON of prompt ids with low, high, step."),
    click.option("--folds-dir", "split__folds_dir", metavar="DIR", help="Folder of {train,dev,test}_ids.txt."),
    click.option("--split-column", "split__column", help="Column that says train, dev, test or teacher_dev."),
    click.option("--group-column", "split__group", help="Column of writer, class or school, kept in one part."),
    click.option("--hub-split", help="Split of a hub data set, such as train."),
    click.option("--kind", type=click.Choice(["essays", "answers"]), help="Of the texts.  [default: essays]"),
)


def _data_options(command: Command) -> Command:
    """Add the options that say where essays are and how to read them, for :func:`_configured`."""
    for option in reversed(_DATA_OPTIONS):
        command = option(command)
    return command


@data.command()
@_data_options
@click.option("--json", "as_json", is_flag=True, help="Write the report as JSON.")
@click.pass_context
def check(
    context: click.Context,
    /,
    config_file: str | None,
    ranges: tuple[str, ...],
    as_json: bool,
    **options: Any,  # noqa: ANN401 - click
) -> None:
    """Check scored essays: rows that cannot be used, scores, lengths, repetitions, splits.

    INPUT is a .csv, .tsv, .jsonl or .parquet file, a folder of .txt files, - for standard input, or a data set on the
    Hugging Face hub. Options override the configuration. Exit code 2 if a row cannot be used.
    """
    # Imported here: --help must not wait for pyarrow.
    values, config = _checked(config_file, ranges, options)
    from aes_dynloss.essays.data.data_check import check_data

    report = check_data(config, check_splits=bool(values.get("split")))
    click.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False) if as_json else _report_text(report))
    context.exit(0 if report.clean else 2)


@data.command()
@_data_options
@click.option("--output", "-o", type=FILE, help="Write the table of raters to this csv, jsonl, parquet or xlsx file.")
@click.option("--force", is_flag=True, help="Overwrite an existing --output file.")
@click.option("--json", "as_json", is_flag=True, help="Write the report as JSON.")
def raters(
    *,
    config_file: str | None,
    ranges: tuple[str, ...],
    output: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - click
) -> None:
    """Compare raters before training: severity, consistency, and whether loss weights by rater are likely to pay.

    INPUT is as for `data check`, with a column that says who gave each score (--rater-column). Each label is held
    against a prediction from its text that was made without it. Where a split is named, train's essays are compared.
    """
    from dataclasses import replace

    from aes_dynloss.essays.scoring.output import output_format, write_scores
    from aes_dynloss.tables.provenance import Provenance, sealed

    form = None if output is None else output_format(None, output)
    if output is not None and output.exists() and not force:
        raise ConfigError(f"{output} exists. --force overwrites it.")
    values, config = _checked(config_file, ranges, options)
    from aes_dynloss.essays.data.rater_check import check_raters
    from aes_dynloss.reports.raters import rater_table
    from aes_dynloss.reports.table import table_records

    found = check_raters(config, train_only=bool(values.get("split")))
    table = rater_table(found.effects)
    if output is not None and form is not None:
        records = table_records(replace(table, foot=()))
        kinds = {name: str if name in {"rater", "remarks"} else float for name in records[0]}
        with sealed(Provenance.now(_files(config, config_file)), output):
            write_scores([{name: [record[name] for record in records] for name in kinds}], form, output, kinds)
    click.echo(json.dumps(found.as_dict(), indent=1, allow_nan=False) if as_json else _rater_text(found, table))


@data.command()
@_data_options
@click.option("--output-dir", "-o", type=FILE, required=True, help="Folder of the folds: splits_dir of a grid.")
@click.option("--folds", type=click.IntRange(2, 20), default=5, help="Number of folds.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the folds.")
def split(
    *,
    config_file: str | None,
    ranges: tuple[str, ...],
    output_dir: Path,
    folds: int,
    seed: int,
    **options: Any,  # noqa: ANN401 - click
) -> None:
    """Write lists of ids that make each essay test in one fold, for `aes-dynloss benchmark`.

    INPUT is as for `data check`. Test parts are alike in prompts and scores, or of whole groups (--group-column); of
    the rest of a fold a fifth is dev. fold_K holds train_ids.txt, dev_ids.txt and test_ids.txt.
    """
    if output_dir.exists() and any(output_dir.glob("fold_*")):
        raise ConfigError(f"{output_dir} holds folds already. Choose another --output-dir, or remove them.")
    _, config = _checked(config_file, ranges, options)
    from aes_dynloss.essays.data.data_config import SplitConfig
    from aes_dynloss.essays.data.readers import read_essays
    from aes_dynloss.essays.data.splits import cross_fit_splits, write_ids
    from aes_dynloss.tables.provenance import Provenance, sealed

    table = read_essays(config)
    wanted = SplitConfig(cross_fit=folds, group=config.split.group, seed=seed)
    made = Provenance.now(_files(config, config_file))
    with sealed(made, output_dir, names=[f"fold_{number}" for number in range(folds)]):
        for number, parts in enumerate(cross_fit_splits(table, wanted, with_dev=True)[0]):
            write_ids(parts, output_dir / f"fold_{number}")
    click.echo(f"{table.essay_count} essays in {folds} folds: {output_dir}", err=True)


def _files(config: DataConfig, config_file: str | None) -> list[Path]:
    """The files that essays and their configuration are read from."""
    return [Path(name).expanduser() for name in (config.source, config_file) if name is not None]


def _rater_text(found: RaterCheck, table: Table) -> str:
    """The comparison of raters as text for people."""
    from aes_dynloss.reports.raters import SHOWN
    from aes_dynloss.reports.table import text_table

    trusted = 0 if found.trusted is None else sum(found.trusted.prompts.values())
    raters = len(found.effects.raters)
    lines = [f"{found.source}: {found.labels} labels by {raters} raters, {trusted} trusted essays"]
    units = "mean and severity are in SDs of the prompt's labels, the SD ratio is that to all raters' SD"
    lines += ["", *text_table(table.chosen(*SHOWN)), units, "", *found.conclusions]
    if found.warnings:
        lines += ["", "warnings:", *(f"  {line}" for line in found.warnings)]
    return "\n".join(lines)


def _checked(
    config_file: str | None, ranges: tuple[str, ...], options: dict[str, Any]
) -> tuple[dict[str, Any], DataConfig]:
    """What the configuration and the options say, and the same as a configuration whose source is there."""
    from aes_dynloss.configfile import validate
    from aes_dynloss.essays.data.data_config import DataConfig

    options |= {"columns__score": score_columns(options["columns__score"])}
    values = _configured(config_file, ranges, options)
    if config_file is None and options["source"] and options["format"] is None:
        values = _with_found_columns(values, options, ranges)
    config = validate(DataConfig, values, config_file or "the command line")
    check_sources([config.source])
    return values, config


def _with_found_columns(values: dict[str, Any], options: dict[str, Any], ranges: tuple[str, ...]) -> dict[str, Any]:
    """The values with the columns of a table that has other names than the usual ones, as finetune finds them."""
    from aes_dynloss.tables.formats import is_table

    path = Path(options["source"])
    if not is_table(path) or not path.is_file():
        return values
    from aes_dynloss.errors import DataError
    from aes_dynloss.essays.data.table_layout import table_layout
    from aes_dynloss.tables.formats import iterate_rows
    from aes_dynloss.tables.score_range import ONE_PROMPT, parse_ranges

    roles = ("text", "essay_id", "prompt_id", "score", "second_score")
    named = {role: options[f"columns__{role}"] for role in roles if options[f"columns__{role}"]}
    traits = named.pop("score") if isinstance(named.get("score"), dict) else None
    given = parse_ranges(ranges)
    try:
        how: dict[str, Any] = {"encoding": options["encoding"] or "utf-8", "quoting": options["quoting"] or "minimal"}
        header = next(iter(iterate_rows(path, **how)))[1].keys()
        layout = table_layout(path, named, given, traits=traits, prompt=options["prompt"] or ONE_PROMPT, **how)
    except (DataError, LookupError, StopIteration):
        return values  # the check itself says what is wrong
    if not values.get("prompts"):
        for line in layout.slips:
            click.echo(line, err=True)
    if ONE_PROMPT in given or (traits and given):  # ranges that are not those of prompts
        values = {**values, "prompts": layout.data["prompts"]}
        for line in layout.unused:
            click.echo(line, err=True)
    # What has a usual name is what it says, be it right or wrong.
    columns = {role: column for role, column in layout.data.get("columns", {}).items() if role not in header}
    prompt = {"prompt": layout.data["prompt"]} if "prompt" in layout.data and "prompt_id" not in header else {}
    return {**prompt, **values, "columns": {**columns, **(values.get("columns") or {})}}


def _configured(config_file: str | None, ranges: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """What the configuration says, overridden by the options."""
    from dataclasses import asdict

    from aes_dynloss.configfile import with_value
    from aes_dynloss.tables.score_range import parse_ranges

    values = {} if config_file is None else read_data_values(config_file)
    ways = {"folds_dir", "column", "fractions"}
    if (options["split__folds_dir"] or options["split__column"]) and isinstance(values.get("split"), dict):
        values["split"] = {key: value for key, value in values["split"].items() if key not in ways}
    for name, value in options.items():
        if value is not None and value != ():
            given = list(value) if isinstance(value, tuple) else value
            values = with_value(values, name.replace("__", "."), given, "data")
    if ranges:
        prompts = values.get("prompts")
        if isinstance(prompts, str):
            raise ConfigError("Ranges are given both in a file of prompts and by --range. Use one of the two.")
        if not isinstance(prompts, dict | None):
            raise ConfigError(f"data.prompts should be a mapping of keys to values, found {prompts!r}.")
        given = {prompt: asdict(score_range) for prompt, score_range in parse_ranges(ranges).items()}
        values["prompts"] = {str(prompt): entry for prompt, entry in (prompts or {}).items()} | given
    return values


def _report_text(report: DataReport) -> str:
    """The report as text for people."""
    lines = [
        f"{report.source}: {report.rows} rows read, {report.used} {report.kind} usable, {len(report.lost)} rows lost"
    ]
    if report.left_out:
        lines.append(f"{report.left_out} essays of prompts that are not kept")
    lines += ["", *_prompt_lines(report)]
    if report.splits is not None:
        lines += ["", "splits: " + ", ".join(f"{name} {count}" for name, count in report.splits.items())]
    lost = [
        f"row {row.row}{'' if row.essay_id is None else f' (essay {row.essay_id})'}: {row.reason}"
        for row in report.lost
    ]
    for title, remarks in (("warnings", _warnings(report)), ("errors", report.errors), ("lost rows", lost)):
        if remarks:
            lines += ["", f"{title}:", *(f"  {line}" for line in remarks)]
    return "\n".join(lines)


def _prompt_lines(report: DataReport) -> list[str]:
    if not report.prompts:
        return []
    rows = [("prompt", "n", "range", "seen", "mean", "sd", "words min/25%/50%/75%/max")]
    rows += [
        (
            name,
            str(prompt.n),
            prompt.range or "?",
            f"{prompt.low:g} to {prompt.high:g}",
            f"{prompt.mean:.2f}",
            "-" if prompt.sd is None else f"{prompt.sd:.2f}",
            " / ".join(f"{length:g}" for length in prompt.words),
        )
        for name, prompt in report.prompts.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += ["", "essays per score:"]
    for name, prompt in report.prompts.items():
        counts = "  ".join(f"{score}: {count}" for score, count in prompt.score_counts.items())
        lines.append(f"  {name.ljust(widths[0])}  {counts}")
    return lines


def _warnings(report: DataReport) -> list[str]:
    leaks = [" = ".join(f"{essay_id} ({name})" for name, essay_id in leak) for leak in report.leaks]
    remarks: list[tuple[str, Iterable[str]]] = [
        ("{} rows say again what an earlier row said", report.repeated_ids),
        ("in {} texts, further rows seem to hide", report.swallowing),
        ("{} texts stand more than once", map(" = ".join, report.same_texts)),
        ("{} texts stand in more than one split", leaks),
        *((f"hidden character {name} in {{}} essays", ids) for name, ids in report.hidden_characters.items()),
    ]
    lines = []
    if not report.ranges_given and report.prompts:
        lines.append("ranges are taken from the scores seen; give them by --range, --prompts or data.prompts")
    if report.may_be_answers:
        lines.append(
            "the texts are short; if they answer questions, and are no essays, set data.kind: answers (--kind)"
        )
    for words, ids in remarks:
        listed = list(ids)
        more = len(listed) - _LISTED_IDS
        rest = f"; ... and {more} more" if more > 0 else ""
        if listed:
            lines.append(f"{words.format(len(listed))}: {'; '.join(listed[:_LISTED_IDS])}{rest}")
    return [*lines, *map(str, report.group_leaks)]
