"""LangChain's ChatOpenAI."""

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from check import BASE_URL, GOOD, KEY, check, equal, user


class City(BaseModel):
    """A city."""

    name: str
    population: int


@tool
def get_weather(city: str, days: int) -> str:
    """The weather in a city."""
    return "sunny"


model = ChatOpenAI(model=GOOD, base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=20)
answer = model.invoke([SystemMessage("Be brief."), HumanMessage("hi")])
equal("invoke: text", answer.content, "hello from the model")
equal("invoke: usage", answer.usage_metadata["total_tokens"], 14)
equal("invoke: finish", answer.response_metadata["finish_reason"], "stop")
chunks = list(model.stream("hi"))
equal("stream: text", "".join(chunk.text for chunk in chunks), "hello from the model")
with_usage = ChatOpenAI(model=GOOD, base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=20, stream_usage=True)
usages = [chunk.usage_metadata for chunk in with_usage.stream("hi") if chunk.usage_metadata]
equal("stream: usage", [usage["total_tokens"] for usage in usages], [14])
equal("batch", [answer.content for answer in model.batch(["a", "b", "c"])], ["hello from the model"] * 3)
bound = model.bind_tools([get_weather])
answer = bound.invoke("weather?")
equal("bind_tools: call", [call["name"] for call in answer.tool_calls], ["get_weather"])
equal("bind_tools: nothing unreadable", answer.invalid_tool_calls, [])
result = ToolMessage("sunny", tool_call_id=answer.tool_calls[0]["id"])
equal("bind_tools: after the result", bound.invoke([HumanMessage("weather?"), answer, result]).content, "hello from the model")
merged = None
for chunk in bound.stream("weather?"):
    merged = chunk if merged is None else merged + chunk
equal("bind_tools: streamed", [sorted(call["args"]) for call in merged.tool_calls], [["city", "days"]])
for method in ["json_schema", "function_calling"]:
    found = model.with_structured_output(City, method=method).invoke("Paris?")
    check(f"with_structured_output: {method}", isinstance(found, City), found)
answer = model.invoke([HumanMessage([{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]), AIMessage(""), HumanMessage("so?")])
equal("parts", answer.content, "hello from the model")
hinted = ChatOpenAI(model=GOOD, base_url=BASE_URL, api_key=KEY, extra_body={"context": {"task": "coding"}}, include_response_headers=True)
equal("hints", hinted.invoke("hi").response_metadata["headers"]["x-stepwell-task"], "coding")
