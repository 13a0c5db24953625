"""A model's own defaults within the bounds of the page's sliders."""

from __future__ import annotations

from components.artifacts.contracts import GenerationDefaults
from components.chat.client.settings import Settings


def test_a_models_defaults_are_clamped_to_the_sliders():
    own = Settings.from_defaults(GenerationDefaults(temperature=0.6, top_p=0.01, max_tokens=5000, top_k=3))
    assert own == Settings(temperature=0.6, top_p=0.05, max_tokens=2048)
    assert Settings.from_defaults(GenerationDefaults(max_tokens=1)) == Settings(max_tokens=16)


def test_what_a_model_leaves_out_is_the_pages_default():
    assert Settings.from_defaults(GenerationDefaults()) == Settings()
    assert Settings.from_defaults(GenerationDefaults(top_p=0.9)) == Settings(top_p=0.9)
