"""Listening sockets, with an error that says what to do where the port is in use."""

from __future__ import annotations

import errno
import socket

from components.errors import BusyError

# Connections that may wait to be accepted: many at once should get a 429 each, not a reset.
BACKLOG = 2048


def listen(host: str, port: int, flag: str) -> socket.socket:
    """A socket that listens on ``host:port``; ``flag`` is the option by which the user chooses another port.

    Raises:
        BusyError: the port is in use, or the address does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it. Without it, a second small write waits up to 40 ms for the acknowledgement of the
    # first; asyncio sets it only where the socket names its protocol.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        bound.bind((host, port))
        # With SO_REUSEADDR two sockets may bind to a port, but only one may listen.
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        other = "address with --host" if error.errno == errno.EADDRNOTAVAIL else f"port with {flag}"
        raise BusyError(f"cannot listen on {host}:{port} ({error.strerror}); choose another {other}") from error
    return bound


def url_of(host: str, port: int) -> str:
    """The HTTP address of a host and port, with an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def require_free_port(host: str, port: int, flag: str) -> None:
    """Check that ``listen`` would succeed now.

    Raises:
        BusyError: it would not.
    """
    listen(host, port, flag).close()
