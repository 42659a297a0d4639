"""The front end of a recogniser: discriminant analysis of joined frames, then a semi-tied covariance transform."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

from speechgmm.em.coordinates import Floats
from speechgmm.parallel import Progress, no_progress
from speechgmm.phones.front_end import FrontEnd
from speechgmm.phones.graph import Step
from speechgmm.phones.hmm import HmmSet
from speechgmm.phones.hmm_training import HmmSettings, HmmTrainer
from speechgmm.phones.lda import class_statistics, estimate_lda
from speechgmm.phones.occupied_frames import Aligned
from speechgmm.phones.passes import AlignmentError, Path
from speechgmm.phones.semi_tied import estimate_mllt, mllt_statistics
from speechgmm.phones.transforms import LinearTransform, splice

# Gaussians a state while the transform is sought: few, so that each sees many frames.
N_COMPONENTS = 4


def discriminant(
    utterances: Sequence[Aligned],
    paths: Sequence[Path | AlignmentError],
    n_mixtures: int,
    n_joined: int,
    context: int,
    n_dimensions: int,
) -> FrontEnd:
    """The front end after which frames of different states lie apart, by linear discriminant analysis.

    Parameters
    ----------
    utterances : sequence of Aligned
    paths : sequence of Path or AlignmentError
        Their states; those that could not be aligned do not count.
    n_mixtures : int
        Of the HMMs: the classes.
    n_joined, context : int
        See `FrontEnd`.
    n_dimensions : int
        Values that a frame has afterwards.

    References
    ----------
    Haeb-Umbach, Ney (1992), Linear discriminant analysis for improved large vocabulary continuous speech recognition,
    Proc. ICASSP.
    """
    found = (
        class_statistics(splice(frames[:, :n_joined], context, context), graph.pdfs[path.states], n_mixtures)
        for (frames, graph), path in zip(utterances, paths, strict=True)
        if isinstance(path, Path)
    )
    return FrontEnd(n_joined, context, estimate_lda(reduce(add, found), n_dimensions))


def with_semi_tied(
    front_end: FrontEnd,
    frames: Sequence[Floats],
    transcripts: Sequence[Sequence[Step]],
    start: HmmSet,
    paths: Sequence[Path | AlignmentError],
    settings: HmmSettings,
    n_jobs: int = 1,
    progress: Progress = no_progress,
) -> FrontEnd:
    """The front end followed by the matrix after which diagonal covariances explain frames best.

    HMMs of few components are trained for that, from the paths given.

    Parameters
    ----------
    front_end : FrontEnd
        With a transform.
    frames : sequence of (n_frames, n_features) arrays
        One for each utterance, as they come from the feature module.
    transcripts : sequence of sequence of Step
    start : HmmSet
        Its units and states.
    paths : sequence of Path or AlignmentError
        Where training begins.
    settings, n_jobs, progress
        As in `train_hmms`.

    References
    ----------
    Gales (1999), Semi-tied covariance matrices for hidden Markov models, IEEE Trans. Speech Audio Process. 7.
    """
    few = replace(
        settings, n_components=min(N_COMPONENTS, settings.n_components), start_iterations=2, iterations=2
    )
    turned = [front_end.apply(own) for own in frames]
    trainer = HmmTrainer(turned, transcripts, replace(few, last_iterations=2), n_jobs, progress)
    flat = start.with_mixtures([trainer.one_gaussian()] * len(start.mixtures))
    hmms = trainer.train(flat, paths).hmms
    found = trainer.occupied(hmms, trainer.aligned(hmms))
    semi_tied = estimate_mllt(
        mllt_statistics(hmms.mixtures, found.frames, found.pdfs, found.rows, found.weights)
    )
    before: LinearTransform | None = front_end.transform
    return replace(
        front_end, transform=semi_tied.transform if before is None else semi_tied.transform.after(before)
    )
