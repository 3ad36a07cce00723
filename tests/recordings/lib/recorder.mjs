import { readFile } from "node:fs/promises";

import { chooser, sha256, uuidFrom } from "./identity.mjs";
import { SITE_ORIGIN, serveSite } from "./site.mjs";
import { Visitor } from "./visitor.mjs";

const USER_AGENT =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";

// rrweb's package exports name only module builds; a page needs the script build beside them.
const RRWEB_SCRIPT = new URL("rrweb.umd.min.cjs", import.meta.resolve("rrweb"));

/** Runs in the page. Sends each event, and with a full snapshot the page's HTML at that moment. */
function recordPage(siteOrigin) {
  // The blank page that a new tab starts with is not part of the visit.
  if (location.origin !== siteOrigin) return;

  const FULL_SNAPSHOT = 2;
  rrweb.record({
    emit(event) {
      const html =
        event.type === FULL_SNAPSHOT
          ? `${new XMLSerializer().serializeToString(document.doctype)}\n${document.documentElement.outerHTML}`
          : undefined;
      sendToTape(JSON.stringify({ event, html }));
    },
  });
}

function tapeLines({ event, html }) {
  if (html === undefined) return [{ kind: "event", rrweb: event }];

  const htmlHash = sha256(html);
  return [
    { kind: "webstate", html_hash: htmlHash, captured_at: event.timestamp, html_content: html },
    { kind: "event", html_hash: htmlHash, rrweb: event },
  ];
}

/** Plays one visit in a browser of its own profile and returns the lines of its recording. */
export async function recordSession(browser, session) {
  const context = await browser.newContext({ viewport: session.viewport, userAgent: USER_AGENT, locale: "en-GB" });
  const recorded = [];
  await serveSite(context);
  await context.exposeFunction("sendToTape", (message) => {
    recorded.push(...tapeLines(JSON.parse(message)));
  });
  const rrwebScript = await readFile(RRWEB_SCRIPT, "utf8");
  // One script, because the order of several is not defined. rrweb's ends in a line comment and
  // without a semicolon.
  await context.addInitScript({ content: `${rrwebScript}\n;(${recordPage})(${JSON.stringify(SITE_ORIGIN)});` });

  const page = await context.newPage();
  const initialUrl = `${SITE_ORIGIN}/${session.firstPage}`;
  const startTime = new Date();
  await page.goto(initialUrl);
  const visitor = new Visitor(page, chooser(session.name));
  await session.visit(visitor);
  await visitor.letRecorderCatchUp();
  const endTime = new Date();
  await context.close();

  return [
    {
      kind: "replay",
      replay_id: uuidFrom(`replay ${session.name}`),
      user: session.user,
      start_time: startTime.toISOString(),
      initial_url: initialUrl,
      user_agent: USER_AGENT,
      viewport: session.viewport,
    },
    ...recorded,
    { kind: "end", end_time: endTime.toISOString() },
  ];
}
