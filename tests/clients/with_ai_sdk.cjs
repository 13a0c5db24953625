// Vercel's AI SDK, as chat front ends and coding agents use it.
"use strict";
const assert = require("node:assert");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");
const { APICallError, Output, generateText, stepCountIs, streamText, tool } = require("ai");
const { z } = require("zod");
const { PLAIN, TOOLS, KEY, MODEL, main } = require("./checks.cjs");

const provider = (baseURL, apiKey = KEY) =>
  createOpenAICompatible({ name: "lorry", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const asking = { model: provider(PLAIN)(MODEL), maxOutputTokens: 12, temperature: 0, maxRetries: 0 };
const asked = { role: "user", content: "What is 2+2?" };
const again = { role: "user", content: "And 3+3?" };
const weather = z.object({ city: z.enum(["Paris", "Berlin"]) });
const tools = {
  get_weather: tool({ description: "The weather.", inputSchema: weather, execute: ({ city }) => `12 degrees in ${city}` }),
};
const withTools = { ...asking, model: provider(TOOLS)(MODEL), maxOutputTokens: 60, messages: [asked], tools };

const checks = {
  async one_chat() {
    const answer = await generateText({ ...asking, messages: [asked] });
    assert.ok(answer.text);
    assert.ok(answer.usage.outputTokens > 0);
  },
  async second_turn() {
    const first = await generateText({ ...asking, messages: [asked] });
    assert.ok((await generateText({ ...asking, messages: [asked, ...first.response.messages, again] })).text);
  },
  async stream_with_usage() {
    const answer = streamText({ ...asking, messages: [asked], seed: 5 });
    let text = "";
    for await (const delta of answer.textStream) text += delta;
    assert.ok(text);
    assert.ok((await answer.usage).outputTokens > 0);
  },
  async text_parts() {
    const content = [{ type: "text", text: "What is" }, { type: "text", text: "2+2?" }];
    assert.ok((await generateText({ ...asking, messages: [{ role: "user", content }] })).text);
  },
  async json_schema() {
    const output = Output.object({ schema: weather });
    const answer = await generateText({ ...asking, maxOutputTokens: 40, messages: [asked], output });
    weather.parse(answer.output);
  },
  async tool_required() {
    const answer = await generateText({ ...withTools, toolChoice: "required" });
    assert.equal(answer.finishReason, "tool-calls");
    assert.equal(answer.toolCalls[0].toolName, "get_weather");
    weather.parse(answer.toolCalls[0].input);
    assert.match(answer.toolResults[0].output, /12 degrees/);
  },
  async tool_streamed_and_its_result_sent_back() {
    const answer = streamText({
      ...withTools,
      stopWhen: stepCountIs(2),
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber ? "none" : { type: "tool", toolName: "get_weather" } }),
    });
    await answer.consumeStream();
    const steps = await answer.steps;
    assert.equal(steps.length, 2);
    weather.parse(steps[0].toolCalls[0].input);
    assert.ok(steps[1].text);
  },
  async tools_without_a_template_for_them_are_refused() {
    const refused = (error) => APICallError.isInstance(error) && error.statusCode === 400 && /template/.test(error.message);
    await assert.rejects(() => generateText({ ...withTools, model: asking.model }), refused);
  },
  async errors() {
    const is = (status, code) => (error) =>
      APICallError.isInstance(error) && error.statusCode === status && JSON.parse(error.responseBody).error.code === code;
    const ask = (more) => () => generateText({ ...asking, messages: [asked], ...more });
    await assert.rejects(ask({ model: provider(PLAIN)("gpt-4o") }), is(404, "model_not_found"));
    const long = [{ role: "user", content: "word ".repeat(9000) }];
    await assert.rejects(ask({ messages: long }), is(400, "context_length_exceeded"));
    await assert.rejects(ask({ model: provider(PLAIN, "no-such-key-at-all")(MODEL) }), is(401, "invalid_api_key"));
  },
};

main(checks);
