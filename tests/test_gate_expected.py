"""``expected-changes.toml``: which regressions an entry accepts, which entries are stale, which are none."""

from dataclasses import replace
from pathlib import Path

import pytest
from measured import TEST, measured, row

from qnn.errors import GateError
from qnn.gate.expected import ExpectedChange, accept, read
from qnn.gate.verdict import Change, Verdict, compare
from qnn.results import Row, Status

ENTRY = ExpectedChange(release="1.6.1", metric="lut", cell="A3W3", reason="a register more")
OLD = {"lut": 1000, "dsp": 1000, "ff": 500}
NEW = {"lut": 2000, "dsp": 2000, "ff": 500}


def changes_of(before: Row, after: Row, *entries: ExpectedChange) -> tuple[list[Change], list[ExpectedChange]]:
    old, new = measured(before, finn="1.5.0"), measured(after)
    return accept(compare(old, new), entries, old, new)


def accepted(
    *entries: ExpectedChange, old: str = "1.5.0", new: str = "1.6.1"
) -> tuple[list[Verdict], list[ExpectedChange]]:
    before, after = measured(row(dict(OLD)), finn=old), measured(row(dict(NEW)), finn=new)
    changes, stale = accept(compare(before, after), entries, before, after)
    return [change.verdict for change in changes], stale


MIXED = [Verdict.ACCEPTED, Verdict.REGRESSED]
NEITHER = [Verdict.REGRESSED, Verdict.REGRESSED]


def test_an_accepted_regression_no_longer_fails_and_others_do() -> None:
    assert accepted(ENTRY) == (MIXED, [])


def test_a_change_that_came_on_the_way_and_one_of_a_checkout_are_accepted() -> None:
    assert accepted(replace(ENTRY, release="1.6.0")) == (MIXED, [])
    assert accepted(replace(ENTRY, release="0+0123456789ab"), new="0+0123456789ab") == (MIXED, [])


def test_an_entry_is_about_the_test_that_it_names() -> None:
    assert accepted(replace(ENTRY, test="fits_the_part")) == (MIXED, [])
    assert accepted(replace(ENTRY, test="test_throughput")) == (NEITHER, [])


def test_an_entry_that_fits_nothing_is_stale() -> None:
    gone = replace(ENTRY, metric="ff")
    assert accepted(ENTRY, gone) == (MIXED, [gone])


def test_of_two_entries_that_fit_none_is_stale() -> None:
    assert accepted(ENTRY, replace(ENTRY, cell="")) == (MIXED, [])


def test_entries_of_other_releases_and_of_what_was_not_measured_are_left_alone() -> None:
    assert accepted(ENTRY, new="1.6.0") == (NEITHER, [])
    assert accepted(ENTRY, old="1.6.1", new="1.7.0") == (NEITHER, [])
    assert accepted(ENTRY, old="1.6.1", new="0+0123456789ab") == (NEITHER, [])
    assert accepted(replace(ENTRY, cell="A8W8")) == (NEITHER, [])
    assert accepted(replace(ENTRY, metric="latency_cycles")) == (NEITHER, [])
    assert accepted(replace(ENTRY, metric="vanished_node")) == (NEITHER, []), "no nodes were measured"
    assert accepted(replace(ENTRY, metric="status", test="test_throughput")) == (NEITHER, [])


def test_an_entry_for_a_test_that_holds_is_stale() -> None:
    status = replace(ENTRY, metric="status", test="fits_the_part")
    assert accepted(status) == (NEITHER, [status])


def test_an_entry_for_a_figure_of_a_test_that_broke_off_is_not_stale() -> None:
    status = replace(ENTRY, metric="status")
    (change,), stale = changes_of(row(dict(OLD)), row(dict(NEW), status=Status.FAILED), status, ENTRY)
    assert (change.verdict, stale) == (Verdict.ACCEPTED, [])


def test_a_figure_that_is_worse_than_the_accepted_one_fails_and_says_what_was_accepted() -> None:
    assert accepted(replace(ENTRY, new=2000)) == (MIXED, [])
    assert accepted(replace(ENTRY, new=2500)) == (MIXED, [])
    bounded = replace(ENTRY, new=1999)
    assert accepted(bounded) == (NEITHER, []), "it still applies"
    assert accepted(bounded, ENTRY) == (MIXED, []), "the other one has no bound"
    (lut, _dsp), _ = changes_of(row(dict(OLD)), row(dict(NEW)), bounded)
    assert lut.why == "worse than 1999, which is accepted (a register more)"


def test_a_status_that_is_another_than_the_accepted_one_fails() -> None:
    entry = replace(ENTRY, metric="status", test=TEST, new="skipped")
    (change,), stale = changes_of(row({}), row({}, status=Status.SKIPPED), entry)
    assert (change.verdict, stale) == (Verdict.ACCEPTED, [])
    (change,), stale = changes_of(row({}), row({}, status=Status.FAILED, reason="images differ"), entry)
    assert (change.verdict, stale) == (Verdict.REGRESSED, [])
    assert change.why == "worse than skipped, which is accepted (a register more)\nimages differ"


def test_no_node_may_be_worse_than_what_was_accepted() -> None:
    def fifos(*depths: int) -> Row:
        return row({}, layers=[{"name": f"StreamingFIFO_rtl_{k}", "fifo_depth": d} for k, d in enumerate(depths)])

    entry = replace(ENTRY, metric="fifo_depth", new=8)
    (change,), _ = changes_of(fifos(2, 2), fifos(8, 8), entry)
    assert change.verdict is Verdict.ACCEPTED
    (change,), _ = changes_of(fifos(2, 2), fifos(8, 16), entry)
    assert change.verdict is Verdict.REGRESSED


# --------------------------------------------------------------------------------------------------------- the file

WRITTEN = '[[change]]\nrelease = "1.6.1"\nmetric = "lut"\ncell = "A3W3"\nreason = "a register more"\n'


def test_the_file_of_accepted_changes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "expected-changes.toml"
    path.write_text(WRITTEN)
    assert read(path) == (ENTRY,)
    path.write_text(f'{WRITTEN}test = "fits_the_part"\nnew = 9100\n')
    assert read(path) == (replace(ENTRY, test="fits_the_part", new=9100),)


def test_the_default_file_may_be_absent_and_a_named_one_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(None) == ()
    with pytest.raises(GateError, match=r"expected-changes\.toml, the accepted changes, cannot be read: No such file"):
        read(Path("expected-changes.toml"))
    Path("expected-changes.toml").write_text(WRITTEN)
    assert read(None) == (ENTRY,)


NEEDED = '[[change]]\nrelease = "1.6.1"\nmetric = "lut"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[change", "is no TOML"),
        (WRITTEN.replace("[[change]]", "[[changes]]"), r"has changes where each accepted change begins with \[\[chan"),
        (f'title = "x"\n{WRITTEN}', "has title where each accepted change begins"),
        (WRITTEN.replace("[[change]]", "[change]"), "has change where each accepted change begins"),
        ("change = 5", "has change where each accepted change begins"),
        ("change = [5]", "change 1 is no table"),
        (NEEDED, "change 1: it takes release, metric, reason, cell, test and new"),
        (f'{NEEDED}reason = "x"\nnode = "MVAU_rtl_0"\n', "change 1: it takes .* it has release, metric, reason, node"),
        (f'{NEEDED}reason = ""\n', "change 1: every field but new is a text"),
        ('[[change]]\nrelease = 1.6\nmetric = "lut"\nreason = "x"\n', "change 1: every field but new is a text"),
        (f'{NEEDED}reason = "x"\nnew = [1, 2]\n', r"change 1: new is a figure or a text, not \[1, 2\]"),
    ],
)
def test_a_damaged_file_of_accepted_changes_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "expected-changes.toml"
    path.write_text(text)
    with pytest.raises(GateError, match=message):
        read(path)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "expected-changes.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(GateError, match="is no TOML"):
        read(path)
