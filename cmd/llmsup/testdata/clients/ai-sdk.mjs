// The AI SDK's providers for chat completions and messages. It prints what each call returned.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embed, generateText, streamText } from 'ai';

const baseURL = process.env.OPENAI_BASE_URL;
const apiKey = process.env.OPENAI_API_KEY;
const compatible = createOpenAICompatible({ name: 'llmsup', baseURL, apiKey, includeUsage: true });
const openai = createOpenAI({ baseURL, apiKey });
const anthropic = createAnthropic({ baseURL, apiKey });
const call = { prompt: 'count', maxOutputTokens: 6 };
const got = {};

for (const [name, model] of Object.entries({
  compatible: compatible('local'),
  openaiChat: openai.chat('local'),
  anthropic: anthropic('local'),
})) {
  const { text, finishReason, usage } = await generateText({ ...call, model });
  got[name] = [text, finishReason, usage.outputTokens];
  const stream = streamText({ ...call, model, onError: ({ error }) => { got[name + 'StreamError'] = String(error); } });
  let streamed = '';
  for await (const part of stream.textStream) streamed += part;
  got[name + 'Stream'] = [streamed, await stream.finishReason, (await stream.usage).outputTokens];
}
got.embedding = (await embed({ model: openai.embedding('cloud'), value: 'count' })).embedding;
try {
  await generateText({ ...call, model: openai.chat('nonsense') });
} catch (error) {
  got.unknownModel = [error.name, error.statusCode, error.isRetryable];
}
console.log(JSON.stringify(got));
