"""Text from data and specs cannot command a terminal, a browser or a merge request."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.report import clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://evil.test\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("\x1b]0;unfinished", ""),
        ("a\x1bcb", "ab"),
        ("a\r\nb\tc", "a  b c"),
        ("bell\x07 back\x08space \x7f\x85", "bell backspace  "),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("half \ud83d", "half \ufffd"),
        ("not a character \uffff", "not a character \ufffd"),
        ("käse 猫 🛫", "käse 猫 🛫"),
    ],
)
def test_a_terminal_is_given_words_and_no_commands(text: str, shown: str) -> None:
    assert clean.terminal(text) == shown


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean.terminal(text)
    assert clean.terminal(once) == once
    assert once.encode().decode() == once
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in once)


def test_lines_stay_apart_and_are_clean() -> None:
    assert clean.lines("a\x1b[2J\r\nb\tc\n") == ("a", "b   c")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<script>", "&lt;script&gt;"),
        ("&lt;", "&amp;lt;"),
        ("*bold* _it_ `code`", r"\*bold\* \_it\_ \`code\`"),
        ("roc_auc", "roc_auc"),
        ("[a](javascript:x)", r"\[a\](javascript:x)"),
        ("@team", "@<!-- -->team"),
        ("#12", "#<!-- -->12"),
        ("https://evil.test www.evil.test", r"https\://evil.test www\.evil.test"),
        ("a\n# heading", "a #<!-- --> heading"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, shown: str) -> None:
    assert clean.markdown(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "`plain`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a|b", r"`a\|b`"), ("", ""), (" \x1b[0m", "")],
)
def test_a_code_span_cannot_be_left(text: str, shown: str) -> None:
    assert clean.code(text) == shown


def test_a_code_block_cannot_be_left() -> None:
    assert clean.fenced("a\n````\nb").splitlines() == ["`````text", "a", "````", "b", "`````"]
