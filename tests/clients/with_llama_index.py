"""llama-index's OpenAILike."""

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
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def client(url=PLAIN, max_tokens=12, **more):
    return OpenAILike(**{
        "model": MODEL, "api_base": url, "api_key": KEY, "max_tokens": max_tokens, "context_window": 4096,
        "is_chat_model": True, "temperature": 0, "max_retries": 0, "timeout": 60, **more,
    })  # fmt: skip


def user(text):
    return ChatMessage(role="user", content=text)


TOOL = FunctionTool.from_defaults(get_weather)


@check
def one_chat():
    assert client().complete(QUESTION).text
    assert client().chat([ChatMessage(role="system", content="Be brief."), user(QUESTION)]).message.content


@check
def second_turn():
    first = client().chat([user(QUESTION)]).message
    assert client().chat([user(QUESTION), first, user(AGAIN)]).message.content


@check
def stream():
    assert "".join(chunk.delta or "" for chunk in client().stream_chat([user(QUESTION)]))


@check
def text_completion():
    assert client(is_chat_model=False).complete("Once upon").text


@check
def structured_output_by_schema():
    asking = client(max_tokens=60, should_use_structured_outputs=True).as_structured_llm(Weather)
    assert isinstance(asking.complete(WEATHER_QUESTION).raw, Weather)


@check
def structured_output_by_tool():
    asking = client(TOOLS, 60, is_function_calling_model=True).as_structured_llm(Weather)
    assert isinstance(asking.complete(WEATHER_QUESTION).raw, Weather)


@check
def tool_required():
    asking = client(TOOLS, 60, is_function_calling_model=True)
    answer = asking.chat_with_tools([TOOL], user_msg=WEATHER_QUESTION, tool_required=True)
    (call,) = asking.get_tool_calls_from_response(answer)
    assert TOOL(**call.tool_kwargs).content.startswith("12 degrees")


@check
def tool_result_comes_back():
    asking = client(TOOLS, 60, is_function_calling_model=True)
    first = asking.chat_with_tools([TOOL], user_msg=WEATHER_QUESTION, tool_required=True)
    (call,) = asking.get_tool_calls_from_response(first)
    result = ChatMessage(role="tool", content="12 degrees", additional_kwargs={"tool_call_id": call.tool_id})
    second = asking.chat_with_tools(
        [TOOL], chat_history=[user(WEATHER_QUESTION), first.message, result], tool_choice="none"
    )
    assert second.message.content


@check
def tools_without_a_template_for_them_are_refused():
    asking = client(is_function_calling_model=True)
    error = refused(openai.BadRequestError, lambda: asking.chat_with_tools([TOOL], user_msg=WEATHER_QUESTION))
    assert "template" in error.body["message"], error.body


@check
def errors():
    for kind, code, asking, text in (
        (openai.NotFoundError, "model_not_found", client(model="gpt-4o"), QUESTION),
        (openai.BadRequestError, "context_length_exceeded", client(), TOO_LONG),
        (openai.AuthenticationError, "invalid_api_key", client(api_key="no-such-key-at-all"), QUESTION),
    ):
        error = refused(kind, lambda asking=asking, text=text: asking.chat([user(text)]))
        assert error.code == code, error.body


if __name__ == "__main__":
    main()
