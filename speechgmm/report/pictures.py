"""What all pictures have in common: their look, and files that are the same bytes for the same input."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechgmm.errors import InputError
from speechgmm.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Formats, and what is to be left out of each: the date.
FORMATS: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
STYLE: dict[str, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    # Frames go from left to right, their values from the bottom up.
    "image.origin": "lower",
    "image.aspect": "auto",
    "savefig.dpi": 200.0,
    "pdf.fonttype": 42,
    "svg.hashsalt": "speechgmm",
}


def require_format(output: str | Path) -> str:
    """The format that a picture file has by its suffix; raises `InputError` if it is none that can be written."""
    suffix = Path(output).suffix
    kind = suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(
            f"{output}: a picture cannot be written as {suffix or 'a file without a suffix'!r}; use {known}"
        )
    return kind


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib with its own settings and `STYLE`, and afterwards with the user's again."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("the picture needs matplotlib: pip install 'speechgmm[report]'") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def write_picture(figure: "Figure", output: str | Path) -> None:
    """Write a picture file, whole or not at all; to be called while `styled`."""
    kind = require_format(output)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names may be in a script that the font does not have: boxes will stand for it.
        warnings.filterwarnings("ignore", "Glyph ", UserWarning)
        figure.savefig(buffer, format=kind, metadata=FORMATS[kind])
    write_atomically(output, buffer.getvalue())


def shortened(name: str, length: int) -> str:
    """A name of no more than so many characters: the middle of a longer one is left out."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[1 - length // 2 :]}"
