"""LangChain's ChatOpenAI."""

import warnings
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
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

warnings.filterwarnings("ignore")


def client(url=PLAIN, max_tokens=12, **more):
    return ChatOpenAI(**{
        "model": MODEL, "base_url": url, "api_key": KEY, "max_tokens": max_tokens, "temperature": 0, "max_retries": 0,
        "timeout": 60, **more,
    })  # fmt: skip


weather_tool = tool(get_weather)


@check
def one_chat():
    assert client().invoke(QUESTION).content


@check
def second_turn():
    first = client().invoke([SystemMessage("Be brief."), HumanMessage(QUESTION)])
    assert client().invoke([SystemMessage("Be brief."), HumanMessage(QUESTION), first, HumanMessage(AGAIN)]).content


@check
def text_parts():
    assert client().invoke([HumanMessage([{"type": "text", "text": QUESTION}])]).content


@check
def stream():
    chunks = list(client().stream(QUESTION))
    assert len(chunks) > 2
    assert "".join(chunk.content for chunk in chunks)


@check
def stream_with_usage():
    total = None
    for chunk in client(stream_usage=True).stream(QUESTION):
        total = chunk if total is None else total + chunk
    assert total.usage_metadata["output_tokens"] > 0


@check
def stop_and_seed():
    assert "2" not in client(seed=7, model_kwargs={"user": "u"}).invoke("Count from one.", stop=["2", "\n\n\n"]).content


@check
def several_at_once():
    assert len(client(max_tokens=4).batch(["a", "b", "c"])) == 3


@check
def log_probabilities():
    answer = client(max_tokens=2).bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert len(answer.response_metadata["logprobs"]["content"]) == 2


@check
def structured_output_by_schema():
    answer = client(max_tokens=60).with_structured_output(Weather, method="json_schema").invoke(WEATHER_QUESTION)
    assert isinstance(answer, Weather)


@check
def structured_output_by_json_mode():
    """The server owes an object; how long it gets, and that it has the schema's keys, is left to the model."""
    asked = 'Answer with this JSON: {"city": "Paris", "degrees": 12}'
    asking = client(max_tokens=120).with_structured_output(Weather, method="json_mode", include_raw=True)
    with suppress(openai.LengthFinishReasonError):
        answer = asking.invoke(asked)
        assert answer["raw"].content.startswith("{"), answer


@check
def structured_output_by_tool():
    asking = client(TOOLS, 60).with_structured_output(Weather, method="function_calling")
    assert isinstance(asking.invoke(WEATHER_QUESTION), Weather)


@check
def bind_tools_required():
    answer = client(TOOLS, 60).bind_tools([weather_tool], tool_choice="required").invoke(WEATHER_QUESTION)
    (call,) = answer.tool_calls
    assert weather_tool.invoke(call).content.startswith("12 degrees")


@check
def bind_tools_streamed():
    total = None
    for chunk in client(TOOLS, 60).bind_tools([weather_tool], tool_choice="get_weather").stream(WEATHER_QUESTION):
        total = chunk if total is None else total + chunk
    (call,) = total.tool_calls
    assert call["name"] == "get_weather"
    assert set(call["args"]) == {"city", "unit"}


@check
def bind_tools_left_to_the_model():
    answer = client(TOOLS, 60).bind_tools([weather_tool]).invoke(WEATHER_QUESTION)
    assert answer.content or answer.tool_calls


@check
def tool_result_comes_back():
    bound = client(TOOLS, 60).bind_tools([weather_tool], tool_choice="required")
    first = bound.invoke(WEATHER_QUESTION)
    (call,) = first.tool_calls
    result = weather_tool.invoke(call)
    assert isinstance(result, ToolMessage)
    plain = client(TOOLS).bind_tools([weather_tool], tool_choice="none")
    assert plain.invoke([HumanMessage(WEATHER_QUESTION), first, result]).content


@check
def tools_without_a_template_for_them_are_refused():
    asking = client().bind_tools([weather_tool])
    error = refused(openai.BadRequestError, lambda: asking.invoke(WEATHER_QUESTION))
    assert "template" in error.body["message"], error.body


@check
def errors():
    for kind, code, asking, text in (
        (openai.NotFoundError, "model_not_found", client(model="gpt-4o"), QUESTION),
        (openai.BadRequestError, "context_length_exceeded", client(), TOO_LONG),
        (openai.AuthenticationError, "invalid_api_key", client(api_key="no-such-key-at-all"), QUESTION),
    ):
        error = refused(kind, lambda asking=asking, text=text: asking.invoke(text))
        assert error.code == code, error.body


if __name__ == "__main__":
    main()
