// Stakes, takes out, withdraws, collects, appeals and executes with the person's own wallet: asks for
// the call, shows it decoded, sends it, then follows it until it is final.

import { Stop, accountOf, chainOfPage, follow, openOf, send, teller, weiOf } from "./transaction.js";

const LABELS = {
  stake: "Stakes", unstake: "Takes out", withdraw: "Withdraws", claim: "Collects for",
  appeal: "Bond", execute: "Executes slash", cancel: "Calls off slash",
};
const FOLLOWED = "openledger.staking";

const token = () => JSON.parse(
  document.body.getAttribute("hx-headers:inherited") || "{}",
)["X-CSRFToken"];

async function answerOf(url, body) {
  const options = { headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body) {
    Object.assign(options.headers, { "Content-Type": "application/json", "X-CSRFToken": token() });
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  const response = await fetch(url, options);
  const type = response.headers.get("Content-Type") || "";
  if (!type.startsWith("application/json")) throw new Stop("The call could not be made. Reload the page.");
  const answer = await response.json();
  if (!response.ok) {
    throw new Stop(answer.message || answer.detail || Object.values(answer).flat().join(" "));
  }
  return answer;
}

// What is signed is shown here; after the page was read anew it goes on being followed.
function keep(hash) {
  sessionStorage.setItem(FOLLOWED, JSON.stringify({ hash, path: window.location.pathname }));
}

function followed() {
  const kept = JSON.parse(sessionStorage.getItem(FOLLOWED) || "null");
  return kept && kept.path === window.location.pathname ? kept.hash : "";
}

async function transact({ answer, expected, box }) {
  const { say, fail } = teller(box);
  try {
    const { call, refusals } = answer;
    const receipt = await send({ call, refusals, expected, chain: chainOfPage(), say });
    keep(receipt.transactionHash);
    await follow({ hash: receipt.transactionHash, say, seen: () => window.location.reload() });
  } catch (error) {
    fail(error);
  }
}

async function offer({ answer, action, what, expected, box }) {
  const { say, confirm } = teller(box);
  say("Choose an account in your wallet.");
  const from = await accountOf(expected);
  const { call } = answer;
  const facts = [
    ["Contract", `StakePools ${call.to}`],
    ["Function", answer.function],
    ...(answer.pool ? [["Pool", answer.pool]] : []),
    [LABELS[action], what],
    ["Sends along", openOf(BigInt(call.value))],
    ["From", from],
  ];
  confirm(facts, "Sign in my wallet", () => transact({ answer, expected, box }));
}

const accountsOf = (element) => (element.dataset.accounts || "").split(" ").filter(Boolean);

function connect(part) {
  const box = part.querySelector("[data-transaction-status]");
  const amount = part.querySelector("[data-amount]");

  const start = async (button) => {
    const { action, address = "" } = button.dataset;
    const wei = action === "stake" || action === "unstake" ? weiOf(amount.value) : 0n;
    if (wei === null) {
      throw new Stop("Write the amount in OPEN, for example 1.5, with at most 18 digits after the point.");
    }
    const query = new URLSearchParams({ action, amount: String(wei), address });
    const answer = await answerOf(`${part.dataset.calls}?${query}`);
    const what = wei ? openOf(wei) : button.dataset.what || address || "what has cooled down";
    await offer({ answer, action, what, expected: accountsOf(button), box });
  };

  part.querySelectorAll("[data-action]").forEach((button) => {
    button.addEventListener("click", () => start(button).catch(teller(box).fail));
  });
}

// An appeal: the server keeps its words, the wallet sends their hash and the bond.
function connectAppeal(form) {
  const box = form.querySelector("[data-transaction-status]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await answerOf(form.dataset.appeal, { words: form.elements.words.value });
      const what = openOf(BigInt(answer.call.value));
      await offer({ answer, action: "appeal", what, expected: accountsOf(form), box });
    } catch (error) {
      teller(box).fail(error);
    }
  });
}

document.querySelectorAll("[data-staking]").forEach(connect);
document.querySelectorAll("[data-appeal]").forEach(connectAppeal);

const hash = followed();
const place = document.querySelector("[data-followed]");
if (hash && place) {
  follow({ hash, say: teller(place).say })
    .then(() => sessionStorage.removeItem(FOLLOWED))
    .catch(() => {});
}
