"""Objects of earlier compilations, by a digest of everything that they depend on.

A library of sixty plugins is compiled again and again while a model changes in one place; only what changed needs its
compiler. The folder is the user's cache folder, `PLUGIN_AUTOGEN_CACHE=DIR` chooses another, `PLUGIN_AUTOGEN_CACHE=off`
turns the cache off.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

VARIABLE = "PLUGIN_AUTOGEN_CACHE"
LIMIT_BYTES = 512 * 2**20
"""The oldest entries go when there is more."""

_DIGEST_BYTES = 32


def cache_dir() -> Path | None:
    """The folder of all that is kept between runs; None when the user turned that off."""
    value = os.environ.get(VARIABLE, "")
    if value.lower() in ("off", "0", "no", "false"):
        return None
    if value:
        return Path(value)
    import platformdirs

    return Path(platformdirs.user_cache_dir("plugin_autogen"))


class ObjectCache:
    """A folder of files named by digest, each led by the digest of its content, so that a damaged one is never used.

    No failure of the cache is an error: what cannot be read is compiled, what cannot be written is not kept. Several
    processes may share the folder.
    """

    def __init__(self, folder: Path | None, limit: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit
        self._stored = False

    @classmethod
    def from_environment(cls) -> ObjectCache:
        folder = cache_dir()
        return cls(folder / "objects" if folder else None)

    @staticmethod
    def key(parts: Iterable[str | bytes]) -> str:
        """64 hexadecimal digits that differ where any part, or the cut between parts, differs."""
        digest = hashlib.sha256()
        for part in parts:
            data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()

    def load(self, key: str, path: Path) -> bool:
        """Writes the object of this key to `path`; False when there is none."""
        if self._folder is None:
            return False
        entry = self._folder / key
        try:
            data = entry.read_bytes()
            if hashlib.sha256(data[_DIGEST_BYTES:]).digest() != data[:_DIGEST_BYTES]:
                return False
            path.write_bytes(data[_DIGEST_BYTES:])
            os.utime(entry)
        except OSError:
            return False
        return True

    def store(self, key: str, path: Path) -> None:
        """Keeps the object at `path` under this key."""
        if self._folder is None:
            return
        temporary = ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            handle, temporary = tempfile.mkstemp(prefix=".new-", dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
            os.replace(temporary, self._folder / key)
            self._stored = True
        except OSError:
            if temporary:
                with suppress(OSError):
                    os.unlink(temporary)

    def trim(self) -> None:
        """Removes the entries that were unused longest until the folder is within its limit."""
        if self._folder is None or not self._stored:
            return
        entries = []
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                with suppress(OSError):
                    status = entry.stat()
                    entries.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._limit:
                break
            with suppress(OSError):
                os.unlink(path)
                total -= size
