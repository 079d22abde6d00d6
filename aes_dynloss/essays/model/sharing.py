"""Where a model comes from, a folder, a zip of one or the hub, and how it gets there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aes_dynloss.errors import AesDynlossError, CheckpointError, first_line
from aes_dynloss.essays.model.archive import unpacked
from aes_dynloss.essays.model.hub import hub_name, unanswered
from aes_dynloss.essays.model.model_folder import (
    CARD,
    CONFIG,
    ENSEMBLE_FORMAT,
    FORMAT,
    MEMBERS,
    appearing_whole,
    check_files,
    damage_named,
    is_for_people,
    model_folder,
    read_config,
)
from aes_dynloss.versions import package_version

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMMIT_MESSAGE = "Essay scorer of aes-dynloss"
_ADVICE = (
    "Give a run of finetune, its folder model/, a zip of it, or OWNER/NAME[@REVISION] on the hub; HF_ENDPOINT names a "
    "mirror"
)


def locate_model(source: str | Path, revision: str | None = None, *, token: str | None = None) -> Path:
    """The local folder of a model; without a revision, what is here goes before what is on the hub.

    Args:
        source: A model folder, the folder of a run, a zip of either, or OWNER/NAME or OWNER/NAME@REVISION on the hub.
        revision: Branch, tag or commit on the hub, if the source does not name it.
        token: Who asks the hub; by default whoever is logged in.

    Returns:
        A folder, which is not there where no such model is.

    Raises:
        CheckpointError: A zip is damaged or not safe, or the hub has no such model or does not answer; or
            two revisions are given.
    """
    if revision is not None:
        repo_id, named = hub_name(source) or (str(source), None)
        if named is not None:
            raise CheckpointError(f"{source} names a revision, and {revision!r} is given. Give one of the two.")
        return download(repo_id, revision, token=token)
    path = Path(source)
    if path.is_file():
        return model_folder(unpacked(path))
    name = None if path.exists() else hub_name(source)
    return model_folder(path) if name is None else download(*name, token=token)


def download(repo_id: str, revision: str | None = None, *, token: str | None = None) -> Path:
    """A model of the hub as a local folder, fetched or as it was fetched before.

    Fetched is what its config.json lists, and the card; nothing else that lies beside them.

    Args:
        repo_id: OWNER/NAME.
        revision: Branch, tag or commit; by default ``main``.
        token: Who asks; by default whoever is logged in.

    Raises:
        CheckpointError: There is no such model, or it is no model of this package; or the hub does not answer and
            there is no copy of an earlier download.

    Example:
        >>> folder = download("ana/argument-scorer", revision="v1.0")  # doctest: +SKIP
    """
    from huggingface_hub import snapshot_download

    silence = unanswered(repo_id, revision, token)
    options: dict[str, Any] = {"token": token, "local_files_only": silence is not None}
    with _explained(f"There is no model folder {repo_id} here, and none comes from the hub", _ADVICE, silence):
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=[CONFIG, CARD], **options))
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(f"what it has there is no model, for it lacks {CONFIG}")
        values = read_config(folder, FORMAT, ENSEMBLE_FORMAT)
        with damage_named(folder):
            files = [f"{MEMBERS}/*"] if values["format"] == ENSEMBLE_FORMAT else list(values["sha256"])
        # Of the same commit, whatever is pushed meanwhile.
        snapshot_download(repo_id, revision=folder.name, allow_patterns=[CONFIG, CARD, *files], **options)
    return folder


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = COMMIT_MESSAGE,
) -> str:
    """Push a model folder of any kind to the hub; the repository is made if it is not there.

    Pushed are the model's own files and its card. Predictions and reports, which hold ids and scores of essays, stay.
    A model that is there already gives way; what lies beside its files stays.

    Args:
        folder: A model folder, or a run with one in it.
        repo_id: OWNER/NAME, or a name of one's own.
        revision: The branch to push to, made from ``main`` if it is not there; by default ``main``.
        private: Whether a new repository is private; by default as the owner has set it.
        token: Who pushes; by default whoever is logged in.
        commit_message: Of the commit.

    Returns:
        Address of the commit.

    Raises:
        CheckpointError: The folder holds no model, or a damaged one; or the hub does not take it, or holds something
            else under that name.

    Example:
        >>> push_to_hub("runs/first", "ana/argument-scorer", private=True)  # doctest: +SKIP
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

    folder = model_folder(folder)
    files = model_files(folder)
    silence = unanswered(repo_id, token=token)
    if silence is not None:
        raise CheckpointError(f"{folder} is not pushed: the hub, {constants.ENDPOINT}, {silence}.")
    with _explained(f"{folder} is not pushed to the hub", "Log in by `hf auth login`, or set HF_TOKEN"):
        api = HfApi(token=token, library_name="aes-dynloss", library_version=package_version("aes-dynloss"))
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        gone = [CommitOperationDelete(path) for path in _old_files(api, name, revision) if path not in files]
        new = [CommitOperationAdd(path, folder / path) for path in files]
        # In one commit: nobody fetches half of one model and half of another.
        done = api.create_commit(name, [*gone, *new], commit_message=commit_message, revision=revision)
    return str(done.commit_url)


def model_files(folder: Path) -> list[str]:
    """Paths of the files of a model folder that go to others, its own and its card, after a look at their digests.

    Args:
        folder: The model folder.

    Raises:
        CheckpointError: It is none, or a damaged one.
    """
    values = read_config(folder, FORMAT, ENSEMBLE_FORMAT)
    card = [CARD] if (folder / CARD).is_file() else []
    if values["format"] == FORMAT:
        check_files(folder, values)
        return [*card, *values["sha256"]]
    with damage_named(folder):
        members = [f"{MEMBERS}/{number}" for number in range(len(values["members"]))]
        return [*card, CONFIG, *(f"{one}/{path}" for one in members for path in model_files(folder / one))]


def copy_model(folder: Path, target: Path) -> None:
    """Copy a model folder's own files and its card to where they appear whole or not at all, in place of a model.

    Args:
        folder: The model folder.
        target: Where to.

    Raises:
        CheckpointError: The folder is no model, or a damaged one; the target cannot be written, or holds something that
            is no model.
    """
    with appearing_whole(target) as new:
        for path in model_files(folder):
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, new / path)


def _old_files(api: HfApi, name: str, revision: str | None) -> list[str]:
    """The files of the model in a repository that another is to take the place of; none of what lies beside them.

    Raises:
        CheckpointError: There is no model of this format, but something else.
    """
    present = api.list_repo_files(name, revision=revision)
    if all(path.startswith(".") or is_for_people(path) for path in present):
        return []
    try:
        if CONFIG not in present:
            raise CheckpointError(f"It lacks {CONFIG}.")
        with tempfile.TemporaryDirectory() as folder:
            api.hf_hub_download(name, CONFIG, revision=revision, local_dir=folder)
            values = read_config(Path(folder), FORMAT, ENSEMBLE_FORMAT)
        with damage_named(Path(name)):
            own = {CONFIG, *values["sha256"]}
    except CheckpointError:
        raise CheckpointError(
            f"The repository {name} on the hub holds files, but no model of this program, so nothing is pushed there. "
            "Choose another name."
        ) from None
    ensemble = values["format"] == ENSEMBLE_FORMAT
    return [path for path in present if path in own or (ensemble and path.startswith(f"{MEMBERS}/"))]


@contextmanager
def _explained(what: str, advice: str, silence: str | None = None) -> Iterator[None]:
    """Say what did not succeed, with the hub's address, why, and what to do; errors of ours pass."""
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except AesDynlossError:
        raise
    except Exception as error:  # of whichever client of HTTP the hub's own is built on
        reason = first_line(error)
        if silence is not None:
            reason = f"it {silence}, and there is no copy of an earlier download"
        elif isinstance(error, RepositoryNotFoundError):
            reason = "it has no such model, or not for everybody (log in by `hf auth login`, or set HF_TOKEN)"
        elif isinstance(error, RevisionNotFoundError):
            reason = "the model there has no such revision"
        raise CheckpointError(f"{what}, {constants.ENDPOINT}: {reason}. {advice}.") from None
