// Claims with the person's own wallet: asks for the proof, shows the decoded call, sends it, and
// waits until the ledger has booked it.

import { Stop, chainOfPage, openOf, send, teller } from "./transaction.js";

const POLL_MS = 1500;

async function proofOf(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Stop("The proof could not be read. Reload the page, then try again.");
  return response.json();
}

async function booked(url, before) {
  for (;;) {
    const now = await proofOf(url);
    if (now.claimed !== before.claimed) return;
    await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
  }
}

function connect(button) {
  const payout = button.closest("[data-payout]");
  const { say, fail, confirm } = teller(payout.querySelector("[data-transaction-status]"));
  const url = button.dataset.proofUrl;

  const run = async (proof) => {
    await send({
      call: { to: proof.call.to, data: proof.call.data, value: proof.call.value },
      chain: chainOfPage(),
      say,
    });
    await booked(url, proof);
    window.location.reload();
  };
  const stop = (error) => {
    fail(error);
    button.disabled = false;
  };

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const proof = await proofOf(url);
      if (!proof.call) throw new Stop(proof.message);
      const facts = [
        ["Contract", `RewardDistributor ${proof.distributor}`],
        ["Function", "claim(address,uint256,bytes32[])"],
        ["To", proof.address],
        ["Pays now", openOf(proof.claimable)],
        ["Cumulative", openOf(proof.cumulative)],
      ];
      confirm(facts, "Sign in my wallet", () => run(proof).catch(stop));
    } catch (error) {
      stop(error);
    }
  });
}

document.querySelectorAll("[data-claim]").forEach(connect);
