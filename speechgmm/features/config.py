"""What features are made of: one frozen value that round-trips through TOML and JSON."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from speechgmm.errors import InputError
from speechgmm.features.presets import PRESETS

Framing = Literal["centred", "inside"]
Window = Literal["hamming", "hann", "povey", "rectangular"]
EmphasisBy = Literal["signal", "frame"]
Spectrum = Literal["power", "magnitude"]
FrequencyScale = Literal["htk", "slaney", "linear"]
FilterSlopes = Literal["hertz", "scale"]
LogScale = Literal["decibel", "natural", "log10"]
CosineTransform = Literal["orthonormal", "htk"]
Energy = Literal["c0", "log", "both", "none"]
DeltaMethod = Literal["regression", "polynomial"]
SpeechActivity = Literal["none", "energy", "kaldi", "gmm"]
NoSpeech = Literal["keep", "refuse"]
Normalisation = Literal["none", "mean", "mean_variance", "sliding_mean", "sliding_mean_variance", "warping"]

CHOICES: dict[str, tuple[str, ...]] = {
    "framing": get_args(Framing),
    "window": get_args(Window),
    "emphasis_by": get_args(EmphasisBy),
    "spectrum": get_args(Spectrum),
    "frequency_scale": get_args(FrequencyScale),
    "filter_slopes": get_args(FilterSlopes),
    "log_scale": get_args(LogScale),
    "dct": get_args(CosineTransform),
    "energy": get_args(Energy),
    "delta_method": get_args(DeltaMethod),
    "speech_activity": get_args(SpeechActivity),
    "no_speech": get_args(NoSpeech),
    "normalisation": get_args(Normalisation),
}
# Longer windows are no speech analysis any more, and would need much memory.
LONGEST_WINDOW = 1 << 16
SHIFTED_DELTAS = re.compile(r"([1-9]\d{0,2})-([1-9]\d{0,1})-([1-9]\d{0,1})-([1-9]\d{0,1})")


@dataclass(frozen=True)
class FeatureConfig:
    """How audio becomes frames of cepstra: settings of each step, in the order of the steps.

    Parameters
    ----------
    sample_rate : int
        Of the audio, in Hz; audio at other rates is resampled to it.
    scale : float
        What samples in [-1, 1] are multiplied by; 32768 counts in steps of 16-bit audio, as Kaldi and HTK do.
    dither : float
        Standard deviation of Gaussian noise added to the scaled samples; 0 adds none.
    dither_seed : int
        Of the noise; the same seed gives the same noise to every utterance.
    window_length, hop_length : float
        In seconds; rounded to whole samples.
    framing : {"centred", "inside"}
        "centred": frame i is centred at `i * hop_length`; audio continues as zeros beyond both ends, so n samples give
        `1 + n // hop` frames, however short the audio is. "inside": frame i begins at `i * hop_length`, and only
        windows that lie wholly inside of the audio count, `1 + (n - window) // hop`.
    remove_offset : bool
        Take the mean of each window away from it.
    pre_emphasis : float
        The a of y[n] = x[n] - a x[n-1]; 0 leaves the audio as it is.
    emphasis_by : {"signal", "frame"}
        Whether the sample before a window's first is the audio's own, or taken to equal the first.
    window : {"hamming", "hann", "povey", "rectangular"}
        "povey" is a Hann window to the power of 0.85, as in Kaldi.
    window_symmetric : bool
        Whether the window's last weight equals its first, or the one after the last does (periodic).
    fft_length : int
        In samples, a power of two; 0 stands for the smallest that holds a window.
    spectrum : {"power", "magnitude"}
    n_filters : int
        Triangular filters, evenly spaced on the frequency scale.
    frequency_scale : {"htk", "slaney", "linear"}
        "htk": mel, 2595 log10(1 + f/700), filters of height 1. "slaney": mel, linear below 1 kHz, filters of area 1.
        "linear": Hz, filters of height 1; the cepstra are then LFCCs.
    filter_slopes : {"hertz", "scale"}
        Where the sides of the triangles are straight.
    low_frequency, high_frequency : float
        Edges of the filters in Hz; `high_frequency` 0 stands for half the sample rate.
    floor : float
        The least value of a filter that the logarithm is taken of.
    log_scale : {"decibel", "natural", "log10"}
        10 log10, ln, or log10 of the filters' values.
    top_db : float
        Clip filters that lie more than this below the loudest of the utterance, in 10 log10; 0 does not clip.
    n_coefficients : int
        Cepstral coefficients, C0 included.
    dct : {"orthonormal", "htk"}
        "htk" has a C0 that is larger by sqrt(2).
    lifter : int
        The L of the weights 1 + L/2 sin(pi n / L) of coefficient n; 0 for none.
    energy : {"c0", "log", "both", "none"}
        "c0": the first value is C0. "log": it is the log energy of the window, before pre-emphasis. "both": C0 is the
        first and the log energy the last. "none": neither, so one value less.
    delta_orders : {0, 1, 2}
        0: cepstra alone; 1: with deltas; 2: with deltas and delta-deltas.
    delta_width : int
        Frames to either side that a delta looks at.
    delta_method : {"regression", "polynomial"}
        "regression": HTK's formula and edges: the first and last frame are repeated; delta-deltas are deltas of
        deltas. "polynomial": librosa's: first and second derivative of a fitted line and parabola; edges take the
        nearest full fit.
    shifted_deltas : str
        Shifted delta cepstra "N-d-P-k", such as "7-1-3-7", added at the end of a frame: of N coefficients, over d
        frames to either side, k of them P frames apart. Empty for none.
    speech_activity : {"none", "energy", "kaldi", "gmm"}
        Which frames are kept. "energy": those within `activity_range` of the utterance's loud frames, for clean
        recordings. "kaldi": those above half the utterance's mean log energy plus a constant, which keeps nearly all of
        a loud recording. "gmm": those that a mixture of `activity_components` Gaussians, fitted to the utterance's log
        energy, gives to its loudest, for noisy recordings. See `speechgmm.features.activity`.
    activity_range : float
        In dB.
    activity_context : int
        Frames to either side that have a say in a decision.
    activity_share : float
        Share of those, the frame included, that must be speech.
    activity_components : {2, 3}
    no_speech : {"keep", "refuse"}
        What becomes of an utterance in which no speech can be told from silence: all of it kept, with a warning,
        or an `InputError`.
    normalisation : {"none", "mean", "mean_variance", "sliding_mean", "sliding_mean_variance", "warping"}
        "mean", "mean_variance": over the utterance's kept frames. The others look at `normalisation_window` around
        each frame, before frames are dropped; "warping" maps a value's rank there to a standard normal.
    normalisation_window : float
        In seconds.
    """

    sample_rate: int = 16000
    scale: float = 1.0
    dither: float = 0.0
    dither_seed: int = 0
    window_length: float = 0.025
    hop_length: float = 0.010
    framing: Framing = "centred"
    remove_offset: bool = False
    pre_emphasis: float = 0.97
    emphasis_by: EmphasisBy = "signal"
    window: Window = "hamming"
    window_symmetric: bool = False
    fft_length: int = 0
    spectrum: Spectrum = "power"
    n_filters: int = 40
    frequency_scale: FrequencyScale = "htk"
    filter_slopes: FilterSlopes = "hertz"
    low_frequency: float = 20.0
    high_frequency: float = 0.0
    floor: float = 1e-10
    log_scale: LogScale = "decibel"
    top_db: float = 0.0
    n_coefficients: int = 20
    dct: CosineTransform = "orthonormal"
    lifter: int = 0
    energy: Energy = "c0"
    delta_orders: int = 2
    delta_width: int = 2
    delta_method: DeltaMethod = "regression"
    shifted_deltas: str = ""
    speech_activity: SpeechActivity = "none"
    activity_range: float = 30.0
    activity_context: int = 10
    activity_share: float = 0.3
    activity_components: int = 2
    no_speech: NoSpeech = "keep"
    normalisation: Normalisation = "none"
    normalisation_window: float = 3.0

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
        self._check_lengths()
        if self.upper_edge <= self.low_frequency:
            raise InputError(
                f"the filters end at {self.upper_edge:g} Hz, not above `low_frequency` {self.low_frequency:g} Hz"
            )
        if self.n_statics < 1:
            raise InputError("with `energy` 'none' C0 is left out: `n_coefficients` must be 2 or more")
        if self.shifted_deltas and not SHIFTED_DELTAS.fullmatch(self.shifted_deltas):
            raise InputError(
                f"feature setting `shifted_deltas` is {self.shifted_deltas!r}; it must be like '7-1-3-7' (N-d-P-k)"
            )
        if self.shifted_deltas and self.shifts[0] > self.n_statics:
            raise InputError(
                f"`shifted_deltas` are of {self.shifts[0]} coefficients; a frame has {self.n_statics}"
            )

    def _check_lengths(self) -> None:
        if self.hop_samples < 1 or not 2 <= self.window_samples <= LONGEST_WINDOW:
            raise InputError(
                f"at {self.sample_rate} Hz a window of {self.window_length} s and a hop of {self.hop_length} s are "
                f"{self.window_samples} and {self.hop_samples} samples; they must be from 2 to {LONGEST_WINDOW}, and "
                "1 or more"
            )
        length = self.fft_samples
        if length < self.window_samples or length & (length - 1) or length > 2 * LONGEST_WINDOW:
            raise InputError(
                f"feature setting `fft_length` is {length}; it must be a power of two that holds the window of "
                f"{self.window_samples} samples, at most {2 * LONGEST_WINDOW}"
            )

    def _limits(self) -> list[tuple[str, float, float]]:
        nyquist = self.sample_rate / 2
        return [
            ("sample_rate", 1000, 768000),
            ("scale", 1e-6, 1e6),
            ("dither", 0.0, 1e6),
            ("dither_seed", 0, 2**32),
            ("window_length", 1e-4, 10.0),
            ("hop_length", 1e-5, 10.0),
            ("pre_emphasis", 0.0, 1.0),
            ("fft_length", 0, 2 * LONGEST_WINDOW),
            ("n_filters", 1, 1024),
            ("low_frequency", 0.0, nyquist),
            ("high_frequency", 0.0, nyquist),
            ("floor", 1e-30, 1e10),
            ("top_db", 0.0, 1000.0),
            ("n_coefficients", 1, self.n_filters),
            ("lifter", 0, 1000),
            ("delta_orders", 0, 2),
            ("delta_width", 1, 100),
            ("activity_range", 0.0, 1000.0),
            ("activity_context", 0, 100),
            ("activity_share", 0.0, 1.0),
            ("activity_components", 2, 3),
            ("normalisation_window", 0.1, 60.0),
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
    def fft_samples(self) -> int:
        """Length of the Fourier transform in samples."""
        return self.fft_length or 1 << (self.window_samples - 1).bit_length()

    @property
    def upper_edge(self) -> float:
        """Upper edge of the filters in Hz."""
        return self.high_frequency or self.sample_rate / 2

    @property
    def window_start(self) -> int:
        """First sample of the window of frame 0."""
        return -((self.window_samples + 1) // 2) if self.framing == "centred" else 0

    @property
    def shifts(self) -> tuple[int, int, int, int]:
        """N, d, P, k of the shifted deltas; zeros without them."""
        n, d, p, k = map(int, self.shifted_deltas.split("-")) if self.shifted_deltas else (0, 0, 0, 0)
        return n, d, p, k

    @property
    def n_statics(self) -> int:
        """Values in a frame that are neither deltas nor shifted deltas."""
        return self.n_coefficients + {"c0": 0, "log": 0, "both": 1, "none": -1}[self.energy]

    @property
    def n_features(self) -> int:
        """Values in a frame."""
        return self.n_statics * (1 + self.delta_orders) + self.shifts[0] * self.shifts[3]

    @property
    def normalisation_frames(self) -> int:
        """Frames that a sliding normalisation looks at."""
        return max(1, round(self.normalisation_window * self.sample_rate / self.hop_samples))

    @property
    def context(self) -> int:
        """Frames to either side that a frame's values depend on, by its window and its deltas."""
        window = math.ceil((self.window_samples + 1) / self.hop_samples)
        # Edges of the polynomial method take the value of a frame `delta_width` further in.
        reach = self.delta_orders if self.delta_method == "regression" else 2 * min(1, self.delta_orders)
        _, d, p, k = self.shifts
        return window + max(reach * self.delta_width, d + p * max(0, k - 1))

    def n_frames(self, n_samples: int) -> int:
        """Frames of so many samples; 0 where `framing` "inside" finds no room for one."""
        if self.framing == "centred":
            return 1 + n_samples // self.hop_samples
        return max(0, 1 + (n_samples - self.window_samples) // self.hop_samples)

    def frame_range(self, start: float, end: float) -> tuple[int, int]:
        """First frame of a stretch and the first after it: the frames with start <= time < end.

        The time of a frame is the middle of its window. A stretch that holds no frame's time takes the frame nearest
        to its middle.

        Parameters
        ----------
        start, end : float
            In seconds.
        """
        hop = self.hop_samples / self.sample_rate
        if self.framing == "inside":
            middle = self.window_samples / 2 / self.sample_rate
            start, end = max(0.0, start - middle), max(0.0, end - middle)
        # Times such as 0.29 are not exact in binary; a millionth of a hop decides no real case.
        first, stop = math.ceil(start / hop - 1e-6), math.ceil(end / hop - 1e-6)
        if stop <= first:
            first = round((start + end) / 2 / hop)
            stop = first + 1
        return first, stop

    def edge_time(self, frame: int) -> float:
        """The time between a frame and the one before it, in seconds: where a stretch that begins with it begins.

        The inverse of `frame_range`, to half a hop; 0 for the first frame.
        """
        middle = self.window_samples / 2 if self.framing == "inside" else 0.0
        return 0.0 if frame == 0 else ((frame - 0.5) * self.hop_samples + middle) / self.sample_rate

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
        """Named settings, some replaced by those given: see `speechgmm.features.presets`."""
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
