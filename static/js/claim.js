// Claims with the person's own wallet: asks for the proof and has it checked, shows the decoded
// call, sends it, and tells how far it is until the ledger has booked it. What was sent is kept in
// this browser, so that a page that was closed meanwhile goes on telling.

import { Stop, accountOf, chainOfPage, openOf, send, teller } from "./transaction.js";

const POLL_MS = 1500;
const STEPS = ["Recorded", "Submitted", "Safe", "Final"];
const WORD = 64;
// RewardDistributor.claim(address,uint256,bytes32[]); the contract's errors by selector.
const SELECTOR = "0x3d13f874";
const REFUSALS = JSON.parse(document.getElementById("claim-refusals")?.textContent || "{}");

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });
const short = (address) => `${address.slice(0, 8)}…${address.slice(-6)}`;
const same = (one, other) => one.toLowerCase() === other.toLowerCase();

async function proofOf(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Stop("The proof could not be read. Reload the page, then try again.");
  return response.json();
}

// What the bytes to be signed say, whatever the page around them says.
export function decode(data) {
  const words = data.slice(10).match(new RegExp(`.{${WORD}}`, "g")) || [];
  if (data.slice(0, 10) !== SELECTOR || words.length < 4) {
    throw new Stop("What was to be signed is no claim. Nothing was sent; reload the page.");
  }
  return {
    account: `0x${words[0].slice(24)}`,
    cumulative: BigInt(`0x${words[1]}`),
    proof: words.slice(4, 4 + Number(BigInt(`0x${words[3]}`))).map((node) => `0x${node}`),
  };
}

// The root may have changed since the page was opened.
async function checked(url, said) {
  const body = {
    address: said.account, cumulative: said.cumulative.toString(), proof: said.proof,
  };
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  if (response.ok) return;
  const answer = await response.json().catch(() => ({}));
  throw new Stop(answer.message || "The proof could not be checked. Reload the page, then try again.");
}

// The steps of a claim and a sentence, in place of the text alone.
function progress(box) {
  const list = Object.assign(document.createElement("ol"), { className: "truth__steps" });
  list.append(...STEPS.map((name) => Object.assign(document.createElement("li"), {
    className: "truth__step", textContent: name,
  })));
  const words = Object.assign(document.createElement("p"), { className: "truth__words" });
  return (step, text) => {
    if (!list.isConnected) box.replaceChildren(list, words);
    [...list.children].forEach((item, place) => {
      item.classList.toggle("truth__step--done", place < step);
      if (place === step) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    words.textContent = text;
  };
}

const memory = (address) => ({
  key: `claim:${address.toLowerCase()}`,
  read() {
    try { return JSON.parse(localStorage.getItem(this.key)); } catch { return null; }
  },
  write(value) {
    try { localStorage.setItem(this.key, JSON.stringify(value)); } catch { /* It only forgets. */ }
  },
  forget() {
    try { localStorage.removeItem(this.key); } catch { /* As above. */ }
  },
});

// Until the ledger has booked it: our mirror tells of its block, the proof of what was claimed.
async function booked(part, sent, show) {
  let step = 1;
  for (;;) {
    const now = await proofOf(part.dataset.proofUrl).catch(() => null);
    if (now && now.claimed !== sent.claimed) {
      show(4, "Final: the ledger has booked it.");
      return;
    }
    const response = await fetch(
      part.dataset.transactionUrl.replace("HASH", sent.hash),
      { headers: { Accept: "application/json" } },
    ).catch(() => null);
    if (response?.ok) {
      const { truth } = await response.json();
      step = truth.state === "FINAL" ? 3 : 1 + Number(/which is safe/.test(truth.words));
      show(step, truth.state === "FINAL" ? `${truth.words} The ledger books it in a moment.` : truth.words);
    } else if (response?.status === 404 && step > 1) {
      step = 1;
      show(step, "The chain took its block back. Waiting until the transaction comes again.");
    }
    await pause(POLL_MS);
  }
}

function connect(part) {
  const button = part.querySelector("[data-claim]");
  const box = part.querySelector("[data-transaction-status]");
  const { say, fail, confirm } = teller(box);
  const show = progress(box);
  const kept = memory(part.dataset.payout);

  const stop = (error) => {
    fail(error);
    button.disabled = false;
  };
  const finish = async (sent) => {
    await booked(part, sent, show);
    kept.forget();
    window.location.reload();
  };
  const run = async (proof) => {
    show(0, "Recorded: your wallet is asked to sign. Nothing was sent yet.");
    const receipt = await send({
      call: proof.call,
      chain: chainOfPage(),
      refusals: REFUSALS,
      say: (text) => show(/^Submitted|^In block/.test(text) ? 1 : 0, text),
      submitted: (hash) => kept.write({ hash, claimed: proof.claimed }),
    }).catch((error) => {
      kept.forget();
      throw error;
    });
    await finish({ hash: receipt.transactionHash, claimed: proof.claimed });
  };
  const offer = async () => {
    const proof = await proofOf(part.dataset.proofUrl);
    if (!proof.call) throw new Stop(proof.message);
    const said = decode(proof.call.data);
    if (!same(said.account, part.dataset.payout) || said.cumulative !== BigInt(proof.cumulative)) {
      throw new Stop("What was to be signed is not this claim. Nothing was sent; reload the page.");
    }
    await checked(part.dataset.checkUrl, said);
    say("Choose an account in your wallet.");
    const from = await accountOf();
    const facts = [
      ["Contract", `RewardDistributor ${proof.call.to}`],
      ["Function", "claim(address,uint256,bytes32[])"],
      ["Pays to", said.account],
      ["Pays now", openOf(proof.claimable)],
      ["Cumulative", openOf(said.cumulative)],
      ["Proof", `${said.proof.length} hashes, checked against the root of epoch ${proof.epoch}`],
      ["Sends, pays the gas", from],
    ];
    confirm(facts, "Sign in my wallet", () => run(proof).catch(stop));
    if (!same(from, said.account)) {
      const notice = Object.assign(document.createElement("div"), { className: "notice notice--warn" });
      notice.append(Object.assign(document.createElement("p"), {
        textContent: `Your wallet has ${short(from)} selected, and this claim is for ${short(said.account)}. The OPEN goes to ${short(said.account)} whoever sends it; ${short(from)} only pays the gas. To pay it from the other account, select that one in your wallet and begin again.`,
      }));
      box.prepend(notice);
    }
  };

  button.addEventListener("click", () => {
    button.disabled = true;
    offer().catch(stop);
  });

  const sent = kept.read();
  if (!sent) return;
  button.disabled = true;
  show(1, `Submitted as ${sent.hash}. Waiting for a block.`);
  const again = Object.assign(document.createElement("button"), {
    type: "button", className: "button button--small", textContent: "My wallet has dropped it: begin again",
  });
  again.addEventListener("click", () => {
    kept.forget();
    window.location.reload();
  });
  box.append(again);
  finish(sent).catch(stop);
}

for (const part of document.querySelectorAll("[data-payout]")) {
  if (part.querySelector("[data-claim]")) connect(part);
  else memory(part.dataset.payout).forget();
}
