"""Audio files to samples: the only code that opens audio."""

import math
import os
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError, SpeechGMMWarning
from speechgmm.resampling import resample, upsampling_message

# What libsndfile reads by itself. Headerless ".raw" is left out: nothing in it says what rate it has.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"}
    | {".w64", ".rf64", ".caf", ".sph"}
)

# Peak to peak, in full scale: one step of 16-bit audio. A recording that stays below it holds nothing.
SILENCE = 2.0**-15

# Samples that a long file is read at a time.
BLOCK = 1 << 19

# Times in manifests are often rounded, so `end` may lie this far (s) beyond the last sample.
END_TOLERANCE = 1e-3

# libsndfile's "I cannot tell" for the number of samples.
_UNKNOWN_LENGTH = 2**63 - 1

# Programs that write to a pipe cannot go back to fill in the size, and leave one from here upwards instead:
# 0x7F000000 and 0x7FFFF000 (sox), 0x80000000 (arecord), 0xFFFFFFFF (ffmpeg).
_SIZE_NOT_FILLED_IN = 0x7F00_0000

# libsndfile shortens such files without an error; only its log tells. The names are those of the sizes in
# WAV, AIFF, AU, W64 and RF64 headers.
_SHORTENED = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)

_CUT_SHORT = "an interrupted recording, copy or download?"


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file's header says.

    Attributes
    ----------
    sample_rate : int
        In Hz.
    n_samples : int
        Of each channel.
    n_channels : int
    """

    sample_rate: int
    n_samples: int
    n_channels: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def audio_info(path: str | Path) -> AudioInfo:
    """Read the header of an audio file, without decoding the samples.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    AudioInfo
        Of an MP3 without a length header, the number of samples is libsndfile's estimate.

    Raises
    ------
    InputError
        If the file is missing, not audio, without samples, or visibly cut short. A FLAC or MP3 shows that
        only when it is decoded, by `read_audio`.
    """
    with _open(path) as file:
        _check_header(path, file)
        return AudioInfo(file.samplerate, file.frames, file.channels)


def read_audio(
    path: str | Path, start: float | None = None, end: float | None = None
) -> tuple[NDArray[np.float32], int]:
    """Read an audio file, or a stretch of it, as mono samples at the file's own rate.

    Parameters
    ----------
    path : str or Path
    start, end : float, optional
        The stretch [start, end) in seconds; the file's beginning and end by default. Samples
        round(start * rate) to round(end * rate) are read, and no others where the format allows it
        (Ogg is decoded from its beginning). `end` may exceed the file by 1 ms.

    Returns
    -------
    samples : ndarray of float32, shape (n_samples,)
        The mean of the channels. Integer formats are scaled to [-1, 1]; float formats are as they are.
    sample_rate : int
        In Hz.

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, not audio, without samples, damaged or cut short; if the
        stretch lies outside of it; or if a sample is NaN or infinite, or the samples are silent: peak to
        peak below 2**-15, one step of 16-bit audio.

    Notes
    -----
    An MP3 without a length header says nowhere how long it is. Where its bit rate varies, libsndfile may
    take it for shorter than it is, and a cut end goes unseen.
    """
    with _open(path) as file:
        _check_header(path, file)
        rate: int = file.samplerate
        if start is None and end is None:
            first, stop = 0, file.frames
        else:
            first, stop = _stretch(path, file.frames, rate, start, end)
        samples = _read(path, file, _seek(path, file, first), stop, first)
    mono, low, high = _mono(path, samples, rate, start or 0.0)
    _check_silence(path, low, high, mono.size / rate, start or 0.0)
    return mono, rate


def read_blocks(
    path: str | Path, start: float | None = None, end: float | None = None, block: int = BLOCK
) -> Iterator[NDArray[np.float32]]:
    """The samples that `read_audio` gives, in blocks of `block` samples, for files too long to hold in memory.

    Raises
    ------
    InputError
        As `read_audio`; what only shows in the samples, when its block is reached, and silence at the end.
    """
    with _open(path) as file:
        _check_header(path, file)
        rate: int = file.samplerate
        whole = start is None and end is None
        first, stop = (0, file.frames) if whole else _stretch(path, file.frames, rate, start, end)
        low, high = math.inf, -math.inf
        origin = _seek(path, file, first)
        # soundfile would seek after every read, and MP3 and Opus lose what frames before hold of the next.
        file.seekable = lambda: False
        for begin in range(origin, stop, block):
            samples = _read(path, file, begin, min(begin + block, stop), first)
            if not len(samples):
                continue  # before the stretch, or of a length that was an estimate
            mono, least, most = _mono(path, samples, rate, begin / rate)
            low, high = min(low, least), max(high, most)
            yield mono
        _check_silence(path, low, high, (stop - first) / rate, first / rate)


def load_audio(
    path: str | Path, sample_rate: int | None = None, start: float | None = None, end: float | None = None
) -> NDArray[np.float32]:
    """Read an audio file, or a stretch of it, as mono samples at the rate asked for.

    Parameters
    ----------
    path : str or Path
    sample_rate : int, optional
        In Hz; the file's own by default.
    start, end : float, optional
        In seconds, see `read_audio`.

    Returns
    -------
    ndarray of float32, shape (n_samples,)

    Raises
    ------
    InputError
        See `read_audio` and `resample`.

    Warns
    -----
    SpeechGMMWarning
        If the file's rate is below `sample_rate`: the upper band is then empty.
    """
    samples, file_rate = read_audio(path, start, end)
    if sample_rate is None:
        return samples
    if file_rate < sample_rate:
        # Without the path, so that Python shows a loop over many files one warning instead of thousands.
        warnings.warn(upsampling_message(1, file_rate, sample_rate), SpeechGMMWarning, stacklevel=2)
    return resample(samples, file_rate, sample_rate)


def _open(path: str | Path) -> Any:
    """An open `soundfile.SoundFile`, to be closed by the caller."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be opened ({reason}): is the path right, and relative to the right folder?"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: is a folder, not an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is a pipe or a device; audio is read from files only")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be opened (Permission denied): may this user read it?")
    if status.st_size == 0:
        raise InputError(f"{path}: is empty, 0 bytes long ({_CUT_SHORT})")
    import soundfile

    try:
        return soundfile.SoundFile(os.fspath(path))
    except (soundfile.LibsndfileError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read as audio ({_reason(error)}): damaged, cut short, no permission, a text "
            "under an audio name, or a format other than WAV, FLAC, Ogg, MP3, AIFF, AU, CAF or unpacked "
            "SPHERE, which must be converted first?"
        ) from error


def _reason(error: Exception) -> str:
    """What libsndfile said, where it helps."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, TypeError):  # from soundfile about ".raw", which it reads only with the rate given
        return "headerless audio"
    reason = str(getattr(error, "error_string", error)).rstrip(".")
    # So it calls a text named ".mp3"; the file has been found by then.
    return "no audio found in it" if reason.startswith("File does not exist") else reason


def _check_header(path: str | Path, file: Any) -> None:
    """Refuse a file that promises more than it holds, or does not say what it holds."""
    log = file.extra_info
    if "(should be" in log:
        for promised, held in _SHORTENED.findall(log):
            if int(held) < int(promised) < _SIZE_NOT_FILLED_IN:
                raise InputError(
                    f"{path}: cut short: its header promises {promised} bytes, of which {held} are there "
                    f"({_CUT_SHORT})"
                )
    if file.frames == 0:
        raise InputError(
            f"{path}: holds no samples, or its header says so (an interrupted recording, or written by a "
            "program that did not fill in the length?)"
        )
    if file.frames == _UNKNOWN_LENGTH:
        raise InputError(
            f"{path}: its header does not say how long it is (written to a pipe?): write it anew to a file"
        )
    if file.format == "NIST":
        _check_sphere_length(path, file.frames)
    elif file.format == "OGG":
        _check_ogg_end(path)


def _check_sphere_length(path: str | Path, n_samples: int) -> None:
    """Refuse a SPHERE file that is cut short: libsndfile counts what is there and ignores the header."""
    with open(path, "rb") as handle:
        count = re.search(rb"^sample_count -i (\d+)", handle.read(1024), re.MULTILINE)
    if count and int(count[1]) > n_samples:
        raise InputError(
            f"{path}: cut short: its header promises {int(count[1])} samples, of which {n_samples} are there "
            f"({_CUT_SHORT})"
        )


def _check_ogg_end(path: str | Path) -> None:
    """Refuse an Ogg file whose last page is incomplete or not marked as the last."""
    with open(path, "rb") as handle:
        handle.seek(0, os.SEEK_END)
        handle.seek(max(0, handle.tell() - 2 * 65_307))  # twice the largest page: a tag may follow it
        tail = handle.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    # RFC 3533: the flags are byte 5 (4: last page), the number of segments byte 26, then their lengths.
    whole = len(page) >= 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    if not whole or not page[5] & 4:
        raise InputError(f"{path}: cut short: the Ogg stream stops before its marked end ({_CUT_SHORT})")


def _stretch(
    path: str | Path, n_samples: int, rate: int, start: float | None, end: float | None
) -> tuple[int, int]:
    """Sample indices of the stretch [start, end) seconds, checked against the file's length."""
    duration = n_samples / rate
    begin = 0.0 if start is None else start
    finish = duration if end is None else end
    for name, time, fits in (
        ("start", begin, 0 <= begin < duration),
        ("end", finish, 0 < finish <= duration + END_TOLERANCE),
    ):
        if not fits:
            raise InputError(
                f"{path}: `{name}` is {time:g} s, outside of the file, which lasts {duration:.6g} s "
                "(times of another file, or in milliseconds or samples?)"
            )
    first, stop = round(begin * rate), min(round(finish * rate), n_samples)
    if first >= stop:
        raise InputError(
            f"{path}: no sample from `start` {begin:g} s to `end` {finish:g} s: `end` must be later by at "
            f"least one sample, {1 / rate:.2g} s (swapped, or a duration in place of the end?)"
        )
    return first, stop


def _seek(path: str | Path, file: Any, first: int) -> int:
    """Go to a sample, or, where the format does not allow that, stay at the beginning; say which sample is next."""
    import soundfile

    # libsndfile's seek in Ogg Vorbis may land a window away from where it was sent; some codecs cannot seek.
    if not first or file.format == "OGG" or not file.seekable():
        return 0
    try:
        file.seek(first)
    except soundfile.LibsndfileError as error:
        raise _damaged(path, file, first, error) from error
    return first


def _read(path: str | Path, file: Any, begin: int, stop: int, first: int) -> NDArray[np.float32]:
    """The next samples of a file, [begin, stop), without those before `first`.

    Shape (n_samples,) or (n_samples, n_channels). There are fewer only where the file's length was an estimate.
    """
    import soundfile

    shape = (stop - begin,) if file.channels == 1 else (stop - begin, file.channels)
    try:
        samples = np.empty(shape, dtype=np.float32)
        n_read = file.buffer_read_into(samples, "float32")
    except (soundfile.LibsndfileError, MemoryError) as error:
        raise _damaged(path, file, stop, error) from error
    if n_read < len(samples) and (begin + n_read <= first or _length_is_known(path, file)):
        raise InputError(
            f"{path}: cut short: its header promises {file.frames} samples, but decoding ends after "
            f"{begin + n_read} ({_CUT_SHORT})"
        )
    return samples[max(0, first - begin) : n_read]


def _damaged(path: str | Path, file: Any, stop: int, error: Exception) -> InputError:
    return InputError(
        f"{path}: cannot be decoded up to sample {stop} of {file.frames} ({_reason(error)}): "
        f"damaged, or cut short ({_CUT_SHORT})"
    )


def _length_is_known(path: str | Path, file: Any) -> bool:
    """Whether the number of samples is the file's own word: without an Info frame an MP3's is an estimate."""
    if file.format != "MP3":
        return True
    with open(path, "rb") as handle:
        start = handle.read(10)
        if start[:3] == b"ID3":  # the tag's size: four bytes of 7 bits
            handle.seek(
                10 + sum(byte << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))
            )
        else:
            handle.seek(0)
        frame = handle.read(64)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _mono(
    path: str | Path, samples: NDArray[np.float32], rate: int, start: float
) -> tuple[NDArray[np.float32], float, float]:
    """The mean of the channels, and its least and greatest; neither NaN nor infinite."""
    low, high = float(samples.min()), float(samples.max())  # NaN shows in both
    if not (math.isfinite(low) and math.isfinite(high)):
        row = int(np.argmin(np.isfinite(samples).reshape(len(samples), -1).all(axis=1)))
        raise InputError(
            f"{path}: the sample at {start + row / rate:.6g} s is NaN or infinite (a division by "
            "zero where the file was made, or numbers beyond float32?)"
        )
    if samples.ndim == 2:
        # float64, because a sum of valid float32 samples may be infinite
        samples = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
        low, high = float(samples.min()), float(samples.max())
    return samples, low, high


def _check_silence(path: str | Path, low: float, high: float, seconds: float, start: float) -> None:
    """Refuse samples that do not differ."""
    if high - low < SILENCE:
        raise InputError(
            f"{path}: silent in the {seconds:.6g} s from {start:g} s: all samples lie "
            "within one step of 16-bit audio (a muted microphone, an empty channel, or channels that cancel "
            "one another?)"
        )
