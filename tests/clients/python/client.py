"""The official Python SDK against the fixture of the conformance suite, in both eras.

Usage: client.py URL
"""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import Client, MCPError, types

PATIENCE = 20.0
failed = False


def fill(schema: dict[str, Any]) -> dict[str, Any]:
    """Answers a form as its schema wants."""

    def value(of: dict[str, Any]) -> Any:
        if "enum" in of:
            return of["enum"][0]
        match of.get("type"):
            case "number" | "integer":
                return 30
            case "boolean":
                return True
        return "ada@example.com" if of.get("format") == "email" else "Ada"

    return {name: value(of) for name, of in schema["properties"].items()}


def text(result: Any) -> str:
    return " ".join(getattr(block, "text", "") for block in result.content)


class Shown:
    """One client of one era."""

    def __init__(self, url: str, mode: str) -> None:
        self.asked = 0
        self.changed = anyio.Event()
        self.client = Client(
            url, mode=mode, elicitation_callback=self.elicit, message_handler=self.message, read_timeout_seconds=PATIENCE
        )

    async def elicit(self, _context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked += 1
        assert isinstance(params, types.ElicitRequestFormParams), params
        return types.ElicitResult(action="accept", content=fill(params.requested_schema))

    async def message(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.changed.set()

    async def claim(self, what: str, body: Callable[[], Awaitable[None]]) -> None:
        global failed
        try:
            with anyio.fail_after(3 * PATIENCE):
                await body()
            print(f"  Python SDK, {self.client.protocol_version}: {what}")
        except Exception:
            failed = True
            print(f"  Python SDK, {self.client.protocol_version}: NOT {what}:\n{traceback.format_exc(limit=-1)}", file=sys.stderr)

    async def tools(self) -> None:
        listed = await self.client.list_tools()
        assert any(tool.name == "test_simple_text" for tool in listed.tools), listed
        result = await self.client.call_tool("test_simple_text", {})
        assert text(result) and not result.is_error, result
        assert (await self.client.call_tool("test_error_handling", {})).is_error

    async def progress(self) -> None:
        seen: list[float] = []

        async def note(progress: float, _total: float | None, _message: str | None) -> None:
            seen.append(progress)

        result = await self.client.call_tool("test_tool_with_progress", {}, progress_callback=note)
        assert not result.is_error, result
        assert seen == [0, 50, 100], seen

    async def resources(self) -> None:
        listed = await self.client.list_resources()
        assert any(str(resource.uri) == "test://static-text" for resource in listed.resources), listed
        assert (await self.client.read_resource("test://static-text")).contents[0].text
        assert (await self.client.read_resource("test://static-binary")).contents[0].blob
        assert (await self.client.list_resource_templates()).resource_templates
        assert "47" in (await self.client.read_resource("test://template/47/data")).contents[0].text
        try:
            await self.client.read_resource("test://nothing")
        except MCPError as error:
            assert error.error.code in (-32602, -32002), error
        else:
            raise AssertionError("a resource that is not there was read")

    async def prompts(self) -> None:
        listed = await self.client.list_prompts()
        assert any(prompt.name == "test_prompt_with_arguments" for prompt in listed.prompts), listed
        prompt = await self.client.get_prompt("test_prompt_with_arguments", {"arg1": "brass", "arg2": "lamp"})
        said = prompt.messages[0].content.text
        assert "brass" in said and "lamp" in said, said
        reference = types.PromptReference(name="test_prompt_with_arguments")
        completed = await self.client.complete(reference, {"name": "arg1", "value": ""})
        assert isinstance(completed.completion.values, list), completed

    async def elicitation(self) -> None:
        before = self.asked
        result = await self.client.call_tool("test_elicitation", {"message": "Who is there?"})
        assert "Ada" in text(result) or "ada@example" in text(result), result
        assert self.asked == before + 1, self.asked

    async def rounds(self) -> None:
        result = await self.client.call_tool("test_input_required_result_multi_round", {})
        assert text(result) and not result.is_error, result

    async def listen_modern(self) -> None:
        async with self.client.listen(tools_list_changed=True) as subscription:
            assert subscription.honored.tools_list_changed, subscription.honored
            await self.client.call_tool("test_trigger_tool_change", {})
            with anyio.fail_after(PATIENCE):
                await anext(subscription)

    async def listen_legacy(self) -> None:
        # The SDK does not say when its GET stream is open, and what happened before is not told again.
        for _ in range(20):
            await self.client.call_tool("test_trigger_tool_change", {})
            with anyio.move_on_after(0.5):
                await self.changed.wait()
                return
        raise AssertionError("no change was heard")

    async def subscribe(self) -> None:
        session = self.client.session
        await session.subscribe_resource("test://watched-resource")
        await session.unsubscribe_resource("test://watched-resource")

    async def show(self) -> None:
        async with self.client:
            modern = self.client.protocol_version >= "2026-07-28"
            await self.claim("tools are listed and called", self.tools)
            await self.claim("progress comes in order, before the result", self.progress)
            await self.claim("resources are listed and read, text, blob and template", self.resources)
            await self.claim("prompts are listed, completed and filled in", self.prompts)
            await self.claim("a tool asks its caller, and hears the answer", self.elicitation)
            if modern:
                await self.claim("a tool asks in several rounds", self.rounds)
                await self.claim("a change of the tools is heard", self.listen_modern)
            else:
                await self.claim("a change of the tools is heard", self.listen_legacy)
                await self.claim("a resource is subscribed to", self.subscribe)


async def main(url: str) -> None:
    await Shown(url, "legacy").show()
    automatic = Shown(url, "auto")
    await automatic.show()
    assert automatic.client is not None


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
    sys.exit(1 if failed else 0)
