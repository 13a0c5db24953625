"""The port that a server listens on."""

from __future__ import annotations

import socket

import pytest

from components.errors import BusyError
from components.runtime.sockets import listen, require_free_port, url_of
from tests.conftest import free_port


def test_accepted_connections_send_small_writes_at_once():
    port = free_port()
    with listen("127.0.0.1", port, "--port") as bound, socket.create_connection(("127.0.0.1", port)):
        accepted, _ = bound.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_of_another_machine_names_the_flag():
    with pytest.raises(BusyError, match=r"cannot listen on 192\.0\.2\.1:80 .*; choose another address with --host"):
        listen("192.0.2.1", 80, "--port")


def test_an_ipv6_address_is_bracketed():
    assert url_of("::1", 8080) == "http://[::1]:8080"


def test_a_port_in_use_names_the_flag_for_another():
    port = free_port()
    with (
        listen("127.0.0.1", port, "--chat-port"),
        pytest.raises(BusyError, match=f"cannot listen on 127.0.0.1:{port} .*; choose another port with --chat-port"),
    ):
        require_free_port("127.0.0.1", port, "--chat-port")


def test_a_free_port_stays_free():
    port = free_port()
    require_free_port("127.0.0.1", port, "--port")
    listen("127.0.0.1", port, "--port").close()


def test_a_name_or_an_ipv4_address_is_not_bracketed():
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert url_of("example.org", 8080) == "http://example.org:8080"
