"""Anthropic's official SDK, blocking, over a provider that speaks OpenAI's dialect."""

import os

import anthropic

from check import GOOD, check, equal

# The SDK appends `/v1` itself; a base URL that has one already is forgiven.
base = os.environ["BASE_URL"].removesuffix("/v1")
client = anthropic.Anthropic(base_url=base, api_key="any", max_retries=0, timeout=20)
TOOL = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def hello(text="hi"):
    return [{"role": "user", "content": text}]


# Messages
message = client.messages.create(model=GOOD, max_tokens=100, system="Be brief.", messages=hello())
equal("message: text", message.content[0].text, "hello from the model")
equal("message: stop", message.stop_reason, "end_turn")
check("message: id", message.id.startswith("msg_"), message.id)
check("message: usage", message.usage.input_tokens > 0 and message.usage.output_tokens > 0, message.usage)
message = client.with_options(base_url=base + "/v1").messages.create(model=GOOD, max_tokens=100, messages=hello())
equal("a second /v1 is forgiven", message.content[0].text, "hello from the model")

# Tools, a whole turn
message = client.messages.create(model=GOOD, max_tokens=100, messages=hello("weather?"), tools=[TOOL])
equal("tool: stop", message.stop_reason, "tool_use")
call = next(block for block in message.content if block.type == "tool_use")
equal("tool: name", call.name, "weather")
check("tool: input is an object", isinstance(call.input, dict), call.input)
message = client.messages.create(
    model=GOOD, max_tokens=100, tools=[TOOL],
    messages=[*hello("weather?"), {"role": "assistant", "content": message.content}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}],
)
equal("tool: answer", message.content[0].text, "hello from the model")

# Streams
with client.messages.stream(model=GOOD, max_tokens=100, messages=hello()) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
equal("stream: text", text, "hello from the model")
equal("stream: final", final.content[0].text, "hello from the model")
equal("stream: stop", final.stop_reason, "end_turn")
check("stream: usage", final.usage.output_tokens > 0, final.usage)
with client.messages.stream(model=GOOD, max_tokens=100, messages=hello("weather?"), tools=[TOOL]) as stream:
    kinds = {event.type for event in stream}
    final = stream.get_final_message()
equal("stream tool: stop", final.stop_reason, "tool_use")
check("stream tool: input", isinstance(final.content[-1].input, dict), final.content)
check("stream: events", {"message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"} <= kinds, kinds)

# Counting
counted = client.messages.count_tokens(model=GOOD, messages=hello("one two three"))
check("count", 3 <= counted.input_tokens <= 20, counted)
check("models", any(model.id == "auto" for model in client.models.list()), "no auto")


# Errors
def fails(name, kind, model, **more):
    try:
        client.messages.create(model=model, max_tokens=10, messages=hello(), **more)
    except kind as error:
        body = error.body
        check(name, body["type"] == "error" and body["error"]["message"], body)
    else:
        check(name, False, "no error")


fails("400", anthropic.BadRequestError, "r400/m")
fails("404", anthropic.NotFoundError, "no-such-model")
fails("429", anthropic.RateLimitError, "r429/m")
fails("500", anthropic.InternalServerError, "r500/m")
# The router's own key is wrong, not the caller's.
try:
    client.messages.create(model="r401/m", max_tokens=10, messages=hello())
except anthropic.AuthenticationError as error:
    check("401", False, error)
except anthropic.APIStatusError as error:
    check("401", error.status_code >= 500, error)

# A cut stream never looks finished
try:
    with client.messages.stream(model="cut/m", max_tokens=10, messages=hello()) as stream:
        for _ in stream:
            pass
except anthropic.APIError as error:
    check("cut: raises", True, error)
else:
    check("cut: raises", False, "the stream looks finished")

print("ok anthropic")
