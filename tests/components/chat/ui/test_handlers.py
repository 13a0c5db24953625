"""What handlers of events share."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import gradio as gr
import pytest

from components.chat.ui.handlers import in_thread, user_of
from components.errors import DataError


def test_a_request_has_the_name_of_its_user_or_is_refused():
    assert user_of(gr.Request(username="ann")) == "ann"
    with pytest.raises(gr.Error, match="load it again"):
        user_of(gr.Request(username=None))


def test_work_for_the_disk_runs_in_another_thread():
    assert asyncio.run(in_thread(threading.get_ident)) != threading.get_ident()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("not there any more"), "^'not there any more'$"),
        (sqlite3.OperationalError("locked"), "fails: locked"),
    ],
)
def test_errors_of_data_and_database_are_shown_to_the_user(error, message):
    def fail(_: str) -> None:
        raise error

    with pytest.raises(gr.Error, match=message):
        asyncio.run(in_thread(fail, "argument"))
    with pytest.raises(KeyError):
        asyncio.run(in_thread({}.__getitem__, "bug"))
