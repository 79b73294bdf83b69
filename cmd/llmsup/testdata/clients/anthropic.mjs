// Anthropic's SDK with its defaults: two retries. It prints what each call returned.
import Anthropic from '@anthropic-ai/sdk';

const client = new Anthropic();
const call = { model: 'local', max_tokens: 6, messages: [{ role: 'user', content: 'count' }] };
const got = {};

const message = await client.messages.create(call);
got.message = [message.content[0].text, message.stop_reason, message.usage.output_tokens];
const streamed = await client.messages.stream(call).finalMessage();
got.stream = [streamed.content[0].text, streamed.stop_reason, streamed.usage.output_tokens];
got.counted = (await client.messages.countTokens({ model: 'local', messages: call.messages })).input_tokens > 0;
try {
  await client.messages.create({ ...call, model: 'nonsense' });
} catch (error) {
  got.unknownModel = [error.constructor.name, error.status, error.error?.error?.type];
}
console.log(JSON.stringify(got));
