"""The entry point of the command `tasktrail`, also of `python -m tasktrail`."""

import os
import signal
import sys
from contextlib import suppress
from io import TextIOWrapper
from types import FrameType

_REFUSED = 1
_INTERRUPTED = 130
_SOON = 0.01
"""Seconds until a signal that was dropped in a callback is raised again."""


def main() -> None:
    """Run the command line. Exit with its code, or die of the signal that has ended it."""
    _speak_utf8()
    _open_closed_streams()
    _print_whatever_comes()
    came = _heed_like_ctrl_c()
    _repeat_dropped_signals(came)
    try:
        from .cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # the command is still being loaded; later ones are caught in `run`
        code = _INTERRUPTED
    except OSError:  # the command cannot be loaded, or standard error does not take its complaint
        with suppress(OSError):
            sys.excepthook(*sys.exc_info())
        code = _REFUSED
    if came and code == _INTERRUPTED:
        _die_of(came[0])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # told if it can be; Python would flush again at its end, fail, and exit with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout:  # a lost message changes no result
                code = code or _REFUSED
    sys.exit(code)


def _speak_utf8() -> None:
    """Begin again in UTF-8 mode if Python reads arguments and names of files in another encoding.

    In ASCII `für` could be neither recorded nor printed. In Latin-1 its bytes would be recorded as another text, and as
    the name of another file than a service in UTF-8 opens. Python does the same by itself in the locale C, unless
    PYTHONUTF8=0 forbids it. Workers inherit the variable.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1" and sys.executable:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this program itself


def _heed_like_ctrl_c() -> list[int]:
    """Let SIGTERM and SIGHUP end a command in good order, as Ctrl-C does: else half a backup would stay for ever.

    Returns the list in which the handler puts each signal that has come.
    """
    came: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
    return came


def _repeat_dropped_signals(came: list[int]) -> None:
    """Raise a signal again whose `KeyboardInterrupt` was dropped, so that a service that starts is not deaf to it.

    Python drops what is raised in `__del__` or in a callback of a weak reference, and every import runs such code.
    """
    before = sys.unraisablehook

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _SOON)  # not at once: here it would be dropped again
        else:
            before(args)

    signal.signal(signal.SIGALRM, lambda _number, _frame: signal.raise_signal(came[-1] if came else signal.SIGINT))
    sys.unraisablehook = unraisable


def _die_of(number: int) -> None:
    """Die of the signal, so that its sender sees that it was obeyed: systemd takes an exit code for a failure."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _open_closed_streams() -> None:
    """Connect closed standard streams (`2>&-`) to /dev/null. Else the next opened file gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)


def _print_whatever_comes() -> None:
    r"""Write what standard output cannot take (PYTHONIOENCODING) as `\uXXXX`, as standard error does by itself."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
