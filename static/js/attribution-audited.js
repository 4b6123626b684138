// What an exact audit says of a receipt, computed again from its own integers and the receipt's.

import { canonical, divide } from "./attribution-canonical.js";

const PARTS = 10n ** 9n;
const AUDIT = "openledger-exact-audit/1";
// Of several models each says its own, and the whole nothing that reads like that of one.
const AUDIT_MERGE = "openledger-exact-audit-merge/1";
const OF_ONE_MODEL = [
  "steps", "records", "records_left_out", "influence", "was_paid", "index_shares", "exact_shares", "difference",
  "correlation_ppm", "largest_difference_ppb", "elsewhere_ppb",
];
const MONEY = ["price", "credits", "settlement", "contributors_amount", "owner_parts"];
const FINE = 10n ** 12n;

export const isAudit = (statement) => String(statement?.schema).startsWith("openledger-exact-audit");

const readings = (body) => body.merge?.parents ?? [body];
const whole = (values) => Object.fromEntries(Object.entries(values).map(([id, value]) => [id, BigInt(value)]));
// A share of nothing may be told or not.
const positive = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value > 0n));
const sharesOf = (influences) => positive(divide(PARTS, influences));
const size = (value) => (value < 0n ? -value : value);

export async function checkAudited({ statement, named }) {
  const { receipt } = named;
  if (statement.schema !== (statement.merge ? AUDIT_MERGE : AUDIT)) throw new Error("its schema is not the one of an exact audit");
  if (statement.merge && OF_ONE_MODEL.some((member) => member in statement)) throw new Error("it says of all models what is each one's own");
  if (statement.moves_money !== false || MONEY.some((member) => member in statement)) throw new Error("an exact audit moves no money");
  const models = (body) => canonical(readings(body).map(({ model, share_ppb: part }) => [model, body.merge ? part : null]));
  if (models(statement) !== models(receipt)) throw new Error("the receipt is of other models");
  const before = readings(receipt);
  return readings(statement).map((one, place) => checkModel(one, before[place])).join("; ");
}

function checkModel(one, before) {
  if ("not_replayed" in one) {
    if (OF_ONE_MODEL.some((member) => member in one)) throw new Error("it was not replayed, and yet there are figures");
    return "not replayed";
  }
  const stated = whole(before.influence.groups);
  const exact = whole(one.influence);
  if (!Object.keys(stated).every((id) => id in exact)) throw new Error("a group of the receipt is missing");
  const paid = positive(whole(before.shares));
  const byIndex = Object.keys(paid).length ? paid : sharesOf(stated);
  const byReplay = sharesOf(exact);
  same(positive(whole(one.index_shares)), byIndex, "index_shares");
  same(positive(whole(one.exact_shares)), byReplay, "exact_shares");
  const moved = {};
  for (const id of new Set([...Object.keys(byIndex), ...Object.keys(byReplay)])) {
    moved[id] = (byReplay[id] ?? 0n) - (byIndex[id] ?? 0n);
  }
  same(whole(one.difference), moved, "difference");
  const steps = Object.values(moved);
  const largest = steps.reduce((most, step) => (size(step) > most ? size(step) : most), 0n);
  const elsewhere = steps.reduce((sum, step) => (step > 0n ? sum + step : sum), 0n);
  if (one.was_paid !== Object.keys(before.shares).length > 0) throw new Error("was_paid does not follow from the receipt");
  if (BigInt(one.largest_difference_ppb) !== largest) throw new Error("largest_difference_ppb does not follow from the influences");
  if (BigInt(one.elsewhere_ppb) !== elsewhere) throw new Error("elsewhere_ppb does not follow from the influences");
  checkCorrelation(one.correlation_ppm, Object.keys(exact).map((id) => [stated[id] ?? 0n, exact[id]]));
  return `${elsewhere} of ${PARTS} parts would go elsewhere; no money moves`;
}

function same(stated, computed, what) {
  for (const id of new Set([...Object.keys(stated), ...Object.keys(computed)])) {
    if ((stated[id] ?? 0n) !== (computed[id] ?? 0n)) throw new Error(`${what} does not follow from the influences`);
  }
}

// Pearson's, in whole numbers up to the last division; a half may be rounded to either side.
function checkCorrelation(stated, pairs) {
  const correlation = pairs.length < 3 ? null : correlationOf(pairs);
  const fits = correlation === null || stated === null ? correlation === stated : Math.abs(correlation - stated) < 0.500001;
  if (!fits) throw new Error("correlation_ppm does not follow from the influences");
}

function correlationOf(pairs) {
  const count = BigInt(pairs.length);
  const centred = [0, 1].map((side) => {
    const sum = pairs.reduce((total, pair) => total + pair[side], 0n);
    return pairs.map((pair) => count * pair[side] - sum);
  });
  const product = centred[0].reduce((sum, value, place) => sum + value * centred[1][place], 0n);
  const [one, other] = centred.map((row) => row.reduce((sum, value) => sum + value * value, 0n));
  if (!one || !other) return null;
  return Number((1_000_000n * FINE * product) / rootOfSquare(one * other)) / Number(FINE);
}

// The whole part of a square root, by Newton's steps from above.
function rootOfSquare(value) {
  let root = 1n << BigInt((value.toString(2).length + 1) >> 1);
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}
