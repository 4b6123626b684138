// "Verify this": the reader's own browser checks a receipt, or an exact audit of one, without asking
// the server to judge.

import { checkAudited, isAudit } from "./attribution-audited.js";
import {
  canonical, divide, fromHex, hex, readCheckpoint, rootOf, sha256, utf8, verifySignature,
} from "./attribution-canonical.js";

const PARTS = 10n ** 9n;

async function checkBody(bundle) {
  const kind = bundle.receipt ? "receipt" : "statement";
  const digest = hex(await sha256(utf8(canonical(bundle[kind]))));
  if (digest !== bundle.leaf.sha256) throw new Error(`the ${kind} hashes to ${digest}, the log says otherwise`);
  return `SHA-256 ${digest}`;
}

async function checkInclusion(bundle) {
  const checkpoint = readCheckpoint(bundle.checkpoint);
  const data = utf8(canonical(bundle.leaf));
  const root = await rootOf(data, bundle.index, checkpoint.size, bundle.proof.map(fromHex));
  if (hex(root) !== hex(checkpoint.root)) throw new Error("the proof leads to another root");
  return `entry ${bundle.index} of ${checkpoint.size}, root ${hex(root)}`;
}

async function checkSignature(bundle) {
  const checkpoint = readCheckpoint(bundle.checkpoint);
  let good;
  try {
    good = await verifySignature(checkpoint, bundle.log_key);
  } catch (error) {
    if (error.name === "NotSupportedError") return [null, "this browser has no Ed25519"];
    throw error;
  }
  if (!good) throw new Error("the signature does not fit");
  return `signed by ${bundle.log_key}: compare the key with the one you know`;
}

// What a receipt says of money; one that scores an answer once more has none of it.
const MONEY = ["price", "credits", "settlement", "contributors_amount", "owner_parts"];

// That the named receipt has this id and hash, and stands before the bundle's leaf.
async function checkFirst({ named, index, checkpoint: note }, id, hash) {
  const digest = hex(await sha256(utf8(canonical(named.receipt))));
  const { leaf } = named;
  if (digest !== hash || leaf.sha256 !== digest || leaf.kind !== "receipt" || leaf.receipt !== id) {
    throw new Error("the first receipt is not the one that is named");
  }
  if (named.index >= index) throw new Error("the first receipt does not stand before this one");
  const checkpoint = readCheckpoint(note);
  const root = await rootOf(utf8(canonical(leaf)), named.index, checkpoint.size, named.proof.map(fromHex));
  if (hex(root) !== hex(checkpoint.root)) throw new Error("the first receipt's proof leads to another root");
}

async function checkAuditedReceipt(bundle) {
  const { id, sha256: hash } = bundle.statement.receipt;
  await checkFirst(bundle, id, hash);
  return `entry ${bundle.named.index}, which is the one that is named`;
}

async function checkNamed(bundle) {
  const { receipt, named } = bundle;
  await checkFirst(bundle, receipt.rescores.receipt, receipt.rescores.sha256);
  for (const member of ["completion", "model", "prompt_sha256", "answer_sha256"]) {
    if (canonical(named.receipt[member]) !== canonical(receipt[member])) throw new Error(`the first receipt has another ${member}`);
  }
  if (mergedBy(named.receipt) !== mergedBy(receipt)) throw new Error("the first receipt is of other models or weights");
  return `entry ${named.index}, of the same question and answer`;
}

// Which models were merged, and how; "" where one answered.
function mergedBy({ merge }) {
  if (!merge) return "";
  const { method, density_ppm, seed, parents } = merge;
  const each = parents.map(({ model, weight_ppm, share_ppb }) => ({ model, weight_ppm, share_ppb }));
  return canonical({ method, density_ppm, seed, parents: each });
}

const RESCORED = "openledger-rescoring/1";
// Of several models each says its own, and the whole nothing that reads like that of one.
const RESCORED_MERGE = "openledger-rescoring-merge/1";
const OF_ONE_MODEL = ["index_root", "influence", "confidence", "shares", "difference"];

async function checkDifference({ receipt, named }) {
  if (receipt.schema !== (receipt.merge ? RESCORED_MERGE : RESCORED)) throw new Error("its schema is not the one of a receipt that scores once more");
  if (receipt.merge && OF_ONE_MODEL.some((member) => member in receipt)) throw new Error("it says of all models what is each one's own");
  const before = readings(named.receipt);
  if (before.length !== readings(receipt).length) throw new Error("the first receipt is of other models");
  readings(receipt).forEach((one, place) => checkMoved(before[place].shares, one));
  if (receipt.moves_money !== false || MONEY.some((member) => member in receipt)) throw new Error("a receipt that scores once more moves no money");
  return "follows from the shares of both; no money moves";
}

function checkMoved(earlier, { shares, difference }) {
  for (const id of new Set([...Object.keys(earlier), ...Object.keys(shares), ...Object.keys(difference)])) {
    const moved = BigInt(shares[id] ?? 0) - BigInt(earlier[id] ?? 0);
    if (moved !== BigInt(difference[id] ?? 0)) throw new Error(`the difference of ${id} does not follow from the shares`);
  }
}

function checkUnclear({ confidence }) {
  const highest = Object.values(confidence.groups).reduce((most, one) => Math.max(most, one), -Infinity);
  if (confidence.clear || highest > confidence.threshold) throw new Error("a group is above the threshold");
  return `no group is above ${confidence.threshold}, so the treasuries are paid`;
}

// What has influences and shares: the receipt, or each of the models that answered as one.
const readings = (receipt) => receipt.merge?.parents ?? [receipt];

const BEST_FIRST = ["CREDITED", "NO_CLEAR_INFLUENCE", "NO_POSITIVE_INFLUENCE", "NO_INDEX", "NO_ANSWER", "NO_CONTRIBUTORS"];

async function checkMerge(bundle) {
  const { merge, model, outcome, terms } = bundle.receipt;
  if (!merge) {
    if (terms?.parents?.length) throw new Error("the terms are of several models, and the receipt names none");
    return [null, "one model answered"];
  }
  const weights = Object.fromEntries(merge.parents.map((one) => [one.model.id, BigInt(Math.abs(one.weight_ppm))]));
  const shares = Object.fromEntries(merge.parents.map((one) => [one.model.id, BigInt(one.share_ppb)]));
  if (model || Object.keys(shares).length !== merge.parents.length) throw new Error("a model is named twice");
  sameAmounts(shares, divide(PARTS, weights), "a model's part");
  const outcomes = merge.parents.map((one) => BEST_FIRST.indexOf(one.outcome));
  if (outcomes.includes(-1) || outcome !== BEST_FIRST[Math.min(...outcomes)]) throw new Error("the outcome does not follow from those of the models");
  if (terms) sameAmounts(Object.fromEntries((terms.parents ?? []).map((one) => [one.model, BigInt(one.share_ppb)])), shares, "a model's part");
  return `${merge.parents.length} models share by their weights`;
}

// Two things no published number tells: whether an index could not be built, or was not needed any
// more; and, where no price is stated, whether there was an answer.
async function checkOutcome({ receipt, named }) {
  const price = receipt.price ?? (receipt.rescores && named?.receipt?.price);
  const written = price ? Number(price.completion_tokens) : null;
  for (const one of readings(receipt)) {
    const possible = outcomesOf(one, written);
    if (!possible.includes(one.outcome)) throw new Error(`the outcome is ${possible.join(" or ")}, not ${one.outcome}`);
  }
  return `${receipt.outcome} follows from the influences`;
}

function isClear({ influence, confidence }) {
  if (!confidence) return true;
  if (Object.keys(influence.groups).sort().join() !== Object.keys(confidence.groups).sort().join()) throw new Error("confidence and influence name other groups");
  const clear = Object.values(confidence.groups).some((one) => one > confidence.threshold);
  if (confidence.clear !== clear) throw new Error("whether influence is clear does not follow from the threshold");
  return clear;
}

function outcomesOf(reading, written) {
  const { model, influence, index_root: root } = reading;
  if (!model) return ["NO_CONTRIBUTORS"];
  const scores = Object.values(influence.groups).map(BigInt);
  if (written === 0) return ["NO_ANSWER"];
  if (scores.some((score) => score > 0n)) return [isClear(reading) ? "CREDITED" : "NO_CLEAR_INFLUENCE"];
  const possible = ["NO_POSITIVE_INFLUENCE"];
  if (!scores.length && written === null) possible.push("NO_ANSWER");
  if (!scores.length && !root) possible.push("NO_INDEX");
  return possible;
}

async function checkShares(bundle) {
  const said = readings(bundle.receipt).map(sharesOf);
  const told = said.filter((one) => !Array.isArray(one));
  return told.length ? told.join("; ") : said[0];
}

function sharesOf({ confidence, influence, shares, outcome }) {
  if (outcome === "NO_CLEAR_INFLUENCE") {
    if (Object.keys(shares).length) throw new Error("influence is unclear, and yet there are shares");
    return checkUnclear({ confidence });
  }
  if (confidence && !confidence.clear && outcome === "CREDITED") throw new Error("influence is unclear, and yet it is paid");
  const weights = Object.fromEntries(Object.entries(influence.groups).map(([id, value]) => [id, BigInt(value)]));
  const computed = divide(PARTS, weights);
  for (const id of new Set([...Object.keys(computed), ...Object.keys(shares)])) {
    if ((computed[id] ?? 0n) !== BigInt(shares[id] ?? 0)) throw new Error(`the share of ${id} does not follow`);
  }
  const count = Object.keys(shares).length;
  return count ? `${count} shares follow from the influences` : [null, "nobody had positive influence"];
}

async function checkFee(bundle) {
  const { price } = bundle.receipt;
  if (!price) return [null, "it states no fee"];
  const fee = BigInt(price.prompt_tokens) * BigInt(price.input) + BigInt(price.completion_tokens) * BigInt(price.output);
  if (fee !== BigInt(price.fee)) throw new Error(`${fee} wei follow from tokens and prices`);
  return `${fee} wei for ${price.prompt_tokens} tokens read and ${price.completion_tokens} written`;
}

async function checkAmounts(bundle) {
  const { credits, contributors_amount: amount, model } = bundle.receipt;
  if (!credits?.length) return [null, "nothing was credited"];
  const key = (one) => `${one.kind}:${one.owner}:${one.datanet}:${one.model ?? model.id}`;
  if (bundle.receipt.merge) checkMergedCredits(bundle.receipt, key);
  const computed = divide(BigInt(amount), Object.fromEntries(credits.map((one) => [key(one), BigInt(one.share_ppb)])));
  for (const one of credits) {
    if ((computed[key(one)] ?? 0n) !== BigInt(one.amount)) throw new Error(`the amount for ${one.owner} is not its share`);
  }
  return `${amount} wei among ${credits.length}, to the wei`;
}

// What each of several models would credit alone, by its part.
function checkMergedCredits({ credits, merge }, key) {
  const weights = {};
  for (const { model, shares, influence, share_ppb: part } of merge.parents) {
    const alone = {};
    for (const [name, share] of Object.entries(shares)) {
      const [owner, datanet] = name.split("|");
      const credit = key({ kind: "contributor", owner, datanet, model: model.id });
      alone[credit] = (alone[credit] ?? 0n) + BigInt(share);
    }
    if (!Object.keys(alone).length) {
      const records = {};
      for (const [name, count] of Object.entries(influence.records)) {
        const datanet = name.split("|")[1];
        records[datanet] = (records[datanet] ?? 0n) + BigInt(count);
      }
      for (const [datanet, share] of Object.entries(divide(PARTS, records))) {
        alone[key({ kind: "treasury", owner: datanet, datanet, model: model.id })] = share;
      }
    }
    for (const [credit, share] of Object.entries(alone)) weights[credit] = share * BigInt(part);
  }
  sameAmounts(Object.fromEntries(credits.map((one) => [key(one), BigInt(one.share_ppb)])), divide(PARTS, weights), "a credit");
}

function passing(found) {
  const weights = {};
  let passed = 0n;
  for (const one of found.royalties) {
    weights[one.source] = BigInt(one.weight);
    passed += BigInt(one.weight);
  }
  const kept = BigInt(found.whole) - passed;
  if (kept < 0n) throw new Error("royalties exceed the part that they come from");
  return { kept, weights };
}

function sameAmounts(stated, computed, what) {
  for (const id of new Set([...Object.keys(computed), ...Object.keys(stated)])) {
    if ((computed[id] ?? 0n) !== (stated[id] ?? 0n)) throw new Error(`${what} does not follow from the terms`);
  }
}

function checkOwnerPart(amount, terms, parts) {
  const { kept, weights } = passing(terms.royalties);
  const staked = BigInt(terms.model_stakers_bps);
  const all = Object.fromEntries(Object.entries(weights).map(([id, weight]) => [id, weight * 10000n]));
  const computed = divide(amount, { ...all, owner: kept * (10000n - staked), stakers: kept * staked });
  const stated = Object.fromEntries(parts.map((one) => [one.kind === "royalty" ? one.model : one.kind, BigInt(one.amount)]));
  sameAmounts(stated, computed, "the owner's part");
}

async function checkRoyalties(bundle) {
  const { terms, owner_parts: parts, credits, price, split } = bundle.receipt;
  if (!terms || !parts) return [null, "the receipt names no terms"];
  let passed = 0;
  for (const one of credits) {
    const { kept, weights } = passing(terms.datanets[one.datanet] ?? { whole: "1", royalties: [] });
    const stated = { kept: BigInt(one.kept) };
    for (const royalty of one.royalties) stated[royalty.datanet] = BigInt(royalty.amount);
    sameAmounts(stated, divide(BigInt(one.amount), { kept, ...weights }), `what passes on from ${one.owner}`);
    passed += one.royalties.length;
  }
  const points = Object.fromEntries(Object.entries(split.parts).map(([kind, part]) => [kind, BigInt(part)]));
  const amount = divide(BigInt(price.fee), points).model_owner ?? 0n;
  if (terms.parents?.length) {
    const each = divide(amount, Object.fromEntries(terms.parents.map((one) => [one.model, BigInt(one.share_ppb)])));
    for (const one of terms.parents) {
      const alone = { royalties: one.royalties, model_stakers_bps: one.stakers_bps };
      checkOwnerPart(each[one.model] ?? 0n, alone, parts.filter((part) => part.parent === one.model));
    }
    if (!parts.every((part) => part.parent in each)) throw new Error("a model is paid that did not answer");
    passed += parts.filter((one) => one.kind === "royalty").length;
  } else if (terms.model_owner) {
    checkOwnerPart(amount, terms, parts);
    passed += parts.filter((one) => one.kind === "royalty").length;
  } else if (parts.length) {
    throw new Error("somebody is paid who does not own the model");
  }
  return `${passed} royalties follow from the terms, to the wei`;
}

const PLACE = [["Receipt", checkBody], ["Inclusion", checkInclusion], ["Checkpoint", checkSignature]];
// Of a receipt that scores an answer once more alone.
const AGAIN = [["First receipt", checkNamed], ["Difference", checkDifference]];
// Of an exact audit, which states no sums of its own.
const AUDIT = [["First receipt", checkAuditedReceipt], ["Audit", checkAudited]];
// Of several models that answered as one alone.
const MERGE = [["Merge", checkMerge]];
const SUMS = [
  ["Outcome", checkOutcome], ["Fee", checkFee], ["Shares", checkShares], ["Amounts", checkAmounts], ["Royalties", checkRoyalties],
];

export async function verify(bundle) {
  const found = [];
  const { rescores, merge, terms } = bundle.receipt ?? {};
  const again = rescores ? AGAIN : [];
  const merged = merge || terms?.parents?.length ? MERGE : [];
  const rest = !bundle.receipt && isAudit(bundle.statement) ? AUDIT : [...again, ...merged, ...SUMS];
  for (const [name, check] of [...PLACE, ...rest]) {
    try {
      const said = await check(bundle);
      const [holds, detail] = Array.isArray(said) ? said : [true, said];
      found.push({ name, holds, detail });
    } catch (error) {
      found.push({ name, holds: false, detail: error.message });
    }
  }
  return found;
}

function show(place, checks, isReceipt) {
  const fails = checks.some((check) => check.holds === false);
  const title = document.createElement("h2");
  title.textContent = `This ${isReceipt ? "receipt" : "audit"} ${fails ? "does not hold" : "holds"}`;
  const list = document.createElement("ul");
  for (const { name, holds, detail } of checks) {
    const line = document.createElement("li");
    const chip = document.createElement("span");
    chip.className = holds === null ? "chip" : holds ? "chip chip--good" : "chip chip--bad";
    chip.textContent = holds === null ? "NONE" : holds ? "HOLDS" : "FAILS";
    const what = document.createElement("strong");
    what.textContent = name;
    const said = document.createElement("span");
    said.textContent = detail;
    line.append(chip, what, said);
    list.append(line);
  }
  const note = document.createElement("p");
  note.className = "small muted";
  note.textContent = isReceipt
    ? "Computed in your browser. Whether the influences follow from the index is what manage.py verify computes."
    : "Computed in your browser. Whether the replay gave these influences is seen by running it once more.";
  place.replaceChildren(title, list, note);
  place.dataset.holds = fails ? "no" : "yes";
}

function say(place, text) {
  const line = document.createElement("p");
  line.textContent = text;
  place.replaceChildren(line);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-verify]");
  if (!button) return;
  const place = document.getElementById(button.dataset.into);
  place.hidden = false;
  say(place, "Fetching the proof…");
  button.disabled = true;
  try {
    const answer = await fetch(button.dataset.verify);
    if (answer.status === 503) say(place, "The receipt waits for its place in the log. Try again in a few seconds.");
    else if (!answer.ok) say(place, `The proof could not be fetched (${answer.status}). Try again.`);
    else {
      const bundle = await answer.json();
      show(place, await verify(bundle), Boolean(bundle.receipt));
    }
  } catch (error) {
    say(place, `It could not be checked: ${error.message}`);
  } finally {
    button.disabled = false;
  }
});
