"""Pydantic AI: agents with text, tools and typed output."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from check import BASE_URL, GOOD, KEY, check, equal


class City(BaseModel):
    name: str
    population: int


def model(name=GOOD):
    """A model behind the router."""
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=BASE_URL, api_key=KEY))


async def main():
    agent = Agent(model(), instructions="Be brief.")
    result = await agent.run("hi")
    equal("run: text", result.output, "hello from the model")
    usage = result.usage() if callable(result.usage) else result.usage
    equal("run: usage", usage.output_tokens, 4)
    async with agent.run_stream("hi") as stream:
        pieces = [piece async for piece in stream.stream_text(delta=True)]
    equal("run_stream: text", "".join(pieces), "hello from the model")
    result = await Agent(model(), output_type=City).run("Paris?")
    check("structured output", isinstance(result.output, City), result)
    async with Agent(model(), output_type=City).run_stream("Paris?") as stream:
        check("structured output: streamed", isinstance(await stream.get_output(), City))
    called = []
    tools = Agent(model())

    @tools.tool_plain
    def get_weather(city: str, days: int) -> str:
        """The weather in a city."""
        called.append((city, days))
        return "sunny"

    result = await tools.run("weather?")
    equal("tools: text after the call", result.output, "hello from the model")
    equal("tools: called", called, [("Paris", 7)])
    async with tools.run_stream("weather?") as stream:
        equal("tools: streamed", await stream.get_output(), "hello from the model")
    equal("tools: called again", len(called), 2)
    try:
        await Agent(model("r400/m")).run("hi")
        check("an error", False)
    except ModelHTTPError as error:
        equal("an error: status", error.status_code, 400)


asyncio.run(main())
