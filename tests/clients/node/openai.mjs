// The official SDK for JavaScript.

import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { BASE_URL, GOOD, KEY, check, equal, raises } from './check.mjs';

const client = new OpenAI({ baseURL: BASE_URL, apiKey: KEY, maxRetries: 0, timeout: 20_000 });
const chats = client.chat.completions;
const messages = [{ role: 'user', content: 'What is the capital of France?' }];
const parameters = { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } }, required: ['city', 'days'] };
const tools = [{ type: 'function', function: { name: 'get_weather', parameters } }];

const answer = await chats.create({ model: GOOD, messages });
equal('chat: text', answer.choices[0].message.content, 'hello from the model');
equal('chat: usage', answer.usage.total_tokens, 14);
check('chat: request id', answer._request_id.startsWith('req_'), answer._request_id);
const { response } = await chats.create({ model: GOOD, messages, context: { task: 'coding' } }).withResponse();
equal('hints', response.headers.get('x-stepwell-task'), 'coding');

let text = '';
const chunks = [];
for await (const chunk of await chats.create({ model: GOOD, messages, stream: true, stream_options: { include_usage: true } })) {
    chunks.push(chunk);
    text += chunk.choices[0]?.delta.content ?? '';
}
equal('stream: text', text, 'hello from the model');
equal('stream: usage', [chunks.at(-1).choices, chunks.at(-1).usage.total_tokens], [[], 14]);
const helper = chats.stream({ model: GOOD, messages });
equal('helper: text', await helper.finalContent(), 'hello from the model');

const called = await chats.create({ model: GOOD, messages, tools });
equal('tools: finish', called.choices[0].finish_reason, 'tool_calls');
const call = called.choices[0].message.tool_calls[0];
equal('tools: arguments', Object.keys(JSON.parse(call.function.arguments)).sort(), ['city', 'days']);
const after = await chats.create({ model: GOOD, tools, messages: [...messages, called.choices[0].message, { role: 'tool', tool_call_id: call.id, content: 'sunny' }] });
equal('tools: after the result', after.choices[0].message.content, 'hello from the model');
let ran = 0;
const runner = chats.runTools({
    model: GOOD,
    messages,
    stream: true,
    tools: [{ type: 'function', function: { name: 'get_weather', parameters, parse: JSON.parse, function: () => { ran += 1; return 'sunny'; } } }],
});
equal('tools: a streamed runner', await runner.finalContent(), 'hello from the model');
equal('tools: the runner ran it', ran, 1);

const City = z.object({ name: z.string(), population: z.number() });
const parsed = await chats.parse({ model: GOOD, messages, response_format: zodResponseFormat(City, 'city') });
equal('parse', parsed.choices[0].message.parsed.name, 'Paris');

const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
check('models: list', ids.includes(GOOD) && ids.includes('auto'), ids);
equal('models: a slash in the id', (await client.models.retrieve(GOOD)).id, GOOD);

const ask = (model, options = {}) => () => chats.create({ model, messages, ...options });
const missing = await raises('no such model', OpenAI.NotFoundError, ask('no-such'));
equal('no such model: code', [missing.code, missing.param], ['model_not_found', 'model']);
await raises('provider says 400', OpenAI.BadRequestError, ask('r400/m'));
await raises('provider says 404', OpenAI.NotFoundError, ask('r404/m'));
await raises('provider says 422', OpenAI.UnprocessableEntityError, ask('r422/m'));
await raises('provider says 429', OpenAI.RateLimitError, ask('r429/m'));
await raises('provider says 500', OpenAI.InternalServerError, ask('r500/m'));
await raises('a client\'s own timeout', OpenAI.APIConnectionTimeoutError, () => chats.create({ model: 'hang/m', messages }, { timeout: 300 }));
const cut = await raises('a cut stream', OpenAI.APIError, async () => {
    for await (const _ of await chats.create({ model: 'cut/m', messages, stream: true }));
});
equal('a cut stream: code', cut.code, 'upstream_stream_interrupted');
