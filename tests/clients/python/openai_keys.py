"""Keys of all kinds in the official SDK: each refusal is the class that says what happened."""

import json
import os

import openai

from check import BASE_URL, check, equal, raises, user

KEYS = json.loads(os.environ["KEYS"])
sent = []


def chat(key, retries=0, **more):
    http = openai.DefaultHttpxClient(event_hooks={"request": [lambda request: sent.append(request)]})
    client = openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=retries, timeout=20, http_client=http)
    return client.chat.completions.create(model=more.pop("model", "good/m"), messages=user(), **more)


equal("good key", chat(KEYS["good"]).choices[0].message.content, "hello from the model")
for name, key in [("mistyped", KEYS["good"][:-1] + "~"), ("foreign", "sk-proj-1234"), ("revoked", KEYS["revoked"]), ("expired", KEYS["expired"])]:
    error = raises(name, openai.AuthenticationError, lambda: chat(key))
    equal(f"{name}: code", error.code, "invalid_api_key")
    check(f"{name}: the key is not repeated", key not in str(error), str(error))
    sent.clear()
    raises(f"{name}, with retries", openai.AuthenticationError, lambda: chat(key, retries=2))
    equal(f"{name}: not tried again", len(sent), 1)

error = raises("model not allowed", openai.PermissionDeniedError, lambda: chat(KEYS["narrow"]))
equal("model not allowed: code", error.code, "provider_not_allowed")
equal("allowed", chat(KEYS["narrow"], model="other/m").choices[0].message.content, "hello from the model")

chat(KEYS["limited"])
error = raises("rate limited", openai.RateLimitError, lambda: chat(KEYS["limited"]))
equal("rate limited: code", error.code, "rate_limit_exceeded")
check("rate limited: when", 1 <= int(error.response.headers["retry-after"]) <= 60, error.response.headers)
equal("rate limited: what is left", error.response.headers["x-ratelimit-remaining-requests"], "0")

chat(KEYS["poor"], max_tokens=4)
error = raises("over budget", openai.RateLimitError, lambda: chat(KEYS["poor"], max_tokens=4))
equal("over budget: code", error.code, "insufficient_quota")
sent.clear()
raises("over budget, with retries", openai.RateLimitError, lambda: chat(KEYS["poor"], retries=2, max_tokens=4))
equal("over budget: not tried again", len(sent), 1)

# The same through a stream: refused before anything is streamed.
error = raises("over budget, streamed", openai.RateLimitError, lambda: chat(KEYS["poor"], stream=True, max_tokens=4))
check("request id", error.request_id.startswith("req_"), error.request_id)

client = openai.OpenAI(base_url=BASE_URL, api_key=KEYS["narrow"])
equal("models", [model.id for model in client.models.list() if "/" in model.id], ["other/m"])

again = {"Idempotency-Key": "one"}
first = chat(KEYS["good"], extra_headers=again)
equal("idempotency: the same answer", chat(KEYS["good"], extra_headers=again).id, first.id)
raises("idempotency: another body", openai.UnprocessableEntityError, lambda: chat(KEYS["good"], extra_headers=again, max_tokens=3))
