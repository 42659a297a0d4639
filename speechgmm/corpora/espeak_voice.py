"""One espeak-ng voice speaks its texts into WAV files: a program of its own, run once for each voice.

espeak-ng keeps global state that outlives a change of voice: in a fresh process the audio depends on the
voice and its texts alone. Only the standard library is imported: the process starts in milliseconds.
The job comes as JSON on standard input; on failure one line goes to standard error and the exit code is 1.
"""

import ctypes
import json
import os
import sys
import wave
from typing import Any

SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: hand the samples over before espeak_Synth returns
DO_NOT_EXIT = 0x8000  # espeak_Initialize reports a failure instead of ending the process
UTF_8 = 1
PARAMETERS = {"rate": 1, "pitch": 3, "range": 4}  # espeak_PARAMETER

SpeechCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class VoiceError(Exception):
    """espeak-ng refused something."""


def start(library: str, data: str) -> tuple[Any, int]:
    """Load espeak-ng; returns the library and its sample rate in Hz.

    It cuts paths longer than about 150 characters short, so the data folder is entered and named ".".
    """
    espeak = ctypes.CDLL(library)
    os.chdir(os.path.dirname(data))
    sample_rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, b".", DO_NOT_EXIT)
    if sample_rate <= 0:
        raise VoiceError(f"espeak-ng does not start with its data in {data}")
    # The noise of breathy voices is seeded with the time otherwise.
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
    return espeak, sample_rate


def choose_voice(espeak: Any, voice: str, parameters: dict[str, int]) -> None:
    """Set the voice, such as "en-us+m3", then its rate (words a minute), pitch and range (0 to 100)."""
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        raise VoiceError(f"espeak-ng has no voice {voice!r}")
    for name, value in parameters.items():
        if espeak.espeak_SetParameter(PARAMETERS[name], value, 0) != 0:
            raise VoiceError(f"espeak-ng refuses {name} {value}")


def speak(espeak: Any, text: str) -> bytes:
    """The text as 16-bit mono samples."""
    parts: list[bytes] = []

    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            parts.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = SpeechCallback(collect)
    espeak.espeak_SetSynthCallback(callback)
    content = text.encode("utf-8") + b"\0"
    failed = espeak.espeak_Synth(content, ctypes.c_size_t(len(content)), 0, 0, 0, UTF_8, None, None)
    if failed or not parts:
        raise VoiceError(f"espeak-ng does not speak {text!r}")
    return b"".join(parts)


def main() -> None:
    """Do the job on standard input: library, data, voice, parameters and files (pairs of path and text)."""
    job = json.load(sys.stdin)
    espeak, sample_rate = start(job["library"], job["data"])
    choose_voice(espeak, job["voice"], job["parameters"])
    for path, text in job["files"]:
        with wave.open(path, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate)
            file.writeframes(speak(espeak, text))


if __name__ == "__main__":
    try:
        main()
    except (VoiceError, OSError) as error:
        sys.exit(str(error))
