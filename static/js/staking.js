// Stakes, takes out, withdraws and collects with the person's own wallet: asks for the call, shows
// it decoded, sends it, then shows the page anew.

import { Stop, chainOfPage, openOf, send, teller, weiOf } from "./transaction.js";

const LABELS = { stake: "Stakes", unstake: "Takes out", withdraw: "Withdraws", claim: "Collects for" };
const MIRRORED_MS = 2500;

async function callOf(url, action, amount, address) {
  const query = new URLSearchParams({ action, amount: String(amount), address });
  const response = await fetch(`${url}?${query}`, { headers: { Accept: "application/json" } });
  const answer = await response.json();
  if (!response.ok) throw new Stop(answer.message || "The call could not be made. Reload the page.");
  return answer;
}

function connect(part) {
  const { say, fail, confirm } = teller(part.querySelector("[data-transaction-status]"));
  const amount = part.querySelector("[data-amount]");

  const start = async (button) => {
    const { action, address = "" } = button.dataset;
    const wei = action === "stake" || action === "unstake" ? weiOf(amount.value) : 0n;
    if (wei === null) {
      throw new Stop("Write the amount in OPEN, for example 1.5, with at most 18 digits after the point.");
    }
    const { call, function: name, pool } = await callOf(part.dataset.calls, action, wei, address);
    const what = wei ? openOf(wei) : address || "what has cooled down";
    const facts = [
      ["Contract", `StakePools ${call.to}`],
      ["Function", name],
      ["Pool", pool],
      [LABELS[action], what],
      ["Sends along", openOf(BigInt(call.value))],
    ];
    confirm(facts, "Sign in my wallet", async () => {
      try {
        await send({ call: { to: call.to, data: call.data, value: call.value, gas: call.gas }, chain: chainOfPage(), say });
        setTimeout(() => window.location.reload(), MIRRORED_MS);
      } catch (error) {
        fail(error);
      }
    });
  };

  part.querySelectorAll("[data-action]").forEach((button) => {
    button.addEventListener("click", () => start(button).catch(fail));
  });
}

document.querySelectorAll("[data-staking]").forEach(connect);
