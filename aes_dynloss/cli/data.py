"""``aes-dynloss data``: look at essays before they are trained on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aes_dynloss.essays.data.data_check import DataReport

_LISTED_IDS = 10


@click.group()
def data() -> None:
    """Look at essays before they are trained on."""


@data.command()
@click.argument("source", metavar="INPUT", required=False)
@click.option("--config", "config_file", metavar="FILE", help="YAML with the key data, or with data's own keys.")
@click.option("--format", type=click.Choice(["table", "asap"]), help="asap: columns and ranges of ASAP-AES are known.")
@click.option("--encoding", help="Of text files, such as cp1252.  [default: utf-8; ASAP's tsv: cp1252]")
@click.option("--quoting", type=click.Choice(["minimal", "none"]), help="none: quotes are plain characters.")
@click.option("--id-column", help="Column of the essay's id.  [default: essay_id]")
@click.option("--prompt-column", help="Column of the prompt's id.  [default: prompt_id]")
@click.option("--text-column", help="Column of the essay.  [default: text]")
@click.option("--score-column", help="Column of the score.  [default: score]")
@click.option("--second-score-column", help="Column of a second rater's score.")
@click.option("--prompt", help="The one prompt of a table that has no prompt column.")
@click.option("--keep-prompt", "keep_prompts", multiple=True, metavar="ID", help="Use this prompt; may be repeated.")
@click.option(
    "--range", "ranges", multiple=True, metavar="ID=LOW:HIGH[:STEP]", help="Score range of a prompt; may be repeated."
)
@click.option("--prompts", metavar="FILE", help="YAML or JSON of prompt ids with low, high, step.")
@click.option("--folds-dir", metavar="DIR", help="Folder of train_ids.txt, dev_ids.txt and test_ids.txt.")
@click.option("--split-column", help="Column that says train, dev, test or teacher_dev.")
@click.option("--hub-split", help="Split of a hub data set, such as train.")
@click.option("--json", "as_json", is_flag=True, help="Write the report as JSON.")
@click.pass_context
def check(context: click.Context, /, config_file: str | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click
    """Check scored essays: rows that cannot be used, scores, lengths, repetitions, splits.

    INPUT is a .csv, .tsv, .jsonl or .parquet file, a folder of .txt files, - for standard input, or a data set on the
    Hugging Face hub. Options go before what the configuration says. Exit code 2 if a row cannot be used.
    """
    # Imported here: --help must not wait for pyarrow.
    from aes_dynloss.configfile import validate
    from aes_dynloss.essays.data.data_check import check_data
    from aes_dynloss.essays.data.data_config import DataConfig

    values = {} if config_file is None else _data_of(config_file)
    split_named = bool(values.get("split")) or options["folds_dir"] or options["split_column"]
    _lay_over(values, options)
    config = validate(DataConfig, values, config_file or "the command line")
    report = check_data(config, check_splits=bool(split_named))
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=1, allow_nan=False))
    else:
        click.echo(report_words(report))
    context.exit(0 if report.clean else 2)


def _data_of(config_file: str) -> dict[str, Any]:
    from pathlib import Path

    from aes_dynloss.configfile import read_mapping
    from aes_dynloss.errors import ConfigError

    values = read_mapping(Path(config_file))
    inner = values.get("data", values)
    if not isinstance(inner, dict):
        raise ConfigError(
            f"{config_file}: data should be a mapping of keys to values. See `aes-dynloss data check --help`."
        )
    return inner


def _lay_over(values: dict[str, Any], options: dict[str, Any]) -> None:
    from aes_dynloss.errors import ConfigError

    plain = ("source", "format", "encoding", "quoting", "prompt", "prompts", "hub_split")
    values.update({name: options[name] for name in plain if options[name] is not None})
    if options["keep_prompts"]:
        values["keep_prompts"] = list(options["keep_prompts"])
    columns = ("essay_id", "id"), ("prompt_id", "prompt"), ("text",) * 2, ("score",) * 2, ("second_score",) * 2
    named = {key: options[f"{option}_column"] for key, option in columns if options[f"{option}_column"] is not None}
    if named:
        values["columns"] = {**_inner(values, "columns"), **named}
    ranges: dict[str, dict[str, str]] = {}
    for words in options["ranges"]:
        prompt, own = _parse_range(words)
        if prompt in ranges:
            raise ConfigError(f"--range names prompt {prompt!r} twice. Give each prompt one range.")
        ranges[prompt] = own
    if ranges:
        if isinstance(values.get("prompts"), str):
            raise ConfigError("Ranges are given both in a file of prompts and by --range. Use one of the two.")
        values["prompts"] = {**{str(key): own for key, own in _inner(values, "prompts").items()}, **ranges}
    ways = {"folds_dir": options["folds_dir"], "column": options["split_column"]}
    if any(ways.values()):
        kept = {key: value for key, value in _inner(values, "split").items() if key not in {*ways, "fractions"}}
        values["split"] = kept | {key: value for key, value in ways.items() if value is not None}


def _inner(values: dict[str, Any], key: str) -> dict[Any, Any]:
    from aes_dynloss.errors import ConfigError

    inner = values.get(key)
    if inner is None:
        return {}
    if not isinstance(inner, dict):
        raise ConfigError(f"data.{key} should be a mapping of keys to values, found {inner!r}.")
    return inner


def _parse_range(words: str) -> tuple[str, dict[str, str]]:
    from aes_dynloss.errors import ConfigError

    prompt, equals, numbers = words.rpartition("=")
    parts = numbers.split(":")
    if not equals or not prompt or len(parts) not in {2, 3}:
        raise ConfigError(f"--range {words}: expected ID=LOW:HIGH or ID=LOW:HIGH:STEP, such as 2=1:6.")
    return prompt, dict(zip(("low", "high", "step"), parts, strict=False))


def report_words(report: DataReport) -> str:
    """The report as text for people."""
    lines = [f"{report.source}: {report.rows} rows read, {report.used} essays usable, {len(report.lost)} rows lost"]
    if report.left_out:
        lines.append(f"{report.left_out} essays of prompts that are not kept")
    lines += ["", *_prompt_lines(report)]
    lines += _split_lines(report)
    for title, found in (("warnings", _warnings(report)), ("errors", report.errors), ("lost rows", _lost(report))):
        if found:
            lines += ["", f"{title}:", *(f"  {line}" for line in found)]
    return "\n".join(lines)


def _prompt_lines(report: DataReport) -> list[str]:
    head = ("prompt", "n", "range", "seen", "mean", "sd", "words min/25%/50%/75%/max")
    rows = [
        (
            prompt,
            str(own.n),
            own.range or "?",
            f"{own.low:g} to {own.high:g}",
            f"{own.mean:.2f}",
            "-" if own.sd is None else f"{own.sd:.2f}",
            " / ".join(f"{length:g}" for length in own.words),
        )
        for prompt, own in report.prompts.items()
    ]
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    lines += ["", "essays per score:"]
    for prompt, own in report.prompts.items():
        counts = "  ".join(f"{score}: {count}" for score, count in own.score_counts.items())
        lines.append(f"  {prompt.ljust(widths[0])}  {counts}")
    return lines if rows else []


def _split_lines(report: DataReport) -> list[str]:
    if report.splits is None:
        return []
    return ["", "splits: " + ", ".join(f"{name} {count}" for name, count in report.splits.items())]


def _lost(report: DataReport) -> list[str]:
    return [
        f"row {lost.row}{'' if lost.essay_id is None else f' (essay {lost.essay_id})'}: {lost.reason}"
        for lost in report.lost
    ]


def _warnings(report: DataReport) -> list[str]:
    lines = []
    if not report.ranges_given and report.prompts:
        lines.append("ranges are taken from the scores seen; give them by --range, --prompts or data.prompts")
    if report.repeated_ids:
        lines.append(
            f"{len(report.repeated_ids)} rows say again what an earlier row said: {_some(report.repeated_ids)}"
        )
    if report.swallowing:
        lines.append(f"in {len(report.swallowing)} texts, further rows seem to hide: {_some(report.swallowing)}")
    if report.same_texts:
        lines.append(
            f"{len(report.same_texts)} texts stand more than once: {_some(map(' = '.join, report.same_texts))}"
        )
    if report.leaks:
        leaks = (" = ".join(f"{essay_id} ({name})" for name, essay_id in leak) for leak in report.leaks)
        lines.append(f"{len(report.leaks)} texts stand in more than one split: {_some(leaks)}")
    for name, ids in report.hidden_characters.items():
        lines.append(f"hidden character {name} in {len(ids)} essays: {_some(ids)}")
    return lines


def _some(found: Any) -> str:  # noqa: ANN401
    listed = list(found)
    rest = len(listed) - _LISTED_IDS
    return "; ".join(listed[:_LISTED_IDS]) + (f"; ... and {rest} more" if rest > 0 else "")
