"""A hub of models on this machine: what huggingface_hub asks to fetch, make and change repositories, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_stub"
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by branch or tag, the newest last; each has all files."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        name = hashlib.sha1(repr((branch, len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[name] = files
        self.heads[branch] = name
        return name

    def at(self, revision: str) -> str | None:
        """The commit of a branch, a tag or of itself; None for what is not there."""
        return self.heads.get(revision, revision if revision in self.commits else None)


@dataclass
class StubHub:
    """What the hub has, and what it was asked.

    Args:
        repositories: By OWNER/NAME.
        asked: Method and path of each request.
        address: Where it is.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def files(self, name: str, revision: str = "main") -> Files:
        repository = self.repositories[name]
        return repository.commits[repository.at(revision) or ""]


@contextmanager
def stub_hub() -> Iterator[StubHub]:
    """A hub that answers while the block runs."""
    hub = StubHub()

    class Handler(_Handler):
        stub = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)/(?P<what>\w+)/(?P<revision>[^/]+)(/(?P<path>.*))?")

_IN_THE_COMMIT = {"uploadMode": "regular", "shouldIgnore": False}  # large files go to another store than this one


class _Handler(BaseHTTPRequestHandler):
    stub: StubHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fails(self, code: str, status: int = 404) -> None:
        self._answer(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    @property
    def _knows_me(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str) -> Repository | None:
        """What the one who asks may see."""
        repository = self.stub.repositories.get(name)
        return None if repository is None or (repository.private and not self._knows_me) else repository

    def _resolved(self, match: re.Match[str]) -> tuple[Repository, str] | None:
        """A repository and a commit, or None after an answer that says what is not there."""
        repository = self._repository(match["name"])
        if repository is None:
            self._fails("RepoNotFound", 404 if self._knows_me else 401)
            return None
        commit = repository.at(unquote(match["revision"]))
        if commit is None:
            self._fails("RevisionNotFound")
            return None
        return repository, commit

    def do_GET(self) -> None:
        self.stub.asked.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        match = _FILE.fullmatch(path) or _API.fullmatch(path)
        found = None if match is None else self._resolved(match)
        if match is None:
            self._fails("unknown to the stub", 501)
        if match is None or found is None:
            return
        repository, commit = found
        files = repository.commits[commit]
        if match.re is _FILE:
            name = unquote(match["path"])
            if name in files:
                etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
                self._answer(200, files[name], {"ETag": etag, "X-Repo-Commit": commit})
            else:
                self._answer(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif match["what"] == "revision":
            siblings = [{"rfilename": name} for name in files]
            self._answer(200, {"id": match["name"], "sha": commit, "siblings": siblings, "private": repository.private})
        else:
            entries = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in files.items()
            ]
            self._answer(200, entries)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.stub.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif not self._knows_me:
            self._fails("Unauthorized", 401)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := _API.fullmatch(path):
            found = self._resolved(match) if match["what"] != "branch" else None
            repository = self.stub.repositories[match["name"]] if found is None else found[0]
            if match["what"] == "branch":
                repository.heads.setdefault(unquote(match["revision"]), repository.heads["main"])
                self._answer(200, {})
            elif match["what"] == "preupload":
                asked = json.loads(body)["files"]
                self._answer(200, {"files": [{"path": one["path"], **_IN_THE_COMMIT} for one in asked]})
            elif found is not None:
                self._commit(match, repository, [json.loads(line) for line in body.splitlines()])
        else:
            self._fails("unknown to the stub", 501)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        address = f"{self.stub.address}/{name}"
        if name in self.stub.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": address})
            return
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.stub.repositories[name] = Repository(private)
        self.stub.repositories[name].commit({".gitattributes": b""})
        self._answer(200, {"url": address})

    def _commit(self, match: re.Match[str], repository: Repository, lines: list[dict[str, Any]]) -> None:
        branch = unquote(match["revision"])
        files = dict(repository.commits[repository.heads[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files, branch)
        address = f"{self.stub.address}/{match['name']}/commit/{commit}"
        self._answer(200, {"success": True, "commitOid": commit, "commitUrl": address})
