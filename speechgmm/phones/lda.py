"""Linear discriminant analysis: the directions in which classes lie apart, measured by how far each spreads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from speechgmm.em.coordinates import Float64s, require_finite, require_frames, symmetric
from speechgmm.em.terms import BLOCK
from speechgmm.errors import InputError
from speechgmm.parallel import one_blas_thread
from speechgmm.phones.transforms import LinearTransform, whole_numbers

# Directions with less than this share of the largest variance, each feature in its own deviations, do not count:
# what is spliced from frames with deltas holds features that follow from others.
DEPENDENT = 1e-9
# A direction with less than this share of its variance within classes tells them apart for certain.
CERTAIN = 1e-9


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """What linear discriminant analysis needs to know of frames; adds with `+`.

    Parameters
    ----------
    counts : (n_classes,) float64
        Frames of each class.
    sums : (n_classes, n_features) float64
        Of the frames of each class.
    products : (n_features, n_features) float64
        Sum of x x' over the frames of all classes.
    """

    counts: Float64s
    sums: Float64s
    products: Float64s

    def __add__(self, other: object) -> "ClassStatistics":
        if not isinstance(other, ClassStatistics):
            return NotImplemented
        if self.sums.shape != other.sums.shape:
            raise InputError(
                f"statistics of shape (n_classes, n_features) {self.sums.shape} and {other.sums.shape} cannot be added"
            )
        return ClassStatistics(
            self.counts + other.counts, self.sums + other.sums, self.products + other.products
        )


@one_blas_thread()
def class_statistics(frames: ArrayLike, labels: ArrayLike, n_classes: int) -> ClassStatistics:
    """Sum up frames by class, for `estimate_lda`; in `train_recogniser` classes are states of the first alignment.

    Parameters
    ----------
    frames : (n_frames, n_features)
    labels : (n_frames,) int
        The class of each frame, from 0 to n_classes - 1: a phone, or better one state of a phone.
    n_classes : int

    Raises
    ------
    InputError
        If labels do not fit, or frames are not finite numbers.
    """
    checked = require_frames(frames)
    require_finite(checked)
    classes = whole_numbers("labels", labels, n_classes, "classes")
    if len(classes) != len(checked):
        raise InputError(
            f"`labels` has {len(classes)} values; there are {len(checked)} frames, and each needs one"
        )
    n_features = checked.shape[1]
    sums, products = np.zeros((n_classes, n_features)), np.zeros((n_features, n_features))
    for start in range(0, len(checked), BLOCK):
        block = np.asarray(checked[start : start + BLOCK], np.float64)
        products += block.T @ block
        np.add.at(sums, classes[start : start + BLOCK], block)
    return ClassStatistics(np.bincount(classes, minlength=n_classes).astype(np.float64), sums, products)


@one_blas_thread()
def estimate_lda(statistics: ClassStatistics, n_dimensions: int) -> LinearTransform:
    """The transform to the directions that tell classes apart best.

    Transformed frames have mean 0, the identity as covariance within classes, and means of classes that vary most
    in the first direction. Features that follow from others are no harm.

    Parameters
    ----------
    statistics : ClassStatistics
    n_dimensions : int
        Fewer than there are classes, and at most as many as there are independent features.

    Returns
    -------
    LinearTransform

    Raises
    ------
    InputError
        If there are more dimensions than the classes or the features give, or one in which no class spreads.

    References
    ----------
    Haeb-Umbach, Ney (1992), Proc. ICASSP; Duda, Hart (1973), Pattern Classification and Scene Analysis, section 4.11.
    """
    seen = statistics.counts > 0
    if isinstance(n_dimensions, bool) or not 1 <= n_dimensions <= seen.sum() - 1:
        raise InputError(
            f"`n_dimensions` is {n_dimensions}; {seen.sum()} classes with frames give 1 to {seen.sum() - 1} "
            "(take the states of phones as classes where more are needed)"
        )
    n_frames = statistics.counts.sum()
    mean = statistics.sums.sum(axis=0) / n_frames
    whitener = _whitener(symmetric(statistics.products / n_frames - np.outer(mean, mean)), n_dimensions)
    means = statistics.sums[seen] / statistics.counts[seen, None]
    spread = (means - mean) @ whitener * np.sqrt(statistics.counts[seen] / n_frames)[:, None]
    values, vectors = np.linalg.eigh(spread.T @ spread)
    # The whole variance is 1 in each direction, so what is not between classes is within.
    within = 1.0 - values[::-1][:n_dimensions]
    if within[0] < CERTAIN:
        raise InputError(
            "there is a direction in which no class spreads, so that it tells them apart for certain "
            "(too few frames for so many features, or a feature made from the labels?)"
        )
    matrix = (whitener @ vectors[:, ::-1][:, :n_dimensions]).T / np.sqrt(within)[:, None]
    # Either sign will do; the same one everywhere, so that equal data give equal transforms.
    largest = np.take_along_axis(matrix, np.abs(matrix).argmax(axis=1)[:, None], axis=1)
    matrix *= np.sign(largest)
    return LinearTransform(matrix, -matrix @ mean)


def _whitener(covariance: Float64s, n_needed: int) -> Float64s:
    """What turns frames of this covariance into ones of unit covariance, (n_features, n_independent)."""
    deviations = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    scales = np.where(deviations > 0, deviations, 1.0)
    values, vectors = np.linalg.eigh(covariance / (scales[:, None] * scales))
    kept = values > DEPENDENT * values[-1]
    if values[-1] <= 0 or kept.sum() < n_needed:
        raise InputError(
            f"`n_dimensions` is {n_needed}; of {len(values)} features only {kept.sum()} do not follow from others"
        )
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]) / scales[:, None])
