"""A bucket on this machine: moto's server speaks S3."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import httpx
from moto.server import ThreadedMotoServer

BUCKET = "lorry"


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server with one bucket, named by the environment for as long as the context lasts; gives its address."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    with mock.patch.dict(os.environ, environment):
        try:
            # All servers of one process share their state.
            httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            yield endpoint
        finally:
            server.stop()


class BreakingProxy:
    """Stands before an S3 server and closes its first ``breaks`` connections that carry a long answer in the middle.

    ``after_bytes`` says after how many bytes, one number a break; the last one stays.
    """

    def __init__(self, endpoint: str, breaks: int, *after_bytes: int) -> None:
        self.breaks = breaks
        self._after_bytes = list(after_bytes)
        self.ranges: list[str] = []
        self._target = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            threading.Thread(target=self._forward_requests, args=(client, server), daemon=True).start()
            passed = 0
            while content := server.recv(65536):
                passed += len(content)
                if passed > self._after_bytes[0] and self.breaks > 0:
                    self.breaks -= 1
                    client.sendall(content[: -(passed - self._after_bytes[0])])
                    self._after_bytes = self._after_bytes[1:] or self._after_bytes
                    break
                client.sendall(content)
            for end in (client, server):  # closing alone does not end a connection that another thread reads
                end.shutdown(socket.SHUT_RDWR)

    def _forward_requests(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while content := client.recv(65536):
                self.ranges += re.findall(r"(?im)^range: (.*?)\r$", content.decode("latin-1"))
                server.sendall(content)
        except OSError:
            return
