"""What a product was made of: when, by which version and command, from which files, and its own hashes.

A folder has it in provenance.json, a single file in NAME.provenance.json beside it. Files are told by their names and
SHA-256; where they lay on the machine is not.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from aes_dynloss.errors import AesDynlossError, DataError
from aes_dynloss.tables.atomic import atomic_file, file_sha256, write_text
from aes_dynloss.versions import package_version, source_commit

PROVENANCE = "provenance.json"

# The words of the command that is running; none where Python was asked.
command_words: ContextVar[tuple[str, ...]] = ContextVar("words of the command", default=())

# What is told of a command whose products stand beside those of a later one.
_COMMAND = ("made", "version", "commit", "command")


@dataclass(frozen=True)
class Provenance:
    """Where a product comes from.

    Args:
        made: When, in UTC.
        version: Of aes-dynloss.
        commit: Of its source, with ``-dirty`` where that was changed since; None where it is installed without.
        command: The command, absolute paths cut down to their names; None where Python was asked.
        sources: SHA-256 of what it was made from, by name, with folders before it where names are alike.
        model: SHA-256 of the config.json of the model that made it, which has those of the model's other files.
        products: SHA-256 of its files, by name.
        earlier: When, by which version and by which command other products in the folder were made before.
    """

    made: str
    version: str | None
    commit: str | None
    command: str | None
    sources: Mapping[str, str]
    model: str | None = None
    products: Mapping[str, str] = field(default_factory=dict)
    earlier: Sequence[Mapping[str, str | None]] = ()

    @classmethod
    def now(cls, sources: Iterable[Path] = (), model: str | None = None) -> Provenance:
        """That of a product which is made now.

        Args:
            sources: Files and folders that it is made from; what is not there, such as standard input, is left out.
            model: SHA-256 of the config.json of the model that makes it.
        """
        words, there = command_words.get(), [path for path in sources if path.exists()]
        return cls(
            datetime.now(UTC).isoformat(timespec="seconds"),
            package_version("aes-dynloss"),
            source_commit(),
            shlex.join(map(_without_place, words)) if words else None,
            {name: sha256_of(path) for name, path in zip(short_names(there), there, strict=True)},
            model,
        )

    def about(self) -> dict[str, str]:
        """Words for the foot of a page, by name."""
        version = f"{self.version}, commit {self.commit}" if self.commit else str(self.version)
        sources = "; ".join(f"{name}, SHA-256 {digest}" for name, digest in self.sources.items())
        model = self.model and f"config.json, SHA-256 {self.model}"
        told = {"Made": self.made, "Version": version, "Command": self.command, "Model": model, "Made from": sources}
        return {name: words for name, words in told.items() if words}

    def beside(self, before: Provenance, kept: Mapping[str, str]) -> Provenance:
        """The same together with what was made before in the folder.

        Args:
            before: What was told of the folder.
            kept: Those of its products that are still there and are not made anew.
        """
        if not kept:
            return self
        command = {name: getattr(before, name) for name in _COMMAND}
        return replace(
            self,
            sources={**before.sources, **self.sources},
            model=self.model or before.model,
            products={**kept, **self.products},
            earlier=[*before.earlier, command],
        )


@dataclass(frozen=True)
class Differences:
    """How a product differs from what was made.

    Args:
        files: Files that were looked at.
        found: What differs, in words.
    """

    files: int
    found: list[str]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files and their names, in hexadecimal."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for name in files_of(path):
        digest.update(f"{name}\0{file_sha256(path / name)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def provenance_path(product: Path) -> Path:
    """The file that tells where a folder or file comes from."""
    return product / PROVENANCE if product.is_dir() else product.with_name(f"{product.name}.{PROVENANCE}")


def seal(product: Path, made: Provenance, names: Sequence[str] | None = None) -> None:
    """Write where a product comes from, and the hashes of its files.

    Args:
        product: A folder, or a file.
        made: Where it comes from.
        names: Its files and folders in the folder, which may hold other products, of which the same is told on; by
            default all files that are there and not hidden.

    Raises:
        DataError: It cannot be written.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "scores.csv").write_text("essay_id,score")
        >>> seal(folder / "scores.csv", Provenance.now())
        >>> verify(folder / "scores.csv")
        Differences(files=1, found=[])
        >>> _ = (folder / "scores.csv").write_text("essay_id,grade")
        >>> verify(folder / "scores.csv").found
        ['scores.csv was changed']
    """
    before = None if names is None or not provenance_path(product).exists() else read_provenance(product)
    _write(product, made, names, before)


@contextmanager
def sealed(made: Provenance, *products: Path, names: Sequence[str] | None = None) -> Iterator[None]:
    """Seal what the block writes.

    What was told of earlier products is gone before the block begins, so that a process that is killed leaves new files
    without a word rather than with a false one. Where the block fails with one of our errors it is put back: by its
    hashes :func:`verify` finds what changed nevertheless.

    Args:
        made: Where the products come from.
        products: Folders or files; what the block does not write is passed over.
        names: As :func:`seal` takes them, for a folder; looked at when the block ends.

    Raises:
        DataError: It cannot be written.

    Examples:
        >>> import tempfile
        >>> scores = Path(tempfile.mkdtemp()) / "scores.csv"
        >>> with sealed(Provenance.now(), scores):
        ...     _ = scores.write_text("essay_id,score")
        >>> verify(scores)
        Differences(files=1, found=[])
    """
    paths = [provenance_path(product) for product in products]
    earlier = [path.read_bytes() if path.is_file() else None for path in paths]
    before = [
        None if told is None or names is None else _parsed(told, path)
        for told, path in zip(earlier, paths, strict=True)
    ]
    for path, told in zip(paths, earlier, strict=True):
        if told is not None:
            path.unlink()
    try:
        yield
    except AesDynlossError:
        for path, told in zip(paths, earlier, strict=True):
            if told is not None and path.parent.exists():
                with atomic_file(path) as temporary:
                    temporary.write_bytes(told)
        raise
    for product, one in zip(products, before, strict=True):
        if product.exists():
            _write(product, made, names, one)


def _write(product: Path, made: Provenance, names: Sequence[str] | None, before: Provenance | None) -> None:
    """Write where a product comes from, with what was told before of other files of its folder."""
    folder = product if product.is_dir() else product.parent
    chosen = [product.name] if product.is_file() else [*files_of(product)] if names is None else _files(product, names)
    made = replace(made, products={name: file_sha256(folder / name) for name in chosen})
    if before is not None:
        others = {name: digest for name, digest in before.products.items() if name not in chosen}
        made = made.beside(before, {name: digest for name, digest in others.items() if (folder / name).exists()})
    write_text(provenance_path(product), json.dumps(asdict(made), indent=2) + "\n")


def _files(folder: Path, names: Iterable[str]) -> list[str]:
    """The files of these names, and those in the folders of these names."""
    paths = [(name, folder / name) for name in names]
    inner = [f"{name}/{file}" for name, path in paths if path.is_dir() for file in files_of(path)]
    return [*(name for name, path in paths if path.is_file()), *inner]


def read_provenance(product: Path) -> Provenance:
    """Where a folder or file comes from.

    Raises:
        DataError: Nothing tells it.
    """
    path = provenance_path(product)
    if not path.exists():
        raise DataError(
            f"Nothing tells where {product} comes from: there is no {path.name}. Name a folder or file that this "
            "version of aes-dynloss made."
        )
    try:
        return _parsed(path.read_bytes(), path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Make {product} again.") from None


def _parsed(told: bytes, path: Path) -> Provenance:
    try:
        found = Provenance(**json.loads(told))
        if not isinstance(found.made, str) or not all(map(_are_hashes, (found.sources, found.products))):
            raise ValueError("it lacks hashes by name")
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}. Remove it, or make the product again.") from None
    return found


def model_of(product: Path) -> str | None:
    """SHA-256 of the config.json of a product's model; None where that is not told, or the product was changed since.

    Raises:
        DataError: What tells it is damaged.
    """
    if not provenance_path(product).exists() or verify(product).found:
        return None
    return read_provenance(product).model


def refuse_changed(path: Path, made: Provenance, name: str) -> None:
    """Refuse a file that was changed after it was made.

    Args:
        path: The file.
        made: Where it comes from.
        name: What it is called there.

    Raises:
        DataError: It was changed, or is not told of.
    """
    found, expected = file_sha256(path), made.products.get(name)
    if expected is None:
        raise DataError(f"{path} is not among what {path.parent / PROVENANCE} tells of. Make it again.")
    if found != expected:
        raise DataError(
            f"{path} was changed after it was made: its SHA-256 is {found[:12]}..., expected {expected[:12]}... of "
            f"{PROVENANCE}. Restore it, or make it again."
        )


def verify(product: Path, sources: Iterable[Path] = ()) -> Differences:
    """Whether a product is as it was made.

    Args:
        product: A folder or file.
        sources: Files and folders that it is said to be made from, to be held against what it was. A folder that is not
            told of stands for the parts that it held.

    Raises:
        DataError: Nothing tells where it comes from.
    """
    made = read_provenance(product)
    folder = product if product.is_dir() else product.parent
    found = []
    for name, expected in made.products.items():
        if not (folder / name).is_file():
            found.append(f"{name} is gone")
        elif file_sha256(folder / name) != expected:
            found.append(f"{name} was changed")
    given = [file for path in sources for file in _told_of(path, product, made)]
    for path in given:
        called = [digest for name, digest in made.sources.items() if name.split("/")[-1] == path.resolve().name]
        if not called:
            found.append(f"it was not made from a {path.name}; it was from {', '.join(made.sources) or 'no file'}")
        elif not path.exists():
            found.append(f"it was made from {path.name} too, which is gone")
        elif sha256_of(path) not in called:
            found.append(f"it was made from another {path.name}")
    return Differences(len(made.products) + len(given), found)


def _told_of(path: Path, product: Path, made: Provenance) -> list[Path]:
    """The files and folders that a source stands for: itself, or what a folder of parts is told to have held."""
    if not path.exists():
        raise DataError(f"There is no {path}. Name files that {product} was made from.")
    itself = any(name.split("/")[-1] == path.resolve().name for name in made.sources)
    parts = [] if itself else [path / name for name in made.sources]
    return parts if any(part.is_file() for part in parts) else [path]


def files_of(folder: Path) -> Iterator[str]:
    """Names of the files below a folder, in order, but for hidden ones and those that tell where others come from.

    Args:
        folder: The folder.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name.name != PROVENANCE and not name.name.endswith(f".{PROVENANCE}"):
            yield name.as_posix()


def _without_place(word: str) -> str:
    """A word of a command, an absolute path cut down to its name, behind ``=`` too."""
    option, equals, value = word.partition("=")
    if equals and Path(value).is_absolute():
        return f"{option}={Path(value).name}"
    return Path(word).name if Path(word).is_absolute() else word


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many of each as tell all apart.

    Args:
        paths: Files or folders.

    Examples:
        >>> short_names([Path("2024/scores.csv"), Path("2025/scores.csv")])
        ['2024/scores.csv', '2025/scores.csv']
    """
    parts = [path.resolve().parts for path in paths]
    deepest = max(map(len, parts), default=1)
    for depth in range(1, deepest + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names if paths else []


def _are_hashes(values: object) -> bool:
    return isinstance(values, Mapping) and all(isinstance(word, str) for pair in values.items() for word in pair)
