// Sends one transaction with the browser's wallet (EIP-1193): right account and chain first, decoded
// call shown before signing, gas estimated, then followed until its block is final. No library.

const DECLINED = 4001;
const NOT_ALLOWED = 4100;
const UNKNOWN_METHOD = [4200, -32601];
const BUSY = -32002;
const UNKNOWN_CHAIN = 4902;
const POLL_MS = 1000;
const FOLLOW_MS = 2000;
const TRANSACTIONS = "/api/v1/transactions/";

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

const isOn = async (provider, chain) => (
  BigInt(await provider.request({ method: "eth_chainId" })) === BigInt(chain.chainId)
);

const short = (address) => `${address.slice(0, 8)}…${address.slice(-6)}`;

// The account that the wallet offers. Where `expected` names some, it must be one of them.
export async function accountOf(expected = []) {
  const [account] = await wallet().request({ method: "eth_requestAccounts" });
  if (!account) throw new Stop("Your wallet offers no account. Unlock it, then try again.");
  const wanted = expected.map((one) => one.toLowerCase());
  if (wanted.length && !wanted.includes(account.toLowerCase())) {
    throw new Stop(`Your wallet is on another account, ${short(account)}. Choose ${expected.map(short).join(" or ")} in it, then try again.`);
  }
  return account;
}

async function onChain(provider, chain) {
  if (await isOn(provider, chain)) return;
  try {
    await provider.request({
      method: "wallet_switchEthereumChain",
      params: [{ chainId: chain.chainId }],
    });
  } catch (error) {
    if (error?.code !== UNKNOWN_CHAIN || chain.rpcUrls.length === 0) throw error;
    await provider.request({ method: "wallet_addEthereumChain", params: [chain] });
    if (!(await isOn(provider, chain))) {
      await provider.request({
        method: "wallet_switchEthereumChain",
        params: [{ chainId: chain.chainId }],
      });
    }
  }
}

// Some wallets add a chain and stay where they are.
async function requireChain(provider, chain) {
  if (await isOn(provider, chain)) return;
  throw new Stop(`Your wallet is on another network. Choose ${chain.chainName} (chain ${BigInt(chain.chainId)}) in it, then try again. Nothing was sent.`);
}

// The data of a revert, wherever a wallet puts it; "" where there is none.
function revertOf(error) {
  for (const data of [error?.data?.originalError?.data, error?.data?.data, error?.data]) {
    if (typeof data === "string" && /^0x[0-9a-f]{8}/i.test(data)) return data;
  }
  return "";
}

// The wallet's estimate and a quarter more, since it is made at another moment than the block; gas
// that is not used is not paid. null where the wallet estimates by itself alone.
async function gasFor(provider, transaction, refusals) {
  let estimate;
  try {
    estimate = await provider.request({ method: "eth_estimateGas", params: [transaction] });
  } catch (error) {
    if (UNKNOWN_METHOD.includes(error?.code)) return null;
    const selector = revertOf(error).slice(0, 10).toLowerCase();
    if (selector || /revert/i.test(error?.message || "")) {
      const why = refusals[selector] || error?.message || "it gives no reason";
      throw new Stop(`The contract would refuse this now: ${why} Nothing was sent.`);
    }
    throw error;
  }
  if (!estimate) return null;
  return `0x${((BigInt(estimate) * 5n) / 4n + 5_000n).toString(16)}`;
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

// `call` is {to, data, value}, all hexadecimal; `expected` names the accounts that may send it, and
// `refusals` says by selector why the contract refuses; `submitted` is told the hash at once.
// Returns the receipt of what worked.
export async function send({
  call, chain, say, expected = [], refusals = {}, submitted = () => {},
}) {
  const provider = wallet();
  say("Choose an account in your wallet.");
  const from = await accountOf(expected);
  await onChain(provider, chain);
  await requireChain(provider, chain);
  const transaction = { from, to: call.to, data: call.data, value: call.value };
  say("Estimating the gas.");
  const gas = await gasFor(provider, transaction, refusals);
  say("Confirm the transaction in your wallet.");
  const hash = await provider.request({
    method: "eth_sendTransaction",
    params: [gas ? { ...transaction, gas } : transaction],
  });
  submitted(hash);
  say(`Submitted as ${hash}. Waiting for a block.`);
  const receipt = await mined(provider, hash);
  if (BigInt(receipt.status) !== 1n) {
    // What is left for the last call is a 64th (EIP-150), so that it need not end at the limit itself.
    if (gas && receipt.gasUsed && BigInt(receipt.gasUsed) * 64n >= BigInt(gas) * 63n) {
      throw new Stop("The transaction ran out of gas: nothing was done, only gas was spent. Try again, and raise the gas limit in your wallet where it lets you.");
    }
    throw new Stop("The chain refused the transaction; only gas was spent. Reload the page and look whether it was done before.");
  }
  say(`In block ${BigInt(receipt.blockNumber)}. Waiting for confirmations.`);
  return { ...receipt, transactionHash: hash };
}

// Tells how far a mined transaction is, until nothing can take it away any more. `seen` is called
// once our mirror has it.
export async function follow({ hash, say, seen = () => {} }) {
  let known = false;
  for (;;) {
    const response = await fetch(`${TRANSACTIONS}${hash}/`, { headers: { Accept: "application/json" } })
      .catch(() => null);
    if (response?.ok) {
      const { truth } = await response.json();
      const blocks = truth.confirmations;
      say(`${truth.words}${blocks && truth.state !== "FINAL" ? ` ${blocks} confirmation${blocks === 1 ? "" : "s"} so far.` : ""}`);
      if (!known) seen();
      known = true;
      if (truth.state === "FINAL" || truth.state === "FAILED") return truth;
    } else if (known && response?.status === 404) {
      say("The chain took its block back. Waiting until the transaction comes again.");
    }
    await pause(FOLLOW_MS);
  }
}

export function explain(error) {
  if (error instanceof Stop) return error.message;
  if (error?.code === BUSY) return "Your wallet waits for an answer to an earlier question. Open it, answer, then try again.";
  if (error?.code === NOT_ALLOWED) return "Your wallet does not let this page use that account. Connect it there, then try again.";
  if (error?.code === DECLINED) return "You declined in your wallet. Nothing was sent.";
  if (error?.code === UNKNOWN_CHAIN) {
    return "Your wallet does not know this chain. Add it there, then try again.";
  }
  const words = error?.message || "an error without a text";
  if (/out of gas|gas required exceeds|intrinsic gas too low/i.test(words)) {
    return "The transaction would need more gas than your wallet allows or your account can pay. Raise the gas limit in your wallet, or put a little OPEN for gas on the account, then try again. Nothing was sent.";
  }
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
