"""Calls the tool `greet` of an MCP server with the official Python SDK, in both eras, and prints what came back.

Usage: call.py URL
"""

import asyncio
import sys

from mcp import Client


async def call(url: str, mode: str) -> None:
    async with Client(url, mode=mode) as client:
        tools = await client.list_tools()
        result = await client.call_tool("greet", {})
        texts = [block.text for block in result.content]
        print(f"    MCP {client.protocol_version}, {client.server_info.name} {client.server_info.version}")
        print(f"      tools: {', '.join(tool.name for tool in tools.tools)}")
        print(f"      greet: {' '.join(texts)}")
        if texts != ["Hello from MCP."]:
            sys.exit(f"unexpected answer: {result}")


async def main(url: str) -> None:
    await call(url, "auto")
    await call(url, "legacy")


asyncio.run(main(sys.argv[1]))
