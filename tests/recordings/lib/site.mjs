import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

// A fixed, reserved host name keeps ports and machine names out of the recordings, so that a page
// state is the same bytes wherever it is recorded.
export const SITE_ORIGIN = "http://needle-and-groove.example";

const SITE_FOLDER = fileURLToPath(new URL("../site/", import.meta.url));

const CONTENT_TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Answers the site's requests from the site folder and refuses every other one. */
export async function serveSite(context) {
  await context.route("**/*", async (route) => {
    const url = new URL(route.request().url());
    if (url.origin !== SITE_ORIGIN) return route.abort();

    const file = path.join(SITE_FOLDER, decodeURIComponent(url.pathname));
    return route.fulfill({
      contentType: CONTENT_TYPES[path.extname(file)],
      body: await readFile(file),
    });
  });
}
