"""SIGTERM and SIGHUP as Ctrl-C."""

from __future__ import annotations

import os
import signal

import pytest

from components.runtime.interrupts import SIGNALS, interrupt_on_sigterm


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_an_interrupt_within_the_context_and_the_old_handler_returns(number):
    came: list[int] = []
    previous = signal.signal(number, lambda received, _: came.append(received))
    try:
        with pytest.raises(KeyboardInterrupt), interrupt_on_sigterm():
            os.kill(os.getpid(), number)
        assert came == []
        os.kill(os.getpid(), number)
        assert came == [number]
    finally:
        signal.signal(number, previous)


def test_a_signal_that_nohup_ignores_stays_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt_on_sigterm():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_contexts_may_be_nested():
    before = signal.getsignal(signal.SIGTERM)
    with interrupt_on_sigterm():
        with pytest.raises(KeyboardInterrupt), interrupt_on_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
