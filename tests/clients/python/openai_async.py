"""The official SDK, async, many at once."""

import asyncio
import json

import openai
from pydantic import BaseModel

from check import BASE_URL, GOOD, KEY, WEATHER, check, equal, is_call, raises_async, user


class City(BaseModel):
    name: str
    population: int


async def text_of(stream):
    """All text of a stream."""
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def main():
    client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=20)
    chats = client.chat.completions
    answer = await chats.create(model=GOOD, messages=user())
    equal("chat: text", answer.choices[0].message.content, "hello from the model")
    equal("stream: text", await text_of(await chats.create(model=GOOD, messages=user(), stream=True)), "hello from the model")
    stream = await chats.create(model=GOOD, messages=user(), stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    check("include_usage", chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 14, chunks[-1])
    answer = await chats.create(model=GOOD, messages=user(), tools=[WEATHER])
    is_call("tools", answer.choices[0].message.tool_calls[0])
    stream = await chats.create(model=GOOD, messages=user(), tools=[WEATHER], stream=True)
    fragments = [call async for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]
    equal("tool stream: arguments", sorted(json.loads("".join(call.function.arguments for call in fragments))), ["city", "days"])
    answer = await chats.parse(model=GOOD, messages=user(), response_format=City)
    check("parse", isinstance(answer.choices[0].message.parsed, City), answer)
    async with chats.stream(model=GOOD, messages=user(), response_format=City) as stream:
        async for _ in stream:
            pass
        check("parse: streamed", isinstance((await stream.get_final_completion()).choices[0].message.parsed, City))
    check("models", GOOD in [model.id async for model in client.models.list()])
    equal("models: one", (await client.models.retrieve(GOOD)).id, GOOD)
    answers = await asyncio.gather(*[text_of(await chats.create(model=GOOD, messages=user(f"number {n}"), stream=True)) for n in range(50)])
    equal("fifty streams", set(answers), {"hello from the model"})
    answers = await asyncio.gather(*[chats.create(model=GOOD, messages=user(f"number {n}")) for n in range(100)])
    equal("a hundred at once", len({answer._request_id for answer in answers}), 100)

    await raises_async("provider says 400", openai.BadRequestError, chats.create(model="r400/m", messages=user()))
    await raises_async("provider says 404", openai.NotFoundError, chats.create(model="r404/m", messages=user()))
    await raises_async("provider says 422", openai.UnprocessableEntityError, chats.create(model="r422/m", messages=user()))
    await raises_async("provider says 429", openai.RateLimitError, chats.create(model="r429/m", messages=user()))
    await raises_async("provider says 500", openai.InternalServerError, chats.create(model="r500/m", messages=user()))
    await raises_async("a client's own timeout", openai.APITimeoutError, chats.create(model="hang/m", messages=user(), timeout=0.3))
    await raises_async("a cut stream", openai.APIError, text_of(await chats.create(model="cut/m", messages=user(), stream=True)))
    pending = asyncio.create_task(chats.create(model="hang/m", messages=user()))
    await asyncio.sleep(0.2)
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)
    check("a cancelled call", pending.cancelled(), pending)


asyncio.run(main())
