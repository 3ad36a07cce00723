import { readFile, writeFile } from "node:fs/promises";
import { gunzipSync, gzipSync } from "node:zlib";

/** Writes a session's lines. Node's gzip header carries no time, so equal lines give equal files. */
export async function writeTape(file, lines) {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  await writeFile(file, gzipSync(text, { level: 9 }));
}

/** Reads a session's lines and the size of its file in bytes. */
export async function readTape(file) {
  const packed = await readFile(file);
  const lines = gunzipSync(packed).toString("utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
  return { lines, size: packed.length };
}
