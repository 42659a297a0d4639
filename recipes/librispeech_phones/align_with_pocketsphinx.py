"""Repeats the labels of this recipe: forced alignments of the transcripts by pocketsphinx.

    python recipes/librispeech_phones/align_with_pocketsphinx.py OUTPUT [--data-dir DIR] [--compare FILE]

aligns every utterance that has a transcript and writes a table of path, start, end (s), phone and word; with
`--compare`, says how far another such table agrees. `pip install pocketsphinx`; the package holds the acoustic model
(en-us) and the dictionary, both under the BSD licence. No hand has corrected what comes out: boundaries lie on a grid
of 10 ms, and whatever the dictionary does not have (another pronunciation, a slip of the tongue) is not there.

Words are aligned first, which also decides between pronunciations, `was` or `was(2)`; then the phones of each. One
decoder takes all utterances in the order of their paths: what it has heard goes from one to the next, so that another
order moves some boundaries by a step of the grid. Where the phones find no way through the words, which happens with
three of 206 utterances, a new decoder tries again.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pocketsphinx_loop import audio_bytes, load

from speechgmm.corpora.librispeech import TRAIN_CLEAN_100, utterances
from speechgmm.corpora.locate import corpus_folder
from speechgmm.errors import InputError
from speechgmm.files import write_atomically
from speechgmm.manifest import Utterance, read_text
from speechgmm.recipe import run

COLUMNS = ("path", "start", "end", "phone", "word")
FRAME = 0.01
ATTEMPTS = 4


class Row(NamedTuple):
    """One phone, with its times as they are written: seconds with two digits after the point."""

    path: str
    start: str
    end: str
    phone: str
    word: str


class Aligner:
    """A decoder with the models and the dictionary of the package, and no language model."""

    def __init__(self) -> None:
        self._decoder = _new_decoder()

    def align(self, utterance: Utterance, path: str) -> list[Row]:
        """The phones of an utterance by its label `text`.

        Raises
        ------
        InputError
            If a word is not in the dictionary, or the text does not fit the audio.
        """
        words = utterance.label("text").lower().split()
        if unknown := sorted({word for word in words if self._decoder.lookup_word(word) is None}):
            raise InputError(
                f"utterance {utterance.id!r}: not in pocketsphinx's dictionary: {', '.join(unknown)}"
            )
        alignment = self._alignment(" ".join(words), audio_bytes(utterance))
        if alignment is None:
            raise InputError(f"utterance {utterance.id!r}: its text does not fit its audio")
        return [
            Row(path, _seconds(phone.start), _seconds(phone.start + phone.duration), phone.name, word.name)
            for word in alignment
            for phone in word
        ]

    def _alignment(self, text: str, content: bytes) -> Any:
        """Words and their phones; None if that fails, also by new decoders that heard nothing or this once."""
        for attempt in range(ATTEMPTS):
            try:
                self._decoder.set_align_text(text)
                _decode(self._decoder, content)
                self._decoder.set_alignment()
                _decode(self._decoder, content)
                return self._decoder.get_alignment()
            except RuntimeError:
                if attempt % 2 == 0:
                    self._decoder = _new_decoder()
        return None


def _new_decoder() -> Any:
    return load().Decoder(lm=None, loglevel="FATAL")


def _decode(decoder: Any, content: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(content, full_utt=True)
    decoder.end_utt()


def _seconds(n_frames: int) -> str:
    return f"{n_frames * FRAME:.2f}"


def align_all(listed: Iterable[Utterance], folder: Path) -> list[Row]:
    """The phones of all utterances, in their order; paths start from `folder`."""
    aligner = Aligner()
    return [
        one
        for utterance in listed
        for one in aligner.align(utterance, utterance.audio.relative_to(folder).as_posix())
    ]


def as_text(rows: Sequence[Row]) -> str:
    """The table, tabs between its columns."""
    return "".join("\t".join(cells) + "\n" for cells in [COLUMNS, *rows])


class Agreement(NamedTuple):
    """How far two tables agree."""

    n_utterances: int
    n_same_utterances: int
    n_boundaries: int
    n_same_boundaries: int


def compare(rows: Sequence[Row], others: Sequence[Row]) -> Agreement:
    """Count the utterances of `others` that `rows` repeats to the letter, and the ends of phones.

    A boundary is the end of a phone: it is the same where a phone of that name ends at that time there too.
    """
    ours, theirs = _by_path(rows), _by_path(others)
    return Agreement(
        len(theirs),
        sum(ours.get(path) == phones for path, phones in theirs.items()),
        len(others),
        len(
            {(one.path, one.end, one.phone) for one in rows}
            & {(one.path, one.end, one.phone) for one in others}
        ),
    )


def _by_path(rows: Iterable[Row]) -> dict[str, list[Row]]:
    table: dict[str, list[Row]] = {}
    for one in rows:
        table.setdefault(one.path, []).append(one)
    return table


def read_rows(path: Path) -> list[Row]:
    """A table as `as_text` writes it, its times as texts."""
    lines = [line.split("\t") for line in read_text(path).splitlines()]
    if not lines or tuple(lines[0]) != COLUMNS or any(len(cells) != len(COLUMNS) for cells in lines):
        raise InputError(f"{path}: not a table of {', '.join(COLUMNS)}")
    return [Row(*cells) for cells in lines[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path, help="the table to write")
    parser.add_argument("--data-dir", type=Path, help="folder that holds the corpora")
    parser.add_argument("--compare", type=Path, help="another table")
    options = parser.parse_args()
    folder = corpus_folder(TRAIN_CLEAN_100, options.data_dir)
    others = None if options.compare is None else read_rows(options.compare)
    listed = [one for one in utterances(folder, ["train-clean-100"], text=True) if "text" in one.labels]
    rows = align_all(listed, folder)
    write_atomically(options.output, as_text(rows))
    print(f"{len(listed)} utterances, {len(rows)} phones", file=sys.stderr)
    if others is not None:
        found = compare(rows, others)
        print(f"{found.n_same_utterances} of {found.n_utterances} utterances are the same to the letter")
        print(f"{found.n_same_boundaries} of {found.n_boundaries} phones end at the same time")


if __name__ == "__main__":
    run(main)
