"""Where the command `tasktrail`, also `python -m tasktrail`, begins."""

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from .cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # the command is still being loaded; later ones are caught in `run`
        code = 130
    try:
        sys.stderr.flush()
    except OSError:  # nobody can be told; Python would try again at its end, and leave with 120 instead
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
