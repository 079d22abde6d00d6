"""The Dockerfile of the service: what it names is there, and it does not run as root."""

from __future__ import annotations

import json
import re
import shlex
import tomllib

import click
from readmes import ROOT

from aes_dynloss.cli.serve import serve

FOLDER = ROOT / "recipes" / "serving"
LINES = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text(encoding="utf-8")).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [word for line in instructions("COPY") for word in line.split()[:-1]]
    assert copied == [line[1:] for line in ignored if line.startswith("!")]
    assert all((ROOT / name).exists() for name in copied)


def test_the_extras_exist():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (extras,) = re.findall(r"aes-dynloss\[([\w,]+)\]", "\n".join(LINES))
    assert {*extras.split(",")} <= {*known}


def test_the_command_and_the_readmes_options_are_ones():
    (entry,) = instructions("ENTRYPOINT")
    program, name, *words = json.loads(entry)
    assert (program, name) == ("aes-dynloss", "serve")
    _, _, given = (FOLDER / "README.md").read_text(encoding="utf-8").split("```")[1].rpartition("aes-dynloss-serving ")
    serve.make_parser(click.Context(serve)).parse_args([*words, *shlex.split(given)])


def test_it_runs_as_a_user_who_is_not_root():
    (user,) = instructions("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0 < int(gid)
    assert any(f"--uid {uid} --gid {gid}" in line for line in instructions("RUN"))
    after = LINES[LINES.index(f"USER {user}") :]
    assert not any(line.startswith(("RUN", "USER")) for line in after[1:])


def test_health_is_asked_where_it_is():
    (check,) = instructions("HEALTHCHECK")
    (entry,) = instructions("ENTRYPOINT")
    (port,) = instructions("EXPOSE")
    assert f"127.0.0.1:{port}/health/ready" in check
    assert f'"--port", "{port}"' in entry
