"""Phone sets, what is known of their phones, and the maps between them."""

from collections import Counter

import pytest

from speechgmm.errors import InputError
from speechgmm.phones.phone_sets import PhoneSet, map_phones, phone_map, phone_set, stressless

NAMES = ("arpabet_stress", "arpabet", "timit61", "timit48", "timit39")


def folded_together(source, target):
    """The phones of each group that the map makes one, as "aa ao"."""
    together = {}
    for phone, new in phone_map(source, target).items():
        together.setdefault(new or "dropped", []).append(phone)
    return {new: " ".join(sorted(group)) for new, group in together.items() if group != [new]}


def groups(text):
    """The same from "aa: aa ao; l: el l"."""
    return dict(group.split(": ") for group in text.split("; "))


@pytest.mark.parametrize(
    ("name", "n_phones", "silences"),
    [
        ("timit61", 61, {"h#", "pau", "epi"}),
        ("timit48", 48, {"sil", "epi"}),
        ("timit39", 39, {"sil"}),
        ("arpabet", 40, {"SIL"}),
        ("arpabet_stress", 24 + 3 * 15 + 1, {"SIL"}),
    ],
)
def test_sets_have_the_phones_that_their_names_promise(name, n_phones, silences):
    found = phone_set(name)
    assert (found.name, len(found.phones)) == (name, n_phones)
    assert set(found.silences) == silences
    assert len(found.speech) == n_phones - len(silences)
    assert not set(found.speech) & silences


def test_timits_phones_fold_as_lee_and_hon_say():
    # Their groups, written out from the paper's table; Kaldi's and SpeechBrain's tables of TIMIT say the same.
    assert folded_together("timit61", "timit48") == groups(
        "ax: ax ax-h; er: axr er; hh: hh hv; m: em m; n: n nx; ng: eng ng; uw: uw ux; "
        "cl: kcl pcl tcl; vcl: bcl dcl gcl; sil: h# pau; dropped: q"
    )
    assert folded_together("timit48", "timit39") == groups(
        "aa: aa ao; ah: ah ax; ih: ih ix; l: el l; n: en n; sh: sh zh; sil: cl epi sil vcl"
    )
    assert folded_together("timit61", "timit39") == groups(
        "aa: aa ao; ah: ah ax ax-h; er: axr er; hh: hh hv; ih: ih ix; l: el l; m: em m; n: en n nx; ng: eng ng; "
        "sh: sh zh; uw: uw ux; sil: bcl dcl epi gcl h# kcl pau pcl tcl; dropped: q"
    )


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_a_map_goes_from_all_of_one_set_to_all_of_another(source, target):
    if NAMES.index(source) > NAMES.index(target):
        message = (
            f"phone set '{source}' does not fold into '{target}'; each of arpabet_stress, arpabet, .* folds"
        )
        with pytest.raises(InputError, match=message):
            phone_map(source, target)
        return
    mapping = phone_map(source, target)
    assert set(mapping) == set(phone_set(source).phones)
    reached = set(mapping.values()) - {None}
    assert reached <= set(phone_set(target).phones)
    if source.startswith("timit") == target.startswith("timit"):
        assert reached == set(phone_set(target).phones)


def test_maps_keep_silence_and_speech_apart():
    for source in NAMES:
        for target in NAMES[NAMES.index(source) :]:
            mapping = phone_map(source, target)
            for phone in phone_set(source).silences:
                assert mapping[phone] in phone_set(target).silences


@pytest.mark.parametrize("name", NAMES)
def test_every_phone_has_a_class_and_vowels_are_voiced(name):
    found = phone_set(name)
    assert set(found.manner) == set(found.phones)
    for phone, manner in found.manner.items():
        if manner in ("vowel", "diphthong", "approximant", "nasal", "flap") and phone != "ax-h":
            assert phone in found.voiced
        if manner == "silence":
            assert phone not in found.voiced
    assert set(found.speech) - set(found.ipa) <= {"cl", "vcl"}
    # Two phones with one sign would be one phone.
    repeated = [sign for sign, count in Counter(found.ipa.values()).items() if count > 1]
    assert not repeated or name == "arpabet_stress"


def test_classes_of_arpabet():
    found = phone_set("arpabet")
    by_class = {}
    for phone in sorted(found.phones):
        by_class.setdefault(found.manner[phone], []).append(phone)
    assert {manner: " ".join(phones) for manner, phones in by_class.items()} == {
        "vowel": "AA AE AH AO EH ER IH IY UH UW",
        "diphthong": "AW AY EY OW OY",
        "approximant": "L R W Y",
        "nasal": "M N NG",
        "stop": "B D G K P T",
        "fricative": "DH F HH S SH TH V Z ZH",
        "affricate": "CH JH",
        "silence": "SIL",
    }
    assert sorted(set(found.speech) - found.voiced) == ["CH", "F", "HH", "K", "P", "S", "SH", "T", "TH"]
    assert (found.ipa["TH"], found.ipa["JH"], found.ipa["OY"]) == ("θ", "dʒ", "ɔɪ")


def test_stress_changes_the_sign_of_two_vowels_only():
    stressed, plain = phone_set("arpabet_stress"), phone_set("arpabet")
    differing = {p for p in stressed.ipa if stressed.ipa[p] != plain.ipa[stressless(p)]}
    assert differing == {"AH0", "ER0"}


@pytest.mark.parametrize(
    ("phone", "bare"), [("AH0", "AH"), ("OY2", "OY"), ("AH", "AH"), ("h#", "h#"), ("AH3", "AH3"), ("2", "2")]
)
def test_stress_is_taken_off_where_there_is_one(phone, bare):
    assert stressless(phone) == bare


def test_mapping_phones_drops_some_and_keeps_the_order():
    phones = ["h#", "q", "ao", "pcl", "p", "h#"]
    assert map_phones(phones, phone_map("timit61", "timit39")) == ["sil", "aa", "sil", "p", "sil"]
    assert map_phones([], {}) == []


@pytest.mark.parametrize(
    ("phones", "source", "message"),
    [
        (["x2", "aa", "x1"], "timit39", r"^unknown phones 'x1', 'x2'; known are 'aa', 'ae', .*'z'$"),
        (["AA"], "timit39", r"unknown phones 'AA' \(upper and lower case differ\); known"),
        (["AA1"], "arpabet", r"unknown phones 'AA1' \(with the stress taken off they would be\); known"),
    ],
)
def test_unknown_phones_are_listed_with_the_likely_cause(phones, source, message):
    with pytest.raises(InputError, match=message):
        map_phones(phones, phone_map(source, source))


def test_a_set_that_is_not_there_is_named():
    for call in (lambda: phone_set("timit"), lambda: phone_map("timit", "timit39")):
        with pytest.raises(
            InputError, match=r"^no phone set 'timit'; there are 'arpabet', 'arpabet_stress', 'ti"
        ):
            call()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phones": ("a", "b", "a")}, r"phone set 'own' has 'a' more than once"),
        ({"silences": ("c",)}, r"phone set 'own': `silences` names 'c', not among its phones"),
        ({"voiced": frozenset("z")}, r"`voiced` names 'z', not among its phones"),
        ({"manner": {"a": "vowel"}}, r"`manner` has no class for 'b'"),
    ],
)
def test_a_set_of_ones_own_is_checked(fields, message):
    good = {"name": "own", "phones": ("a", "b"), "silences": (), "manner": {"a": "vowel", "b": "stop"}}
    assert PhoneSet(**good).speech == ("a", "b")
    with pytest.raises(InputError, match=message):
        PhoneSet(**{**good, **fields})
