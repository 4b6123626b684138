// Deposits OPEN from the person's wallet into the Gateway contract, for the account of the page.

import { Stop, chainOfPage, openOf, send, teller, weiOf } from "./transaction.js";

function connect(part) {
  const button = part.querySelector("[data-deposit-start]");
  const amount = part.querySelector("[data-deposit-amount]");
  const { say, fail } = teller(part.querySelector("[data-transaction-status]"));

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const wei = weiOf(amount.value);
      if (wei === null) {
        throw new Stop("Write the amount in OPEN, for example 1.5, with at most 18 digits after the point.");
      }
      await send({
        call: { to: part.dataset.to, data: part.dataset.data, value: `0x${wei.toString(16)}` },
        chain: chainOfPage(),
        say,
      });
      say(`${openOf(wei)} are in a block. They are in your balance after a few confirmations.`);
    } catch (error) {
      fail(error);
    } finally {
      button.disabled = false;
    }
  });
}

document.querySelectorAll("[data-deposit]").forEach(connect);
