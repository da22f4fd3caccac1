"""LiteLLM's SDK with the router as an OpenAI-compatible base."""

import litellm
from pydantic import BaseModel

from check import BASE_URL, GOOD, KEY, WEATHER, check, equal, is_call, raises, user


class City(BaseModel):
    name: str
    population: int


litellm.telemetry = False
litellm.suppress_debug_info = True


def ask(model=GOOD, **members):
    """A completion by way of the router."""
    return litellm.completion(model=f"openai/{model}", api_base=BASE_URL, api_key=KEY, messages=user(), num_retries=0, max_retries=0, timeout=20, **members)


answer = ask()
equal("completion: text", answer.choices[0].message.content, "hello from the model")
equal("completion: usage", answer.usage.total_tokens, 14)
chunks = list(ask(stream=True))
equal("stream: text", "".join(chunk.choices[0].delta.content or "" for chunk in chunks), "hello from the model")
equal("stream: finish", chunks[-1].choices[0].finish_reason, "stop")
chunks = list(ask(stream=True, stream_options={"include_usage": True}))
equal("stream: usage", [chunk.usage.total_tokens for chunk in chunks if getattr(chunk, "usage", None)], [14])
is_call("tools", ask(tools=[WEATHER]).choices[0].message.tool_calls[0])
chunks = list(ask(tools=[WEATHER], stream=True))
whole = litellm.stream_chunk_builder(chunks)
is_call("tool stream", whole.choices[0].message.tool_calls[0])
answer = ask(response_format=City)
check("json_schema", City.model_validate_json(answer.choices[0].message.content) is not None, answer)
raises("provider says 400", litellm.BadRequestError, lambda: ask("r400/m"))
raises("provider says 404", litellm.NotFoundError, lambda: ask("r404/m"))
raises("provider says 429", litellm.RateLimitError, lambda: ask("r429/m"))
try:
    list(ask("cut/m", stream=True))
    check("a cut stream raises", False)
except litellm.exceptions.APIError as error:
    check("a cut stream raises", True, error)
except Exception as error:  # the class differs between versions; silence would be the fault
    check(f"a cut stream raises ({type(error).__name__})", True)
