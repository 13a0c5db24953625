"""`lorry pin`: images and model written into an overlay."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.publish_model.config import PublishConfig
from components.publish_model.publish import publish
from pipelines.graph.images import load_settings, reference
from tests.conftest import run_lorry
from tests.manifests.rendering import render

SHA256 = "ab" * 32


def served(overlay: Path, name: str = "model-server") -> tuple[str, str]:
    """Image and model of a Deployment as it would be applied."""
    (pod,) = [
        found["spec"]["template"]
        for found in render(overlay)
        if found["kind"] == "Deployment" and found["metadata"]["name"] == name
    ]
    return pod["spec"]["containers"][0]["image"], pod["metadata"]["annotations"]["lorry/model-sha256"]


def test_the_overlay_serves_what_was_pinned(overlay):
    done = run_lorry("pin", overlay, "--model", SHA256)
    assert done.returncode == 0, done.stderr
    assert f"model-server: the model {SHA256}" in done.stdout
    assert served(overlay) == (reference("model-server", load_settings()), SHA256)


def test_images_are_pinned_before_there_is_a_model(overlay):
    done = run_lorry("pin", overlay)
    assert done.returncode == 0, done.stderr
    assert "model-server: no model yet: pin one with --model or --store" in done.stdout
    assert served(overlay) == (reference("model-server", load_settings()), "0" * 64)


def test_new_images_leave_the_model_as_it_was(overlay):
    run_lorry("pin", overlay, "--model", SHA256)
    done = run_lorry("pin", overlay, LORRY_REGISTRY="registry.example/team")
    assert done.returncode == 0, done.stderr
    image, model = served(overlay)
    assert image.startswith("registry.example/team/model-server:")
    assert model == SHA256


def test_the_newest_model_of_a_store_is_pinned(overlay, tiny_run, tmp_path):
    store = str(tmp_path / "store")
    config = PublishConfig(store=store)
    sha256 = publish(config, model_path=str(tiny_run.model.parent), recipe="tiny").sha256
    assert run_lorry("pin", overlay, "--store", store).returncode == 0
    assert served(overlay)[1] == sha256
    done = run_lorry("pin", overlay, "--store", store, "--model", sha256[:12])
    assert f"model-server: the model {sha256}\n" in done.stdout
    done = run_lorry("pin", overlay, "--store", store, "--model", "abcdef")
    assert done.stderr.startswith(f"error: --model abcdef: no model begins so; {store} holds {sha256}")


def test_a_store_without_a_model_pins_the_images_and_says_that_the_model_comes_later(overlay, tmp_path):
    (tmp_path / "store").mkdir()
    done = run_lorry("pin", overlay, LORRY_STORE=str(tmp_path / "store"))
    assert done.returncode == 0, done.stderr
    told = f"model-server: {tmp_path / 'store'} has no model yet; pin again after the first run that publishes there"
    assert told in done.stdout
    assert served(overlay) == (reference("model-server", load_settings()), "0" * 64)
    run_lorry("pin", overlay, "--model", SHA256)
    kept = run_lorry("pin", overlay, "--store", tmp_path / "store")
    assert f"has no model yet; the overlay keeps the model {SHA256}; pin again" in kept.stdout


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (
            "pvc://lorry-store/team",
            "is a volume that only pods read; after a run: kubectl exec store-shell -- cat "
            "/volumes/lorry-store/team/models/current.json, and pin again with --model SHA256",
        ),
        ("/nowhere/store", "has no model yet; pin again after the first run that publishes there"),
    ],
)
def test_a_store_that_cannot_be_asked_yet_pins_the_images(overlay, store, told):
    done = run_lorry("pin", overlay, LORRY_STORE=store)
    assert done.returncode == 0, done.stderr
    assert f"model-server: {store} {told}" in done.stdout
    assert served(overlay) == (reference("model-server", load_settings()), "0" * 64)


def test_a_second_server_has_a_model_of_its_own(overlay):
    path = overlay / "kustomization.yaml"
    path.write_text(path.read_text().replace("components:\n", "  - ../../components/second-model\ncomponents:\n"))
    assert run_lorry("pin", overlay, "--model", SHA256).returncode == 0
    done = run_lorry("pin", overlay, "--server", "model-server-second", "--model", "cd" * 32)
    assert done.returncode == 0, done.stderr
    assert served(overlay)[1] == SHA256
    assert served(overlay, "model-server-second")[1] == "cd" * 32


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model", SHA256, "--server", "../evil"), "--server ../evil: not the name of a Deployment"),
        (
            ("--model", SHA256, "--server", "modle-server"),
            "has no Deployment 'modle-server', but chat, model-server",
        ),
        (
            ("--model", SHA256, "--store", "pvc://lorry-store/team"),
            "--store pvc://lorry-store/team: only pods read that volume (claim lorry-store); leave --store out",
        ),
        (("--model", "abc"), "--model abc: not a sha256 (64 hexadecimal digits)"),
        (("--model", SHA256, "--store", "STORE"), f"no model {SHA256}; it holds no model yet"),
    ],
)
def test_what_cannot_be_pinned_says_why_and_changes_nothing(overlay, tmp_path, flags, message):
    before = (overlay / "pinned" / "kustomization.yaml").read_text()
    (tmp_path / "store").mkdir()
    done = run_lorry("pin", overlay, *(str(tmp_path / "store") if flag == "STORE" else flag for flag in flags))
    assert done.returncode == 1
    assert message in done.stderr
    assert (overlay / "pinned" / "kustomization.yaml").read_text() == before


def test_a_folder_that_is_no_overlay_is_refused(tmp_path):
    done = run_lorry("pin", tmp_path, "--model", SHA256)
    assert f"error: {tmp_path}/pinned: no such folder; copy it from manifests/overlays/local" in done.stderr
