"""The OpenAI Agents SDK on chat completions: a run with a function tool, typed output, and a streamed run."""

import asyncio

import openai
from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from pydantic import BaseModel

from check import BASE_URL, GOOD, KEY, check, equal

set_tracing_disabled(True)
client = openai.AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=20)
called = []


class City(BaseModel):
    name: str
    population: int


@function_tool
def get_weather(city: str, days: int) -> str:
    """The weather in a city."""
    called.append((city, days))
    return "sunny"


async def main():
    model = OpenAIChatCompletionsModel(model=GOOD, openai_client=client)
    plain = Agent(name="plain", instructions="Be brief.", model=model)
    equal("run: text", (await Runner.run(plain, "hi")).final_output, "hello from the model")
    tools = Agent(name="tools", instructions="Use tools.", model=model, tools=[get_weather])
    result = await Runner.run(tools, "weather?")
    equal("tools: text after the call", result.final_output, "hello from the model")
    equal("tools: called", called, [("Paris", 7)])
    streamed = Runner.run_streamed(tools, "weather?")
    kinds = [event.type async for event in streamed.stream_events()]
    equal("streamed: text", streamed.final_output, "hello from the model")
    check("streamed: events", "run_item_stream_event" in kinds, kinds)
    equal("streamed: called", len(called), 2)
    typed = Agent(name="typed", model=model, output_type=City)
    check("typed output", isinstance((await Runner.run(typed, "Paris?")).final_output, City))


asyncio.run(main())
