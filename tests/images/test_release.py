"""`make images RELEASE=1`: what is in each image is written, and a key of cosign signs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from images import build, sbom
from pipelines.graph.images import load_settings, reference

DIGEST = "sha256:" + "ab" * 32
ENGINE = """
echo "$(basename $0) $*" >> {log}
case "$1 $*" in
  inspect*--format*) echo {repository}@{digest};;
  inspect*) exit 1;;
  push*) while [ $# -gt 0 ]; do [ "$1" = --digestfile ] && echo {digest} > "$2"; shift; done;;
  run*) echo "libc6 2.36-9 amd64";;
esac
"""


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """What docker, podman and cosign were asked, a line each."""
    monkeypatch.setattr(sbom, "FOLDER", tmp_path / "sbom")
    monkeypatch.setattr(build, "CONTEXTS", tmp_path / "contexts")
    monkeypatch.setenv("LORRY_REGISTRY", "registry.example/lorry")
    monkeypatch.setenv("LORRY_BASE_IMAGE", f"debian@{DIGEST}")
    monkeypatch.delenv("COSIGN_KEY", raising=False)
    found = tmp_path / "log"
    found.touch()
    text = ENGINE.format(log=found, repository="registry.example/lorry/chat", digest=DIGEST)
    for name in ("docker", "podman", "cosign"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return found


def make(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["build", *arguments, "chat"])
    build.main()


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        make(monkeypatch, *arguments)
    return str(caught.value)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_pushed_release_is_signed_by_digest_with_what_is_in_it(log, monkeypatch, engine, tmp_path):
    monkeypatch.setenv("COSIGN_KEY", "release.key")
    make(monkeypatch, "--release", "--push", "--engine", engine)
    image = reference("chat", load_settings())
    (written,) = (tmp_path / "sbom").iterdir()
    assert "libc6" in {one["name"] for one in json.loads(written.read_text())["components"]}
    lines = log.read_text().splitlines()
    assert any(line.startswith(f"{engine} push") and line.endswith(image) for line in lines)
    by_digest = f"registry.example/lorry/chat@{DIGEST}"
    assert lines[-2:] == [
        f"cosign sign --yes --key release.key {by_digest}",
        f"cosign attest --yes --key release.key --type cyclonedx --predicate {written} {by_digest}",
    ]


def test_without_a_key_nothing_is_signed(log, monkeypatch, tmp_path, capsys):
    make(monkeypatch, "--release", "--engine", "docker")
    (written,) = (tmp_path / "sbom").iterdir()
    assert f"what is in it: {written}" in capsys.readouterr().out
    assert "cosign" not in log.read_text()


def test_a_build_that_is_no_release_writes_no_document(log, monkeypatch, tmp_path):
    make(monkeypatch, "--engine", "docker")
    assert not (tmp_path / "sbom").exists()


def test_a_key_without_cosign_is_refused_before_anything_is_built(log, monkeypatch, tmp_path):
    (tmp_path / "bin" / "cosign").unlink()
    monkeypatch.setenv("COSIGN_KEY", "release.key")
    message = refused(monkeypatch, "--release", "--push", "--engine", "docker")
    assert message.startswith("error: COSIGN_KEY is set, and cosign is not on this machine; install it (https://")
    assert log.read_text() == ""


def test_a_signature_needs_the_registry(log, monkeypatch):
    monkeypatch.setenv("COSIGN_KEY", "release.key")
    message = refused(monkeypatch, "--release", "--engine", "docker")
    assert message == "error: COSIGN_KEY is set: a signature lies beside the image in its registry; add PUSH=1"
    assert log.read_text() == ""


def test_a_failed_signature_ends_the_release(log, monkeypatch, tmp_path):
    (tmp_path / "bin" / "cosign").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("COSIGN_KEY", "release.key")
    message = refused(monkeypatch, "--release", "--push", "--engine", "docker")
    assert message == f"error: registry.example/lorry/chat@{DIGEST}: cosign sign failed; its own words stand above"
