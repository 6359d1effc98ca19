"""`microscope` and `python -m microscope`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; the exit code."""
    # Inductor and other libraries start `sys.executable -c CODE`; in a frozen app that is
    # this program, which must not open its window again.
    if sys.argv[1:2] == ["-c"] and getattr(sys, "frozen", False):
        return 2
    from microscope.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
