// Checks every sample session and prints the table for README.md: node check.mjs
import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";

import { checkTape } from "./lib/tape-check.mjs";
import { readTape } from "./lib/tape.mjs";

const SESSION_FOLDER = new URL("sessions/", import.meta.url);
const SMALLEST_COUNT = 12;
const LARGEST_TOTAL = 1.5e6;

const totals = { events: 0, sameMillisecond: 0, pageStates: 0, size: 0 };
const distinctStates = new Set();
const eventNames = new Set();
const rows = [];

const files = (await readdir(SESSION_FOLDER)).sort();
for (const file of files) {
  const { lines, size } = await readTape(new URL(file, SESSION_FOLDER));
  const found = checkTape(lines, file);

  totals.events += found.events;
  totals.sameMillisecond += found.sameMillisecond;
  totals.pageStates += found.stateHashes.length;
  totals.size += size;
  for (const hash of found.stateHashes) distinctStates.add(hash);
  for (const name of found.eventNames) eventNames.add(name);

  const session = file.replace(".jsonl.gz", "");
  rows.push([session, found.events, found.sameMillisecond, found.stateHashes.length, new Set(found.stateHashes).size, size]);
}
rows.push(["**all**", totals.events, totals.sameMillisecond, totals.pageStates, distinctStates.size, totals.size]);

assert.ok(files.length >= SMALLEST_COUNT, "too few sessions");
assert.ok(totals.size < LARGEST_TOTAL, "too many bytes");
assert.ok(totals.sameMillisecond > 0, "no two events in the same millisecond");
for (const name of ["click", "input", "scroll", "mutation", "viewport resize", "mouse move"]) {
  assert.ok(eventNames.has(name), `no ${name} event`);
}

const table = [
  "| session | events | in the same ms as the one before | page states | distinct | bytes |",
  "|---|---:|---:|---:|---:|---:|",
  ...rows.map((row) => `| ${row.join(" | ")} |`),
].join("\n");
console.log(table);

const readme = await readFile(new URL("README.md", import.meta.url), "utf8");
assert.ok(readme.includes(table), "README.md holds another table: put this one in its place");
