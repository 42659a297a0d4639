"""What features are made of: one frozen value that round-trips through TOML and JSON."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from speechgmm.errors import InputError

Window = Literal["hamming", "hann"]
MelScale = Literal["htk", "slaney"]
DeltaMethod = Literal["regression", "polynomial"]
Normalisation = Literal["none", "mean", "mean_variance"]

CHOICES: dict[str, tuple[str, ...]] = {
    "window": get_args(Window),
    "mel_scale": get_args(MelScale),
    "delta_method": get_args(DeltaMethod),
    "normalisation": get_args(Normalisation),
}


@dataclass(frozen=True)
class FeatureConfig:
    """How audio becomes frames of mel-frequency cepstral coefficients.

    Frame i stands for the time `i * hop_length` seconds: its window is centred there, and the audio continues
    as zeros beyond both ends. So n samples give `1 + n // hop` frames, however short the audio is.

    Parameters
    ----------
    sample_rate : int
        Of the audio, in Hz; audio at other rates is resampled to it.
    window_length, hop_length : float
        In seconds; rounded to whole samples.
    window : {"hamming", "hann"}
        Periodic.
    pre_emphasis : float
        The a of y[n] = x[n] - a x[n-1]; 0 leaves the audio as it is.
    n_mels : int
        Triangular bands, evenly spaced on the mel scale.
    mel_scale : {"htk", "slaney"}
        "htk": 2595 log10(1 + f/700), triangles of height 1. "slaney": linear below 1 kHz, triangles of area 1.
    low_frequency, high_frequency : float
        Edges of the bands in Hz; `high_frequency` 0 stands for half the sample rate.
    n_coefficients : int
        Cepstral coefficients kept, C0 included.
    top_db : float
        Clip bands that lie more than this below the loudest of the utterance; 0 does not clip.
    delta_orders : {0, 1, 2}
        0: cepstra alone; 1: with deltas; 2: with deltas and delta-deltas.
    delta_width : int
        Frames to either side that a delta looks at.
    delta_method : {"regression", "polynomial"}
        "regression": HTK's formula, edges repeated, delta-deltas are deltas of deltas. "polynomial": first and
        second derivative of a fitted line and parabola, edges take the nearest full fit; librosa's.
    normalisation : {"none", "mean", "mean_variance"}
        Per utterance.
    speech_activity : bool
        Keep only frames within `activity_range` of the utterance's loud frames.
    activity_range : float
        In dB.
    """

    sample_rate: int = 16000
    window_length: float = 0.025
    hop_length: float = 0.010
    window: Window = "hamming"
    pre_emphasis: float = 0.97
    n_mels: int = 40
    mel_scale: MelScale = "htk"
    low_frequency: float = 20.0
    high_frequency: float = 0.0
    n_coefficients: int = 20
    top_db: float = 0.0
    delta_orders: int = 2
    delta_width: int = 2
    delta_method: DeltaMethod = "regression"
    normalisation: Normalisation = "none"
    speech_activity: bool = False
    activity_range: float = 30.0

    def __post_init__(self) -> None:
        _check_types(self)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"feature setting `{name}` is {getattr(self, name)!r}; it can be {', '.join(choices)}"
                )
        for name, low, high in self._limits():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(
                    f"feature setting `{name}` is {value:g}; it must lie from {low:g} to {high:g}"
                )
        if self.hop_samples < 1 or self.window_samples < 2:
            raise InputError(
                f"at {self.sample_rate} Hz a window of {self.window_length} s and a hop of {self.hop_length} s are "
                f"{self.window_samples} and {self.hop_samples} samples; at least 2 and 1 are needed"
            )
        if self.upper_edge <= self.low_frequency:
            raise InputError(
                f"the mel bands end at {self.upper_edge:g} Hz, not above `low_frequency` {self.low_frequency:g} Hz"
            )

    def _limits(self) -> list[tuple[str, float, float]]:
        nyquist = self.sample_rate / 2
        return [
            ("sample_rate", 1000, 768000),
            ("window_length", 1e-4, 10.0),
            ("hop_length", 1e-5, 10.0),
            ("pre_emphasis", 0.0, 1.0),
            ("n_mels", 1, 1024),
            ("low_frequency", 0.0, nyquist),
            ("high_frequency", 0.0, nyquist),
            ("n_coefficients", 1, self.n_mels),
            ("top_db", 0.0, 1000.0),
            ("delta_orders", 0, 2),
            ("delta_width", 1, 100),
            ("activity_range", 0.0, 1000.0),
        ]

    @property
    def window_samples(self) -> int:
        """Length of the window in samples."""
        return round(self.window_length * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_length * self.sample_rate)

    @property
    def fft_length(self) -> int:
        """The smallest power of two that holds a window."""
        return 1 << (self.window_samples - 1).bit_length()

    @property
    def upper_edge(self) -> float:
        """Upper edge of the mel bands in Hz."""
        return self.high_frequency or self.sample_rate / 2

    @property
    def n_features(self) -> int:
        """Values in a frame, deltas included."""
        return self.n_coefficients * (1 + self.delta_orders)

    @property
    def context(self) -> int:
        """Frames to either side that a frame's values depend on, by its window and its deltas."""
        window = math.ceil((self.window_samples / 2 + 1) / self.hop_samples)
        # Edges of the polynomial method take the value of a frame `delta_width` further in.
        reach = self.delta_orders if self.delta_method == "regression" else 2 * min(1, self.delta_orders)
        return window + reach * self.delta_width

    def frame_range(self, start: float, end: float) -> tuple[int, int]:
        """First frame of a stretch and the first after it: the frames with start <= i * hop_length < end.

        A stretch that holds no frame's time takes the frame nearest to its middle.

        Parameters
        ----------
        start, end : float
            In seconds.
        """
        hop = self.hop_samples / self.sample_rate
        # Times such as 0.29 are not exact in binary; a millionth of a hop decides no real case.
        first, stop = math.ceil(start / hop - 1e-6), math.ceil(end / hop - 1e-6)
        if stop <= first:
            first = round((start + end) / 2 / hop)
            stop = first + 1
        return first, stop

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "FeatureConfig":
        """Settings from plain values, such as a TOML table; those not given keep their defaults.

        A key `preset` starts from that preset instead.
        """
        settings = dict(settings)
        preset = settings.pop("preset", "default")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(map(str, set(settings) - known))
        if unknown:
            raise InputError(f"unknown feature setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return cls.preset(preset, **settings)

    @classmethod
    def preset(cls, name: str, **settings: Any) -> "FeatureConfig":
        """Named settings, some replaced by those given.

        "default" is this class's. "librosa" is what `librosa.feature.mfcc` does at the same sample rate by
        default (its 128 bands are too narrow for speech at low rates; it is there for comparison).
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise InputError(f"there is no feature preset {name!r}; there are {', '.join(sorted(PRESETS))}")
        rate = settings.get("sample_rate", PRESETS[name].get("sample_rate", cls.sample_rate))
        chosen = dict(PRESETS[name])
        if name == "librosa" and type(rate) is int and rate > 0:
            chosen |= {"window_length": 2048 / rate, "hop_length": 512 / rate}
        return cls(**(chosen | settings))


def _check_types(config: FeatureConfig) -> None:
    """Refuse text for numbers and the like; whole numbers may stand for floats."""
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if isinstance(value, int) and abs(value) > 2**53:  # no setting is near, and arithmetic may overflow
            raise InputError(f"feature setting `{field.name}` is {value!r:.20}; it must be like {default!r}")
        kind = type(default)
        good = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(config, field.name, float(value))
        elif not good or (kind is float and not math.isfinite(value)):
            raise InputError(f"feature setting `{field.name}` is {value!r}; it must be like {default!r}")


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "librosa": {
        "sample_rate": 22050,
        "window": "hann",
        "pre_emphasis": 0.0,
        "n_mels": 128,
        "mel_scale": "slaney",
        "low_frequency": 0.0,
        "top_db": 80.0,
        "delta_width": 4,
        "delta_method": "polynomial",
    },
}
