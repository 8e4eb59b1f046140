// What both versions of the TypeScript SDK are made to show, against the fixture of the conformance suite. Each client brings
// an adapter: how it connects, and how it waits for a notification. A claim that does not hold ends the program with 1.
import assert from "node:assert/strict";

const PATIENCE_MS = 20_000;

/** Ends the program when nothing comes for long; a broken server must not hang the tests. */
const watchdog = setTimeout(() => {
  console.error("  nothing more came");
  process.exit(1);
}, 9 * PATIENCE_MS);

/** Answers a form as its schema wants. */
export function fill(schema) {
  const value = (property) => {
    if (property.enum) return property.enum[0];
    if (property.type === "number" || property.type === "integer") return 30;
    if (property.type === "boolean") return true;
    return property.format === "email" ? "ada@example.com" : "Ada";
  };
  return Object.fromEntries(Object.entries(schema.properties).map(([name, property]) => [name, value(property)]));
}

let cutting = false;
let cut = 0;

/** Has the next event stream of a POST cut after its first bytes; what is returned counts the cuts. */
function cutNext() {
  cutting = true;
  const before = cut;
  return () => cut - before;
}

/** A fetch whose connections can be cut. */
export async function brittleFetch(url, init) {
  const response = await fetch(url, init);
  const streams = response.headers.get("content-type")?.includes("text/event-stream");
  if (!cutting || init?.method !== "POST" || !streams) return response;
  cutting = false;
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async start(controller) {
      controller.enqueue((await reader.read()).value);
      cut += 1;
      await reader.cancel();
      controller.error(new Error("cut by the test"));
    },
  });
  return new Response(body, { status: response.status, headers: response.headers });
}

/** A promise that somebody else keeps, in time. */
export function awaited(what) {
  let settle;
  const promise = new Promise((resolve, reject) => {
    settle = resolve;
    setTimeout(() => reject(new Error(`${what} did not come in ${PATIENCE_MS} ms`)), PATIENCE_MS).unref();
  });
  return { promise, settle };
}

/**
 * @param name of the client
 * @param era "legacy" or "modern"
 * @param connect () => {client, version, call(name, arguments, onprogress), listen(): Promise<() => Promise>}; what `listen`
 *   resolves to waits for the next notifications/tools/list_changed. `asked` counts the questions that were answered.
 */
export async function show(name, era, connect) {
  const { client, version, call, listen, asked } = await connect();
  const claim = async (what, body) => {
    try {
      const told = await body();
      console.log(`  ${name}, ${version}: ${what}${told ? `: ${told}` : ""}`);
    } catch (error) {
      console.error(`  ${name}, ${version}: NOT ${what}: ${(error.stack ?? `${error}`).split("\n").slice(0, 5).join("\n")}`);
      process.exitCode = 1;
    }
  };
  const text = (result) => result.content.map((block) => block.text ?? "").join(" ");

  await claim("tools are listed and called", async () => {
    const { tools } = await client.listTools();
    assert.ok(tools.some((tool) => tool.name === "test_simple_text"));
    const result = await call("test_simple_text", {});
    assert.ok(text(result).length > 0 && !result.isError);
    return `${tools.length} tools`;
  });
  await claim("progress comes in order, before the result", async () => {
    const seen = [];
    const result = await call("test_tool_with_progress", {}, (progress) => seen.push(progress.progress));
    assert.deepEqual(seen, [0, 50, 100]);
    assert.ok(!result.isError);
  });
  await claim("resources are listed and read, text, blob and template", async () => {
    const { resources } = await client.listResources();
    assert.ok(resources.some((resource) => resource.uri === "test://static-text"));
    const { contents } = await client.readResource({ uri: "test://static-text" });
    assert.ok(contents[0].text.length > 0);
    const binary = await client.readResource({ uri: "test://static-binary" });
    assert.ok(Buffer.from(binary.contents[0].blob, "base64").length > 0);
    const { resourceTemplates } = await client.listResourceTemplates();
    assert.ok(resourceTemplates.some((template) => template.uriTemplate === "test://template/{id}/data"));
    const templated = await client.readResource({ uri: "test://template/47/data" });
    assert.match(templated.contents[0].text, /47/);
  });
  await claim("prompts are listed, completed and filled in", async () => {
    const { prompts } = await client.listPrompts();
    assert.ok(prompts.some((prompt) => prompt.name === "test_prompt_with_arguments"));
    const prompt = await client.getPrompt({ name: "test_prompt_with_arguments", arguments: { arg1: "brass", arg2: "lamp" } });
    assert.match(prompt.messages[0].content.text, /brass.*lamp/s);
    const completed = await client.complete({
      ref: { type: "ref/prompt", name: "test_prompt_with_arguments" },
      argument: { name: "arg1", value: "" },
    });
    assert.ok(Array.isArray(completed.completion.values));
  });
  await claim("a tool asks its caller, and hears the answer", async () => {
    const before = asked();
    const result = await call("test_elicitation", { message: "Who is there?" });
    assert.match(text(result), /Ada|ada@example/);
    assert.equal(asked(), before + 1, "questions");
  });
  if (era === "legacy") {
    await claim("a call whose connection the server closes is come back for", async () => {
      assert.match(text(await call("test_reconnection", {})), /came back/);
    });
    await claim("a call whose connection is cut is come back for", async () => {
      const seen = [];
      const cuts = cutNext();
      const result = await call("test_tool_with_progress", {}, (progress) => seen.push(progress.progress));
      assert.equal(cuts(), 1, "connections cut");
      assert.ok(!result.isError);
      return `${seen.join(", ")} were heard`;
    });
  }
  if (era === "modern") {
    await claim("a tool asks in several rounds", async () => {
      const result = await call("test_input_required_result_multi_round", {});
      assert.ok(text(result).length > 0 && !result.isError);
    });
  }
  await claim("a change of the tools is heard", async () => {
    const next = await listen();
    let heard = false;
    const change = next().then(() => (heard = true));
    // A legacy client does not say when its GET stream is open, and what happened before is not told again.
    for (let tries = 0; !heard && tries < 20; tries += 1) {
      await call("test_trigger_tool_change", {});
      await Promise.race([change, new Promise((resolve) => setTimeout(resolve, 500))]);
    }
    await change;
  });
  await claim("an error is an error", async () => {
    await assert.rejects(client.readResource({ uri: "test://nothing" }), (error) => [-32602, -32002].includes(error.code));
    const failed = await call("test_error_handling", {});
    assert.equal(failed.isError, true);
  });
  await client.close();
}

/** To be called at the end: what was not closed must not keep the program alive. */
export function finish() {
  clearTimeout(watchdog);
  process.exit(process.exitCode ?? 0);
}
