// The Vercel AI SDK with its provider for OpenAI-compatible servers.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';

import { BASE_URL, GOOD, KEY, check, equal, raises } from './check.mjs';

globalThis.AI_SDK_LOG_WARNINGS = false;
const provider = createOpenAICompatible({ name: 'stepwell', baseURL: BASE_URL, apiKey: KEY, includeUsage: true, supportsStructuredOutputs: true });
const model = provider(GOOD);
const prompt = 'What is the capital of France?';
const options = { maxRetries: 0, prompt };

const answer = await generateText({ model, ...options });
equal('generateText: text', answer.text, 'hello from the model');
equal('generateText: finish', answer.finishReason, 'stop');
equal('generateText: usage', answer.usage.totalTokens, 14);
check('generateText: headers', answer.response.headers['x-stepwell-model'] === 'm', answer.response.headers);

const streamed = streamText({ model, ...options });
let text = '';
for await (const piece of streamed.textStream) text += piece;
equal('streamText: text', text, 'hello from the model');
equal('streamText: usage', (await streamed.usage).totalTokens, 14);
equal('streamText: finish', await streamed.finishReason, 'stop');

let ran = 0;
const tools = {
    get_weather: tool({
        description: 'The weather in a city',
        inputSchema: z.object({ city: z.string(), days: z.number() }),
        execute: async ({ city }) => { ran += 1; return `sunny in ${city}`; },
    }),
};
const called = await generateText({ model, tools, stopWhen: stepCountIs(3), ...options });
equal('tools: text after the call', [called.text, ran, called.steps.length], ['hello from the model', 1, 2]);
const stream = streamText({ model, tools, stopWhen: stepCountIs(3), ...options });
equal('tools: streamed', [await stream.text, ran, (await stream.steps).length], ['hello from the model', 2, 2]);

const schema = z.object({ name: z.string(), population: z.number() });
equal('generateObject', (await generateObject({ model, schema, ...options })).object.name, 'Paris');
const object = streamObject({ model, schema, ...options });
for await (const _ of object.partialObjectStream);
equal('streamObject', (await object.object).name, 'Paris');

const refused = await raises('provider says 400', APICallError, () => generateText({ model: provider('r400/m'), ...options }));
equal('provider says 400: retryable', [refused.statusCode, refused.isRetryable], [400, false]);
const failed = await raises('provider says 500', APICallError, () => generateText({ model: provider('r500/m'), ...options }));
equal('provider says 500: retryable', [failed.statusCode, failed.isRetryable], [502, true]);
const kinds = [];
const errors = [];
for await (const part of streamText({ model: provider('cut/m'), onError: () => {}, ...options }).fullStream) {
    kinds.push(part.type);
    if (part.type === 'error') errors.push(part.error);
}
check('a cut stream: an error part', errors.length === 1, kinds);
