"""What every client's script shares: where the router is, and one line for every check."""

import json
import os
import sys

BASE_URL = os.environ["BASE_URL"]
# Where the models live: a scripted provider of this name, `good/m`, or what the environment says.
GOOD = os.environ.get("GOOD", "good/m")
KEY = "sk-any"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def user(text="What is the capital of France?"):
    """A conversation of one turn."""
    return [{"role": "user", "content": text}]


def check(name, holds, seen=None):
    """Prints the outcome; ends the script at the first that does not hold."""
    if holds:
        print(f"ok   {name}", flush=True)
        return
    print(f"FAIL {name}: {seen!r}", flush=True)
    sys.exit(1)


def equal(name, seen, expected):
    """Checks that what was seen is what was expected."""
    check(name, seen == expected, {"seen": seen, "expected": expected})


def raises(name, kind, do):
    """Checks that a call raises this very class, and gives the error back."""
    try:
        seen = do()
    except kind as error:
        check(f"{name} raises {kind.__name__}", type(error) is kind, error)
        return error
    except Exception as error:  # the point of the check is to show whatever came instead
        check(f"{name} raises {kind.__name__}", False, error)
    check(f"{name} raises {kind.__name__}", False, seen)


async def raises_async(name, kind, pending):
    """The same for an awaitable."""
    try:
        seen = await pending
    except Exception as error:  # as above
        check(f"{name} raises {kind.__name__}", type(error) is kind, error)
        return error
    check(f"{name} raises {kind.__name__}", False, seen)


def is_call(name, call):
    """Checks a call of WEATHER in the shape of OpenAI."""
    equal(f"{name}: name", call.function.name, "get_weather")
    check(f"{name}: id", bool(call.id), call.id)
    arguments = json.loads(call.function.arguments)
    equal(f"{name}: arguments", sorted(arguments), ["city", "days"])
