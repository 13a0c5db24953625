"""OpenAI's own Python package."""

import json

import openai
from checks import AGAIN, KEY, MODEL, PLAIN, QUESTION, TOO_LONG, TOOLS, WEATHER_QUESTION, Weather, check, main, refused
from tool_definitions import GET_TIME, GET_WEATHER, NAMED

plain = openai.OpenAI(base_url=PLAIN, api_key=KEY, max_retries=0, timeout=60)
tools = openai.OpenAI(base_url=TOOLS, api_key=KEY, max_retries=0, timeout=60)
ASKED = [{"role": "user", "content": QUESTION}]
ON = {"role": "user", "content": AGAIN}
WEATHER_ASKED = [{"role": "user", "content": WEATHER_QUESTION}]


def chat(messages=ASKED, client=plain, max_tokens=12, **more):
    return client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=max_tokens, **{"temperature": 0, **more}
    )


def follow_the_schema(calls):
    for call in calls:
        assert call.type == "function"
        assert call.id
        arguments = json.loads(call.function.arguments)
        if call.function.name == "get_weather":
            assert set(arguments) == {"city", "unit"}, arguments
            assert arguments["city"] in ("Paris", "Berlin")
            assert arguments["unit"] in ("celsius", "fahrenheit")
        else:
            assert arguments["zone"] in ("CET", "UTC")


def called(choice):
    """The one call of a choice."""
    assert choice.finish_reason == "tool_calls", choice
    (call,) = choice.message.tool_calls
    follow_the_schema([call])
    return call


@check
def models():
    assert [model.id for model in plain.models.list()] == [MODEL]
    assert plain.models.retrieve(MODEL).id == MODEL


@check
def one_chat():
    answer = chat()
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@check
def second_turn_with_the_message_object():
    assert chat([*ASKED, chat().choices[0].message, ON]).choices[0].message.content


@check
def second_turn_with_model_dump():
    assert chat([*ASKED, chat().choices[0].message.model_dump(), ON]).choices[0].message.content


@check
def second_turn_with_to_dict():
    assert chat([*ASKED, chat().choices[0].message.to_dict(), ON]).choices[0].message.content


@check
def second_turn_with_a_parsed_message():
    first = plain.chat.completions.parse(
        model=MODEL, messages=WEATHER_ASKED, max_tokens=60, temperature=0, response_format=Weather
    )
    assert chat([*WEATHER_ASKED, first.choices[0].message, ON]).choices[0].message.content


@check
def stream():
    chunks = list(chat(stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert all(chunk.usage is None for chunk in chunks)


@check
def stream_with_usage():
    *chunks, last = chat(stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert last.choices == []
    assert last.usage.completion_tokens > 0


@check
def stream_helper_and_second_turn():
    with plain.chat.completions.stream(model=MODEL, messages=ASKED, temperature=0, max_tokens=64, stop=["."]) as events:
        assert {"chunk", "content.delta", "content.done"} <= {event.type for event in events}
        message = events.get_final_completion().choices[0].message
    assert message.content
    assert chat([*ASKED, message, ON]).choices[0].message.content


@check
async def asynchronous_and_cancelled():
    async with openai.AsyncOpenAI(base_url=PLAIN, api_key=KEY, max_retries=0, timeout=60) as client:
        chunks = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True, max_tokens=500)
        async for _ in chunks:
            break
        await chunks.close()
        answer = await client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=4)
    assert answer.choices[0].message.content


@check
def json_schema():
    answer = plain.chat.completions.parse(
        model=MODEL, messages=WEATHER_ASKED, max_tokens=60, temperature=0, response_format=Weather
    )
    assert isinstance(answer.choices[0].message.parsed, Weather)


@check
def json_schema_streamed():
    with plain.chat.completions.stream(
        model=MODEL, messages=WEATHER_ASKED, max_tokens=60, temperature=0, response_format=Weather
    ) as events:
        assert isinstance(events.get_final_completion().choices[0].message.parsed, Weather)


@check
def json_mode():
    asked = [{"role": "user", "content": 'Answer with this JSON: {"city": "Paris"}'}]
    answer = chat(asked, max_tokens=120, response_format={"type": "json_object"})
    assert answer.choices[0].message.content.startswith("{"), answer
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict), answer


@check
def fields_that_are_null():
    names = ("stop", "seed", "tools", "tool_choice", "stream", "response_format", "n", "user", "logprobs", "metadata")
    assert chat(**dict.fromkeys([*names, "top_logprobs", "store", "logit_bias", "service_tier"])).choices


@check
def harmless_fields():
    answer = chat(
        store=False, metadata={"a": "b"}, service_tier="auto", user="u", safety_identifier="s", prompt_cache_key="k",
        reasoning_effort="low", verbosity="low", parallel_tool_calls=False, stop=[], seed=-(2**62), top_p=1,
        extra_body={"top_k": -1, "chat_template_kwargs": {"enable_thinking": False}},
    )  # fmt: skip
    assert answer.choices[0].message.content


@check
def log_probabilities():
    answer = chat(max_tokens=3, logprobs=True, top_logprobs=2).choices[0]
    assert len(answer.logprobs.content) == 3
    assert "".join(token.token for token in answer.logprobs.content) == answer.message.content
    for token in answer.logprobs.content:
        assert len(token.top_logprobs) == 2
        assert token.logprob == max(top.logprob for top in token.top_logprobs) <= 0


@check
def log_probabilities_streamed():
    tokens = [
        token
        for chunk in chat(max_tokens=3, logprobs=True, top_logprobs=0, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert len(tokens) == 3
    assert all(token.logprob <= 0 for token in tokens)


@check
def completions():
    answer = plain.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0)
    assert answer.choices[0].text


@check
def completions_streamed():
    chunks = plain.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in chunks)


@check
def completions_with_log_probabilities_of_the_prompt():
    prompt = "The capital of France is"
    answer = plain.completions.create(
        model=MODEL, prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=1
    ).choices[0]
    assert answer.text.startswith(prompt)
    assert "".join(answer.logprobs.tokens) == answer.text
    assert answer.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in answer.logprobs.token_logprobs[1:])


@check
def tool_required():
    called(chat(WEATHER_ASKED, tools, 60, tools=[GET_WEATHER, GET_TIME], tool_choice="required").choices[0])


@check
def tool_by_name():
    answer = chat(WEATHER_ASKED, tools, 60, tools=[GET_TIME, GET_WEATHER], tool_choice=NAMED)
    assert called(answer.choices[0]).function.name == "get_weather"


@check
def tool_by_name_streamed():
    chunks = list(chat(WEATHER_ASKED, tools, 60, tools=[GET_WEATHER], tool_choice=NAMED, stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert {call.index for call in calls} == {0}
    assert [call.function.name for call in calls if call.function.name] == ["get_weather"]
    assert len([call.id for call in calls if call.id]) == 1
    arguments = json.loads("".join(call.function.arguments or "" for call in calls))
    assert set(arguments) == {"city", "unit"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@check
def tool_with_the_stream_helper():
    with tools.chat.completions.stream(
        model=MODEL, messages=WEATHER_ASKED, max_tokens=60, temperature=0, tools=[GET_WEATHER], tool_choice="required"
    ) as events:
        kinds = {event.type for event in events}
        called(events.get_final_completion().choices[0])
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds


@check
def tool_parsed():
    answer = tools.chat.completions.parse(
        model=MODEL, messages=WEATHER_ASKED, max_tokens=60, temperature=0, tool_choice="required",
        tools=[openai.pydantic_function_tool(Weather)],
    )  # fmt: skip
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


@check
def tool_result_comes_back():
    first = chat(WEATHER_ASKED, tools, 60, tools=[GET_WEATHER], tool_choice=NAMED).choices[0]
    result = {"role": "tool", "tool_call_id": called(first).id, "content": "12 degrees"}
    for message in (first.message, first.message.model_dump(), first.message.to_dict()):
        second = chat([*WEATHER_ASKED, message, result], tools, tools=[GET_WEATHER], tool_choice="none")
        assert second.choices[0].message.content
        assert not second.choices[0].message.tool_calls


@check
def tool_left_to_the_model():
    (choice,) = chat(WEATHER_ASKED, tools, 60, tools=[GET_WEATHER], tool_choice="auto").choices
    assert choice.message.content or choice.message.tool_calls
    if choice.finish_reason == "tool_calls":
        follow_the_schema(choice.message.tool_calls)


@check
def tool_left_to_the_model_streamed():
    chunks = chat(WEATHER_ASKED, tools, 60, tools=[GET_WEATHER], tool_choice="auto", stream=True)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert any(delta.content or delta.tool_calls for delta in deltas)


@check
def tool_that_is_cut_leaves_no_markup():
    for limit in (10, 30):
        (choice,) = chat(WEATHER_ASKED, tools, limit, tools=[GET_WEATHER], tool_choice="required").choices
        assert choice.finish_reason == "length"
        assert "<tool_call>" not in (choice.message.content or "")


@check
def tool_that_a_stop_string_cuts_leaves_no_markup():
    (choice,) = chat(WEATHER_ASKED, tools, 60, tools=[GET_WEATHER], tool_choice="required", stop=["}"]).choices
    assert "<tool_call>" not in (choice.message.content or ""), choice


@check
def tool_that_the_template_does_not_know_is_one_clear_refusal():
    error = refused(openai.BadRequestError, lambda: chat(WEATHER_ASKED, tools=[GET_WEATHER]))
    assert error.param == "tools"
    assert "template" in error.body["message"], error.body


@check
def another_model_is_not_found():
    for ask in (
        lambda: plain.chat.completions.create(model="gpt-4o", messages=ASKED),
        lambda: plain.models.retrieve("gpt-4o"),
    ):
        error = refused(openai.NotFoundError, ask)
        assert error.code == "model_not_found", error.body
        assert "gpt-4o" in error.body["message"]


@check
def too_long_a_prompt_says_so():
    error = refused(openai.BadRequestError, lambda: chat([{"role": "user", "content": TOO_LONG}]))
    assert error.code == "context_length_exceeded"
    assert "maximum context length" in error.body["message"], error.body


@check
def an_unknown_key_is_refused():
    stranger = plain.with_options(api_key="no-such-key-at-all")
    error = refused(openai.AuthenticationError, lambda: chat(client=stranger))
    assert error.code == "invalid_api_key"


@check
def an_image_is_refused_and_the_error_names_text():
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    error = refused(openai.BadRequestError, lambda: chat([{"role": "user", "content": [part]}]))
    assert "text" in error.body["message"], error.body


if __name__ == "__main__":
    main()
