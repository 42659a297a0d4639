"""Atomic writes, checksums, and paths that stay inside their folder."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from speechgmm.errors import InputError


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a whole file or nothing: readers see the old content or the new, never a part.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists. Its folder is made if missing.
    content : bytes or str
        Text is written as UTF-8.

    Raises
    ------
    InputError
        If the place cannot be written; nothing is left behind.
    """
    path = _regular(path)
    if isinstance(content, str):
        content = content.encode("utf-8")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".speechgmm-", delete=False) as handle:
            temporary = handle.name
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def require_writable(path: str | Path) -> None:
    """Raise `InputError` unless a file can be written there: better before long work than after it."""
    path = _regular(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _regular(path: str | Path) -> Path:
    """Where a file is to be replaced: the end of symbolic links; raises `InputError` for what is no ordinary file."""
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise InputError(f"{path}: cannot be written (it is a folder)")
    if place.exists() and not place.is_file():
        raise InputError(f"{path}: cannot be written (a device or a pipe, which a file would replace)")
    return place


def _umask() -> int:
    """The mode bits that this process's new files go without; the system offers no way to only read it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def inside(folder: str | Path, relative: str | Path) -> Path:
    """Join a relative path to its folder, refusing one that leads out of it.

    Symbolic links inside the folder may point anywhere: the folder's owner placed them.

    Raises
    ------
    InputError
        If `relative` is absolute or climbs out of `folder`.
    """
    relative = Path(relative)
    joined = os.path.normpath(os.path.join(folder, relative))
    root = os.path.normpath(folder)
    if relative.is_absolute() or os.path.commonpath([os.path.abspath(joined), os.path.abspath(root)]) != (
        os.path.abspath(root)
    ):
        raise InputError(f"path {str(relative)!r} leads out of the data folder {str(folder)!r}")
    return Path(joined)
