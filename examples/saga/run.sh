#!/usr/bin/env bash
# An article in three steps, each made of the one before: outline, draft, title. If a later one fails for good, the editors
# are told. Needs a running server (`cargo run --release`), curl and python3.
#
#   examples/saga/run.sh [http://127.0.0.1:4000]
#
# Kill the server in between and start it again: the saga goes on where it was.
set -euo pipefail
server=${1:-http://127.0.0.1:4000}
declared=$(dirname "$0")/article.json

accepted=$(curl -fsS "$server/v1/sagas" -H 'content-type: application/json' --data-binary "@$declared")
status_url=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["status_url"])' <<<"$accepted")
echo "accepted: $server$status_url" >&2
curl -fsS "$server$status_url" -H 'prefer: wait=300' | python3 -c '
import json, sys
saga = json.load(sys.stdin)
print(saga["status"])
for step in (saga["result"] or {}).get("steps", []):
    choices = (step.get("result") or {}).get("choices") or [{}]
    text = choices[0].get("message", {}).get("content", step.get("error") or "")
    print("\n== %s (%s)\n%s" % (step["name"], step["status"], text))
'
