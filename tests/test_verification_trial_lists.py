"""verification.trial_lists: every form of list read and written, and what is wrong with a list said at once."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgmm.errors import FormatError, InputError
from speechgmm.verification.trial_lists import Trial, TrialIndex, check_trials, read_trials, write_trials

TRIALS = [Trial("ann", "u1", True), Trial("ann", "u2", False), Trial("bob", "u1", False)]
UNKEYED = [Trial(trial.model, trial.test) for trial in TRIALS]
FORMS = ("tsv", "kaldi", "voxceleb", "nist")


@pytest.fixture
def listed(tmp_path):
    """A function that writes a list and returns its path."""

    def write(text, name="trials"):
        (tmp_path / name).write_bytes(text.encode())
        return tmp_path / name

    return write


class TestTrial:
    def test_values(self):
        assert Trial("a", "b") == Trial("a", "b", None) != Trial("a", "b", False)
        assert Trial("a", "b", np.True_).is_target is True

    @pytest.mark.parametrize("name", ["", "a\tb", "a\nb", "\udc80", None, 3])
    def test_ids_are_text_that_a_list_can_hold(self, name):
        with pytest.raises(
            InputError, match=r"`model` of a trial is .*; it must be text, not empty, without"
        ):
            Trial(name, "u")
        with pytest.raises(InputError, match="`test` of a trial is "):
            Trial("m", name)

    @pytest.mark.parametrize("answer", [0, 1, 1.0, "target", "nontarget"])
    def test_an_answer_is_true_false_or_none(self, answer):
        with pytest.raises(InputError, match=r"`is_target` of a trial is .*; it must be True, False or None"):
            Trial("m", "u", answer)


class TestForms:
    @pytest.mark.parametrize(
        ("text", "trials"),
        [
            ("model\ttest\tkey\nann\tu1\ttarget\nann\tu2\tnontarget\nbob\tu1\tnontarget\n", TRIALS),
            ("model\ttest\nann\tu1\nann\tu2\nbob\tu1\n", UNKEYED),
            ("ann u1 target\nann  u2\tnontarget\n bob u1 nontarget\n", TRIALS),
            ("ann u1 tgt\nann u2 imp\nbob u1 imp\n", TRIALS),
            ("ann u1\nann u2\nbob u1\n", UNKEYED),
            ("1 ann u1\n0 ann u2\n0 bob u1", TRIALS),
            (
                "modelid\tsegment\tside\ttargettype\nann\tu1\ta\ttarget\nann\tu2\ta\tnontarget\n"
                "bob\tu1\ta\tnontarget\n",
                TRIALS,
            ),
            ("modelid\tsegmentid\tside\nann\tu1\ta\nann\tu2\ta\nbob\tu1\ta\n", UNKEYED),
            ("modelid,segment\nann,u1\nann,u2\nbob,u1\n", UNKEYED),
        ],
        ids=[
            *("tsv", "tsv blind", "kaldi", "sitw", "kaldi blind", "voxceleb", "nist key", "nist ndx"),
            "nist comma",
        ],
    )
    def test_the_form_is_told_by_the_first_line(self, listed, text, trials):
        assert read_trials(listed(text)) == trials

    def test_official_lines_of_voxceleb(self, listed):
        lines = (
            "1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav\n"
            "0 id10270/x6uYqmx31kE/00001.wav id10300/ize_eiCFEg0/00003.wav\n"
        )
        model = "id10270/x6uYqmx31kE/00001.wav"
        assert read_trials(listed(lines)) == [
            Trial(model, "id10270/8jEAjG6SegY/00008.wav", True),
            Trial(model, "id10300/ize_eiCFEg0/00003.wav", False),
        ]

    def test_nist_sides_and_columns_to_leave_alone(self, listed):
        table = (
            "num_enroll\tmodelid\tsegment\tside\ttargettype\tphone\n"
            "3\tm\ts.sph\tb\ttarget\tY\n1\tm\ts.sph\tA\tnontarget\tN\n"
        )
        assert read_trials(listed(table)) == [Trial("m", "s.sph:b", True), Trial("m", "s.sph", False)]
        table = "ModelID,segment,channel,targettype,y1\n12,tabc,a,target,Y\n"
        assert read_trials(listed(table)) == [Trial("12", "tabc", True)]

    def test_index_files_from_before_2016(self, listed):
        assert read_trials(listed("1234 m data/tabc.sph:A\n1235 f data/tabc.sph:B\n")) == [
            Trial("1234", "data/tabc.sph:A"),
            Trial("1235", "data/tabc.sph:B"),
        ]
        assert read_trials(listed("1234 tabc:A\n"), form="nist") == [Trial("1234", "tabc:A")]

    def test_a_form_given_is_taken_at_its_word(self, listed):
        path = listed("1 m target\n")  # of both forms: a test called "target", or a model called "1"
        assert read_trials(path) == [Trial("1", "m", True)]
        assert read_trials(path, form="voxceleb") == [Trial("m", "target", True)]

    def test_windows_line_ends_a_mark_and_empty_lines(self, listed):
        path = listed("\ufeff\r\nann u1 target\r\n\r\nann u2 nontarget\r\nbob u1 nontarget\r\n \r\n")
        assert read_trials(path) == TRIALS

    def test_only_line_feeds_end_lines_and_only_blanks_part_fields(self, listed):
        # str.split() and splitlines() would cut at these.
        assert read_trials(listed("a\u2028b c\u00a0d target\n")) == [Trial("a\u2028b", "c\u00a0d", True)]


class TestWhatIsWrong:
    def test_all_bad_lines_are_named_at_once(self, listed):
        path = listed("ann u1 target\nann u2\nbob u1 traget\n\nbob u2 x y\nbob u3 nontarget\n")
        with pytest.raises(FormatError) as caught:
            read_trials(path)
        words = "'target' or 'nontarget' or 'tgt' or 'tar' or 'imp'"
        assert str(caught.value).split("\n  ") == [
            f"{path}: line 2: has 2 columns; expected 3, as in the first line: 'ann u2'",
            f"line 3: the key is 'traget'; it must be {words}",
            "line 5: has 4 columns; expected 3, as in the first line: 'bob u2 x y'",
        ]

    def test_a_cut_last_line_is_no_blind_trial(self, listed):
        with pytest.raises(FormatError, match="line 2: has 2 columns; expected 3"):
            read_trials(listed("ann u1 target\nann u2"))

    @pytest.mark.parametrize(
        ("text", "form", "message"),
        [
            ("2 a b\n1 a c\n", "voxceleb", "line 1: the key is '2'; it must be '1' or '0'"),
            ("a b\n", "voxceleb", "line 1: has 2 columns; expected 3"),
            ("model\ttest\tkey\nm\t\ttarget\n", "auto", "line 2: `test` of a trial is ''; it must be text"),
            ("model\ttest\tkey\nm\tt\tyes\n", "auto", "line 2: the key is 'yes'; it must be 'target' or 'nontarget'"),
            ("model\ttest\tanswer\n", "auto", "line 1: the header is .*; it must be model, test and key with tabs"),
            ("a\tb\ttarget\n", "tsv", "line 1: the header is .*; it must be model, test and key with tabs"),
            ("modelid\tside\nm\ta\n", "auto", "line 1: the header is .*must have the columns modelid and segment"),
            ("modelid\tsegment\tsegmentid\n", "auto", "line 1: the header is .*, and none twice"),
            ("modelid\tsegment\tside\tchannel\n", "auto", "line 1: the header is .*, and none twice"),
            ("modelid\tsegment\tside\nm\ts\tc\n", "auto", "line 2: the side is 'c'; it must be 'a' or 'b'"),
            ("modelid\tsegment\tside\nm\ts\n", "auto", "line 2: has 2 columns; expected 3"),
            ("m s\n", "nist", "line 1: the header is 'm s'"),
            ("model\ttest\n", "auto", "lists no trials below the header"),
            ("", "auto", "lists no trials$"),
            ("\n \n", "auto", "lists no trials$"),
            ("<html>\n", "auto", r"line 1: '<html>' is of no form of trials known: model<tab>test<tab>key with"),
            ("a b c d\n" + "x" * 500, "kaldi", "line 2: has 1 columns; expected 3, as in the first line: 'x{80}'$"),
            ("a b maybe\n", "auto", "line 1: 'a b maybe' is of no form of trials known"),
        ],
    )  # fmt: skip
    def test_messages(self, listed, text, form, message):
        with pytest.raises(FormatError, match=message):
            read_trials(listed(text), form=form)

    def test_a_trial_that_comes_twice(self, listed):
        path = listed("a x target\nb x nontarget\na x target\nb x nontarget\n")
        with pytest.raises(
            FormatError, match=r"line 3: repeats line 1: the trial of 'a' and 'x'\n  line 4: .*2"
        ):
            read_trials(path)
        assert read_trials(path, allow_repeats=True) == [Trial("a", "x", True), Trial("b", "x", False)] * 2

    @pytest.mark.parametrize("allow_repeats", [False, True])
    def test_a_trial_that_contradicts_another(self, listed, allow_repeats):
        path = listed("1 a x\n1 a y\n0 a x\n")
        message = "line 3: contradicts line 1: the trial of 'a' and 'x' is a target in one of them only"
        with pytest.raises(FormatError, match=message):
            read_trials(path, allow_repeats=allow_repeats)

    def test_lines_are_named_in_their_order(self, listed):
        with pytest.raises(FormatError, match=r"(?s)line 2: repeats.*line 3: has 1 columns.*line 4: repeats"):
            read_trials(listed("a x target\na x target\nb\na x target\n"))

    def test_files_and_forms_that_are_not_there(self, tmp_path, listed):
        with pytest.raises(InputError, match=r"none\.txt: cannot be read"):
            read_trials(tmp_path / "none.txt")
        with pytest.raises(InputError, match="`form` is 'csv'; it must be one of tsv, kaldi, voxceleb, nist"):
            read_trials(listed("a b target\n"), form="csv")
        (tmp_path / "bytes").write_bytes(b"a \xff target\n")
        with pytest.raises(FormatError, match="byte 2 is not UTF-8 text"):
            read_trials(tmp_path / "bytes")


class TestWriting:
    @pytest.mark.parametrize(
        ("form", "text"),
        [
            ("tsv", "model\ttest\tkey\nann\tu1\ttarget\nann\tu2\tnontarget\nbob\tu1\tnontarget\n"),
            ("kaldi", "ann u1 target\nann u2 nontarget\nbob u1 nontarget\n"),
            ("voxceleb", "1 ann u1\n0 ann u2\n0 bob u1\n"),
            (
                "nist",
                "modelid\tsegment\tside\ttargettype\nann\tu1\ta\ttarget\nann\tu2\ta\tnontarget\n"
                "bob\tu1\ta\tnontarget\n",
            ),
        ],
    )
    def test_what_is_written(self, tmp_path, form, text):
        write_trials(TRIALS, tmp_path / "t", form=form)
        assert (tmp_path / "t").read_bytes().decode() == text

    @pytest.mark.parametrize(
        ("form", "text"),
        [
            ("tsv", "model\ttest\nann\tu1\nann\tu2\nbob\tu1\n"),
            ("kaldi", "ann u1\nann u2\nbob u1\n"),
            ("nist", "modelid\tsegment\tside\nann\tu1\ta\nann\tu2\ta\nbob\tu1\ta\n"),
        ],
    )
    def test_without_keys(self, tmp_path, form, text):
        write_trials(UNKEYED, tmp_path / "t", form=form)
        assert (tmp_path / "t").read_bytes().decode() == text

    @pytest.mark.parametrize("form", FORMS)
    @given(data=st.data())
    @settings(max_examples=40)
    def test_what_is_written_is_read_again(self, tmp_path_factory, form, data):
        spaces = "" if form in ("kaldi", "voxceleb") else " "
        letters = "ab1:/._-\"',;|é\u2028\u00a0\u3000" + spaces
        # Rows of blanks alone are empty lines.
        ids = st.text(letters, min_size=1, max_size=6).filter(lambda name: name.strip(" ") != "")
        keyed = form == "voxceleb" or data.draw(st.booleans())
        pairs = data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=8, unique=True))
        trials = [Trial(*pair, data.draw(st.booleans()) if keyed else None) for pair in pairs]
        path = tmp_path_factory.mktemp("lists") / "t"
        write_trials(trials, path, form=form)
        assert read_trials(path, form=form) == trials

    def test_side_b_is_written_as_a_side(self, tmp_path):
        write_trials([Trial("m", "s:b"), Trial("m", ":b"), Trial("m", "s:a")], tmp_path / "t", form="nist")
        lines = (tmp_path / "t").read_text().splitlines()[1:]
        assert lines == ["m\ts\tb", "m\t:b\ta", "m\ts:a\ta"]

    @pytest.mark.parametrize("form", ["kaldi", "voxceleb"])
    def test_ids_with_spaces_need_tabs(self, tmp_path, form):
        with pytest.raises(
            InputError, match=f"the form '{form}' cannot hold ids with spaces; use 'tsv': 'a b'"
        ):
            write_trials([Trial("a b", "u", True)], tmp_path / "t", form=form)

    @pytest.mark.parametrize(
        ("trials", "form", "message"),
        [
            ([], "tsv", "no trials to write"),
            (TRIALS, "csv", "`form` is 'csv'; it must be one of"),
            (TRIALS, "auto", "`form` is 'auto'; it must be one of"),
            (UNKEYED, "voxceleb", "the form 'voxceleb' needs `is_target` of every trial"),
            ([*TRIALS, Trial("c", "u")], "tsv", "1 of 4 trials have no `is_target`, such as that of 'c' and 'u'"),
            ([*TRIALS, *TRIALS], "tsv", "trial 4 repeats trial 1: the trial of 'ann' and 'u1'; in all 3 such"),
            ([Trial("a", "u", True), Trial("a", "u", False)], "tsv", "trial 2 contradicts trial 1"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_written(self, tmp_path, trials, form, message):
        with pytest.raises(InputError, match=message):
            write_trials(trials, tmp_path / "t", form=form)
        assert list(tmp_path.iterdir()) == []

    def test_repeats_where_they_are_allowed(self, tmp_path):
        write_trials([*TRIALS, *TRIALS], tmp_path / "t", allow_repeats=True)
        assert read_trials(tmp_path / "t", allow_repeats=True) == [*TRIALS, *TRIALS]

    def test_a_write_that_fails_leaves_the_old_list(self, tmp_path, monkeypatch):
        write_trials(TRIALS, tmp_path / "t")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"t: cannot be written \(No space left on device\)"):
            write_trials(TRIALS[:1], tmp_path / "t")
        assert [path.name for path in tmp_path.iterdir()] == ["t"]
        assert read_trials(tmp_path / "t") == TRIALS


class TestCheck:
    def test_ids_that_are_there(self):
        check_trials(TRIALS, ["bob", "ann", "eve"], ["u2", "u1"])

    def test_unknown_ids_are_listed(self):
        with pytest.raises(InputError) as caught:
            check_trials(TRIALS, ["ann"], ["u3"])
        assert str(caught.value) == (
            "1 of 2 models of the trials are not among the 1 there are: 'bob'; "
            "2 of 2 test utterances of the trials are not among the 1 there are: 'u1', 'u2'"
        )

    def test_the_usual_cause_is_named(self):
        with pytest.raises(
            InputError, match=r"'a/1.wav' \(with or without the suffix, such as .wav, some would"
        ):
            check_trials([Trial("m", "a/1.wav")], ["m"], ["a/1"])
        with pytest.raises(InputError, match=r"'a/1' \(with or without the suffix"):
            check_trials([Trial("m", "a/1")], ["m"], ["a/1.wav"])


class TestIndex:
    def test_numbers_stand_for_sorted_ids_and_keep_the_order(self):
        trials = [Trial("b", "z", True), Trial("a", "z", False), Trial("b", "y", False)]
        index = TrialIndex.from_trials(trials)
        assert (index.models, index.tests) == (("a", "b"), ("y", "z"))
        assert index.model_numbers.tolist() == [1, 0, 1]
        assert index.test_numbers.tolist() == [1, 1, 0]
        assert index.is_target.tolist() == [True, False, False]
        assert (index.model_numbers.dtype, index.is_target.dtype) == (np.intp, np.bool_)

    def test_rows_that_are_given(self):
        index = TrialIndex.from_trials(UNKEYED, models=["eve", "bob", "ann"], tests=["u2", "u1"])
        assert index.models == ("eve", "bob", "ann")
        assert index.model_numbers.tolist() == [2, 2, 1]
        assert index.test_numbers.tolist() == [1, 0, 1]
        assert index.is_target is None

    def test_what_cannot_be_numbered(self):
        with pytest.raises(InputError, match="there are no trials"):
            TrialIndex.from_trials([])
        with pytest.raises(
            InputError, match="1 of 2 models of the trials are not among the 1 there are: 'bob'"
        ):
            TrialIndex.from_trials(TRIALS, models=["ann"])
        with pytest.raises(InputError, match="`tests` names 'u1' more than once"):
            TrialIndex.from_trials(TRIALS, tests=["u1", "u2", "u1"])
        with pytest.raises(InputError, match="1 of 3 trials have no `is_target`"):
            TrialIndex.from_trials([*TRIALS[:2], UNKEYED[2]])
