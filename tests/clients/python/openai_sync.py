"""The official SDK, blocking."""

import json

import openai
from pydantic import BaseModel

from check import BASE_URL, GOOD, KEY, WEATHER, check, equal, is_call, raises, user

sent = []
http = openai.DefaultHttpxClient(event_hooks={"request": [lambda request: sent.append(request)]})
client = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, http_client=http, timeout=20)
chats = client.chat.completions


class City(BaseModel):
    name: str
    population: int
    districts: list[str]


# Chat
answer = chats.create(model=GOOD, messages=user())
equal("chat: text", answer.choices[0].message.content, "hello from the model")
equal("chat: object", answer.object, "chat.completion")
equal("chat: finish", answer.choices[0].finish_reason, "stop")
check("chat: usage adds up", answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage)
check("chat: request id", answer._request_id.startswith("req_"), answer._request_id)
answer = chats.create(
    model=GOOD,
    messages=[
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi", "name": "ada"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "What is in it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}]},
    ],
    temperature=0.2, top_p=0.9, max_completion_tokens=50, seed=7, stop=["END"], presence_penalty=0.1, frequency_penalty=0.1,
    logit_bias={"1": 1}, user="ada", store=False, metadata={"job": "7"}, reasoning_effort="low", service_tier="auto", verbosity="low",
)
equal("many members: text", answer.choices[0].message.content, "hello from the model")
answer = chats.create(model=GOOD, messages=user("several"), n=2, logprobs=True, top_logprobs=0)
equal("n: choices", [choice.index for choice in answer.choices], [0, 1])
equal("logprobs: tokens", [token.token for token in answer.choices[1].logprobs.content], ["hello ", "from ", "the ", "model"])

# Streams
chunks = list(chats.create(model=GOOD, messages=user(), stream=True))
equal("stream: text", "".join(chunk.choices[0].delta.content or "" for chunk in chunks), "hello from the model")
equal("stream: one id", len({chunk.id for chunk in chunks}), 1)
equal("stream: role", chunks[0].choices[0].delta.role, "assistant")
equal("stream: finish", [chunk.choices[0].finish_reason for chunk in chunks][-1], "stop")
check("stream: no usage unasked", all(chunk.usage is None for chunk in chunks), chunks)
chunks = list(chats.create(model=GOOD, messages=user(), stream=True, stream_options={"include_usage": True}))
equal("include_usage: last has no choices", chunks[-1].choices, [])
check("include_usage: last has usage", chunks[-1].usage.total_tokens == 14, chunks[-1].usage)
check("include_usage: others have none", all(chunk.usage is None for chunk in chunks[:-1]), chunks)
chunks = list(chats.create(model=GOOD, messages=user("several"), n=2, logprobs=True, stream=True))
for index in (0, 1):
    own = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    equal(f"stream n: text {index}", "".join(choice.delta.content or "" for choice in own), "hello from the model")
    tokens = [token.token for choice in own if choice.logprobs for token in choice.logprobs.content or []]
    equal(f"stream logprobs {index}", tokens, ["hello ", "from ", "the ", "model"])
with chats.create(model=GOOD, messages=user(), stream=True) as stream:
    next(iter(stream))
check("stream: may be left early", True)
with chats.stream(model=GOOD, messages=user()) as stream:
    kinds = [event.type for event in stream]
    final = stream.get_final_completion()
equal("helper: text", final.choices[0].message.content, "hello from the model")
check("helper: events", "content.delta" in kinds and "content.done" in kinds, kinds)

# Tools
answer = chats.create(model=GOOD, messages=user(), tools=[WEATHER], parallel_tool_calls=False)
equal("tools: finish", answer.choices[0].finish_reason, "tool_calls")
is_call("tools", answer.choices[0].message.tool_calls[0])
follow = chats.create(
    model=GOOD,
    messages=[*user(), answer.choices[0].message, {"role": "tool", "tool_call_id": answer.choices[0].message.tool_calls[0].id, "content": "sunny"}],
    tools=[WEATHER],
)
equal("tools: after the result", follow.choices[0].message.content, "hello from the model")
answer = chats.create(model=GOOD, messages=user(), tools=[WEATHER], tool_choice="none")
check("tools: forbidden", answer.choices[0].message.tool_calls is None, answer)
chunks = list(chats.create(model=GOOD, messages=user(), tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "get_weather"}}, stream=True))
fragments = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
equal("tool stream: one call", [call.id for call in fragments if call.id], [fragments[0].id])
equal("tool stream: type", fragments[0].type, "function")
equal("tool stream: arguments", sorted(json.loads("".join(call.function.arguments for call in fragments))), ["city", "days"])
equal("tool stream: finish", chunks[-1].choices[0].finish_reason, "tool_calls")
second = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}}
with chats.stream(model=GOOD, messages=user(), tools=[WEATHER, second]) as stream:
    done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    final = stream.get_final_completion()
equal("tool stream: two calls", [event.name for event in done], ["get_weather", "get_time"])
equal("tool stream: assembled", [call.function.name for call in final.choices[0].message.tool_calls], ["get_weather", "get_time"])

custom = {"type": "custom", "custom": {"name": "shell", "description": "Runs a command"}}
call = chats.create(model=GOOD, messages=user(), tools=[custom]).choices[0].message.tool_calls[0]
equal("custom tool", (call.type, call.custom.name, call.custom.input), ("custom", "shell", "ls -l | wc"))
chunks = [chunk.to_dict() for chunk in chats.create(model=GOOD, messages=user(), tools=[custom], stream=True)]
fragments = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls") or []]
equal("custom tool: streamed", (fragments[0]["type"], "".join(call["custom"]["input"] for call in fragments)), ("custom", "ls -l | wc"))
check("custom tool: never a function", not any("function" in call for call in fragments), fragments)
follow = chats.create(
    model=GOOD,
    messages=[*user(), {"role": "assistant", "content": None, "tool_calls": [call.to_dict()]}, {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "3"}]}],
    tools=[custom],
)
equal("custom tool: after the result", follow.choices[0].message.content, "hello from the model")
nothing = dict.fromkeys(["stream", "stream_options", "tools", "tool_choice", "temperature", "n", "max_tokens", "response_format", "stop", "metadata", "logprobs"])
equal("null members", chats.create(model=GOOD, messages=user(), **nothing).choices[0].message.content, "hello from the model")

# Structured answers
answer = chats.parse(model=GOOD, messages=user(), response_format=City)
check("parse: object", isinstance(answer.choices[0].message.parsed, City), answer)
with chats.stream(model=GOOD, messages=user(), response_format=City) as stream:
    for _ in stream:
        pass
    check("parse: streamed", isinstance(stream.get_final_completion().choices[0].message.parsed, City))
tool = openai.pydantic_function_tool(City)
answer = chats.parse(model=GOOD, messages=user(), tools=[tool])
check("parse: tool arguments", isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, City), answer)
answer = chats.create(model=GOOD, messages=user(), response_format={"type": "json_object"})
check("json_object: answered", answer.choices[0].message.content is not None, answer)

# Hints and headers
raw = chats.with_raw_response.create(
    model=GOOD, messages=user("hinted"), extra_body={"context": {"task": "coding", "strategy": "cheapest", "colour": "blue"}}
)
equal("hints: task", raw.headers["x-stepwell-task"], "coding")
check("hints: unknown ones are a warning", "colour" in raw.headers["x-stepwell-warnings"], raw.headers)
for name in ["provider", "model", "strategy", "reason", "attempts", "cache", "cost-usd", "response-time-ms"]:
    check(f"headers: x-stepwell-{name}", f"x-stepwell-{name}" in raw.headers, raw.headers)
equal("headers: parsed all the same", raw.parse().choices[0].message.content, "hello from the model")
raw = chats.with_raw_response.create(model=GOOD, messages=user("by header"), extra_headers={"x-stepwell-task": "translation"})
equal("hints: in a header", raw.headers["x-stepwell-task"], "translation")
with chats.with_streaming_response.create(model=GOOD, messages=user(), stream=True) as streamed:
    equal("headers: of a stream", streamed.headers["content-type"], "text/event-stream")
    lines = [line for line in streamed.iter_lines() if line]
    equal("stream: ends with", lines[-1], "data: [DONE]")

# Models
models = {model.id: model for model in client.models.list()}
check("models: list", GOOD in models and "auto" in models, list(models))
equal("models: a slash in the id", client.models.retrieve(GOOD).id, GOOD)
equal("models: an alias", client.models.retrieve("auto").id, "auto")
raises("models: unknown", openai.NotFoundError, lambda: client.models.retrieve("no/such"))

# Errors
error = raises("no such model", openai.NotFoundError, lambda: chats.create(model="no-such", messages=user()))
equal("no such model: code", (error.code, error.param, error.type), ("model_not_found", "model", "invalid_request_error"))
error = raises("an empty conversation", openai.BadRequestError, lambda: chats.create(model=GOOD, messages=[]))
equal("an empty conversation: param", error.param, "messages")
check("an error has a request id", error.request_id.startswith("req_"), error.request_id)
raises("an impossible hint", openai.BadRequestError, lambda: chats.create(model=GOOD, messages=user(), extra_body={"context": {"min_skill": 7}}))
raises("provider says 400", openai.BadRequestError, lambda: chats.create(model="r400/m", messages=user()))
raises("provider says 404", openai.NotFoundError, lambda: chats.create(model="r404/m", messages=user()))
raises("provider says 422", openai.UnprocessableEntityError, lambda: chats.create(model="r422/m", messages=user()))
error = raises("provider says 429", openai.RateLimitError, lambda: chats.create(model="r429/m", messages=user()))
check("provider says 429: retry-after", int(error.response.headers["retry-after"]) >= 1, error.response.headers)
error = raises("nothing is asked until then", openai.InternalServerError, lambda: chats.create(model="r429/m", messages=user()))
equal("nothing is asked until then: code", (error.status_code, error.code), (503, "no_provider_available"))
check("nothing is asked until then: retry-after", int(error.response.headers["retry-after"]) >= 1, error.response.headers)
sent.clear()
error = raises("provider says 500", openai.InternalServerError, lambda: chats.create(model="r500/m", messages=user()))
equal("provider says 500: one request", len(sent), 1)
check("provider says 500: attempts are told", len(error.body["stepwell"]["attempts"]) >= 1, error.body)
raises("provider says 401", openai.InternalServerError, lambda: chats.create(model="r401/m", messages=user()))
sent.clear()
raises("401 is not retried", openai.InternalServerError, lambda: client.with_options(max_retries=2).chat.completions.create(model="r401/m", messages=user()))
equal("401 is not retried: requests", len(sent), 1)
sent.clear()
raises("400 is not retried", openai.BadRequestError, lambda: client.with_options(max_retries=2).chat.completions.create(model="r400/m", messages=user()))
equal("400 is not retried: requests", len(sent), 1)
raises("a client's own timeout", openai.APITimeoutError, lambda: chats.create(model="hang/m", messages=user(), timeout=0.3))
error = raises("the router's timeout", openai.InternalServerError, lambda: chats.create(model="hang/m", messages=user()))
equal("the router's timeout: status", error.status_code, 504)
raises("an error before a stream", openai.BadRequestError, lambda: chats.create(model="r400/m", messages=user(), stream=True))
error = raises("a cut stream", openai.APIError, lambda: list(chats.create(model="cut/m", messages=user(), stream=True)))
equal("a cut stream: code", error.code, "upstream_stream_interrupted")
elsewhere = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key=KEY, max_retries=0)
raises("no router at all", openai.APIConnectionError, lambda: elsewhere.models.list())
raises("moderations are not served", openai.NotFoundError, lambda: client.moderations.create(model=GOOD, input="hi"))
# Base URLs that people type.
root = BASE_URL.removesuffix("/v1")
for base in [f"{root}/v1/", root, f"{root}/openai/v1"]:
    other = openai.OpenAI(base_url=base, api_key=KEY, max_retries=0)
    equal(f"base URL {base.removeprefix(root) or '/'}", other.chat.completions.create(model=GOOD, messages=user()).object, "chat.completion")
    equal(f"base URL {base.removeprefix(root) or '/'}: a model", other.models.retrieve(GOOD).id, GOOD)
