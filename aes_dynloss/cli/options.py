"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from aes_dynloss.errors import ConfigError, DataError

if TYPE_CHECKING:
    from aes_dynloss.essays.data.readers import UnscoredEssay
    from aes_dynloss.tables.score_range import ScoreRange

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


class ExistingPath(click.Path):
    """A path that must be there, which is seen before anything heavy is imported to work on it.

    Args:
        kind: What it should be, in words.
        advice: What to do where it is missing.
    """

    def __init__(self, kind: str = "file or folder", advice: str = "Correct the path.") -> None:
        super().__init__(path_type=Path)
        self.kind, self.advice = kind, advice

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """The path.

        Raises:
            DataError: It is not there.
        """
        path = Path(str(super().convert(value, param, ctx)))
        with suppress(RuntimeError):  # no such user: what opens the path will say so
            if not path.expanduser().exists():
                raise DataError(f"There is no {self.kind} {path}. {self.advice}")
        return path


EXISTING = ExistingPath("file")
MODEL = ExistingPath("model folder", "Give a run of finetune, or its folder model/.")

coverage_option = click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    help="Fraction of essays whose human score lies between low and high.",
)
output_option = click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, allow_dash=True),
    default="-",
    help="Output file, or - for standard output.",
)
force_precision_option = click.option(
    "--force-precision",
    is_flag=True,
    help="Compute in bf16 even on a processor without instructions for it, where that is 6 to 67 times slower.",
)
cpu_option = click.option("--cpu", is_flag=True, help="Do not use a GPU.")

_SCORE_RANGES = (
    click.option(
        "--prompts", type=EXISTING, help="YAML or JSON file of score ranges: {ID: {low: 1, high: 6, step: 1}}."
    ),
    click.option(
        "--range",
        "spans",
        multiple=True,
        metavar="[ID=]LOW:HIGH[:STEP]",
        help="One prompt's range, or that of all prompts; may be repeated.",
    ),
)


def score_range_options(command: Command) -> Command:
    """Add the options of score ranges, for every command that reads them by :func:`read_score_ranges`."""
    for option in reversed(_SCORE_RANGES):
        command = option(command)
    return command


map_option = click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="ROLE=COLUMN",
    help="Column of a role, such as essay_id=text_id, in whichever files have it; others keep their names. May be "
    "repeated.",
)


reference_option = click.option(
    "--reference-column",
    "reference",
    multiple=True,
    metavar="[TRAIT=]COLUMN",
    help="Column of human scores, or with several traits of one's.  [default: reference, or as the trait]",
)


def reference_columns(words: Sequence[str]) -> dict[str, Any]:
    """The fields ``reference`` and ``traits`` of the names of columns.

    Args:
        words: Columns, or TRAIT=COLUMN.

    Raises:
        ConfigError: Columns are named in both ways, or twice.
    """
    if len(words) > 1 and not all("=" in word for word in words):
        raise ConfigError(
            f"--reference-column {' '.join(words)}: name one column, or with several traits TRAIT=COLUMN once for each."
        )
    columns = _columns_of_traits("--reference-column", words)
    if isinstance(columns, dict):
        return {"reference": None, "traits": tuple(columns.items())}
    return {"reference": columns, "traits": ()}


def read_score_ranges(prompts: Path | None, spans: Sequence[str]) -> dict[str, ScoreRange]:
    """Score range by prompt.

    Args:
        prompts: A file of ranges.
        spans: Single prompts' ranges, which replace the file's.

    Raises:
        ConfigError: A range is none.
        DataError: The file cannot be read.
    """
    from aes_dynloss.tables.score_range import parse_ranges, read_ranges

    return (read_ranges(prompts) if prompts is not None else {}) | parse_ranges(spans)


def list_option(rows: Callable[[], Sequence[Sequence[str]]], help_text: str) -> Callable[[Command], Command]:
    """A flag --list, which prints a table and ends.

    Args:
        rows: The table's rows, of at least two cells; the second is a title.
        help_text: What the flag lists.
    """

    def callback(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            from aes_dynloss.reports.table import aligned

            names, titles, *others = zip(*rows(), strict=True)
            width = max(map(len, titles))
            click.echo("\n".join(aligned([names, [title.ljust(width) for title in titles], *others])))
            context.exit()

    return click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=callback, help=help_text)


def read_data_values(config: str | Path) -> dict[str, Any]:
    """What a YAML file says of data: below the key data, or as the whole file.

    Raises:
        ConfigError: It cannot be read, or data is no mapping.
    """
    from aes_dynloss.configfile import read_mapping

    values = read_mapping(Path(config))
    values = values.get("data", values)
    if not isinstance(values, dict):
        raise ConfigError(f"{config}: data should be a mapping of keys to values. See `aes-dynloss data check --help`.")
    return values


_ESSAY_INPUT = (
    click.option("--text-column", "text", help="Column of the essays.  [default: text]"),
    click.option("--id-column", "essay_id", help="Column of their ids.  [default: essay_id, else rows are numbered]"),
    click.option("--prompt-column", "prompt_id", help="Column of their prompts.  [default: prompt_id, if present]"),
    click.option("--prompt", help="The prompt of all essays, if there is no column of prompts."),
    click.option("--encoding", default="utf-8", help="Encoding of text files."),
    click.option(
        "--quoting",
        type=click.Choice(["minimal", "none"]),
        default="minimal",
        help="Quoting in csv and tsv files.",
    ),
)


def comma_separated(_: click.Context, __: click.Parameter, text: str | None) -> list[str] | None:
    """The callback of an option with several names."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def essay_input_options(command: Command) -> Command:
    """Add the options of the layout of essays, for every command that reads essays by :func:`read_essays`."""
    for option in reversed(_ESSAY_INPUT):
        command = option(command)
    return command


def check_sources(sources: Sequence[str]) -> None:
    """Refuse essays that are not there, before anything heavy is imported to work on them.

    Raises:
        DataError: A source can only be a path, and is not there.
    """
    from aes_dynloss.essays.data.sources import check_source

    for source in sources:
        check_source(source)


def read_essays(
    sources: Sequence[str],
    processes: int,
    features: Sequence[str] = (),
    *,
    keep: bool = False,
    prompt: str | None,
    encoding: str,
    quoting: Literal["minimal", "none"],
    **named: str | None,
) -> Iterator[UnscoredEssay]:
    """The essays of some sources, one after the other, read by the options of a command.

    Args:
        sources: Files or folders, or - for standard input.
        processes: Number of processes that read them.
        features: Numeric columns that a model sees beside the text.
        keep: Whether each essay has its row's other cells with it.
        prompt: The one prompt of a table without a column of prompts.
        encoding: Of text files.
        quoting: Of csv and tsv.
        named: Columns whose names are not the default ones.

    Raises:
        ConfigError: There is no such encoding, one column is named twice, or processes would share standard input.
    """
    from aes_dynloss.configfile import validate
    from aes_dynloss.essays.data.data_config import Columns, text_encoding
    from aes_dynloss.essays.data.readers import iterate_unscored

    try:
        text_encoding(encoding)
    except ValueError as error:
        raise ConfigError(f"--encoding: {error}.") from None
    if "-" in sources and processes > 1:
        raise ConfigError("Standard input reaches one process only. Name a file, or start one process.")
    given = {name: column for name, column in named.items() if column is not None}
    columns = {
        source: validate(Columns, given | _found_columns(source, given, encoding, quoting), source)
        for source in sources
    }
    return (
        essay
        for source in sources
        for essay in iterate_unscored(
            source,
            columns=columns[source],
            prompt=prompt,
            encoding=encoding,
            quoting=quoting,
            features=features,
            keep=keep,
        )
    )


def _found_columns(
    source: str, named: dict[str, str], encoding: str, quoting: Literal["minimal", "none"]
) -> dict[str, str]:
    """Columns of text and ids in a table that has neither a usual name nor a named one, and on standard error why."""
    from aes_dynloss.essays.data.table_layout import unscored_columns

    path = Path(source)
    if not is_table(path) or not path.is_file():
        return {}
    layout = unscored_columns(path, named, encoding=encoding, quoting=quoting)
    for line in layout.said:
        click.echo(line, err=True)
    return dict(layout.data)


CONFIG_SUFFIXES = (".yaml", ".yml", ".json")

_SCORED_TABLE = (
    click.option("--text-column", "text", metavar="COLUMN", help="Table: column of the essays."),
    click.option("--id-column", "essay_id", metavar="COLUMN", help="Table: column of their ids."),
    click.option("--prompt-column", "prompt_id", metavar="COLUMN", help="Table: column of the prompts' ids."),
    click.option(
        "--score-column",
        "score",
        multiple=True,
        metavar="[TRAIT=]COLUMN",
        help="Table: column of the human score; of each of several traits, if repeated.",
    ),
    click.option("--second-score-column", "second_score", metavar="COLUMN", help="Table: a second rater's score."),
    click.option(
        "--range",
        "spans",
        multiple=True,
        metavar="[ID=]LOW:HIGH[:STEP]",
        help="Table: score points of a prompt, or of all; may be repeated.  [default: those seen]",
    ),
    click.option("--subgroup", "subgroups", multiple=True, metavar="COLUMN", help="Table: groups of writers."),
    click.option(
        "--group-column", "group", metavar="COLUMN", help="Table: writer, class or school; each stays in one part."
    ),
    click.option("--encoding", metavar="NAME", help="Table: of text files, such as cp1252.  [default: utf-8]"),
)


def score_columns(words: Sequence[str]) -> str | dict[str, str] | None:
    """The column of the human score, or those of several traits.

    Args:
        words: COLUMN or TRAIT=COLUMN, each once.

    Raises:
        ConfigError: A trait is named twice, or without a column.
    """
    return _columns_of_traits("--score-column", words)


def _columns_of_traits(option: str, words: Sequence[str]) -> str | dict[str, str] | None:
    """The one column that an option names, or those of several traits."""
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    traits: dict[str, str] = {}
    for word in words:
        trait, _, column = word.partition("=") if "=" in word else (word, "", word)
        if not trait or not column or trait in traits:
            raise ConfigError(f"{option} {word}: expected COLUMN or TRAIT=COLUMN, each trait once.")
        traits[trait] = column
    return traits


def scored_table_options(command: Command) -> Command:
    """Add the options that say what a table holds, for every command that reads it by :func:`read_run_input`."""
    for option in reversed(_SCORED_TABLE):
        command = option(command)
    return command


_PRESET = (
    click.option(
        "--preset",
        type=click.Choice(["auto", "fast", "balanced", "best", "none"]),
        help="The scorer: without an encoder (fast), over a frozen small one (balanced) or larger one (best); none: as "
        "the other keys say. [default: that of a configuration; for a table, auto]",
    ),
    click.option(
        "--minutes",
        type=click.FloatRange(0, min_open=True),
        default=10.0,
        help="Preset auto: what the run may take.",
    ),
)


def preset_options(command: Command) -> Command:
    """Add the options that choose a preset, for :func:`settle_preset`."""
    for option in reversed(_PRESET):
        command = option(command)
    return command


def settle_preset(
    values: dict[str, Any], preset: str | None, minutes: float, *, table: bool
) -> tuple[dict[str, Any], list[str]]:
    """A run's values with the preset that the options name, or the one that is best here.

    Args:
        values: Of a configuration.
        preset: Named by its option.
        minutes: That the run may take.
        table: Whether they were found in a table.

    Returns:
        The values, and what was chosen, in words.

    Raises:
        AesDynlossError: The essays cannot be read.
    """
    from aes_dynloss.essays.finetune.presets import settle

    named = {} if preset is None else {"preset": None if preset == "none" else preset}
    return settle({**named, **values, **named}, minutes, table=table)


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    from aes_dynloss.tables.formats import SUFFIXES

    return path.suffix.lower() in SUFFIXES


def read_run_input(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration's values: those of a configuration file, or those that suit a table of scored essays.

    Args:
        path: Either of them.
        options: Those of :func:`scored_table_options`, by name.

    Returns:
        The values, and what was found out about a table, in words.

    Raises:
        ConfigError: The file is neither, or is a configuration, for which there are no such options.
        DataError: It cannot be read, or what a column of it is remains open.
    """
    from aes_dynloss.tables.formats import SUFFIXES

    suffix = path.suffix.lower()
    if suffix in CONFIG_SUFFIXES:
        given = [name for name, value in options.items() if value]
        if given:
            raise ConfigError(
                f"{path.name} is a configuration, which says itself what the columns are. Leave out the options of "
                "tables, or set data.columns and data.prompts: KEY=VALUE does so for this run."
            )
        from aes_dynloss.configfile import read_mapping

        return read_mapping(path), []
    if not is_table(path):
        raise ConfigError(
            f"{path}: expected a configuration ({', '.join(CONFIG_SUFFIXES)}) or a table of scored essays "
            f"({', '.join(SUFFIXES)}). Save it as one of these."
        )
    if not path.expanduser().exists():
        raise ConfigError(f"There is no file {path}. Correct the path of the essays.")
    return _table_values(path, **options)


def _table_values(
    path: Path,
    *,
    spans: Sequence[str],
    subgroups: Sequence[str],
    group: str | None,
    encoding: str | None,
    score: Sequence[str],
    **named: str | None,
) -> tuple[dict[str, Any], list[str]]:
    from aes_dynloss.essays.data.data_config import text_encoding
    from aes_dynloss.essays.data.table_layout import table_layout
    from aes_dynloss.tables.score_range import parse_ranges

    try:
        encoding = text_encoding(encoding or "utf-8")
    except ValueError as error:
        raise ConfigError(f"--encoding: {error}.") from None
    ranges = parse_ranges(spans)
    columns = {role: column for role, column in named.items() if column is not None}
    scores = score_columns(score)
    columns |= {"score": scores} if isinstance(scores, str) else {}
    traits = None if isinstance(scores, str) else scores
    layout = table_layout(path, columns, ranges, subgroups, group, traits=traits, encoding=encoding)
    return {"data": layout.data}, layout.said + layout.slips
