"""The `llm` tool, with the router registered the way its documentation says: in extra-openai-models.yaml."""

import os
import pathlib
import tempfile

home = tempfile.mkdtemp()
os.environ["LLM_USER_PATH"] = home

from check import BASE_URL, GOOD, KEY, check, equal  # noqa: E402

pathlib.Path(home, "extra-openai-models.yaml").write_text(
    f"- model_id: routed\n  model_name: {GOOD}\n  api_base: {BASE_URL}\n  supports_tools: true\n  supports_schema: true\n"
)

import llm  # noqa: E402

model = llm.get_model("routed")
model.key = KEY
equal("prompt: text", model.prompt("hi", stream=False).text(), "hello from the model")
pieces = list(model.prompt("hi", stream=True))
equal("stream: text", "".join(pieces), "hello from the model")
check("stream: in pieces", len(pieces) > 1, pieces)
conversation = model.conversation()
conversation.prompt("hi", stream=False).text()
equal("conversation", conversation.prompt("and?", stream=False).text(), "hello from the model")


def get_weather(city: str, days: int) -> str:
    """The weather in a city."""
    called.append((city, days))
    return "sunny"


for stream in [False, True]:
    called = []
    equal(f"tools: stream {stream}", model.chain("weather?", tools=[get_weather], stream=stream).text(), "hello from the model")
    equal(f"tools: called, stream {stream}", called, [("Paris", 7)])
schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
equal("schema", model.prompt("Paris?", schema=schema, stream=False).text().replace(" ", ""), '{"name":"Paris"}')
