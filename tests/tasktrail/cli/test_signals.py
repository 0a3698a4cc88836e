"""How the main thread of a command waits for signals and other wake-ups; and a signal that comes before it can wait."""

import os
import signal
import sys
import threading
from types import ModuleType

import pytest

from tasktrail.__main__ import main
from tasktrail.cli.progress import Signals


def test_signals_come_in_order_and_once() -> None:
    with Signals(signal.SIGHUP) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (signals.next(), signals.next(None), signals.next()) == (signal.SIGHUP, signal.SIGTERM, None)
        assert signals.last == signal.SIGTERM


def test_a_signal_that_the_system_gives_to_another_thread_ends_the_wait() -> None:
    """Python runs its handler in the main thread, which has to wake for it."""

    def hit_myself() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)

    with Signals(signal.SIGHUP) as signals:
        threading.Thread(target=hit_myself).start()
        assert signals.next(None) == signal.SIGHUP


def test_another_thread_ends_the_wait() -> None:
    with Signals() as signals:
        threading.Thread(target=signals.wake).start()
        assert signals.next(None) is None
        assert signals.next(0.01) is None
    signals.wake()  # no thread waits any more


def test_a_signal_that_is_not_asked_for_does_not_end_the_wait() -> None:
    heard = threading.Event()
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.set())
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert heard.wait(10)
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.next(None) == signal.SIGTERM
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_ctrl_c_that_the_shell_of_a_script_has_turned_off_stays_off() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.next(None) == signal.SIGTERM
    finally:
        signal.signal(signal.SIGINT, before)


def test_afterwards_all_is_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_ctrl_c_while_a_command_is_still_being_loaded_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "tasktrail.cli.app", Loading("tasktrail.cli.app"))
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
    assert capsys.readouterr() == ("", "")
