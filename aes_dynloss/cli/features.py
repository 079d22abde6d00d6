"""``aes-dynloss features``."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aes_dynloss.cli.options import (
    EXISTING,
    check_sources,
    comma_separated,
    essay_input_options,
    list_option,
    output_option,
    read_data_values,
    read_essays,
)
from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.readers import UnscoredEssay

logger = logging.getLogger(__name__)

_ESSAYS_AT_ONCE = 1000
_LISTED_PROMPTS = 8


def _features() -> list[tuple[str, str, str, str]]:
    from aes_dynloss.essays.features.linguistic import GROUPS

    features = [feature for group in GROUPS.values() for feature in group.features]
    return [(feature.name, feature.group, feature.unit, feature.language) for feature in features]


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@essay_input_options
@output_option
@click.option(
    "--groups",
    callback=comma_separated,
    help="Groups of features, comma-separated; all: the package's own, beside which others are named.  [default: all]",
)
@click.option(
    "--config",
    "config_file",
    type=EXISTING,
    metavar="FILE",
    help="YAML with the key data, or with data's own keys: the prompts' own words in it (data.prompts.ID.text) are "
    "those that overlap is counted with.",
)
@list_option(_features, "List all features with their group, unit and language, and exit.")
@click.option("--force", is_flag=True, help="Overwrite an existing --output file.")
def features(
    *,
    inputs: tuple[str, ...],
    output: Path,
    groups: list[str] | None,
    config_file: Path | None,
    force: bool,
    **layout: Any,  # noqa: ANN401 - of essay_input_options
) -> None:
    """Write the linguistic features of the essays of INPUT as a table.

    INPUT is a .csv, .tsv, .jsonl or .parquet file, a folder of .txt files, or - for standard input. One row of output
    per essay, in the same order: essay_id, prompt_id, and a column for each feature; as csv, jsonl, parquet or xlsx by
    the suffix of --output. Overlap with the prompt's own words is 0 where --config does not tell them.
    """
    from aes_dynloss.essays.features.linguistic import ALL_GROUPS, GROUPS, feature_names
    from aes_dynloss.essays.scoring.output import output_format, write_scores
    from aes_dynloss.tables.provenance import Provenance, sealed

    named = ["all"] if groups is None else groups
    chosen = [group for one in named for group in (ALL_GROUPS if one == "all" else [one])]
    unknown = [group for group in chosen if group not in GROUPS]
    if unknown or not chosen:
        raise ConfigError(f"--groups: expected some of {', '.join(GROUPS)}; found {', '.join(unknown) or 'none'}.")
    path = None if str(output) == "-" else output
    form = output_format(None, path)
    if path is not None and path.exists() and not force:
        raise ConfigError(f"{path} exists. --force overwrites it.")
    check_sources(inputs)
    kinds = {"essay_id": str, "prompt_id": str, **dict.fromkeys(feature_names(chosen), float)}
    texts = {} if config_file is None else _prompt_texts(config_file)
    without_text = Counter[str | None]()
    made = Provenance.now(Path(name) for name in (*inputs, config_file) if name is not None)
    with sealed(made, *([] if path is None else [path])):
        count = write_scores(_windows(read_essays(inputs, 1, **layout), chosen, texts, without_text), form, path, kinds)
    logger.info("Essays: %d, features: %d.", count, len(kinds) - 2)
    if without_text and "overlap" in chosen:
        prompts = [prompt for prompt in without_text if prompt is not None]
        listed = ", ".join([*prompts[:_LISTED_PROMPTS], *(["..."] if len(prompts) > _LISTED_PROMPTS else [])])
        logger.warning(
            "Overlap with the prompt is 0 in %d essays%s: the prompt's own words are not known. Give them with "
            "--config (data.prompts.ID.text).",
            without_text.total(),
            f" of prompt {listed}" if listed else "",
        )


def _prompt_texts(config_file: Path) -> dict[str | None, str]:
    """The prompts' own words by id, as a configuration has them."""
    from aes_dynloss.configfile import validate
    from aes_dynloss.essays.data.data_config import DataConfig
    from aes_dynloss.tables.formats import STANDARD_INPUT

    values = {"source": STANDARD_INPUT, **read_data_values(config_file)}
    prompts = validate(DataConfig, values, str(config_file)).prompts or {}
    texts: dict[str | None, str] = {prompt: entry.text for prompt, entry in prompts.items() if entry.text}
    if not texts:
        raise ConfigError(
            f"--config {config_file}: no prompt has a text. Write it as data.prompts.ID.text, or leave out --config: "
            "the overlap is 0 then."
        )
    return texts


def _windows(
    essays: Iterator[UnscoredEssay],
    groups: Sequence[str],
    texts: Mapping[str | None, str],
    without_text: Counter[str | None],
) -> Iterator[dict[str, list[Any]]]:
    """Columns of some essays each; of one without a row where there is no essay.

    ``without_text`` counts the essays whose prompt has no text, by prompt.
    """
    from aes_dynloss.essays.features.linguistic import feature_names, linguistic_features

    window = list(islice(essays, _ESSAYS_AT_ONCE))
    while True:
        without_text.update(essay.prompt_id for essay in window if essay.prompt_id not in texts)
        own_words = [texts.get(essay.prompt_id) for essay in window]
        values = linguistic_features([essay.text for essay in window], own_words, groups)
        yield {
            "essay_id": [essay.essay_id for essay in window],
            "prompt_id": [essay.prompt_id for essay in window],
            **dict(zip(feature_names(groups), values.T.tolist(), strict=True)),
        }
        window = list(islice(essays, _ESSAYS_AT_ONCE))
        if not window:
            return
