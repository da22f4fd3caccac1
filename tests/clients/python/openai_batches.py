"""The official SDK: files, batches, and responses that run in the background."""

import json
import time

import openai

from check import BASE_URL, KEY, check, equal, raises, user

client = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=30)
ENDED = ("completed", "failed", "expired", "cancelled")


def until(look, ended):
    for _ in range(400):
        found = look()
        if ended(found):
            return found
        time.sleep(0.05)
    check("it ends", False, found)


def line(n, model):
    body = {"model": model, "messages": user(f"question {n}")}
    return {"custom_id": f"line-{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}


lines = [line(n, "nobody" if n == 2 else "auto") for n in range(5)]
file = client.files.create(file=("lines.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
equal("a file is taken in", (file.purpose, client.files.retrieve(file.id).filename), ("batch", "lines.jsonl"))
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"job": "nightly"}
)
equal("a batch begins", (batch.status, batch.metadata), ("validating", {"job": "nightly"}))
batch = until(lambda: client.batches.retrieve(batch.id), lambda batch: batch.status in ENDED)
counts = batch.request_counts
equal("a batch ends", (batch.status, counts.total, counts.completed, counts.failed), ("completed", 5, 4, 1))
answered = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
equal("answers stand in their order", [line["custom_id"] for line in answered], ["line-0", "line-1", "line-3", "line-4"])
check("all are answers", all(line["response"]["status_code"] == 200 and line["error"] is None for line in answered))
check("with a text", answered[0]["response"]["body"]["choices"][0]["message"]["content"])
failed = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
equal("errors stand apart", (failed[0]["custom_id"], failed[0]["response"]["status_code"]), ("line-2", 404))
check("batches are listed", batch.id in [listed.id for listed in client.batches.list(limit=1)])
check("files are listed", {file.id, batch.output_file_id} <= {listed.id for listed in client.files.list()})
check("a file is deleted", client.files.delete(file.id).deleted)
error = raises("a deleted file", openai.NotFoundError, lambda: client.files.retrieve(file.id))
equal("and says so", error.code, "file_not_found")
begun = client.batches.create(
    input_file_id=batch.output_file_id, endpoint="/v1/chat/completions", completion_window="24h"
)
wrong = until(lambda: client.batches.retrieve(begun.id), lambda batch: batch.status in ENDED)
equal("wrong lines are named", (wrong.status, wrong.errors.data[0].line), ("failed", 1))

response = client.responses.create(model="auto", input="Say hello", background=True)
equal("a response runs in the background", (response.status, response.background), ("queued", True))
response = until(lambda: client.responses.retrieve(response.id), lambda now: now.status not in ("queued", "in_progress"))
check("and is answered", response.status == "completed" and response.output_text and response.usage.total_tokens, response)
error = raises("to cancel it now", openai.ConflictError, lambda: client.responses.cancel(response.id))
equal("with a reason", error.code, "request_has_ended")

accepted = client.chat.completions.with_raw_response.create(
    model="auto", messages=user(), extra_headers={"Prefer": "respond-async"}
)
equal("any request can be answered later", accepted.status_code, 202)
check("and says where", accepted.headers["location"].startswith("/v1/requests/"))
