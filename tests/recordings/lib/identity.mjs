import { createHash } from "node:crypto";

export function sha256(text) {
  return createHash("sha256").update(text, "utf8").digest("hex");
}

/** A version 4 UUID in shape, but always the same one for the same name. */
export function uuidFrom(name) {
  const bytes = createHash("sha256").update(name, "utf8").digest().subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/**
 * A source of choices in [from, to) that depend on the name alone, so that a session recorded
 * again has the same shape.
 */
export function chooser(name) {
  let count = 0;
  return (from, to) => {
    count += 1;
    const share = parseInt(sha256(`${name} ${count}`).slice(0, 8), 16) / 2 ** 32;
    return from + share * (to - from);
  };
}
