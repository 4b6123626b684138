// Canonical JSON (RFC 8785), Merkle trees (RFC 9162) and shares, with nothing but WebCrypto.

const encoder = new TextEncoder();

export function canonical(value) {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  // JavaScript orders strings by UTF-16 code units, which is what the standard asks for.
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${members.join(",")}}`;
}

export async function sha256(...parts) {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const joined = new Uint8Array(size);
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined));
}

export const utf8 = (text) => encoder.encode(text);
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const fromHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

const leafHash = (data) => sha256(Uint8Array.of(0), data);
const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

// RFC 9162, section 2.1.3.2. Sizes are far below 2**53, so plain numbers and division do.
export async function rootOf(data, index, size, proof) {
  if (!(index >= 0 && index < size)) throw new Error(`there is no leaf ${index} in ${size}`);
  let node = index;
  let last = size - 1;
  let hash = await leafHash(data);
  for (const step of proof) {
    if (last === 0) throw new Error("the proof is too long");
    if (node % 2 === 1 || node === last) {
      hash = await nodeHash(step, hash);
      while (node % 2 === 0 && node !== 0) {
        node = Math.floor(node / 2);
        last = Math.floor(last / 2);
      }
    } else {
      hash = await nodeHash(hash, step);
    }
    node = Math.floor(node / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new Error("the proof is too short");
  return hash;
}

// A checkpoint is three lines (origin, size, root), an empty line, then signatures.
export function readCheckpoint(note) {
  const cut = note.lastIndexOf("\n\n");
  const text = note.slice(0, cut + 1);
  const [origin, size, root] = text.split("\n");
  const signatures = note.slice(cut + 2).split("\n").filter(Boolean).map((line) => {
    const [, name, value] = line.match(/^\u2014 (\S+) (\S+)$/) ?? [];
    return { name, value: value ? fromBase64(value) : new Uint8Array() };
  });
  return { text, origin, size: Number(size), root: fromBase64(root), signatures };
}

export async function verifySignature(checkpoint, logKey) {
  const [name, id, encoded] = splitKey(logKey);
  const material = fromBase64(encoded);
  if (material.length !== 33 || material[0] !== 1) throw new Error("the log's key is no Ed25519 key");
  const expected = (await sha256(utf8(`${name}\n`), material)).slice(0, 4);
  if (hex(expected) !== id) throw new Error("the key's id does not fit the key");
  const signature = checkpoint.signatures.find((one) => one.name === name && hex(one.value.slice(0, 4)) === id);
  if (!signature) throw new Error(`no signature by ${name}`);
  const key = await crypto.subtle.importKey("raw", material.slice(1), { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, key, signature.value.slice(4), utf8(checkpoint.text));
}

function splitKey(text) {
  const first = text.indexOf("+");
  const second = text.indexOf("+", first + 1);
  return [text.slice(0, first), text.slice(first + 1, second), text.slice(second + 1)];
}

// `whole` in proportion to positive weights, by largest remainder, ties by id. All BigInt.
export function divide(whole, weights) {
  const positive = Object.entries(weights).filter(([, weight]) => weight > 0n);
  const total = positive.reduce((sum, [, weight]) => sum + weight, 0n);
  if (total === 0n) return {};
  const parts = Object.fromEntries(positive.map(([id, weight]) => [id, (whole * weight) / total]));
  let left = whole - Object.values(parts).reduce((sum, part) => sum + part, 0n);
  const loss = Object.fromEntries(positive.map(([id, weight]) => [id, (whole * weight) % total]));
  const order = Object.keys(parts).sort((a, b) => {
    if (loss[a] !== loss[b]) return loss[a] > loss[b] ? -1 : 1;
    return a < b ? -1 : a > b ? 1 : 0;
  });
  for (const id of order) {
    if (left === 0n) break;
    parts[id] += 1n;
    left -= 1n;
  }
  return parts;
}
