// Records every sample session anew: node record.mjs
import { mkdir, rm } from "node:fs/promises";
import { chromium } from "playwright-core";

import { recordSession } from "./lib/recorder.mjs";
import { sessions } from "./lib/sessions.mjs";
import { writeTape } from "./lib/tape.mjs";

const OUTPUT_FOLDER = new URL("sessions/", import.meta.url);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

try {
  await rm(OUTPUT_FOLDER, { recursive: true, force: true });
  await mkdir(OUTPUT_FOLDER);
  for (const [index, session] of sessions.entries()) {
    const number = String(index).padStart(2, "0");
    const file = `${number}-${session.name}.jsonl.gz`;
    await writeTape(new URL(file, OUTPUT_FOLDER), await recordSession(browser, session));
    console.log(file);
  }
} finally {
  await browser.close();
}
