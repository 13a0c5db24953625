"""API keys: read from a file, named by their lines."""

from __future__ import annotations

import pytest

from components.errors import LorryError
from components.model_server.http.api_keys import ApiKeys

KEYS = ["a" * 24, "b" * 24]


def test_a_key_is_known_by_a_name_that_is_not_the_key(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# the team's\n{KEYS[0]}\n\n{KEYS[1]}\n")
    keys = ApiKeys.from_file(path)
    assert len(keys) == 2
    assert keys.name_of(f"Bearer {KEYS[0]}".encode()) == "key-2"
    assert keys.name_of(f"bearer {KEYS[1]}".encode()) == "key-4"
    for wrong in ("", KEYS[0], f"Basic {KEYS[0]}", "Bearer ", f"Bearer {KEYS[0]}x", "Bearer \xff", "Bearer \ud800"):
        assert keys.name_of(wrong.encode(errors="surrogatepass")) is None
    assert ApiKeys({}).name_of(b"") == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing\n", "holds no API key; write one a line, or serve without the file"),
        ("short\n", "the key of line 1 has fewer than 16 characters; make one: openssl rand -hex 24"),
        (
            "# ours\nключ-из-букв-не-латинских\n",
            "the key of line 2 has characters that clients cannot send in a header",
        ),
        ("a-key\twith-a-tab-in-it\n", "the key of line 1 has characters that clients cannot send in a header"),
        (None, r"the API keys cannot be read \(.*\); give a file with one key a line"),
    ],
)
def test_a_file_without_good_keys_is_refused(tmp_path, content, message):
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LorryError, match=message):
        ApiKeys.from_file(path)
