// OpenAI's SDK with its defaults: two retries. It prints what each call returned.
import OpenAI from 'openai';

const client = new OpenAI();
const call = { model: 'local', max_tokens: 6, messages: [{ role: 'user', content: 'count' }] };
const got = {};

got.chat = (await client.chat.completions.create(call)).choices[0].message.content;

const stream = await client.chat.completions.create({ ...call, stream: true, stream_options: { include_usage: true } });
got.stream = '';
for await (const chunk of stream) {
  got.stream += chunk.choices[0]?.delta.content ?? '';
  if (chunk.usage) got.streamTokens = chunk.usage.completion_tokens;
}

const helper = client.chat.completions.stream(call);
got.helper = (await helper.finalChatCompletion()).choices[0].message.content;

got.completion = (await client.completions.create({ model: 'local', prompt: ' 1 2 3', max_tokens: 3 })).choices[0].text;

// The SDK asks for base64 unless the caller names a format.
got.embedding = (await client.embeddings.create({ model: 'cloud', input: 'count' })).data[0].embedding;

const models = [];
for await (const model of client.models.list()) models.push(model.id);
got.models = models.includes('local') && models.includes('local/demo');
got.model = (await client.models.retrieve('local/demo')).id;

try {
  await client.chat.completions.create({ ...call, model: 'nonsense' });
} catch (error) {
  got.unknownModel = [error.constructor.name, error.status, error.code];
}
try {
  await client.chat.completions.create({ ...call, max_tokens: 'many' });
} catch (error) {
  got.badCall = [error.constructor.name, error.status];
}
const controller = new AbortController();
try {
  const long = await client.chat.completions.create({ ...call, max_tokens: 3000, stream: true }, { signal: controller.signal });
  for await (const _ of long) controller.abort();
  got.aborted = true;
} catch (error) {
  got.aborted = error.constructor.name;
}
console.log(JSON.stringify(got));
