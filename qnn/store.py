"""Content-addressed artifacts on disk: atomic, locked, shared by processes and threads.

An artifact is a folder, ``<root>/<kind>/<key>/``. It is built in ``<root>/building/`` and renamed into place, so it
is there whole or not at all. A lock per artifact lets one builder work while everyone else who wants the same waits;
the operating system frees the lock of a process that dies, and the next builder clears what that one left.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from qnn.errors import QnnError, StoreError

__all__ = ["Store", "digest_of", "digest_of_files", "digest_of_tree"]

_STORE_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "it is read-only",
    errno.EACCES: "it may not be written",
    errno.EPERM: "it may not be written",
    errno.ENOTDIR: "a part of its path is not a folder",
    errno.EEXIST: "a part of its path is not a folder",
}


def digest_of(value: object) -> str:
    """SHA-256 of a JSON value in its canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_of_files(*paths: Path) -> str:
    """SHA-256 over the contents of files, and of the ``.py`` and ``.cpp`` files below folders, in order of path."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.suffix in (".py", ".cpp")) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def digest_of_tree(*folders: Path) -> str:
    """SHA-256 over the names and contents of all files below some folders but Python's caches."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            name = path.relative_to(folder.parent)
            digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class Store:
    """A folder of artifacts; see the module."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._failures: dict[tuple[str, str], QnnError] = {}

    def path(self, kind: str, key: str) -> Path:
        """Where the artifact is, or will be."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        return self.path(kind, key).is_dir()

    def get_or_build(self, kind: str, key: str, build: Callable[[Path], None]) -> Path:
        """The folder of an artifact; where it is missing, `build` fills an empty folder that then becomes it.

        What `build` raises goes through, and nothing of its work is kept; a QnnError is raised again, without another
        try, when the same Store is asked once more. Raises StoreError where the store cannot
        be written (full, read-only, not a folder).
        """
        final = self.path(kind, key)
        if final.is_dir():
            return final
        if (kind, key) in self._failures:
            raise self._failures[kind, key]
        with self._faults_named(), self._lock(kind, key):
            if final.is_dir():
                return final
            for left in (self.root / "building").glob(f"{kind}-{key}-*"):  # by a builder that was killed
                shutil.rmtree(left, ignore_errors=True)
            # A name of its own: a program that outlived its killed builder cannot write into this one's folder.
            building = self.root / "building" / f"{kind}-{key}-{secrets.token_hex(4)}"
            building.mkdir(parents=True)
            try:
                build(building)
                _flush(building)
                final.parent.mkdir(parents=True, exist_ok=True)
                building.rename(final)
            except QnnError as error:
                self._failures[kind, key] = error
                raise
            finally:
                shutil.rmtree(building, ignore_errors=True)
        return final

    @contextmanager
    def _lock(self, kind: str, key: str) -> Iterator[None]:
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{kind}-{key}.lock"):
            yield

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            elsewhere = error.filename is not None and not Path(os.fsdecode(error.filename)).is_relative_to(self.root)
            if error.errno not in _STORE_FAULTS or elsewhere:
                raise
            raise StoreError(
                f"the artifact store {self.root} cannot be used: {_STORE_FAULTS[error.errno]} ({error}). "
                "Free it, or name another folder with --store or QNN_STORE."
            ) from error


def _flush(folder: Path) -> None:
    """Bring every file of `folder` to the disk, so that the rename never shows an artifact with empty files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
