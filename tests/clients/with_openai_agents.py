"""OpenAI's agents package over chat completions."""

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    StopAtTools,
    function_tool,
    set_tracing_disabled,
)
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

set_tracing_disabled(True)
weather_tool = function_tool(get_weather)


def agent(url=PLAIN, max_tokens=12, model=MODEL, key=KEY, tool_choice=None, **more):
    client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)
    settings = ModelSettings(max_tokens=max_tokens, temperature=0, tool_choice=tool_choice, include_usage=True)
    chats = OpenAIChatCompletionsModel(model=model, openai_client=client)
    return Agent("a", instructions="Be brief.", model=chats, model_settings=settings, **more)


@check
def one_chat():
    assert Runner.run_sync(agent(), QUESTION).final_output


@check
def second_turn():
    first = Runner.run_sync(agent(), QUESTION)
    assert Runner.run_sync(agent(), [*first.to_input_list(), {"role": "user", "content": AGAIN}]).final_output


@check
async def stream():
    running = Runner.run_streamed(agent(), QUESTION)
    kinds = [event.type async for event in running.stream_events()]
    assert "raw_response_event" in kinds
    assert running.final_output


@check
def output_by_schema():
    assert isinstance(
        Runner.run_sync(agent(max_tokens=60, output_type=Weather), WEATHER_QUESTION).final_output, Weather
    )


@check
def function_tool_required():
    asking = agent(TOOLS, 60, tool_choice="required", tools=[weather_tool], tool_use_behavior="stop_on_first_tool")
    assert Runner.run_sync(asking, WEATHER_QUESTION).final_output.startswith("12 degrees")


@check
async def function_tool_streamed():
    stop = StopAtTools(stop_at_tool_names=["get_weather"])
    asking = agent(TOOLS, 60, tool_choice="get_weather", tools=[weather_tool], tool_use_behavior=stop)
    running = Runner.run_streamed(asking, WEATHER_QUESTION)
    async for _ in running.stream_events():
        pass
    assert running.final_output.startswith("12 degrees")


@check
def tool_result_comes_back():
    asking = agent(TOOLS, 60, tool_choice="required", tools=[weather_tool], tool_use_behavior="stop_on_first_tool")
    first = Runner.run_sync(asking, WEATHER_QUESTION)
    second = agent(TOOLS, 12, tool_choice="none", tools=[weather_tool])
    assert Runner.run_sync(second, [*first.to_input_list(), {"role": "user", "content": AGAIN}]).final_output


@check
def tools_without_a_template_for_them_are_refused():
    asking = agent(tools=[weather_tool])
    error = refused(openai.BadRequestError, lambda: Runner.run_sync(asking, WEATHER_QUESTION))
    assert "template" in error.body["message"], error.body


@check
def errors():
    for kind, code, asking, text in (
        (openai.NotFoundError, "model_not_found", agent(model="gpt-4o"), QUESTION),
        (openai.BadRequestError, "context_length_exceeded", agent(), TOO_LONG),
        (openai.AuthenticationError, "invalid_api_key", agent(key="no-such-key-at-all"), QUESTION),
    ):
        error = refused(kind, lambda asking=asking, text=text: Runner.run_sync(asking, text))
        assert error.code == code, error.body


if __name__ == "__main__":
    main()
