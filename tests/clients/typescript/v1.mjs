// The TypeScript SDK, version 1: the initialize handshake, one GET stream, server-to-client requests.
//
//   node v1.mjs URL
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, ElicitRequestSchema, ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { awaited, brittleFetch, fill, finish, show } from "./claims.mjs";

const url = new URL(process.argv[2]);

async function connect() {
  const client = new Client({ name: "typescript-1", version: "1" }, { capabilities: { elicitation: {} } });
  let answered = 0;
  client.setRequestHandler(ElicitRequestSchema, (request) => {
    answered += 1;
    return { action: "accept", content: fill(request.params.requestedSchema) };
  });
  const transport = new StreamableHTTPClientTransport(url, { fetch: brittleFetch });
  await client.connect(transport);
  return {
    client,
    version: transport.protocolVersion,
    asked: () => answered,
    call: (name, args, onprogress) => client.callTool({ name, arguments: args }, CallToolResultSchema, { onprogress }),
    // The SDK opens the GET stream by itself after the handshake.
    listen: async () => () => {
      const change = awaited("notifications/tools/list_changed");
      client.setNotificationHandler(ToolListChangedNotificationSchema, () => change.settle());
      return change.promise;
    },
  };
}

await show("TypeScript SDK 1", "legacy", connect);
finish();
