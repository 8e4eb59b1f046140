// The TypeScript SDK, version 2: in both eras, and as it chooses by itself.
//
//   node v2.mjs URL
import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { awaited, brittleFetch, fill, finish, show } from "./claims.mjs";

const url = new URL(process.argv[2]);

function client(mode) {
  const options = { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode } };
  return new Client({ name: "typescript-2", version: "1" }, options);
}

const connect = (mode) => async () => {
  const connected = client(mode);
  let answered = 0;
  connected.setRequestHandler("elicitation/create", (request) => {
    answered += 1;
    return { action: "accept", content: fill(request.params.requestedSchema) };
  });
  await connected.connect(new StreamableHTTPClientTransport(url, { fetch: brittleFetch }));
  return {
    client: connected,
    version: connected.getNegotiatedProtocolVersion(),
    asked: () => answered,
    call: (name, args, onprogress) => connected.callTool({ name, arguments: args }, { onprogress }),
    listen: async () => {
      const change = awaited("notifications/tools/list_changed");
      connected.setNotificationHandler("notifications/tools/list_changed", () => change.settle());
      if (mode === "legacy") return () => change.promise;
      const subscription = await connected.listen({ toolsListChanged: true });
      assert.deepEqual(subscription.honoredFilter, { toolsListChanged: true });
      return () => change.promise.finally(() => subscription.close());
    },
  };
};

await show("TypeScript SDK 2", "legacy", connect("legacy"));
await show("TypeScript SDK 2", "modern", connect({ pin: "2026-07-28" }));
const automatic = client("auto");
await automatic.connect(new StreamableHTTPClientTransport(url));
console.log(`  TypeScript SDK 2, auto: chooses ${automatic.getNegotiatedProtocolVersion()}`);
assert.equal(automatic.getNegotiatedProtocolVersion(), "2026-07-28");
finish();
