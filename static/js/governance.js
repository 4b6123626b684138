// A holder's forms: the server encodes the call, the person reads it, the wallet signs, the page
// follows the mirror. A form with data-holder-form asks for a call; [data-holder-call] has one.

import { Stop, chainOfPage, explain, openOf, send, teller } from "./transaction.js";

const FOLLOW_MS = 2000;
const AFTER_MS = 4000;
let busy = false;

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function encoded(form) {
  const response = await fetch(form.action, {
    method: "POST",
    credentials: "same-origin",
    body: new FormData(form),
  });
  if (!(response.headers.get("Content-Type") || "").startsWith("application/json")) {
    throw new Stop("The server did not answer as expected. Reload the page, then try again.");
  }
  const answer = await response.json();
  if (answer.errors) {
    throw new Stop(Object.values(answer.errors).flat().map((error) => error.message).join(" "));
  }
  return answer;
}

async function transact(answer, box) {
  const { say, fail } = teller(box);
  busy = true;
  try {
    await send({ call: answer.call, chain: chainOfPage(), say });
    say("In a block. This page shows it in a moment.");
    await pause(AFTER_MS);
    const done = box.closest("[data-done]");
    if (done) window.location.assign(done.dataset.done);
    else window.location.reload();
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

function offer(answer, box) {
  teller(box).confirm(answer.facts, `${answer.label} with my wallet`, () => transact(answer, box));
}

for (const form of document.querySelectorAll("[data-holder-form]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const box = form.querySelector("[data-transaction-status]");
    try {
      offer(await encoded(form), box);
    } catch (error) {
      teller(box).fail(error);
    }
  });
}

for (const part of document.querySelectorAll("[data-holder-call]")) {
  const answer = JSON.parse(document.getElementById(part.dataset.holderCall).textContent);
  offer(answer, part.querySelector("[data-transaction-status]"));
}

// A wallet's own address as the one to delegate to.
for (const button of document.querySelectorAll("[data-fill-account]")) {
  button.addEventListener("click", async () => {
    if (!window.ethereum) return;
    const [account] = await window.ethereum.request({ method: "eth_requestAccounts" });
    document.getElementById(button.dataset.fillAccount).value = account;
  });
}

// What the browser's wallet holds, for people who have not linked it.
for (const button of document.querySelectorAll("[data-show-power]")) {
  const box = button.parentElement.querySelector("[data-power-said]");
  button.addEventListener("click", async () => {
    try {
      if (!window.ethereum) throw new Stop("No wallet was found in this browser.");
      const [account] = await window.ethereum.request({ method: "eth_requestAccounts" });
      const response = await fetch(`${button.dataset.showPower}${account}/`);
      const power = await response.json();
      const amount = (wei) => openOf(wei).replace(/ OPEN$/, "");
      const who = power.delegate || "nobody";
      box.textContent = `${power.address} holds ${amount(power.balance)} GOPEN, lets ${who === power.address ? "itself" : who} vote, and may cast ${amount(power.votes)} votes.`;
    } catch (error) {
      box.textContent = explain(error);
    }
  });
}

// Tally and dates follow the mirror; a new state brings other buttons, so the page is read again.
async function follow(part) {
  const response = await fetch(part.dataset.live, { credentials: "same-origin" });
  if (!response.ok) return;
  const before = part.querySelector("[data-state]").dataset.state;
  part.innerHTML = await response.text();
  const after = part.querySelector("[data-state]").dataset;
  if (after.state !== before && !busy) window.location.reload();
  if (after.settled) part.removeAttribute("data-live");
}

const part = document.querySelector("[data-live]");
if (part) {
  setInterval(() => {
    if (part.dataset.live && !document.hidden) follow(part).catch(() => {});
  }, FOLLOW_MS);
}
