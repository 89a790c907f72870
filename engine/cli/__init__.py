"""The command line: parse, call, print."""

from __future__ import annotations

import sys


def start() -> int:
    """What the installed script calls: Ctrl-C while the command is still being loaded ends it without a traceback."""
    try:
        from engine.cli.main import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130
