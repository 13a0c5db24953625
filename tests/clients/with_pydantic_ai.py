"""Pydantic AI's agents."""

from contextlib import suppress

import openai
from checks import (
    AGAIN,
    KEY,
    MODEL,
    PLAIN,
    QUESTION,
    TOO_LONG,
    TOOLS,
    WEATHER_QUESTION,
    Weather,
    check,
    get_weather,
    main,
    refused,
)
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput, UsageLimits, capture_run_messages
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(url=PLAIN, max_tokens=12, model=MODEL, key=KEY, **more):
    client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)
    settings = {"max_tokens": max_tokens, "temperature": 0, **more.pop("settings", {})}
    return Agent(
        OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client)),
        model_settings=settings,
        retries=0,
        **more,
    )


@check
def one_chat():
    assert agent(instructions="Be brief.").run_sync(QUESTION).output


@check
def second_turn():
    first = agent().run_sync(QUESTION)
    assert agent().run_sync(AGAIN, message_history=first.all_messages()).output


@check
async def stream():
    async with agent().run_stream(QUESTION) as answer:
        assert "".join([text async for text in answer.stream_text(delta=True)])
    assert answer.usage.output_tokens > 0


@check
def output_by_schema():
    assert isinstance(
        agent(max_tokens=60, output_type=NativeOutput(Weather)).run_sync(WEATHER_QUESTION).output, Weather
    )


@check
def output_by_prompt():
    """The server owes an object; that it has the schema's keys is left to the model, which is small."""
    with suppress(UnexpectedModelBehavior):
        agent(max_tokens=100, output_type=PromptedOutput(Weather)).run_sync(WEATHER_QUESTION)


@check
def output_by_tool():
    assert isinstance(agent(TOOLS, 60, output_type=ToolOutput(Weather)).run_sync(WEATHER_QUESTION).output, Weather)


@check
async def output_by_tool_streamed():
    async with agent(TOOLS, 60, output_type=Weather).run_stream(WEATHER_QUESTION) as answer:
        assert isinstance(await answer.get_output(), Weather)


@check
def function_tool():
    """A tool is called because one must be, and its result goes back; whether the model ends then is its own."""
    asking = agent(TOOLS, 60, output_type=Weather, tools=[get_weather])
    with capture_run_messages() as messages, suppress(UsageLimitExceeded):
        asking.run_sync(WEATHER_QUESTION, usage_limits=UsageLimits(request_limit=2))
    calls = [part for message in messages for part in message.parts if isinstance(part, ToolCallPart)]
    assert {call.tool_name for call in calls} <= {"get_weather", "final_result"}
    assert calls


@check
def tools_without_a_template_for_them_are_refused():
    error = refused(ModelHTTPError, lambda: agent(tools=[get_weather]).run_sync(WEATHER_QUESTION))
    assert error.status_code == 400
    assert "template" in error.body["message"], error.body


@check
def errors():
    for code, asking, text in (
        ("model_not_found", agent(model="gpt-4o"), QUESTION),
        ("context_length_exceeded", agent(), TOO_LONG),
        ("invalid_api_key", agent(key="no-such-key-at-all"), QUESTION),
    ):
        error = refused(ModelHTTPError, lambda asking=asking, text=text: asking.run_sync(text))
        assert error.body["code"] == code, error.body


if __name__ == "__main__":
    main()
