"""``aes-dynloss score``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.data_config import Columns

logger = logging.getLogger(__name__)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--text-column", help="Column of the essays.  [default: text]")
@click.option("--id-column", help="Column of their ids.  [default: essay_id, else rows are numbered]")
@click.option("--prompt-column", help="Column of their prompts.  [default: prompt_id, if there]")
@click.option("--prompt", help="The prompt of all essays, where there is no column of prompts.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of text files.")
@click.option(
    "--quoting", type=click.Choice(["minimal", "none"]), default="minimal", show_default=True, help="Of csv and tsv."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, allow_dash=True),
    default="-",
    help="File, or - for standard output.  [default: -]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Of the output.  [default: as --output ends, else csv]",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="Part of essays whose human score lies from low to high.",
)
@click.option("--force", is_flag=True, help="Replace an --output that is there.")
@click.option("--cpu", is_flag=True, help="Keep a GPU out of it.")
def score(
    model: Path,
    inputs: tuple[str, ...],
    prompt: str | None,
    encoding: str,
    quoting: Any,  # noqa: ANN401 - a choice, checked by click
    output: Path,
    form: str | None,
    coverage: float,
    force: bool,
    cpu: bool,
    text_column: str | None,
    id_column: str | None,
    prompt_column: str | None,
) -> None:
    """Score the essays of INPUT with MODEL: the folder model/ of a run, or an ensemble.

    INPUT is a .csv, .tsv, .jsonl or .parquet file, a folder of .txt files, or - for standard input. One row of output
    an essay, in the same order: essay_id, prompt_id, raw (continuous), score (a score point), and low and high, between
    which the human score lies for --coverage of essays like those of dev (blank where dev was too small to tell).
    """
    path = None if str(output) == "-" else output
    from aes_dynloss.essays.score_output import output_format, write_scores

    form = output_format(form, path)
    if path is not None and path.exists() and not force:
        raise ConfigError(f"{path} is there already. Choose another --output, or replace it by --force.")
    if path is not None and any(path.exists() and Path(own).exists() and path.samefile(own) for own in inputs):
        raise ConfigError(f"--output {path} is an INPUT too; its essays would be lost. Choose another --output.")
    from accelerate import Accelerator

    from aes_dynloss.essays.data.readers import iterate_unscored
    from aes_dynloss.essays.model.ensemble import open_scorer
    from aes_dynloss.essays.score import score_essays

    _check_encoding(encoding)
    accelerator = Accelerator(cpu=cpu)
    if "-" in inputs and accelerator.num_processes > 1:
        raise ConfigError("Standard input reaches one process only. Name a file, or start one process.")
    columns = _columns(text=text_column, essay_id=id_column, prompt_id=prompt_column)
    scorer = open_scorer(model, accelerator)
    essays = (
        essay
        for source in inputs
        for essay in iterate_unscored(source, columns=columns, prompt=prompt, encoding=encoding, quoting=quoting)
    )
    windows = score_essays(scorer, essays, coverage=coverage)
    if not accelerator.is_main_process:
        for _ in windows:  # other processes only help to score
            pass
        return
    count = write_scores(windows, form, path)
    logger.info("Scored %d essays.", count)


def _columns(**named: str | None) -> Columns:
    from aes_dynloss.configfile import validate
    from aes_dynloss.essays.data.data_config import Columns

    given = {name: column for name, column in named.items() if column is not None}
    return validate(Columns, given, "The choice of columns")


def _check_encoding(name: str) -> None:
    from aes_dynloss.essays.data.data_config import text_encoding

    try:
        text_encoding(name)
    except ValueError as error:
        raise ConfigError(f"--encoding: {error}.") from None
