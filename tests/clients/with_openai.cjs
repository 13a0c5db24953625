// OpenAI's own package for Node.
"use strict";
const assert = require("node:assert");
const { OpenAI, NotFoundError, BadRequestError, AuthenticationError } = require("openai");

const { PLAIN, TOOLS, KEY, MODEL, main } = require("./checks.cjs");

const client = (baseURL, apiKey = KEY) => new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 60000 });
const plain = client(PLAIN);
const tools = client(TOOLS);
const asked = [{ role: "user", content: "What is 2+2?" }];
const again = { role: "user", content: "And 3+3?" };
const weather = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Berlin"] } },
  required: ["city"],
  additionalProperties: false,
};
const tool = { type: "function", function: { name: "get_weather", parameters: weather } };
const chat = (more, of = plain) =>
  of.chat.completions.create({ model: MODEL, messages: asked, max_tokens: 12, temperature: 0, ...more });

const checks = {
  async one_chat() {
    assert.ok((await chat()).choices[0].message.content);
    assert.equal((await plain.models.list()).data[0].id, "smol");
  },
  async second_turn_with_the_message_object() {
    const first = await chat();
    const second = await chat({ messages: [...asked, first.choices[0].message, again] });
    assert.ok(second.choices[0].message.content);
  },
  async stream_with_usage() {
    let text = "";
    let usage = null;
    for await (const chunk of await chat({ stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.ok(text);
    assert.ok(usage.completion_tokens > 0);
  },
  async stream_helper_and_second_turn() {
    const message = await plain.chat.completions
      .stream({ model: MODEL, messages: asked, max_tokens: 12, temperature: 0 })
      .finalMessage();
    assert.ok((await chat({ messages: [...asked, message, again] })).choices[0].message.content);
  },
  async json_schema() {
    const format = { type: "json_schema", json_schema: { name: "w", strict: true, schema: weather } };
    const answer = await chat({ max_tokens: 40, response_format: format });
    assert.ok(weather.properties.city.enum.includes(JSON.parse(answer.choices[0].message.content).city));
  },
  async tool_required() {
    const answer = await chat({ max_tokens: 60, tools: [tool], tool_choice: "required" }, tools);
    const { message } = answer.choices[0];
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    assert.ok(weather.properties.city.enum.includes(JSON.parse(message.tool_calls[0].function.arguments).city));
    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "12 degrees" };
    const second = await chat({ messages: [...asked, message, result], tools: [tool], tool_choice: "none" }, tools);
    assert.ok(second.choices[0].message.content);
  },
  async run_tools() {
    const called = [];
    const runner = tools.chat.completions.runTools({
      model: MODEL,
      messages: asked,
      max_tokens: 60,
      temperature: 0,
      tool_choice: { type: "function", function: { name: "get_weather" } },
      tools: [
        {
          type: "function",
          function: { name: "get_weather", parameters: weather, parse: JSON.parse, function: (given) => called.push(given) },
        },
      ],
    });
    await runner.done();
    assert.ok(weather.properties.city.enum.includes(called[0].city));
  },
  async tools_without_a_template_for_them_are_refused() {
    const refused = (error) => error instanceof BadRequestError && error.message.includes("template");
    await assert.rejects(() => chat({ tools: [tool] }), refused);
  },
  async errors() {
    const is = (kind, code) => (error) => error instanceof kind && error.code === code;
    await assert.rejects(() => chat({ model: "gpt-4o" }), is(NotFoundError, "model_not_found"));
    const long = [{ role: "user", content: "word ".repeat(9000) }];
    await assert.rejects(() => chat({ messages: long }), is(BadRequestError, "context_length_exceeded"));
    const stranger = client(PLAIN, "no-such-key-at-all");
    await assert.rejects(() => chat({}, stranger), is(AuthenticationError, "invalid_api_key"));
  },
};

main(checks);
