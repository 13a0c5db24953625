"""Taking a port, with an error that says what to do when it is taken."""

from __future__ import annotations

import errno
import socket

from components.errors import BusyError

# Connections that wait to be accepted: a crowd is to get its 429s, not a reset.
BACKLOG = 2048


def listen(host: str, port: int, flag: str) -> socket.socket:
    """A socket that listens on ``host:port``; ``flag`` is what the user sets for another port.

    Raises:
        BusyError: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it. Without it, a second small write waits up to 40 ms for the client to say that the
    # first one came; asyncio sees to it only where the socket names its protocol.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        bound.bind((host, port))
        # Only now is the port taken: with SO_REUSEADDR two may bind, one may listen.
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        other = "address with --host" if error.errno == errno.EADDRNOTAVAIL else f"port with {flag}"
        raise BusyError(f"cannot listen on {host}:{port} ({error.strerror}); choose another {other}") from error
    return bound


def url_of(host: str, port: int) -> str:
    """The HTTP address of a host and port; an IPv6 address goes into brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def require_free_port(host: str, port: int, flag: str) -> None:
    """Check that ``listen`` would work now.

    Raises:
        BusyError: it would not.
    """
    listen(host, port, flag).close()
