"""Where a corpus lies on this machine; fetched from its public address where it does not."""

import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from speechgmm.errors import InputError
from speechgmm.files import inside
from speechgmm.manifest import read_manifest
from speechgmm.manifest_check import check

ENVIRONMENT_VARIABLE = "SPEECHGMM_DATA"


@dataclass(frozen=True)
class Corpus:
    """What there is to know about a corpus before any of its files is read.

    Attributes
    ----------
    name : str
        Used in messages and on the command line.
    folder : str
        Its folder in a data folder, as in `DIR/fsdd`.
    archive : str or None
        Address of the public zip or tar archive; None where there is none.
    licence : str
    example : str
        A file of the corpus, relative to its folder: where this is, the corpus is.
    page : str
        Where people ask for a corpus that has no public archive.
    shares_folder : bool
        Whether other archives are unpacked into the same folder, as those of LibriSpeech's parts are.
    """

    name: str
    folder: str
    archive: str | None
    licence: str
    example: str
    page: str = ""
    shares_folder: bool = False


def corpus_folder(
    corpus: Corpus, data_dir: str | Path | None = None, manifest: str | Path | None = None
) -> Path:
    """Find a corpus on this machine, or download it into the user's cache.

    Looked for in `data_dir` alone where that is given; else in the folder `$SPEECHGMM_DATA`, else in the
    user's cache, else downloaded. What is found is not checked (see
    `manifest_check.check`); what is downloaded is.

    Parameters
    ----------
    corpus : Corpus
        Such as `speechgmm.corpora.fsdd.CORPUS`. One without a public archive is never downloaded.
    data_dir : str or Path, optional
        The folder that holds the corpus's folder.
    manifest : str or Path, optional
        A manifest with relative paths and checksums; every file in it is verified after a download.

    Returns
    -------
    Path
        The corpus's own folder. Its parent is the data folder that manifests are relative to.

    Raises
    ------
    InputError
        If `data_dir` does not hold the corpus, or if it is nowhere and cannot be downloaded. The message says
        where to put the files; nothing half done is left behind.
    """
    if data_dir is not None:
        folder = Path(data_dir) / corpus.folder
        if not (folder / corpus.example).is_file():
            raise InputError(
                f"{corpus.name}: {folder / corpus.example} does not exist; "
                f"the data folder must be the one that holds {corpus.folder}{os.sep}"
            )
        return folder
    import pooch

    cached = Path(pooch.os_cache("speechgmm")) / corpus.folder
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    for folder in [Path(given) / corpus.folder, cached] if given else [cached]:
        if (folder / corpus.example).is_file():
            return folder
    try:
        _fetch(corpus, cached, manifest)
    except InputError as error:
        place = f"DIR/{corpus.folder}"
        raise InputError(
            f"{corpus.name}: not found; put it in {place} (so that {place}/{corpus.example} exists) and pass "
            f"--data-dir DIR, or set {ENVIRONMENT_VARIABLE}; {error}"
        ) from error
    return cached


@contextmanager
def whole_folder(target: Path, shared: bool = False) -> Iterator[Path]:
    """Fill a folder that appears under its name only when it is whole.

    Yields a path to make the folder at, in a temporary folder beside `target`; files that are needed only on
    the way can lie next to it. On leaving it is renamed to `target`, which must not exist or be empty; or, where
    that is `shared`, what it holds is moved into `target`: folders, for which the same holds there, and files of
    which there are none yet. After an error, or Ctrl-C, nothing is left.

    Raises
    ------
    InputError
        If the place cannot be written, or `target` holds something already.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            made = Path(temporary) / target.name
            yield made
            if shared:
                _move_into(made, target)
            else:
                if target.is_dir():
                    target.rmdir()
                made.rename(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error


def _move_into(made: Path, target: Path) -> None:
    """Move folders, which must not be there or be empty, and the files that are not there."""
    target.mkdir(exist_ok=True)
    folders = sorted(path for path in made.iterdir() if path.is_dir())
    for path in folders:
        if (target / path.name).is_dir():
            (target / path.name).rmdir()
    # Folders come last: where a part is there, so are the files that describe it.
    for path in [*sorted(set(made.iterdir()) - set(folders)), *folders]:
        if not (target / path.name).exists():
            path.rename(target / path.name)


def _fetch(corpus: Corpus, target: Path, manifest: str | Path | None) -> None:
    """Download, unpack and verify a corpus; the message of an error goes on from "not found"."""
    if corpus.archive is None:
        raise InputError(f"it has no public download; ask for it at {corpus.page}")
    try:
        _fetch_archive(corpus, corpus.archive, target, manifest)
    except InputError as error:
        raise InputError(f"the download from {corpus.archive} failed: {error}") from error


def _fetch_archive(corpus: Corpus, address: str, target: Path, manifest: str | Path | None) -> None:
    with whole_folder(target, corpus.shares_folder) as made:
        archive, unpacked = made.parent / "archive", made.parent / "unpacked"
        _download(corpus.name, address, archive)
        unpack(archive, unpacked)
        # Some archives hold the corpus at their top, others in one folder, which may be named by a version.
        tops = [unpacked, *sorted(path for path in unpacked.iterdir() if path.is_dir())]
        top = next((top for top in tops if (top / corpus.example).is_file()), None)
        if top is None:
            raise InputError(f"the archive does not hold {corpus.example}")
        top.rename(made)
        if manifest is not None:
            problems = check(read_manifest(manifest, data_dir=made.parent))
            if problems:
                raise InputError(f"it is not what {manifest} lists ({len(problems)} problems); {problems[0]}")


def _download(name: str, address: str, path: Path) -> None:
    import pooch

    try:
        with _Bar(name) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar if bar.shown else False, chunk_size=2**16)
            downloader(address, str(path), None)
    except OSError as error:  # requests' own errors are OSErrors too
        raise InputError(" ".join(str(error).split())) from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the ordinary files of a zip or tar archive; links and devices are left out.

    Raises
    ------
    InputError
        If the archive is damaged, is neither zip nor tar, or holds a path that leads out of `folder`.
    """
    try:
        folder.mkdir()
        for name, content in _members(archive):
            target = inside(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, open(target, "wb") as handle:
                shutil.copyfileobj(content, handle)
    except (OSError, EOFError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InputError(f"the archive cannot be unpacked; it may be damaged ({error})") from error


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents of the ordinary files of an archive, in its own order."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zip_file:
            for info in zip_file.infolist():
                if not info.is_dir():
                    yield info.filename, zip_file.open(info)
        return
    with tarfile.open(archive) as tar_file:
        for member in tar_file:
            content = tar_file.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name, content
        # gzip compares its checksum at the end of the file, which lies behind the end of the tar archive.
        while tar_file.fileobj is not None and tar_file.fileobj.read(2**20):
            pass


class _Bar:
    """A rich progress bar with the methods that pooch calls; shown on a terminal only."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self.shown = sys.stderr.isatty()
        columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not self.shown)
        self._task = self._progress.add_task(name, total=None)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    @property
    def total(self) -> float | None:
        """Bytes to come; pooch sets it, to 0 where the server did not say."""
        return self._progress.tasks[0].total

    @total.setter
    def total(self, count: float) -> None:
        self._progress.update(self._task, total=count or None)

    def update(self, count: int) -> None:
        self._progress.update(self._task, advance=count)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """The bar ends with the `with` block, also after an error."""
