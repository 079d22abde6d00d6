"""``aes-dynloss features``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import comma_separated, essay_input_options, list_option, output_option, read_essays
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.readers import UnscoredEssay

logger = logging.getLogger(__name__)

_ESSAYS_AT_ONCE = 1000


def _features() -> list[tuple[str, str, str, str]]:
    from aes_dynloss.essays.features.linguistic import FEATURES

    return [(feature.name, feature.group, feature.unit, feature.language) for feature in FEATURES]


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@essay_input_options
@output_option
@click.option("--groups", callback=comma_separated, help="Groups of features, comma-separated.  [default: all]")
@list_option(_features, "List all features with their group, unit and language, and exit.")
@click.option("--force", is_flag=True, help="Overwrite an existing --output file.")
def features(
    *,
    inputs: tuple[str, ...],
    output: Path,
    groups: list[str] | None,
    force: bool,
    **layout: Any,  # noqa: ANN401 - of essay_input_options
) -> None:
    """Write the linguistic features of the essays of INPUT as a table.

    INPUT is a .csv, .tsv, .jsonl or .parquet file, a folder of .txt files, or - for standard input. One row of output
    per essay, in the same order: essay_id, prompt_id, and a column for each feature; as csv, jsonl or parquet by the
    suffix of --output. The prompts' own words are not
    known here, so that the overlap with them is 0.
    """
    from aes_dynloss.essays.features.linguistic import GROUPS, feature_names
    from aes_dynloss.essays.scoring.output import output_format, write_scores

    chosen = list(GROUPS) if groups is None else groups
    unknown = [group for group in chosen if group not in GROUPS]
    if unknown or not chosen:
        raise ConfigError(f"--groups: expected some of {', '.join(GROUPS)}; found {', '.join(unknown) or 'none'}.")
    path = None if str(output) == "-" else output
    form = output_format(None, path)
    if path is not None and path.exists() and not force:
        raise ConfigError(f"{path} exists. --force overwrites it.")
    kinds = {"essay_id": str, "prompt_id": str, **dict.fromkeys(feature_names(chosen), float)}
    count = write_scores(_windows(read_essays(inputs, 1, **layout), chosen), form, path, kinds)
    logger.info("Essays: %d, features: %d.", count, len(kinds) - 2)


def _windows(essays: Iterator[UnscoredEssay], groups: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """Columns of some essays each; of one without a row where there is no essay."""
    from aes_dynloss.essays.features.linguistic import feature_names, linguistic_features

    window = list(islice(essays, _ESSAYS_AT_ONCE))
    while True:
        values = linguistic_features([essay.text for essay in window], [None] * len(window), groups)
        yield {
            "essay_id": [essay.essay_id for essay in window],
            "prompt_id": [essay.prompt_id for essay in window],
            **dict(zip(feature_names(groups), values.T.tolist(), strict=True)),
        }
        window = list(islice(essays, _ESSAYS_AT_ONCE))
        if not window:
            return
