"""Write a corpus's manifest, with checksums: python -m speechgmm.corpora NAME DATA_DIR OUTPUT."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from speechgmm.corpora import fsdd, librispeech, speech_commands, timit
from speechgmm.corpora.locate import Corpus, corpus_folder
from speechgmm.errors import SpeechGMMError
from speechgmm.manifest import Utterance, write_manifest
from speechgmm.manifest_check import describe


class Source(NamedTuple):
    """Where a manifest comes from, and what it keeps."""

    corpus: Corpus
    utterances: Callable[[Path], list[Utterance]]
    # Of all utterances, with their checksums.
    protocol: Callable[[list[Utterance]], list[Utterance]]


MANIFESTS = {
    "fsdd": Source(fsdd.CORPUS, fsdd.utterances, list),
    "librispeech_phones": Source(
        librispeech.TRAIN_CLEAN_100, librispeech.phone_utterances, librispeech.phone_split
    ),
    "speech_commands": Source(speech_commands.CORPUS, speech_commands.utterances, speech_commands.closed_set),
    "speech_commands_verification": Source(
        speech_commands.CORPUS, speech_commands.utterances, speech_commands.verification_split
    ),
    "speech_commands_phones": Source(
        speech_commands.CORPUS, speech_commands.phone_utterances, speech_commands.phone_split
    ),
    "timit": Source(timit.CORPUS, timit.utterances, timit.phone_split),
}


def main(arguments: list[str] | None = None) -> int:
    """Write one manifest; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m speechgmm.corpora", description="Write a corpus's manifest."
    )
    parser.add_argument("name", choices=sorted(MANIFESTS))
    parser.add_argument("data_dir", type=Path, help="the folder that holds the corpus's folder")
    parser.add_argument("output", type=Path, help="the manifest to write (JSON Lines)")
    options = parser.parse_args(arguments)
    source = MANIFESTS[options.name]
    try:
        listed = source.utterances(corpus_folder(source.corpus, options.data_dir))
        described, problems = describe(listed)
        if not problems:
            write_manifest(source.protocol(described), options.output, data_dir=options.data_dir)
    except SpeechGMMError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
