"""Simon Willison's ``llm``, as its command line is used."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import AGAIN, KEY, MODEL, PLAIN, QUESTION, TOOLS, WEATHER_QUESTION, Weather, check, main

FOLDER = tempfile.TemporaryDirectory(prefix="llm-")
FUNCTIONS = """
def get_weather(city: str) -> str:
    "The weather of a city."
    return "12 degrees in " + city
"""


def entry(name, url, model=MODEL):
    return {
        "model_id": name, "model_name": model, "api_base": url, "api_key_name": "lorry",
        "supports_schema": True, "supports_tools": True,
    }  # fmt: skip


def settings():
    """llm's folder; YAML takes JSON."""
    folder = Path(FOLDER.name)
    models = [entry("plain", PLAIN), entry("tools", TOOLS), entry("other", PLAIN, "gpt-4o")]
    (folder / "extra-openai-models.yaml").write_text(json.dumps(models))
    (folder / "keys.json").write_text(json.dumps({"lorry": KEY}))
    return {**os.environ, "LLM_USER_PATH": FOLDER.name, "PYTHONWARNINGS": "ignore"}


def run(model, *arguments, max_tokens=12):
    command = [sys.executable, "-m", "llm", "-m", model, "-o", "max_tokens", str(max_tokens), "-o", "temperature", "0"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=settings(), timeout=90)


def llm(*arguments, **more):
    """What the command prints when it ends well."""
    done = run(*arguments, **more)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def refused(*arguments):
    """The error output of a failed command."""
    done = run(*arguments)
    assert done.returncode == 1, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stderr


@check
def stream_and_second_turn():
    assert llm("plain", "--system", "Be brief.", QUESTION).strip()
    assert llm("plain", "--no-stream", "--continue", AGAIN).strip()


@check
def json_schema():
    schema = json.dumps(Weather.model_json_schema())
    Weather.model_validate_json(llm("plain", "--schema", schema, WEATHER_QUESTION, max_tokens=60))


@check
def functions():
    """Whether and how often one is called is left to the model, which is small."""
    done = run("tools", "--functions", FUNCTIONS, "--chain-limit", "2", WEATHER_QUESTION, max_tokens=40)
    assert done.returncode == 0 or "Chain limit" in done.stderr, f"{done.stdout}{done.stderr}"


@check
def tools_without_a_template_for_them_are_refused():
    assert "template" in refused("plain", "--functions", FUNCTIONS, WEATHER_QUESTION)


@check
def another_model_is_not_found():
    assert "gpt-4o" in refused("other", QUESTION)


if __name__ == "__main__":
    main()
