"""instructor, in each of its modes for a server of OpenAI's API."""

import json
from contextlib import suppress

import instructor
import openai
from checks import KEY, MODEL, PLAIN, TOOLS, WEATHER_QUESTION, Weather, check, main, refused
from instructor.exceptions import InstructorError, InstructorRetryException


def ask(mode, url=PLAIN, tell=None, **more):
    client = instructor.from_openai(openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=60), mode=mode)
    if tell is not None:
        client.on("completion:response", tell)
    return client.chat.completions.create(**{
        "model": MODEL, "messages": [{"role": "user", "content": WEATHER_QUESTION}], "response_model": Weather,
        "max_tokens": 100, "temperature": 0, "max_retries": 1, **more,
    })  # fmt: skip


@check
def tools():
    assert isinstance(ask(instructor.Mode.TOOLS, TOOLS), Weather)


@check
def tools_streamed():
    parts = list(ask(instructor.Mode.TOOLS, TOOLS, response_model=instructor.Partial[Weather], stream=True))
    Weather.model_validate(parts[-1].model_dump())


@check
def json_schema():
    assert isinstance(ask(instructor.Mode.JSON_SCHEMA), Weather)


@check
def json_mode():
    """The server owes an object; that it has the schema's keys is left to the model, which is small."""
    answers = []
    with suppress(InstructorError):
        ask(instructor.Mode.JSON, tell=answers.append)
    (choice,) = answers[0].choices
    assert choice.message.content.startswith("{"), choice
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict), choice


@check
def tools_without_a_template_for_them_are_refused():
    error = refused(InstructorRetryException, lambda: ask(instructor.Mode.TOOLS))
    assert "template" in str(error), error


@check
def errors():
    assert "model_not_found" in str(
        refused(InstructorRetryException, lambda: ask(instructor.Mode.JSON_SCHEMA, model="gpt-4o"))
    )


if __name__ == "__main__":
    main()
