"""fastmcp against the fixture of the conformance suite, in both eras. It stands on the official SDK, and adds its own
handlers of progress, elicitation and results.

Usage: client.py URL
"""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult

PATIENCE = 60
failed = False


async def claim(client: Client, what: str, body: Callable[[], Awaitable[None]]) -> None:
    global failed
    version = client.session.protocol_version
    try:
        async with asyncio.timeout(PATIENCE):
            await body()
        print(f"  fastmcp, {version}: {what}")
    except Exception:
        failed = True
        print(f"  fastmcp, {version}: NOT {what}:\n{traceback.format_exc(limit=-1)}", file=sys.stderr)


async def show(url: str, mode: str) -> None:
    seen: list[float] = []
    asked: list[str] = []

    async def progress(progress: float, _total: float | None, _message: str | None) -> None:
        seen.append(progress)

    async def elicit(message: str, _type: Any, params: Any, _context: Any) -> ElicitResult:
        asked.append(message)
        properties = params.requested_schema["properties"]
        answers = {name: "ada@example.com" if of.get("format") == "email" else "Ada" for name, of in properties.items()}
        return ElicitResult(action="accept", content=answers)

    async with Client(url, mode=mode, progress_handler=progress, elicitation_handler=elicit, timeout=PATIENCE) as client:

        async def tools() -> None:
            assert any(tool.name == "test_simple_text" for tool in await client.list_tools())
            assert (await client.call_tool("test_simple_text", {})).content[0].text
            result = await client.call_tool("test_error_handling", {}, raise_on_error=False)
            assert result.is_error, result

        async def in_order() -> None:
            await client.call_tool("test_tool_with_progress", {})
            assert seen == [0, 50, 100], seen

        async def resources() -> None:
            assert any(str(resource.uri) == "test://static-text" for resource in await client.list_resources())
            assert (await client.read_resource("test://static-text"))[0].text
            assert (await client.read_resource("test://static-binary"))[0].blob
            assert "47" in (await client.read_resource("test://template/47/data"))[0].text

        async def prompts() -> None:
            assert any(prompt.name == "test_prompt_with_arguments" for prompt in await client.list_prompts())
            prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "brass", "arg2": "lamp"})
            assert "brass" in prompt.messages[0].content.text, prompt

        async def elicitation() -> None:
            result = await client.call_tool("test_elicitation", {"message": "Who is there?"})
            assert "Ada" in result.content[0].text or "ada@example" in result.content[0].text, result
            assert len(asked) == 1, asked

        await claim(client, "tools are listed and called", tools)
        await claim(client, "progress comes in order, before the result", in_order)
        await claim(client, "resources are listed and read, text, blob and template", resources)
        await claim(client, "prompts are listed and filled in", prompts)
        await claim(client, "a tool asks its caller, and hears the answer", elicitation)


async def main(url: str) -> None:
    await show(url, "legacy")
    await show(url, "auto")


asyncio.run(main(sys.argv[1]))
sys.exit(1 if failed else 0)
