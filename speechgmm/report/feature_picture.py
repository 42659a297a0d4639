"""A picture of what a configuration makes of an audio file: its waveform, spectrum, cepstra and speech decisions."""

import math
import tempfile
import textwrap
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speechgmm.errors import InputError
from speechgmm.features.activity import DECIBEL, speech_frames
from speechgmm.features.cepstra import CepstralAnalyser, window_weights
from speechgmm.features.config import FeatureConfig
from speechgmm.features.filter_bank import from_hertz, to_hertz
from speechgmm.features.presets import PRESETS
from speechgmm.features.reading import Reading, naming, open_utterance
from speechgmm.features.store_files import allocate
from speechgmm.manifest import Utterance
from speechgmm.report.pictures import require_format, shortened, styled, write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

WIDTH, HEIGHT = 7.2, 7.6  # inches
INK, PALE = "#1f3a5f", "#ccd9e6"
# Points of the waveform; more would not be seen, and make large files.
COLUMNS = 2000
# Values of the spectrogram, at most; beyond that not every frame is drawn.
VALUES = 1 << 22
# Samples of windows in memory at a time.
CHUNK = 1 << 20
# In decibels: what lies further below the loudest is drawn as if it lay there.
DEPTH = 70.0
# Colours of cepstra end at so many standard deviations.
DEVIATIONS = 2.5
# Characters of a line at the head of the picture.
LINE = 98
# Settings that may differ from a preset's for its name to be of use.
MOST_CHANGES = 6


@dataclass(frozen=True, eq=False)
class _Content:
    """What there is to draw.

    Attributes
    ----------
    start, end : float
        Of what is drawn, in seconds of the file.
    duration : float
        Of the utterance in seconds.
    file_rate : int
        In Hz.
    samples : (n_samples,)
        From start to end.
    left, cell : float
        Where the first frame begins on the time axis, and how long each is, in seconds.
    spectra : (n_frames, fft_samples // 2 + 1)
        In dB; 0 is a sine of amplitude 1.
    cepstra : (n_frames, n_statics)
    levels : (n_frames,)
        In dB; 0 is the utterance's loudest frame.
    kept : (n_frames,) bool
    decision : str
        Which frames of the whole utterance are kept.
    """

    start: float
    end: float
    duration: float
    file_rate: int
    samples: Float32s
    left: float
    cell: float
    spectra: Float32s
    cepstra: Float32s
    levels: Float64s
    kept: NDArray[np.bool_]
    decision: str

    @property
    def span(self) -> tuple[float, float]:
        """From the first frame's beginning to the last one's end."""
        return self.left, self.left + len(self.levels) * self.cell


def feature_picture(
    utterance: Utterance | str | Path,
    config: FeatureConfig,
    output: str | Path | None = None,
    seconds: float = 60.0,
) -> "Figure":
    """Draw what a configuration makes of an utterance, in four panels over one time axis.

    From the top: the waveform; the spectra of the frames as the filters see them, after pre-emphasis (without dither);
    the cepstra before normalisation, each coefficient on a scale of its own; the level in all filters, and which
    frames are kept. Where no more than a part is drawn, levels and decisions are still those of the whole utterance.

    Parameters
    ----------
    utterance : Utterance, or path of an audio file
    config : FeatureConfig
    output : str or Path, optional
        Where to write the picture: a PNG, PDF or SVG file, by its suffix. The same input gives the same bytes.
    seconds : float > 0
        Draw no more than this from the beginning.

    Returns
    -------
    matplotlib.figure.Figure
        Its first four axes are the panels.

    Raises
    ------
    InputError
        If the audio cannot be used, `output` has another suffix or cannot be written, `seconds` is not above 0, or
        matplotlib is missing.
    """
    if output is not None:
        require_format(output)
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"`seconds` is {seconds:g}; it must be a length of time to draw, above 0")
    with styled():
        from matplotlib.figure import Figure

        if not isinstance(utterance, Utterance):
            utterance = Utterance("audio", Path(utterance))
        with naming(utterance.audio):
            content = _content(utterance, config, seconds)
        figure = Figure((WIDTH, HEIGHT), layout="constrained")
        _draw(figure, content, config)
        figure.suptitle(
            shortened(utterance.audio.name, LINE), fontsize=9, fontweight="bold", parse_math=False
        )
        if output is not None:
            write_picture(figure, output)
    return figure


def _content(utterance: Utterance, config: FeatureConfig, seconds: float) -> _Content:
    """Analyse the whole utterance, as decisions and `top_db` look at all of it, and keep what is drawn."""
    statics = replace(config, delta_orders=0, shifted_deltas="")
    reading = open_utterance(utterance, statics)
    scratch = partial(allocate, Path(tempfile.gettempdir()))
    data = CepstralAnalyser(statics).analyse(
        reading.blocks, reading.n_samples, scratch, reading.keep, reading.first_sample
    )
    first, stop, _ = reading.keep.indices(len(data.levels))
    kept, decision = _decisions(data.levels[first:stop], config)

    rate, hop = config.sample_rate, config.hop_samples / config.sample_rate
    start = utterance.start or 0.0
    end = start + min(seconds, reading.seconds)
    # In seconds of the file: the first sample that was read, and the middle of the first frame drawn.
    origin = (config.frame_range(start, start + reading.seconds)[0] - first) * hop
    middle = origin + first * hop + (config.window_samples / 2 / rate if config.framing == "inside" else 0.0)
    n_frames = min(stop - first, max(1, 1 + round((end - middle) / hop)))
    step = math.ceil(n_frames * (config.fft_samples // 2 + 1) / VALUES)
    drawn = slice(first, first + n_frames, step)

    starts = np.arange(first, first + n_frames, step) * config.hop_samples + config.window_start
    last = max(round((start - origin) * rate) + 1, round((end - origin) * rate))
    samples = _beginning(reading, max(last, int(starts[-1]) + config.window_samples))
    powers = data.levels.astype(np.float64) / DECIBEL * (2.0 if config.spectrum == "magnitude" else 1.0)
    return _Content(
        *(start, end, reading.seconds, reading.file_rate, samples[round((start - origin) * rate) : last]),
        *(middle - hop / 2, step * hop, _spectra(samples, starts, config), data.frames[drawn].copy()),
        *(powers[drawn] - powers[first:stop].max(), kept[:n_frames:step], decision),
    )


def _decisions(levels: Float32s, config: FeatureConfig) -> tuple[NDArray[np.bool_], str]:
    """Which frames are kept, and that in words."""
    everything = np.ones(len(levels), np.bool_)
    if config.speech_activity == "none":
        return everything, "all frames kept"
    kept = speech_frames(levels, config)
    if kept is not None:
        count, total = int(kept.sum()), len(kept)
        share = f"{count} of {total} frames ({100 * count / total:.0f} %)"
        return kept, f'shaded: kept as speech by "{config.speech_activity}", in all {share}'
    if config.no_speech == "keep":
        return everything, "no speech can be told from silence: all frames kept"
    return ~everything, "no speech can be told from silence: refused"


def _beginning(reading: Reading, n_samples: int) -> Float32s:
    """At least the first samples of a reading; fewer where there are no more."""
    parts: list[Float32s] = []
    for block in reading.blocks():
        parts.append(block)
        n_samples -= block.size
        if n_samples <= 0:
            break
    return np.concatenate(parts)


def _spectra(samples: Float32s, starts: NDArray[np.int64], config: FeatureConfig) -> Float32s:
    """Power spectra in dB of the windows that begin at `starts`, (n_windows, fft_samples // 2 + 1)."""
    weights = window_weights(config)
    spectra = np.empty((len(starts), config.fft_samples // 2 + 1), np.float32)
    rows = max(1, CHUNK // config.fft_samples)
    for row in range(0, len(starts), rows):
        windows = weights * _emphasised(samples, starts[row : row + rows], config)
        amplitudes = np.abs(np.fft.rfft(windows, config.fft_samples)) * (2.0 / weights.sum())
        spectra[row : row + rows] = 20.0 * np.log10(np.maximum(amplitudes, 1e-12))
    return spectra


def _emphasised(samples: Float32s, starts: NDArray[np.int64], config: FeatureConfig) -> Float64s:
    """Windows without their offset, if so configured, and pre-emphasised: as the compiled pass makes them."""
    index = starts[:, None] + np.arange(-1, config.window_samples)
    inside = (index >= 0) & (index < samples.size)
    windows = np.where(inside, samples[np.clip(index, 0, samples.size - 1)], 0.0).astype(np.float64)
    if config.remove_offset:
        windows -= windows[:, 1:].mean(axis=1, keepdims=True)
    steady = index[:, 1:] == 0
    steady[:, 0] |= config.emphasis_by == "frame"
    before = np.where(steady, windows[:, 1:], windows[:, :-1])
    return np.where(inside[:, 1:], windows[:, 1:] - config.pre_emphasis * before, 0.0)


def _draw(figure: "Figure", content: _Content, config: FeatureConfig) -> None:
    grid = figure.add_gridspec(4, 2, width_ratios=[1.0, 0.018], height_ratios=[1.0, 2.2, 1.7, 1.1])
    waveform = figure.add_subplot(grid[0, 0])
    others = [figure.add_subplot(grid[row, 0], sharex=waveform) for row in (1, 2, 3)]
    _draw_waveform(waveform, content, config)
    spectra = _draw_spectra(others[0], content, config)
    cepstra = _draw_cepstra(others[1], content, config)
    _draw_levels(others[2], content)
    figure.colorbar(spectra, cax=figure.add_subplot(grid[1, 1]), label="dB re full scale")
    figure.colorbar(cepstra, cax=figure.add_subplot(grid[2, 1]), label="Standard deviations")
    for axes in (waveform, *others[:2]):
        axes.tick_params(labelbottom=False)
    waveform.set_xlim(content.start, content.end)
    others[2].set_xlabel("Time (s)")
    figure.align_ylabels([waveform, *others])


def _draw_waveform(axes: "Axes", content: _Content, config: FeatureConfig) -> None:
    """The range of the samples within each of many short stretches."""
    samples = content.samples
    columns = min(COLUMNS, samples.size)
    first = np.arange(columns) * samples.size // columns
    low, high = np.minimum.reduceat(samples, first), np.maximum.reduceat(samples, first)
    times = content.start + (first + samples.size / columns / 2) / config.sample_rate
    axes.fill_between(times, low, high, color=INK, linewidth=0.5)
    peak = 1.05 * float(np.abs(samples).max()) or 1.0
    axes.set_ylim(-peak, peak)
    axes.set_ylabel("Amplitude\n(full scale 1)")
    axes.set_title(_summary(content, config), parse_math=False, linespacing=1.4)


def _draw_spectra(axes: "Axes", content: _Content, config: FeatureConfig) -> "AxesImage":
    nyquist, loudest = config.sample_rate / 2000, float(content.spectra.max())
    half_bin = nyquist / config.fft_samples
    extent = (*content.span, -half_bin, nyquist + half_bin)
    image = axes.imshow(content.spectra.T, "viridis", extent=extent, vmin=loudest - DEPTH, vmax=loudest)
    ends = from_hertz(np.array([config.low_frequency, config.upper_edge]), config.frequency_scale)
    edges = to_hertz(np.linspace(ends[0], ends[1], config.n_filters + 2), config.frequency_scale) / 1000
    marks = axes.hlines(edges, 1.003, 1.011, "0.35", transform=axes.get_yaxis_transform(), clip_on=False)
    marks.set(linewidth=0.5, in_layout=False)
    axes.set_ylim(0.0, nyquist)
    axes.set_ylabel("Frequency (kHz)")
    emphasis = f" after pre-emphasis of {config.pre_emphasis:g}" if config.pre_emphasis else ""
    axes.set_title(f"Power spectrum{emphasis}; marks at the right: edges of the {config.n_filters} filters")
    return image


def _draw_cepstra(axes: "Axes", content: _Content, config: FeatureConfig) -> "AxesImage":
    """Each coefficient in its own standard deviations: otherwise the first few would be all there is to see."""
    cepstra = content.cepstra.astype(np.float64)
    deviations = cepstra.std(axis=0)
    scaled = (cepstra - cepstra.mean(axis=0)) / np.where(deviations > 0, deviations, 1.0)
    extent = (*content.span, -0.5, config.n_statics - 0.5)
    image = axes.imshow(scaled.T, "cividis", extent=extent, vmin=-DEVIATIONS, vmax=DEVIATIONS)
    names = [str(number) for number in range(int(config.energy == "none"), config.n_coefficients)]
    if config.energy == "log":
        names[0] = "E"
    rows = list(range(0, len(names), math.ceil(len(names) / 8)))
    if config.energy == "both":
        names.append("E")
        rows[-1] = len(names) - 1
    axes.set_yticks(rows, [names[row] for row in rows])
    axes.set_ylabel("Coefficient")
    energy = "; E: log energy" if config.energy in ("log", "both") else ""
    axes.set_title(f"Cepstra, each less its mean and over its standard deviation{energy}")
    return image


def _draw_levels(axes: "Axes", content: _Content) -> None:
    turns = np.flatnonzero(np.diff(content.kept, prepend=False, append=False)).reshape(-1, 2)
    spans = [(content.left + a * content.cell, (b - a) * content.cell) for a, b in turns]
    axes.broken_barh(spans, (0.0, 1.0), transform=axes.get_xaxis_transform(), color=PALE, linewidth=0)
    times = content.left + (np.arange(len(content.levels)) + 0.5) * content.cell
    axes.plot(times, content.levels, color=INK, linewidth=0.8)
    axes.set_ylim(max(-DEPTH, float(content.levels.min())) - 3.0, 3.0)
    axes.set_ylabel("Level in all filters\n(dB re loudest)")
    axes.set_title(f"Speech activity; {content.decision}")


def _summary(content: _Content, config: FeatureConfig) -> str:
    """Length, sample rate and settings in a few words."""
    length = f"{content.duration:.2f} s"
    if content.start > 0:
        length += f" from {content.start:.2f} s"
    drawn = content.end - content.start
    if drawn < content.duration - 1e-6:
        length += f", of which the first {drawn:g} s are drawn"
    rate = f"{config.sample_rate} Hz"
    if content.file_rate != config.sample_rate:
        rate += f" (file: {content.file_rate} Hz)"
    scale = "linear" if config.frequency_scale == "linear" else "mel"
    settings = (
        f"Windows of {1000 * config.window_length:.4g} ms every {1000 * config.hop_length:.4g} ms, "
        f"{config.n_filters} {scale} filters from {config.low_frequency:g} to {config.upper_edge:g} Hz, "
        f"{config.n_coefficients} coefficients"
    )
    return "\n".join([*textwrap.wrap(f"{length}; {rate}; {_nearest_preset(config)}", LINE), settings])


def _nearest_preset(config: FeatureConfig) -> str:
    """The preset that a configuration is, or is but for a few settings."""
    own = config.to_dict()
    changed: dict[str, list[str]] = {}
    for name in PRESETS:
        try:
            other = FeatureConfig.preset(name, sample_rate=config.sample_rate).to_dict()
        except InputError:
            continue  # a preset that this sample rate does not go with
        changed[name] = [f"{key} = {own[key]}" for key in own if own[key] != other[key]]
    name = min(changed, key=lambda name: len(changed[name]))
    if len(changed[name]) > MOST_CHANGES:
        return "settings of its own"
    return f'preset "{name}"' + (f" with {', '.join(changed[name])}" if changed[name] else "")
