import assert from "node:assert/strict";

import { sha256 } from "./identity.mjs";
import { SITE_ORIGIN } from "./site.mjs";

const FULL_SNAPSHOT = 2;
const INCREMENTAL = 3;
const META = 4;

const INTERACTION = 2;
const CLICK = 2;
const SOURCE_NAMES = { 0: "mutation", 1: "mouse move", 3: "scroll", 4: "viewport resize", 5: "input" };

function nameOf({ type, data }) {
  if (type !== INCREMENTAL) return undefined;
  if (data.source === INTERACTION) return data.type === CLICK ? "click" : undefined;
  return SOURCE_NAMES[data.source];
}

/** Fails if the lines are not a well-formed recording; otherwise says what is in it. */
export function checkTape(lines, file) {
  const first = lines[0];
  const last = lines.at(-1);
  assert.equal(first.kind, "replay", file);
  assert.equal(last.kind, "end", file);
  assert.ok(first.initial_url.startsWith(`${SITE_ORIGIN}/`), file);

  let latest = Date.parse(first.start_time);
  const found = { events: 0, sameMillisecond: 0, stateHashes: [], eventNames: new Set() };

  for (const [index, line] of lines.slice(1, -1).entries()) {
    const where = `${file}, line ${index + 2}`;
    if (line.kind === "webstate") {
      assert.equal(sha256(line.html_content), line.html_hash, where);
      found.stateHashes.push(line.html_hash);
      continue;
    }

    assert.equal(line.kind, "event", where);
    const { type, data, timestamp } = line.rrweb;
    assert.ok(timestamp >= latest, `${where}: earlier than the event before`);
    if (found.events > 0 && timestamp === latest) found.sameMillisecond += 1;
    latest = timestamp;
    found.events += 1;
    found.eventNames.add(nameOf(line.rrweb));

    if (type === META) assert.ok(data.href.startsWith(`${SITE_ORIGIN}/`), where);
    if (type === FULL_SNAPSHOT) {
      assert.equal(line.html_hash, found.stateHashes.at(-1), `${where}: page state not written just before`);
    } else {
      assert.equal(line.html_hash, undefined, where);
    }
  }

  assert.ok(found.stateHashes.length > 0, `${file}: holds no page`);
  assert.ok(Date.parse(last.end_time) >= latest, `${file}: ends before its last event`);
  return found;
}
