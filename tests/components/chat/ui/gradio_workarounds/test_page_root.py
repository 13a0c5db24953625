"""The page's root comes from the browser's address."""

from __future__ import annotations

import pytest
from gradio.routes import templates

from components.chat.ui.gradio_workarounds.page_root import ADDRESS_IN_BROWSER, take_root_from_browser


@pytest.fixture
def environment(monkeypatch):
    """Gradio's templates, which are restored afterwards."""
    monkeypatch.setattr(templates.env, "loader", templates.env.loader)
    monkeypatch.setattr(templates.env, "filters", dict(templates.env.filters))
    monkeypatch.setattr(templates.env, "cache", None)
    take_root_from_browser()
    return templates.env


def test_the_root_in_gradios_configuration_is_a_script_and_other_values_are_json(environment):
    to_script = environment.filters["toorjson"]
    text = str(to_script({"root": "http://wrong/", "title": "a </script>"}))
    assert f'"root":{ADDRESS_IN_BROWSER},' in text
    assert "wrong" not in text
    assert "</script>" not in text
    assert to_script("http://wrong/") == ADDRESS_IN_BROWSER
    assert to_script({"title": "x"}) == '{"title":"x"}'


def test_no_template_requests_the_manifest_at_the_hosts_root(environment):
    source, *_ = environment.loader.get_source(environment, "frontend/index.html")
    assert '"./manifest.json"' in source
    assert '"/manifest.json"' not in source
