"""The official Python SDK while every shard is replaced: it has a subscription, a log level and open questions, and keeps
calling. No call may fail, and it may not begin again.

Usage: rolling.py URL ROLL_URL
"""

import json
import sys
import traceback
import urllib.request
from typing import Any

import anyio
from mcp import Client, types

from client import fill, text

WATCHED = "test://watched-resource"
# A call waits for a person, who waits for the next drain.
PATIENCE = 180.0
QUESTIONS = 3


class Rolling:
    """One legacy client, and what it knows of the rollout."""

    def __init__(self, url: str, roll: str) -> None:
        self.roll = roll
        self.state: dict[str, Any] = {"rolling": True, "begun": 0}
        self.asked = self.calls = self.answered = self.updates = self.logged = 0
        self.client = Client(
            url,
            mode="legacy",
            elicitation_callback=self.elicit,
            logging_callback=self.log,
            message_handler=self.message,
            read_timeout_seconds=PATIENCE,
        )

    async def progress(self, method: str = "GET") -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(urllib.request.Request(self.roll, method=method), timeout=30) as response:
                return json.load(response)

        return await anyio.to_thread.run_sync(ask)

    async def elicit(self, _context: Any, params: Any) -> types.ElicitResult:
        """Answers once another drain has begun: each question is open while a shard is drained."""
        self.asked += 1
        begun = self.state["begun"]
        while self.state["rolling"] and self.state["begun"] == begun:
            await anyio.sleep(0.05)
        return types.ElicitResult(action="accept", content=fill(params.requested_schema))

    async def log(self, _params: Any) -> None:
        self.logged += 1

    async def message(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.updates += str(message.params.uri) == WATCHED

    async def calling(self) -> None:
        while self.state["rolling"]:
            said = text(await self.client.call_tool("greet", {"name": str(self.calls)}))
            assert said == f"Hello, {self.calls}!", said
            await self.client.list_tools()
            self.calls += 2

    async def questioning(self) -> None:
        while self.state["rolling"]:
            said = text(await self.client.call_tool("test_elicitation", {"message": "Who is there?"}))
            assert "accept" in said, said
            self.answered += 1

    async def show(self) -> None:
        async with self.client:
            await self.client.session.subscribe_resource(WATCHED)
            await self.client.session.set_logging_level("info")
            before = await self.progress()
            async with anyio.create_task_group() as group:
                group.start_soon(self.calling)
                for _ in range(QUESTIONS):
                    group.start_soon(self.questioning)
                while self.asked < QUESTIONS:
                    await anyio.sleep(0.02)
                await self.progress("POST")
                while self.state["rolling"]:
                    await anyio.sleep(0.05)
                    self.state = await self.progress()
            assert self.state["failed"] is None, self.state
            replaced = self.state["replaced"] - before["replaced"]
            assert replaced > 0 and self.calls > 0 and self.answered > 0, self.state
            assert self.state["sessions"] == before["sessions"], "somebody began again"
            # The GET stream is opened again by the SDK in its own time, and what happened before is not told again.
            for _ in range(40):
                await self.client.call_tool("test_trigger_resource_update", {})
                await anyio.sleep(0.25)
                if self.updates:
                    break
            assert self.updates, "the subscription is lost"
            self.logged = 0
            await self.client.call_tool("test_tool_with_logging", {})
            assert self.logged == 3, f"the log level is lost: {self.logged}"
            told = f"{replaced} shards replaced under {self.calls} calls and {self.answered} questions"
            print(f"  Python SDK, {self.client.protocol_version}: no call fails and nothing begins again: {told}")


async def main() -> int:
    try:
        with anyio.fail_after(PATIENCE):
            await Rolling(sys.argv[1], sys.argv[2]).show()
    except BaseException:
        print(f"  Python SDK: NOT without a failure:\n{traceback.format_exc(limit=-3)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
