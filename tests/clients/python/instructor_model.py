"""Instructor: pydantic objects by tool call, by JSON schema and as a stream of partial objects."""

import instructor
import openai
from pydantic import BaseModel

from check import BASE_URL, GOOD, KEY, check, equal, user


class City(BaseModel):
    name: str
    population: int


plain = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=20)
for mode in [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]:
    client = instructor.from_openai(plain, mode=mode)
    city = client.chat.completions.create(model=GOOD, messages=user(), response_model=City, max_retries=1)
    check(f"{mode.name}: object", isinstance(city, City), city)
    city, raw = client.chat.completions.create_with_completion(model=GOOD, messages=user(), response_model=City, max_retries=1)
    equal(f"{mode.name}: the completion too", raw.object, "chat.completion")
client = instructor.from_openai(plain, mode=instructor.Mode.TOOLS)
partial = list(client.chat.completions.create_partial(model=GOOD, messages=user(), response_model=City, max_retries=1))
equal("partial: grows to the whole", (partial[-1].name, partial[-1].population), ("Paris", 7))
