"""Named settings of the front end, each tested against an independent implementation on real speech.

"default" is `FeatureConfig`'s own.

"librosa" is what `librosa.feature.mfcc` and `librosa.feature.delta` do by default at the same sample rate. Its 128
filters are too narrow for speech at low rates; it is there for comparison. Source: librosa 0.11, `feature.mfcc`.

"kaldi" is `compute-mfcc-feats` with its defaults, dither aside: 13 coefficients, the first of them log energy, samples
counted in 16-bit steps, natural logarithms. Source: Povey et al. (2011), The Kaldi speech recognition toolkit, ASRU;
`feat/feature-window.cc`, `feat/mel-computations.cc`, `feat/feature-mfcc.cc`. Deltas are HTK's; delta-deltas of Kaldi's
`add-deltas` differ in the first and last two frames.

"htk" is HTK's MFCC_0 with HTK's defaults (magnitude spectrum, 20 filters, liftering 22) and the 25 ms windows every
10 ms of its manual's tutorial. C0 comes first here, and last in HTK's files. Source: Young et al., The HTK Book 3.4,
section 5.6 and table of defaults.

"asvspoof" is the LFCC of the ASVspoof 2019 baseline: 20 filters from 0 Hz to half the sample rate, 20 coefficients and
their deltas over three frames. Deltas there are sums without the divisor 2, which mixtures do not notice; the baseline
also fills up one last window with zeros, and takes the audio to have been silent before its first sample. Source:
Sahidullah, Kinnunen, Hanilçi (2015), A comparison of features for synthetic speech detection, Interspeech.
"""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "librosa": {
        "sample_rate": 22050,
        "window": "hann",
        "pre_emphasis": 0.0,
        "n_filters": 128,
        "frequency_scale": "slaney",
        "low_frequency": 0.0,
        "top_db": 80.0,
        "delta_width": 4,
        "delta_method": "polynomial",
    },
    "kaldi": {
        "scale": 32768.0,
        "framing": "inside",
        "remove_offset": True,
        "emphasis_by": "frame",
        "window": "povey",
        "window_symmetric": True,
        "n_filters": 23,
        "filter_slopes": "scale",
        "floor": 2.0**-23,
        "log_scale": "natural",
        "n_coefficients": 13,
        "lifter": 22,
        "energy": "log",
    },
    "htk": {
        "scale": 32768.0,
        "framing": "inside",
        "emphasis_by": "frame",
        "window_symmetric": True,
        "spectrum": "magnitude",
        "n_filters": 20,
        "filter_slopes": "scale",
        "low_frequency": 0.0,
        "floor": 1.0,
        "log_scale": "natural",
        "n_coefficients": 13,
        "dct": "htk",
        "lifter": 22,
    },
    "asvspoof": {
        "window_length": 0.020,
        "framing": "inside",
        "window_symmetric": True,
        "fft_length": 512,
        "n_filters": 20,
        "frequency_scale": "linear",
        "low_frequency": 0.0,
        "floor": 2.0**-52,
        "log_scale": "log10",
        "delta_width": 1,
    },
}
