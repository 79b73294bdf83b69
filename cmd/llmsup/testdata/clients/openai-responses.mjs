// OpenAI's SDK at /v1/responses: its stream helper keeps a copy of the answer from the events. It prints
// a line for each call.
import OpenAI from 'openai';

const client = new OpenAI({ maxRetries: 0 });
const weather = {
  type: 'function', name: 'weather', description: 'd', strict: true,
  parameters: { type: 'object', additionalProperties: false, required: ['city'], properties: { city: { type: 'string', enum: ['Rome', 'Zürich'] } } },
};
const calls = {
  text: { model: 'local', input: 'count', max_output_tokens: 6 },
  emoji: { model: 'local', input: 'count', grammar: 'root ::= "\u{1F600} hello"' },
  nothing: { model: 'local', input: 'count', grammar: 'root ::= ""' },
  reasoning: { model: 'local', input: 'count', grammar: 'root ::= "<think>a b </think> c"' },
  tool: { model: 'local/calls', input: 'count', max_output_tokens: 300, temperature: 0, tool_choice: 'required', tools: [weather] },
};
const got = {};

// summary is the types and the content of an answer's items.
const summary = (response) => response.output.map((item) => [item.type, item.content?.[0]?.text ?? item.parsed_arguments?.city ?? item.arguments]);

for (const [name, call] of Object.entries(calls)) {
  const kinds = {};
  const numbers = [];
  let text = '', args;
  const stream = client.responses.stream(call);
  stream.on('event', (event) => {
    kinds[event.type.replace('response.', '')] = true;
    numbers.push(event.sequence_number);
  });
  stream.on('response.output_text.delta', (event) => { text = event.snapshot; });
  stream.on('response.function_call_arguments.done', (event) => { args = JSON.parse(event.arguments).city; });
  const response = await stream.finalResponse();
  got[name] = { events: Object.keys(kinds).join(' '), inOrder: numbers.every((n, i) => n === i), output: summary(response), text, args };
  const whole = await client.responses.create(call);
  got[name].whole = [whole.output_text, whole.tools.length, whole.error];
}
try {
  const stream = client.responses.stream({ model: 'local', input: 'count', ignore_eos: true, temperature: 0, max_output_tokens: 9, grammar: 'root ::= "abc"' });
  stream.on('error', () => {});
  await stream.finalResponse();
} catch (error) {
  got.error = [error.constructor.name, error.type];
}
for (const [name, value] of Object.entries(got)) console.log(name, JSON.stringify(value));
