"""`speechgmm features`: frames of a manifest into a store, or a picture of those of one file."""

from pathlib import Path
from typing import Annotated

import typer

from speechgmm.cli_shared import DataDir, Jobs, Split, counted, finish, listed
from speechgmm.errors import InputError


def features_command(
    manifest: Annotated[
        Path | None, typer.Argument(help="Manifest of the utterances.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the feature store; with --show, the picture to write."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with a table [features].")
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option("--show", help="Draw waveform, spectrogram, cepstra and speech decisions of this file."),
    ] = None,
    split: Split = None,
    data_dir: DataDir = None,
    jobs: Jobs = -1,
) -> None:
    """Extract features into a store, which `train --store` takes them from; or draw those of one file."""
    settings = _settings(config) if config else {}
    if (manifest is None) == (show is None):
        raise InputError("give a manifest and --output STORE, or --show FILE")
    if show is not None and (split is not None or data_dir is not None):
        raise InputError("--split and --data-dir are for manifests; --show draws one file")
    if show is not None:
        _draw(show, settings, output)
    elif manifest is None or output is None:
        raise InputError("--output is needed: the folder of the feature store")
    else:
        _extract(manifest, settings, output, split, data_dir, jobs)


def _settings(config: Path) -> dict[str, object]:
    """The features of a file, which may have the tables of what they are for as well."""
    from speechgmm.settings import TRAINING_TABLES, read_tables
    from speechgmm.verification.settings_file import VERIFICATION_TABLES

    return dict(read_tables(config, {**TRAINING_TABLES, **VERIFICATION_TABLES})["features"])


def _draw(file: Path, settings: dict[str, object], output: Path | None) -> None:
    from speechgmm.features.reading import suitable_config
    from speechgmm.manifest import Utterance
    from speechgmm.report.feature_picture import feature_picture

    utterance = Utterance(file.stem, file)
    picture = output or Path(f"{file.stem}.features.png")
    feature_picture(utterance, suitable_config([utterance], settings), picture)
    print(picture)


def _extract(
    manifest: Path,
    settings: dict[str, object],
    folder: Path,
    split: str | None,
    data_dir: Path | None,
    jobs: int,
) -> None:
    from speechgmm.features.extract import FeatureExtractor
    from speechgmm.features.reading import suitable_config
    from speechgmm.features.store import FeatureStore
    from speechgmm.manifest import read_manifest, select
    from speechgmm.terminal import shown_progress

    utterances = select(read_manifest(manifest, data_dir), split)
    extractor = FeatureExtractor(suitable_config(utterances, settings))
    store = FeatureStore(folder, extractor.config)
    before = len(store)
    with shown_progress() as progress:
        extraction = extractor.extract(utterances, jobs, progress, store)
    problems = listed(extraction.problems)
    if not extraction.frames:
        finish(problems, "; no utterance can be used", code=2)
    frames = sum(map(len, extraction.frames))
    print(
        f"{folder}: {counted(len(extraction.frames), 'utterance')}, {frames} frames of {store.n_features} features "
        f"at {extractor.config.sample_rate} Hz ({counted(len(store) - before, 'new utterance')})"
    )
    finish(problems)
