// The AI SDK's default provider, which calls /v1/responses. It prints a line for each call.
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const weather = tool({
  inputSchema: jsonSchema({ type: 'object', required: ['city'], properties: { city: { enum: ['Rome', 'Zürich'] } } }),
  execute: async ({ city }) => city + ': 12',
});
const calls = {
  text: { model: openai('local'), maxOutputTokens: 6 },
  reasoning: { model: openai('local/thinks') },
  tool: { model: openai('local/calls'), maxOutputTokens: 300, temperature: 0, toolChoice: 'required', tools: { weather }, stopWhen: stepCountIs(2) },
  error: { model: openai('local/fails'), maxOutputTokens: 9, temperature: 0 },
};
const got = {};

// summary is the content of the steps of a call.
const summary = (steps) => steps.map((step) => step.content.map((part) => [part.type, part.text ?? part.output ?? part.input?.city]));

for (const [name, call] of Object.entries(calls)) {
  const options = { prompt: 'count', maxRetries: 0, ...call };
  try {
    const whole = await generateText(options);
    got[name] = [summary(whole.steps), whole.finishReason, whole.usage.outputTokens];
  } catch (error) {
    got[name] = [error.name, error.statusCode];
  }
  const errors = [];
  const stream = streamText({ ...options, onError: ({ error }) => errors.push(error.message) });
  const kinds = {};
  try {
    for await (const part of stream.fullStream) kinds[part.type] = true;
    got[name + 'Stream'] = [Object.keys(kinds).join(' '), summary(await stream.steps), await stream.finishReason, (await stream.usage).outputTokens];
  } catch (error) {
    got[name + 'Stream'] = [Object.keys(kinds).join(' '), error.name, error.message];
  }
  if (errors.length > 0) got[name + 'Errors'] = errors;
}
// Chats: without store the SDK sends the whole conversation.
for (const name of ['local', 'local/thinks']) {
  const chat = { model: openai(name), maxOutputTokens: 30, maxRetries: 0, providerOptions: { openai: { store: false } } };
  const first = await generateText({ ...chat, prompt: 'count' });
  const second = await generateText({ ...chat, messages: [{ role: 'user', content: 'count' }, ...first.response.messages, { role: 'user', content: 'again' }] });
  got['chat with ' + name] = [first.text, second.text];
}
for (const [name, value] of Object.entries(got)) console.log(name, JSON.stringify(value));
