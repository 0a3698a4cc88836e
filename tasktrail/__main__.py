"""Where the command `tasktrail`, also `python -m tasktrail`, begins."""

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    _open_what_is_closed()
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


def _open_what_is_closed() -> None:
    """Lead standard streams that are closed (`2>&-`) nowhere. Else the next file that is opened gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)


if __name__ == "__main__":
    main()
