"""``aes-dynloss robustness``: scores before and after changes that should lower them, or leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aes_dynloss.cli.essay_input import check_encoding, essay_input_options, named_columns
from aes_dynloss.errors import ConfigError

RESULT, TABLE = "robustness.json", "robustness.csv"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", metavar="DATA")
@essay_input_options
@click.option(
    "--kinds", metavar="KIND,...", help="Kinds of change, with commas between; --list tells them.  [default: all]"
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, wanted: _list_kinds(context) if wanted else None,
    help="List the kinds of change, and end.",
)
@click.option(
    "--most", type=click.IntRange(min=1), default=100, show_default=True, help="Essays a prompt that are drawn at most."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw and the changes.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="YAML or JSON file with the prompts' own words: {ID: {text: ...}}.  [default: those that the model holds]",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Write {RESULT} and {TABLE}, which has prompts one by one, into this folder.",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help=f"Print {RESULT} instead of the table.")
@click.option("--cpu", is_flag=True, help="Keep a GPU out of it.")
def robustness(
    *,
    model: Path,
    data: str,
    text_column: str | None,
    id_column: str | None,
    prompt_column: str | None,
    prompt: str | None,
    encoding: str,
    quoting: Any,  # noqa: ANN401 - a choice, checked by click
    kinds: str | None,
    most: int,
    seed: int,
    prompts: Path | None,
    output_dir: Path | None,
    force: bool,
    as_json: bool,
    cpu: bool,
) -> None:
    """Measure how often MODEL is fooled: its scores for the essays of DATA before and after changes.

    Changes such as nonsense, another prompt's essay, repetition or shuffled words should lower a score, or at least not
    raise it; synonyms or capitals should leave it. DATA is what `aes-dynloss score` reads; human scores are not needed.
    """
    check_encoding(encoding)
    chosen = _chosen(kinds)
    if output_dir is not None and not force:
        from aes_dynloss.reporting.report_files import refuse_existing

        refuse_existing(output_dir, (RESULT, TABLE))
    prompt_texts = _prompt_texts(prompts) if prompts is not None else {}
    # Heavy imports here keep --help fast.
    from accelerate import Accelerator

    from aes_dynloss.essays.data.readers import iterate_unscored
    from aes_dynloss.essays.model.ensemble import open_scorer
    from aes_dynloss.essays.robustness import measure_robustness
    from aes_dynloss.evaluation.robustness_text import robustness_table

    accelerator = Accelerator(cpu=cpu)
    if data == "-" and accelerator.num_processes > 1:
        raise ConfigError("Standard input reaches one process only. Name a file, or start one process.")
    columns = named_columns(text=text_column, essay_id=id_column, prompt_id=prompt_column)
    scorer = open_scorer(model, accelerator)
    essays = list(iterate_unscored(data, columns=columns, prompt=prompt, encoding=encoding, quoting=quoting))
    measured = measure_robustness(scorer, essays, kinds=chosen, seed=seed, most=most, prompt_texts=prompt_texts)
    if not accelerator.is_main_process:
        return
    if output_dir is not None:
        _write(measured, output_dir)
    click.echo(_json(measured) if as_json else robustness_table(measured))


def _list_kinds(context: click.Context) -> None:
    from aes_dynloss.essays.perturbations import PERTURBATIONS
    from aes_dynloss.evaluation.report_text import aligned
    from aes_dynloss.evaluation.robustness_text import EXPECTATIONS

    kinds = PERTURBATIONS.values()
    expected = [f"({EXPECTATIONS[kind.expected]})" for kind in kinds]
    titles = [f"{kind.title} {words}" for kind, words in zip(kinds, expected, strict=True)]
    width = max(map(len, titles))
    for line in aligned([list(PERTURBATIONS), [title.ljust(width) for title in titles]]):
        click.echo(line)
    context.exit()


def _chosen(kinds: str | None) -> list[str] | None:
    """The kinds by name; an unknown one is refused before anything is opened."""
    if kinds is None:
        return None
    from aes_dynloss.essays.perturbations import check_kinds

    names = [name.strip() for name in kinds.split(",") if name.strip()]
    if not names:
        raise ConfigError("--kinds names no kind of change. Name one at least; --list tells them.")
    check_kinds(names)
    return names


def _prompt_texts(path: Path) -> dict[str, str]:
    """The words of prompts by id, under the key text or prompt, or alone; entries without are of no use here."""
    from aes_dynloss.configfile import read_mapping

    texts = {}
    for prompt, entry in read_mapping(path).items():
        text = entry.get("text", entry.get("prompt")) if isinstance(entry, dict) else entry
        if text is not None and not isinstance(text, str):
            raise ConfigError(f"--prompts {path}: the text of prompt {prompt} is no text. Write it in quotation marks.")
        if text is not None:
            texts[str(prompt)] = text
    return texts


def _json(measured: dict[str, Any]) -> str:
    import json

    return json.dumps(measured, indent=2, ensure_ascii=False, allow_nan=False)


def _write(measured: dict[str, Any], folder: Path) -> None:
    """The table first: the result marks it complete."""
    import pandas as pd

    from aes_dynloss.evaluation.robustness_text import robustness_rows
    from aes_dynloss.evaluation.table_files import replacing, write_table

    write_table(pd.DataFrame(robustness_rows(measured)), folder / TABLE)
    with replacing(folder / RESULT) as temporary:
        temporary.write_text(_json(measured) + "\n", encoding="utf-8")
    click.echo(f"Wrote {folder / RESULT} and {folder / TABLE}", err=True)
