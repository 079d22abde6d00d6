"""``aes-dynloss serve``."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from aes_dynloss.cli.options import MODEL, audit_option, coverage_option, cpu_option
from aes_dynloss.errors import ConfigError
from aes_dynloss.serving.limits import Limits

logger = logging.getLogger(__name__)

# Those that are options; their defaults, bounds and descriptions are the class's.
_LIMITS = (
    "batch_size",
    "max_essays",
    "max_characters",
    "max_body",
    "max_table_rows",
    "max_table_body",
    "max_queue",
)


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of :data:`_LIMITS`, before a command's others."""
    known = Limits.model_json_schema()["properties"]
    for name in reversed(_LIMITS):
        least, default, description = (known[name][key] for key in ("minimum", "default", "description"))
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, type=click.IntRange(least), default=default, help=description)(command)
    return command


@click.command()
@click.argument("model", type=MODEL)
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 accepts other machines.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port; 0 for a free one.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="A further host name of this server, such as a proxy's, without a port; may be repeated.",
)
@coverage_option
@click.option(
    "--policy",
    multiple=True,
    metavar="KIND=ACTION",
    help="advise, withhold or off for a kind of advisory, as `aes-dynloss score --list` shows them; may be repeated.",
)
@_limit_options
@audit_option
@cpu_option
def serve(
    *,
    model: Path,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    coverage: float,
    policy: tuple[str, ...],
    audit: Path | None,
    cpu: bool,
    **limits: int,
) -> int:
    """Score essays over HTTP with MODEL: a run, its folder model/, an ensemble, a zip, or OWNER/NAME on the hub.

    POST /score takes {"essays": [{"essay_id": ..., "prompt_id": ..., "text": ...}]} and returns their scores in order;
    requests that wait at the same time are scored together. POST /score-table takes a csv, tsv, jsonl, xlsx or parquet
    file and returns it with scores. GET /health, /health/live, /health/ready, /metrics, /openapi.json, and a web page
    at /. The address is printed on standard output once clients are answered. Ctrl+C or SIGTERM answers the waiting
    requests and exits.
    """
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise ConfigError(
            "aes-dynloss serve needs FastAPI and uvicorn. Install them: pip install 'aes-dynloss[serve]'."
        )
    from aes_dynloss.essays.screening.kinds import Policy
    from aes_dynloss.serving.guards import allowed_name
    from aes_dynloss.serving.server import bound_socket, hosts_of, is_loopback, run_server, url_of

    chosen = Policy.from_words(("duplicate=off", *policy))
    if chosen.duplicate != "off":
        raise ConfigError(
            "--policy: duplicate is off in a server, where one client's essays have no part in what another is told."
        )
    checked = _limits(limits)
    names = tuple(allowed_name(given) for given in allowed_hosts)
    with bound_socket(host, port) as bound:
        from aes_dynloss.essays.ensembles.ensemble import open_scorer
        from aes_dynloss.essays.model.sharing import locate_model
        from aes_dynloss.essays.scoring.audit import ScoreAudit
        from aes_dynloss.essays.scoring.score import texts_of, warn_of_blank_intervals, warn_unless_screened
        from aes_dynloss.serving.app import create_app
        from aes_dynloss.serving.service import EssayService
        from aes_dynloss.training.accelerator import plain_accelerator

        accelerator = plain_accelerator(cpu=cpu)
        if accelerator.num_processes > 1:
            raise ConfigError("aes-dynloss serve is one process. Start it without a launcher.")
        folder = locate_model(model)
        scorer = open_scorer(folder, accelerator)
        warn_unless_screened(scorer)
        warn_of_blank_intervals(scorer, scorer.prompts, coverage)
        chosen = chosen.of(texts_of(scorer))
        trail = ScoreAudit.into(audit, folder, chosen)
        service = EssayService(scorer, _name(model), coverage, checked, chosen, trail)

        def ready() -> None:
            click.echo(url_of(bound))
            logger.info("Serving %s. Ctrl+C answers what waits, and ends.", model)
            if not is_loopback(bound):
                logger.warning("Whoever reaches this machine can ask, without a password and unencrypted.")

        hosts = hosts_of(bound, host, names)
        return run_server(create_app(service), bound, limits=checked, hosts=hosts, ready=ready)


def _limits(given: Mapping[str, int]) -> Limits:
    """The limits that the options say.

    Raises:
        ConfigError: They do not fit together.
    """
    try:
        return Limits.model_validate(given)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        for name in _LIMITS:
            message = message.replace(name, f"--{name.replace('_', '-')}")
        raise ConfigError(f"{message}.") from None


def _name(model: Path) -> str:
    """What people call a model: its folder, with the run's where that says no more than ``model``."""
    folder = model.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name == "model" else folder.name
