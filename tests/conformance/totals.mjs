// What a run of the official suite came to: a line for each scenario, the totals, and whether it passed.
//
//   node totals.mjs OUT PACKAGES     OUT/{revision}/server-{scenario}-{time}/checks.json; the suite's requirement sets
//
// A run passes when no check failed, scored or not, and no scenario of a set is missing, and as many checks passed as pass
// for a server that does everything. There is no list of expected failures. Warnings are printed: they never fail a run.
import { createRequire } from "node:module";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const [out, packages] = process.argv.slice(2);
const require = createRequire(join(packages, "package.json"));
const yaml = require("yaml");

// How many scenarios run, and how many checks pass (suite 0.2.0-alpha.12). A check that is not made cannot fail, so these are
// held too. A server that streams everything shows 84 and 197: ours answers a short call with JSON, so that of
// server-sse-multiple-streams one check is not made in each set.
const WHOLE = {
  "2025-11-25": { scenarios: 33, passed: 83 },
  "2026-07-28": { scenarios: 50, passed: 196 },
  "2025-06-18": { scenarios: 27, passed: 56 },
  "2025-03-26": { scenarios: 1, passed: 3 },
};

function requirements(revision) {
  const file = join(packages, "node_modules/@modelcontextprotocol/conformance/requirements", `${revision}.yaml`);
  if (!existsSync(file)) return { scored: [], unscored: [] };
  const set = yaml.parse(readFileSync(file, "utf8"));
  const unscored = (set.not_scored ?? []).filter((entry) => entry.leg === "server").map((entry) => entry.scenario);
  return { scored: set.server, unscored };
}

function results(revision) {
  const folder = join(out, revision);
  const found = new Map();
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const scenario = /^server-(.+)-\d{4}-\d\d-\d\dT[\dZ-]+$/.exec(name)?.[1];
    const file = join(folder, name, "checks.json");
    if (scenario && existsSync(file)) found.set(scenario, JSON.parse(readFileSync(file, "utf8")));
  }
  return found;
}

const problems = [];
for (const [revision, whole] of Object.entries(WHOLE)) {
  const { scored, unscored } = requirements(revision);
  const found = results(revision);
  const sum = { SUCCESS: 0, FAILURE: 0, WARNING: 0, SKIPPED: 0, INFO: 0 };
  const missing = [...scored, ...unscored].filter((scenario) => !found.has(scenario));
  let green = 0;
  let greenScored = 0;
  const silent = [];
  console.log(`\n${revision}`);
  for (const scenario of [...found.keys()].sort()) {
    const count = { SUCCESS: 0, FAILURE: 0, WARNING: 0, SKIPPED: 0, INFO: 0 };
    const told = [];
    for (const check of found.get(scenario)) {
      count[check.status] += 1;
      sum[check.status] += 1;
      const why = check.errorMessage ?? check.details?.message ?? check.description;
      if (check.status === "FAILURE" || check.status === "WARNING") told.push(`      ${check.status.toLowerCase()}: ${check.id}: ${why}`);
    }
    const isScored = scored.includes(scenario);
    const label = scored.length > 0 && !isScored ? " (not scored)" : "";
    const failed = count.FAILURE > 0 || found.get(scenario).length === 0;
    // Neither passed nor failed: skipped, or the fixture lacks what it would ask for.
    const shown = count.SUCCESS > 0;
    if (!failed && shown) green += 1;
    if (!failed && shown && isScored) greenScored += 1;
    if (!failed && !shown) silent.push(scenario);
    if (failed) problems.push(`${revision} ${scenario}${label}: ${count.FAILURE} failed`);
    const rest = [["WARNING", "warned"], ["SKIPPED", "skipped"]].filter(([status]) => count[status] > 0).map(([status, word]) => `, ${count[status]} ${word}`);
    const mark = failed ? "✗" : shown ? "✓" : "–";
    console.log(`  ${mark} ${scenario}${label}: ${count.SUCCESS} passed, ${count.FAILURE} failed${rest.join("")}`);
    for (const line of told) console.log(line);
  }
  console.log(
    `  ${revision}: ${green} of ${found.size} scenarios` +
      (scored.length ? ` (scored: ${greenScored} of ${scored.length})` : "") +
      `; checks: ${sum.SUCCESS} passed, ${sum.FAILURE} failed, ${sum.WARNING} warned, ${sum.SKIPPED} skipped` +
      (silent.length ? `; showed nothing: ${silent.join(", ")}` : ""),
  );
  for (const scenario of missing) problems.push(`${revision} ${scenario}: did not run`);
  if (found.size < whole.scenarios) problems.push(`${revision}: ${found.size} scenarios ran; there are ${whole.scenarios}`);
  if (sum.SUCCESS < whole.passed) problems.push(`${revision}: ${sum.SUCCESS} checks passed; ${whole.passed} can`);
}
if (problems.length > 0) {
  console.log(`\nNOT PASSED\n  ${problems.join("\n  ")}`);
  process.exit(1);
}
console.log("\nPASSED: no check failed, and none was expected to");
