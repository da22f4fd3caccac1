"""The official SDK against the embedded demo provider: what someone sees who has no key yet."""

import json

import openai
from pydantic import BaseModel

from check import BASE_URL, KEY, WEATHER, check, equal, is_call, raises, user

client = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=30)
chats = client.chat.completions


class City(BaseModel):
    name: str
    population: int


for model in ["auto", "demo/small", "small"]:
    answer = chats.create(model=model, messages=user())
    check(f"{model}: text", "demo" in answer.choices[0].message.content, answer)
    check(f"{model}: created is a time", answer.created > 1_500_000_000, answer.created)
stream = chats.create(model="auto", messages=user("Write a haiku"), stream=True, stream_options={"include_usage": True})
chunks = list(stream)
check("stream: text", len("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)) > 20)
check("stream: created is a time", chunks[0].created > 1_500_000_000, chunks[0].created)
check("stream: usage", chunks[-1].usage.completion_tokens > 5, chunks[-1])
answer = chats.create(model="demo/small", messages=user(), tools=[WEATHER])
is_call("tools", answer.choices[0].message.tool_calls[0])
fragments = [
    call
    for chunk in chats.create(model="demo/small", messages=user(), tools=[WEATHER], stream=True)
    for call in chunk.choices[0].delta.tool_calls or []
]
equal("tool stream: arguments", sorted(json.loads("".join(call.function.arguments for call in fragments))), ["city", "days"])
answer = chats.parse(model="demo/small", messages=user(), response_format=City)
check("parse", isinstance(answer.choices[0].message.parsed, City), answer)
with chats.stream(model="demo/small", messages=user(), response_format=City) as stream:
    for _ in stream:
        pass
    check("parse: streamed", isinstance(stream.get_final_completion().choices[0].message.parsed, City))
equal("models: a slash in the id", client.models.retrieve("demo/small").id, "demo/small")
raises("a fault", openai.InternalServerError, lambda: chats.create(model="demo/small", messages=user("hi [[fault status=500 on=small]]")))
error = raises("a cut", openai.APIError, lambda: list(chats.create(model="demo/small", messages=user("hi [[fault cut_after=3 on=small]]"), stream=True)))
raw = chats.with_raw_response.create(model="auto", messages=user("hi [[fault status=503 on=small]]"))
equal("a fault is hidden", raw.http_response.status_code, 200)
# The same question again comes from memory, in whatever shape it is asked for.
schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": City.model_json_schema()}}
for members in [{}, {"response_format": schema}]:
    first = chats.create(model="demo/medium", messages=user("from memory"), temperature=0, **members)
    again = chats.with_raw_response.create(model="demo/medium", messages=user("from memory"), temperature=0, stream=True, stream_options={"include_usage": True}, **members)
    equal(f"cache: a hit {sorted(members)}", again.headers["x-stepwell-cache"], "hit")
    chunks = list(again.parse())
    choices = [choice for chunk in chunks for choice in chunk.choices]
    for choice in first.choices:
        own = [piece for piece in choices if piece.index == choice.index]
        equal("cache: text", "".join(piece.delta.content or "" for piece in own), choice.message.content or "")
        equal("cache: finish", [piece.finish_reason for piece in own if piece.finish_reason], [choice.finish_reason])
    check("cache: usage", chunks[-1].usage is not None, chunks[-1])
