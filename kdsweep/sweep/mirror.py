"""Folders of a sweep kept in storage that is no file system (S3, Cloud Storage, ...), by fsspec.

Runs work in a folder of their node, as everywhere. A folder is *pushed* after each epoch and
*pulled* where a run begins or goes on, so that any node can take it over. Storage of this kind
has neither rename nor append, so a pushed folder is one list of its files, written last, and the
files under names that follow from their content: whoever pulls sees the folder as it was after one
push, whatever was interrupted.

Layout below the URI, for a folder ``sweeps/pvd/runs/t003``::

    sweeps/pvd/runs/t003/files.json                       {"files": {"student.json": "5f0c..."}}
    sweeps/pvd/runs/t003/content/5f0c...-student.json
"""

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from kdsweep.engine import files
from kdsweep.errors import StorageError

_LIST = "files.json"
_CONTENT = "content"
_STAYS = frozenset({"lock"})
"""Files that mean something on their own node only."""
_CHUNK = 1 << 22


class Mirror:
    """Copies folders below a root to storage and back.

    Args:
        uri: Place in the storage, such as ``s3://bucket/kdsweep``; credentials come from where the
            storage's own library looks for them.
        root: Folder of this node that stands for the URI.

    Raises:
        StorageError: The library for this kind of storage is missing, or it refuses the URI or
            this node.
    """

    def __init__(self, uri: str, root: Path) -> None:
        from fsspec.core import url_to_fs

        self.uri = uri.rstrip("/")
        self.root = root
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}
        try:
            # Listings must be true at every look: other nodes write.
            self._storage, self._base = url_to_fs(self.uri, use_listings_cache=False)
        except ImportError as error:
            raise StorageError(f"home {self.uri} cannot be used here: {error}") from error
        except (ValueError, OSError) as error:
            raise StorageError(f"home {self.uri} is no place to store in: {error}") from error
        except Exception as error:  # each storage's library raises classes of its own
            raise StorageError(
                f"home {self.uri} does not answer: {type(error).__name__}: {error}. Check this "
                "node's credentials."
            ) from error

    def push(self, folder: Path, only: Collection[str] = (), writer: int = 0) -> bool:
        """Makes the copy of a folder equal to it; files that are equal already are not sent again.

        Args:
            folder: A folder below the root; a missing one is left alone.
            only: The copy consists of these files, so far as they exist; empty = of all.
            writer: Number of the writer: the copy of one with a greater number is not replaced.

        Returns:
            Whether the copy is this writer's: no later one has written.

        Raises:
            StorageError: The storage cannot be written. The copy is as after the last push.
        """
        if not folder.is_dir():
            return True
        with self._reachable(folder):
            before, last = self._list(folder)
            if last > writer:
                return False
            sent = {_content(name, digest) for name, digest in before.items()}
            now = {}
            for name in _names(folder, only):
                # Opened once: another thread may put another file of that name in its place.
                with (folder / name).open("rb") as file:
                    now[name] = digest = self._digest(folder / name, file)
                    if (content := _content(name, digest)) not in sent:
                        self._send(file, self._path(folder, _CONTENT, content))
                        sent.add(content)
            if (now, writer) != (before, last):
                self._replace(folder, before, now, writer)
        return True

    def pull(self, folder: Path, only: Collection[str] = ()) -> None:
        """Makes a folder equal to its copy; where there is no copy it is left alone.

        Args:
            folder: A folder below the root.
            only: Only these files are compared and fetched; empty = all.

        Raises:
            StorageError: The storage cannot be read, or holds damaged files.
        """
        with self._reachable(folder):
            copied, _ = self._list(folder)
            if not copied:
                return
            wanted = {n: digest for n, digest in copied.items() if not only or n in only}
            for name in _names(folder, only):
                if name not in wanted:
                    (folder / name).unlink()
            for name, digest in wanted.items():
                target = folder / name
                if target.is_file():
                    with target.open("rb") as file:
                        if self._digest(target, file) == digest:
                            continue
                files.write_file(target, self._fetch(folder, name, digest))
            if not only:
                _drop_empty(folder)

    def content(self, folder: Path, name: str) -> bytes | None:
        """One file of a folder's copy, without a file here; None where the copy lacks it.

        Raises:
            StorageError: The storage cannot be read.
        """
        with self._reachable(folder):
            digest = self._list(folder)[0].get(name)
            if digest is None:
                return None
            path = self._path(folder, _CONTENT, _content(name, digest))
            return bytes(self._storage.cat_file(path))

    def thin(self, folder: Path, drop: Callable[[str], bool]) -> None:
        """Removes files from a folder's copy, whatever the folder itself holds.

        Args:
            folder: A folder below the root.
            drop: Says of a file's relative name whether it goes.

        Raises:
            StorageError: The storage cannot be written.
        """
        with self._reachable(folder):
            before, writer = self._list(folder)
            now = {name: digest for name, digest in before.items() if not drop(name)}
            if now != before:
                self._replace(folder, before, now, writer)

    def _replace(
        self, folder: Path, before: Mapping[str, str], now: Mapping[str, str], writer: int
    ) -> None:
        """Puts a new list in place, and then removes the content that only the old one named."""
        text = json.dumps({"files": now, "writer": writer}, indent=1, sort_keys=True).encode()
        self._storage.makedirs(self._path(folder), exist_ok=True)
        self._put(self._path(folder, _LIST), text)
        gone = {_content(*item) for item in before.items()} - {_content(*i) for i in now.items()}
        for content in sorted(gone):
            self._storage.rm_file(self._path(folder, _CONTENT, content))

    def read(self, path: Path) -> dict[str, Any] | None:
        """A small JSON file of the storage that is no part of a folder's copy; None without it.

        Raises:
            StorageError: The storage cannot be read.
        """
        with self._reachable(path):
            try:
                return dict(json.loads(self._storage.cat_file(self._path(path))))
            except FileNotFoundError:
                return None

    def write(self, path: Path, value: dict[str, Any] | None) -> None:
        """Writes such a file, or removes it.

        Raises:
            StorageError: The storage cannot be written.
        """
        with self._reachable(path):
            if value is not None:
                self._storage.makedirs(self._path(path.parent), exist_ok=True)
                self._put(self._path(path), json.dumps(value).encode())
            elif self._storage.exists(self._path(path)):
                self._storage.rm_file(self._path(path))

    def age_s(self, path: Path) -> float | None:
        """Seconds since such a file was written, by the storage's clock alone.

        Another file is written now and removed again; the age is the time between the two, as the
        storage dates them. It is good to a second or so, the grain of many kinds of storage.

        Returns:
            The age; infinite where there is no such file, None where the storage dates no files.

        Raises:
            StorageError: The storage cannot be read or written.
        """
        now = path.with_name(f".now-{secrets.token_hex(4)}")
        with self._reachable(path):
            self.write(now, {})
            try:
                ends = self._modified(path), self._modified(now)
            except FileNotFoundError:
                return math.inf
            finally:
                self.write(now, None)
        if ends[0] is None or ends[1] is None:
            return None
        return max(0.0, (ends[1] - ends[0]).total_seconds())

    def _modified(self, path: Path) -> datetime | None:
        self._storage.invalidate_cache(self._path(path.parent))  # some keep one all the same
        try:
            found = self._storage.modified(self._path(path))
        except NotImplementedError:
            return None
        return found if isinstance(found, datetime) else None

    def _fetch(self, folder: Path, name: str, digest: str) -> Callable[[Path], None]:
        def fetch(path: Path) -> None:
            source = self._path(folder, _CONTENT, _content(name, digest))
            self._storage.get_file(source, str(path))
            with path.open("rb") as file:
                whole = _digest(file) == digest
            if not whole:
                raise StorageError(
                    f"{self.uri}: {source} is damaged: its content is not what its name says. "
                    "Remove it and train that run again."
                )

        return fetch

    def _list(self, folder: Path) -> tuple[dict[str, str], int]:
        """The files of a folder's copy, checked to stay inside of it, and who wrote it."""
        path = self._path(folder, _LIST)
        try:
            found = json.loads(self._storage.cat_file(path))
            names, writer = dict(found["files"]), int(found.get("writer", 0))
        except FileNotFoundError:
            return {}, 0
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{self.uri}: {path} is damaged ({error!r}).") from error
        for name in names:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute():
                raise StorageError(f"{self.uri}: {path} names {name!r}, outside its folder.")
        return names, writer

    def _digest(self, path: Path, file: BinaryIO) -> str:
        """Digest of an open file's content, computed anew only where the file has changed."""
        stat = os.fstat(file.fileno())
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        known = self._known.get(path)
        if known is None or known[0] != state:
            known = self._known[path] = (state, _digest(file))
        return known[1]

    def _send(self, file: BinaryIO, path: str) -> None:
        self._storage.makedirs(path.rpartition("/")[0], exist_ok=True)
        file.seek(0)
        with self._storage.open(path, "wb") as copy:
            shutil.copyfileobj(file, copy, _CHUNK)

    def _put(self, path: str, content: bytes) -> None:
        """Puts a small file in place: who reads meanwhile gets the whole one before it."""
        if "file" in self._storage.protocol:  # a mounted share; a bucket does so by itself
            files.write_file(Path(path), lambda temporary: temporary.write_bytes(content))
        else:
            self._storage.pipe_file(path, content)

    def _path(self, folder: Path, *parts: str) -> str:
        relative = folder.relative_to(self.root).as_posix()
        return "/".join([self._base.rstrip("/"), relative, *parts])

    @contextmanager
    def _reachable(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # each storage's library raises classes of its own
            raise StorageError(
                f"home {self.uri} does not answer for {folder.relative_to(self.root)}: "
                f"{type(error).__name__}: {error}. Check the address and this node's credentials."
            ) from error


def _names(folder: Path, only: Collection[str]) -> list[str]:
    """Whole files of a folder, by relative name; temporary ones are left out."""
    found = (folder / name for name in only) if only else folder.rglob("*")
    return sorted(
        path.relative_to(folder).as_posix()
        for path in found
        if path.is_file()
        and path.name not in _STAYS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _content(name: str, digest: str) -> str:
    return f"{digest}-{PurePosixPath(name).name}"


def _digest(file: BinaryIO) -> str:
    digest = hashlib.blake2b(digest_size=12)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _drop_empty(folder: Path) -> None:
    """Removes folders that hold nothing: an empty checkpoint would count as a damaged one."""
    for path in sorted(folder.rglob("*"), reverse=True):
        # A folder with a dot is somebody's desk, of whoever trains here (see the engine's `claim`).
        if path.is_dir() and path.name[0] != "." and not any(path.iterdir()):
            path.rmdir()
