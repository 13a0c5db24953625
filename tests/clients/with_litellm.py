"""LiteLLM, as a library and as aider and others use it."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise it asks the network for prices

import litellm
from checks import AGAIN, KEY, MODEL, PLAIN, QUESTION, TOO_LONG, TOOLS, WEATHER_QUESTION, Weather, check, main, refused

litellm.suppress_debug_info = True
ASKED = [{"role": "user", "content": QUESTION}]
WEATHER_ASKED = [{"role": "user", "content": WEATHER_QUESTION}]
GET_WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": Weather.model_json_schema()},
}


def chat(messages=ASKED, url=PLAIN, **more):
    return litellm.completion(**{
        "model": f"openai/{MODEL}", "api_base": url, "api_key": KEY, "messages": messages, "max_tokens": 12,
        "temperature": 0, "num_retries": 0, "timeout": 60, **more,
    })  # fmt: skip


def call_of(answer):
    (call,) = answer.choices[0].message.tool_calls
    Weather.model_validate_json(call.function.arguments)
    return call


@check
def one_chat():
    assert chat().choices[0].message.content


@check
def second_turn():
    message = chat().choices[0].message
    for given in (message, message.model_dump(), message.json()):
        assert chat([*ASKED, given, {"role": "user", "content": AGAIN}]).choices[0].message.content


@check
def stream():
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chat(stream=True))


@check
def stream_with_usage():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens > 0
    built = litellm.stream_chunk_builder(chunks, messages=ASKED)
    again = [*ASKED, built.choices[0].message.model_dump(), {"role": "user", "content": AGAIN}]
    assert chat(again).choices[0].message.content


@check
def parts_with_cache_control():
    part = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    assert chat([{"role": "system", "content": [part]}, *ASKED]).choices[0].message.content


@check
def as_a_server_of_vllm():
    assert chat(model=f"hosted_vllm/{MODEL}").choices[0].message.content


@check
def harmless_fields():
    assert chat(user="u", metadata={"a": "b"}, seed=1764043200000, store=False).choices[0].message.content


@check
def text_completion():
    answer = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="Once", api_base=PLAIN, api_key=KEY, max_tokens=5
    )
    assert answer.choices[0].text


@check
def json_schema():
    answer = chat(WEATHER_ASKED, max_tokens=60, response_format=Weather)
    Weather.model_validate_json(answer.choices[0].message.content)


@check
def json_mode():
    asked = [{"role": "user", "content": 'Answer with this JSON: {"city": "Paris"}'}]
    answer = chat(asked, max_tokens=120, response_format={"type": "json_object"})
    assert answer.choices[0].message.content.startswith("{"), answer
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict), answer


@check
def tool_required():
    call_of(chat(WEATHER_ASKED, TOOLS, tools=[GET_WEATHER], tool_choice="required", max_tokens=60))


@check
def tool_streamed():
    more = {"tools": [GET_WEATHER], "tool_choice": "required", "max_tokens": 60, "stream": True}
    call_of(litellm.stream_chunk_builder(list(chat(WEATHER_ASKED, TOOLS, **more))))


@check
def tool_result_comes_back():
    first = chat(WEATHER_ASKED, TOOLS, tools=[GET_WEATHER], tool_choice="required", max_tokens=60)
    result = {"role": "tool", "tool_call_id": call_of(first).id, "name": "get_weather", "content": "12 degrees"}
    for message in (first.choices[0].message, first.choices[0].message.model_dump()):
        asked = [*WEATHER_ASKED, message, result]
        assert chat(asked, TOOLS, tools=[GET_WEATHER], tool_choice="none").choices[0].message.content


@check
def tools_without_a_template_for_them_are_refused():
    error = refused(litellm.BadRequestError, lambda: chat(WEATHER_ASKED, tools=[GET_WEATHER], drop_params=True))
    assert "template" in str(error), error


@check
def another_model_is_not_found():
    refused(litellm.NotFoundError, lambda: chat(model="openai/gpt-4o"))


@check
def too_long_a_prompt_says_so():
    refused(litellm.ContextWindowExceededError, lambda: chat([{"role": "user", "content": TOO_LONG}]))


@check
def an_unknown_key_is_refused():
    refused(litellm.AuthenticationError, lambda: chat(api_key="no-such-key-at-all"))


if __name__ == "__main__":
    main()
