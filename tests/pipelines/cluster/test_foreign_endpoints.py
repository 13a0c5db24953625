"""Endpoints that are not Kubeflow, or do not let in: one line that has what was found."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.errors import ClusterError
from pipelines.cluster.kubeflow import Kubeflow
from tests.conftest import run_lorry
from tests.pipelines.cluster.kubeflow_stand_in import RUN_ID, StandIn, kubeflow

LOGIN = b"<!doctype html><html><head><title>Log in\n to Dex</title></head><body>\xe9</body></html>"
NO_USER = b'{"error": "Internal error: Request header error: there is no user identity header.", "code": 13}'
# An endpoint that is not Kubeflow: status, content type, body; and what the error has of it.
ENDPOINTS: dict[str, tuple[int, str, bytes, str]] = {
    "a web page": (200, "text/html", b"<html><body id=root></body></html>", "(it sent a web page)"),
    "a login page": (200, "text/html; charset=iso-8859-1", LOGIN, "(it sent a web page, 'Log in to Dex')"),
    "a page in another encoding": (200, "text/html", LOGIN, "(it sent a web page, 'Log in to Dex')"),
    "an unknown encoding": (200, "text/plain; charset=klingon", b"tlh", "(it sent 'tlh')"),
    "nothing": (200, "application/json", b"", "(it sent nothing)"),
    "an empty object": (200, "application/json", b"{}", "(it sent '{}')"),
    "null": (200, "application/json", b"null", "(it sent 'null')"),
    "a number": (200, "application/json", b"7", "(it sent '7')"),
    "a list": (200, "application/json", b'["experiments", "run_id"]', "set KFP_TOKEN, or correct --endpoint (it sent"),
    "other types": (200, "application/json", b'{"experiments": 7, "run_id": [], "state": 1}', "(it sent"),
    "empty experiments": (200, "application/json", b'{"experiments": [null], "run_id": null}', "(it sent"),
    "a time that is none": (
        200, "application/json", b'{"experiments": [{"created_at": "soon"}], "created_at": "soon"}', "(it sent",
    ),
    "no token": (401, "application/json", b'{"error": "Unauthenticated: token expired"}', "401: Unauthenticated"),
    "a login page with its status": (401, "text/html", LOGIN, "refuses the token (401: Log in to Dex); set"),
    "no right": (403, "text/plain", b"RBAC: access denied", "the token (403: RBAC: access denied); set KFP_TOKEN"),
    "no user": (500, "application/json", NO_USER, "give the address of its gateway as --endpoint"),
    "no such page": (404, "text/plain", b"default backend - 404", "404: default backend - 404; is that Kubeflow?"),
    "no such method": (405, "text/html", b"<html>no</html>", "answers 405: Method Not Allowed; is that Kubeflow?"),
    "nothing behind a proxy": (503, "text/plain", b"no healthy\nupstream", "503: no healthy upstream; Kubeflow"),
    "a bug": (500, "application/octet-stream", b"\xff\xfe", "answers 500: Internal Server Error; its own"),
}  # fmt: skip


@contextmanager
def fixed_answer(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """A server that answers the same to everything; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield address


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(endpoint: str) -> list[ClusterError]:
    """What the first question of each command of a cluster ends with."""
    there = Kubeflow(endpoint, None, None)
    found = []
    for ask in (
        lambda: there.experiment_id("lorry"),
        lambda: there.run(RUN_ID),
        lambda: there.terminate(RUN_ID),
        lambda: there.runs(20),
        lambda: there.runs(20, with_id=RUN_ID),
        there.schedules,
    ):
        with pytest.raises(ClusterError) as raised:
            ask()
        found.append(raised.value)
    return found


@pytest.mark.parametrize("name", ENDPOINTS)
def test_what_is_not_kubeflow_is_said_in_one_line_with_what_was_found(name):
    status, content_type, body, said = ENDPOINTS[name]
    with fixed_answer(status, {"Content-Type": content_type}, body) as address:
        errors = asked(f"http://{address}")
    for error in errors:
        assert str(error).startswith(f"http://{address}: ")
        assert said in str(error)
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("kind", ["a web page", "no user", "nothing behind a proxy"])
def test_every_command_ends_at_once_where_kubeflow_is_not(kind, recipe, bucket, tmp_path):
    status, content_type, body, said = ENDPOINTS[kind]
    with fixed_answer(status, {"Content-Type": content_type}, body) as address:
        at = ["--endpoint", f"http://{address}"]
        commands = [
            run_lorry("submit", recipe, *at, "--workdir", tmp_path / "work"),
            run_lorry("runs", "follow", RUN_ID, *at, "--workdir", tmp_path / "work"),
            run_lorry("runs", "retry", RUN_ID, *at),
            run_lorry("runs", "list", *at),
            run_lorry("schedules", "list", *at),
        ]
    for done in commands:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"error: http://{address}: ")
        assert said in done.stderr


def test_a_redirect_says_where_it_leads():
    with fixed_answer(302, {"Location": "/dex/auth?client_id=secret"}, b"") as address:
        for error in asked(f"http://{address}"):
            assert "leads to a login page; set KFP_TOKEN to a valid token (it redirects to /dex/auth)" in str(error)
    with fixed_answer(308, {"Location": "https://127.0.0.1/pipeline/apis/v2beta1/runs"}, b"") as address:
        for error in asked(f"http://{address}"):
            assert str(error).endswith("has moved to https://127.0.0.1/pipeline; give that as --endpoint")


def test_another_protocol_is_said_as_such(caplog):
    class Greeting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            self.request.recv(1000)

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeting)) as address:
        for error in asked(f"http://{address}"):
            assert "speaks no HTTP (" in str(error)
        for error in asked(f"https://{address}"):
            assert "speaks no TLS (" in str(error)
    assert caplog.messages == []


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that no list of authorities has, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubeflow")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime.now(UTC) - timedelta(days=1))
    builder = builder.not_valid_after(datetime.now(UTC) + timedelta(days=1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(here, critical=False).sign(key, hashes.SHA256())
    (folder / "own.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (folder / "own.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return folder / "own.pem", folder / "own.key"


def test_a_certificate_of_an_unknown_authority_says_which_variable_names_it(tmp_path, monkeypatch):
    certificate, key = own_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with kubeflow(StandIn(), tls) as server:
        for error in asked(server.url):
            assert "its certificate is not trusted (" in str(error)
            assert "set SSL_CERT_FILE to a file with its authority's certificate" in str(error)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Kubeflow(server.url, None, None).experiment_id("lorry") == "experiment-lorry"


@pytest.mark.parametrize(
    "endpoint",
    ["", "127.0.0.1:8081", "ftp://kubeflow", "http://", "http://:80", "http://a b", "http://a:99999", "http://[::1",
     "http://kubeflow/#/runs", "https://kubeflow/pipeline/?ns=mine"],
)  # fmt: skip
def test_what_is_no_address_of_a_server_is_refused_before_it_is_asked(endpoint):
    with pytest.raises(ClusterError, match=r"^--endpoint .*(not an address|the address of a page); .*$"):
        Kubeflow(endpoint, None, None)
