// Sends one transaction with the browser's wallet (EIP-1193): right chain first, decoded call
// shown before signing, then followed until it is in a block. No library.

const DECLINED = 4001;
const UNKNOWN_CHAIN = 4902;
const POLL_MS = 1000;

export class Stop extends Error {}

export function chainOfPage() {
  const element = document.getElementById("chain");
  return element ? JSON.parse(element.textContent) : null;
}

function wallet() {
  if (!window.ethereum) {
    throw new Stop("No wallet was found in this browser. Install one, then reload the page.");
  }
  return window.ethereum;
}

async function onChain(provider, chain) {
  const now = await provider.request({ method: "eth_chainId" });
  if (BigInt(now) === BigInt(chain.chainId)) return;
  try {
    await provider.request({
      method: "wallet_switchEthereumChain",
      params: [{ chainId: chain.chainId }],
    });
  } catch (error) {
    if (error?.code !== UNKNOWN_CHAIN || chain.rpcUrls.length === 0) throw error;
    await provider.request({ method: "wallet_addEthereumChain", params: [chain] });
  }
}

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function mined(provider, hash) {
  for (;;) {
    const receipt = await provider.request({
      method: "eth_getTransactionReceipt",
      params: [hash],
    });
    if (receipt) return receipt;
    await pause(POLL_MS);
  }
}

// `call` is {to, data, value}, all hexadecimal. Returns the receipt of a transaction that worked.
export async function send({ call, chain, say }) {
  const provider = wallet();
  say("Choose an account in your wallet.");
  const [from] = await provider.request({ method: "eth_requestAccounts" });
  await onChain(provider, chain);
  say("Confirm the transaction in your wallet.");
  const hash = await provider.request({
    method: "eth_sendTransaction",
    params: [{ from, ...call }],
  });
  say(`Submitted as ${hash}. Waiting for a block.`);
  const receipt = await mined(provider, hash);
  if (BigInt(receipt.status) !== 1n) {
    throw new Stop("The chain refused the transaction; only gas was spent. Reload the page and look whether it was done before.");
  }
  say(`In block ${BigInt(receipt.blockNumber)}. Waiting for confirmations.`);
  return receipt;
}

export function explain(error) {
  if (error instanceof Stop) return error.message;
  if (error?.code === DECLINED) return "You declined in your wallet. Nothing was sent.";
  if (error?.code === UNKNOWN_CHAIN) {
    return "Your wallet does not know this chain. Add it there, then try again.";
  }
  const words = error?.message || "an error without a text";
  if (/insufficient funds/i.test(words)) {
    return "This account of your wallet has not enough OPEN for the amount and its gas.";
  }
  return `Your wallet answered: ${words}`;
}

// Writes into `box` what happens; errors are told apart by a notice, not by colour alone.
export function teller(box) {
  return {
    say(text) {
      box.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
    },
    fail(error) {
      const notice = Object.assign(document.createElement("div"), { className: "notice notice--bad" });
      notice.setAttribute("role", "alert");
      notice.append(Object.assign(document.createElement("p"), { textContent: explain(error) }));
      box.replaceChildren(notice);
    },
    // The decoded call as names and values, and a button that sends it.
    confirm(facts, label, go) {
      const list = Object.assign(document.createElement("dl"), { className: "facts decoded" });
      for (const [name, value] of facts) {
        list.append(
          Object.assign(document.createElement("dt"), { textContent: name }),
          Object.assign(document.createElement("dd"), { textContent: value, className: "mono" }),
        );
      }
      const button = Object.assign(document.createElement("button"), {
        type: "button", className: "button button--primary", textContent: label,
      });
      button.addEventListener("click", go, { once: true });
      box.replaceChildren(list, button);
      button.focus();
    },
  };
}

const WEI = 10n ** 18n;

// "1.5" -> 1500000000000000000n; null for anything but a positive decimal.
export function weiOf(text) {
  const match = /^(\d{1,60})(?:\.(\d{1,18}))?$/.exec(text.trim());
  if (!match) return null;
  const wei = BigInt(match[1]) * WEI + BigInt((match[2] || "0").padEnd(18, "0"));
  return wei > 0n ? wei : null;
}

export function openOf(wei) {
  const amount = BigInt(wei);
  const part = (amount % WEI).toString().padStart(18, "0").replace(/0+$/, "");
  return `${amount / WEI}${part ? `.${part}` : ""} OPEN`;
}
