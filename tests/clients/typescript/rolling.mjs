// The TypeScript SDK, version 1, while every shard is replaced: it has a subscription, a log level and open questions, and keeps
// calling. No call may fail, and it may not begin again.
//
//   node rolling.mjs URL ROLL_URL
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CallToolResultSchema,
  ElicitRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { fill, finish } from "./claims.mjs";

const [url, roll] = process.argv.slice(2);
const WATCHED = "test://watched-resource";
/** A call waits for a person, who waits for the next drain. */
const PATIENT = { timeout: 180_000 };
const QUESTIONS = 3;

const progress = async () => (await fetch(roll)).json();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const client = new Client({ name: "typescript-1-rolling", version: "1" }, { capabilities: { elicitation: {} } });
let state = { rolling: true, begun: 0 };
let [asked, updates, logged] = [0, 0, 0];
// Whoever is asked answers once another drain has begun: each question is open while a shard is drained.
client.setRequestHandler(ElicitRequestSchema, async (request) => {
  asked += 1;
  const begun = state.begun;
  while (state.rolling && state.begun === begun) await pause(50);
  return { action: "accept", content: fill(request.params.requestedSchema) };
});
client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => (updates += params.uri === WATCHED));
client.setNotificationHandler(LoggingMessageNotificationSchema, () => (logged += 1));

const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
const session = transport.sessionId;
const call = (name, args) => client.callTool({ name, arguments: args }, CallToolResultSchema, PATIENT);
await client.subscribeResource({ uri: WATCHED });
await client.setLoggingLevel("info");

let [calls, answered] = [0, 0];
const calling = async () => {
  while (state.rolling) {
    const { content } = await call("greet", { name: `${calls}` });
    assert.equal(content[0].text, `Hello, ${calls}!`);
    await client.listTools();
    calls += 2;
  }
};
const questioning = async () => {
  while (state.rolling) {
    const { content } = await call("test_elicitation", { message: "Who is there?" });
    assert.match(content[0].text, /accept/);
    answered += 1;
  }
};
const working = Promise.all([calling(), ...Array.from({ length: QUESTIONS }, questioning)]);
while (asked < QUESTIONS) await Promise.race([pause(20), working]);

const before = await progress();
assert.equal((await fetch(roll, { method: "POST" })).status, 202);
const watching = (async () => {
  do {
    await pause(50);
    state = await progress();
  } while (state.rolling);
})();
try {
  await Promise.all([watching, working]);
  assert.equal(state.failed, null);
  assert.ok(state.replaced > before.replaced && calls > 0 && answered > 0);
  assert.equal(transport.sessionId, session);
  assert.equal(state.sessions, before.sessions, "somebody began again");
  // The GET stream is opened again by the SDK in its own time, and what happened before is not told again.
  for (let tries = 0; updates === 0 && tries < 40; tries += 1) {
    await call("test_trigger_resource_update", {});
    await pause(250);
  }
  assert.ok(updates > 0, "the subscription is lost");
  logged = 0;
  await call("test_tool_with_logging", {});
  assert.equal(logged, 3, "the log level is lost");
  const told = `${state.replaced - before.replaced} shards replaced under ${calls} calls and ${answered} questions`;
  console.log(`  TypeScript SDK 1, ${transport.protocolVersion}: no call fails and nothing begins again: ${told}`);
} catch (error) {
  console.error(`  TypeScript SDK 1: NOT without a failure: ${error.stack ?? error}`);
  process.exitCode = 1;
}
await client.close();
finish();
