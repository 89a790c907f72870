"""Text from data, specs and users, made harmless for the place where it is shown."""

from __future__ import annotations

import re
import unicodedata

SEQUENCES = re.compile(
    r"""
    (?:\x1b\]|\x9d) [^\x07\x1b\x9c\n]* (?:\x07|\x1b\\|\x9c)?           # OSC: window titles, links
  | (?:\x1b[PX^_]|[\x90\x98\x9e\x9f]) [^\x1b\x9c\n]* (?:\x1b\\|\x9c)? # DCS, SOS, PM, APC
  | (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]?                             # CSI: colours, moving the cursor
  | \x1b [ -/]* [0-~]?                                               # every other escape
    """,
    re.VERBOSE,
)
"""Control sequences of ECMA-48, in their 7-bit and 8-bit forms; an unfinished one reaches to the line's end."""

REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that make text read in another order than it is stored (https://trojansource.codes)."""

REPLACEMENT = "\ufffd"
PUNCTUATION = re.compile(r"([\\`*\[\]~$|]|(?<![^\W_])_|_(?![^\W_]))")
"""What starts markup anywhere, and underscores that are not inside a word."""

BREAKING = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@<!-- -->", "#": "#<!-- -->"}
"""What could open a tag, or call a person or an issue by name."""


def terminal(text: str) -> str:
    """``text`` on one line, without anything that a terminal obeys, an XML parser refuses or UTF-8 lacks."""
    if text.isascii() and text.isprintable():
        return text
    bare = SEQUENCES.sub("", text)
    return "".join(visible(character) for character in bare)


def lines(text: str) -> tuple[str, ...]:
    """The lines of ``text``, each as :func:`terminal` gives it."""
    return tuple(terminal(line.expandtabs(4)) for line in SEQUENCES.sub("", text).splitlines())


def visible(character: str) -> str:
    """``character``, a space for one that breaks the line, U+FFFD for half of one, nothing for a control."""
    if character in "\t\n\r\v\f\u2028\u2029\x85":
        return " "
    category = unicodedata.category(character)
    if category == "Cs" or ord(character) & 0xFFFE == 0xFFFE:
        return REPLACEMENT
    return "" if category == "Cc" or character in REORDERING else character


def markdown(text: str) -> str:
    """``text`` as GitHub flavoured Markdown that shows exactly it, in a paragraph or in a table's cell.

    Nothing in it becomes markup, a link, a mention of somebody or a reference to an issue.
    """
    marked = markup(PUNCTUATION.sub(r"\\\1", terminal(text)))
    return marked.replace("://", r"\://").replace("www.", r"www\.")


def markup(text: str) -> str:
    """``text`` for the HTML inside Markdown, where punctuation is plain but tags and mentions still work."""
    return "".join(BREAKING.get(character, character) for character in terminal(text))


def code(text: str) -> str:
    """``text`` as a code span, which may stand in a table's cell. Empty text gives an empty string."""
    shown = terminal(text).strip()
    if not shown:
        return ""
    fence = "`" * (longest_run(shown) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}".replace("|", "\\|")


def fenced(text: str) -> str:
    """The lines of ``text`` as a code block that they cannot end."""
    body = "\n".join(lines(text))
    fence = "`" * max(3, longest_run(body) + 1)
    return f"{fence}text\n{body}\n{fence}"


def longest_run(text: str) -> int:
    """The length of the longest run of backticks in ``text``."""
    return max((len(run) for run in re.findall("`+", text)), default=0)
