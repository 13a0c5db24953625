"""smolagents: its model, and agents of both kinds."""

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
    check,
    get_weather,
    main,
    refused,
)
from smolagents import ActionStep, ChatMessage, OpenAIModel, ToolCallingAgent, tool

get_weather.__doc__ = """The weather of a city.

Args:
    city: the city
    unit: the unit
"""
weather_tool = tool(get_weather)


def model(url=PLAIN, max_tokens=12, model_id=MODEL, key=KEY):
    return OpenAIModel(
        model_id=model_id, api_base=url, api_key=key, max_tokens=max_tokens, temperature=0,
        client_kwargs={"max_retries": 0, "timeout": 60},
    )  # fmt: skip


def user(text):
    return ChatMessage(role="user", content=[{"type": "text", "text": text}])


@check
def one_chat():
    assert model().generate([user(QUESTION)]).content


@check
def second_turn():
    assert model().generate([user(QUESTION), model().generate([user(QUESTION)]), user(AGAIN)]).content


@check
def stream():
    assert "".join(delta.content or "" for delta in model().generate_stream([user(QUESTION)]))


@check
def stop_sequences():
    assert model().generate([user(QUESTION)], stop_sequences=["Observation:", "Calling tools:", "</code>"]).content


@check
def json_schema():
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert '"a"' in model(max_tokens=40).generate([user("A or B?")], response_format=asked).content


@check
def tool_required():
    answer = model(TOOLS, 60).generate([user(WEATHER_QUESTION)], tools_to_call_from=[weather_tool])
    (call,) = model(TOOLS).parse_tool_calls(answer).tool_calls
    assert call.function.name == "get_weather"
    assert set(call.function.arguments) == {"city", "unit"}, call


@check
def tool_calling_agent():
    """Its first step calls a tool; which one, and how it goes on, is the model's own."""
    agent = ToolCallingAgent(tools=[weather_tool], model=model(TOOLS, 200), max_steps=1, verbosity_level=0)
    agent.prompt_templates["system_prompt"] = "Use the tools."  # its own has 1,500 tokens
    agent.run(WEATHER_QUESTION)
    first = next(step for step in agent.memory.steps if isinstance(step, ActionStep))
    assert first.tool_calls, first


@check
def tools_without_a_template_for_them_are_refused():
    error = refused(
        openai.BadRequestError,
        lambda: model().generate([user(WEATHER_QUESTION)], tools_to_call_from=[weather_tool]),
    )
    assert "template" in error.body["message"], error.body


@check
def errors():
    for kind, code, asking, text in (
        (openai.NotFoundError, "model_not_found", model(model_id="gpt-4o"), QUESTION),
        (openai.BadRequestError, "context_length_exceeded", model(), TOO_LONG),
        (openai.AuthenticationError, "invalid_api_key", model(key="no-such-key-at-all"), QUESTION),
    ):
        error = refused(kind, lambda asking=asking, text=text: asking.generate([user(text)]))
        assert error.code == code, error.body


if __name__ == "__main__":
    main()
