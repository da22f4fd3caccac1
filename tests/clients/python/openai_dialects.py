"""The official SDK's other endpoints: responses, completions, embeddings."""

import json

import openai

from check import BASE_URL, GOOD, KEY, check, equal

client = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=20)
TOOL = {"type": "function", "name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}, "strict": True}

# Responses
response = client.responses.create(model=GOOD, input="hi", instructions="Be brief.", max_output_tokens=100)
equal("responses: text", response.output_text, "hello from the model")
equal("responses: status", response.status, "completed")
check("responses: id", response.id.startswith("resp_"), response.id)
check("responses: usage", response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens, response.usage)
response = client.responses.create(model=GOOD, input=[{"role": "user", "content": [{"type": "input_text", "text": "weather?"}]}], tools=[TOOL])
call = next(item for item in response.output if item.type == "function_call")
equal("responses: call", call.name, "weather")
check("responses: arguments", isinstance(json.loads(call.arguments), dict), call.arguments)
response = client.responses.create(
    model=GOOD, tools=[TOOL],
    input=[{"role": "user", "content": "weather?"}, *response.output, {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
)
equal("responses: after the tool", response.output_text, "hello from the model")
events = list(client.responses.create(model=GOOD, input="hi", stream=True))
equal("responses stream: numbers", [event.sequence_number for event in events], list(range(len(events))))
equal("responses stream: first", events[0].type, "response.created")
equal("responses stream: last", events[-1].type, "response.completed")
equal("responses stream: text", "".join(event.delta for event in events if event.type == "response.output_text.delta"), "hello from the model")
with client.responses.stream(model=GOOD, input="weather?", tools=[TOOL]) as stream:
    for _ in stream:
        pass
    final = stream.get_final_response()
equal("responses stream: call", [item.type for item in final.output], ["function_call"])
equal("responses stream: parsed name", final.output[0].name, "weather")
try:
    client.responses.create(model=GOOD, input="hi", previous_response_id="resp_1")
    check("previous_response_id: refused", False)
except openai.BadRequestError as error:
    equal("previous_response_id: refused", error.param, "previous_response_id")
events = list(client.responses.create(model="cut/m", input="hi", stream=True))
equal("responses cut: last", events[-1].type, "response.failed")

# Completions
completion = client.completions.create(model=GOOD, prompt="Say hello", max_tokens=20)
equal("completions: text", completion.choices[0].text, "hello from the model")
equal("completions: object", completion.object, "text_completion")
equal("completions: finish", completion.choices[0].finish_reason, "stop")
chunks = list(client.completions.create(model=GOOD, prompt="Say hello", stream=True, stream_options={"include_usage": True}))
equal("completions stream: text", "".join(choice.text for chunk in chunks for choice in chunk.choices), "hello from the model")
check("completions stream: usage", chunks[-1].usage.total_tokens > 0, chunks[-1])
try:
    client.completions.create(model=GOOD, prompt="x", echo=True)
    check("completions: echo refused", False)
except openai.BadRequestError as error:
    equal("completions: echo refused", error.param, "echo")

# Embeddings: the SDK asks for base64 by default and unpacks it
answer = client.embeddings.create(model=GOOD, input=["one", "two"])
equal("embeddings: order", [item.index for item in answer.data], [0, 1])
check("embeddings: numbers", all(isinstance(number, float) for number in answer.data[0].embedding), answer.data[0])
check("embeddings: usage", answer.usage.prompt_tokens > 0, answer.usage)
plain = client.embeddings.create(model=GOOD, input=["one", "two"], encoding_format="float")
check("embeddings: both forms agree", plain.data[1].embedding == answer.data[1].embedding, plain.data[1])
equal("embeddings: dimensions", len(client.embeddings.create(model=GOOD, input="x", dimensions=2).data[0].embedding), 2)

print("ok dialects")
