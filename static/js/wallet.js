// Signing in with a wallet, and linking one: asks the browser's wallet (EIP-1193) to sign the text
// that the server wrote. No library; the server believes only its own copy of the text.

const REFUSED = 4001;
const UNKNOWN_CHAIN = 4902;

class Stop extends Error {
  constructor(message, details = {}) {
    super(message);
    this.details = details;
  }
}

async function post(part, url, body) {
  const token = part.querySelector("[name=csrfmiddlewaretoken]").value;
  const response = await fetch(url, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", "X-CSRFToken": token },
    body: JSON.stringify(body),
  });
  const type = response.headers.get("Content-Type") || "";
  if (!type.startsWith("application/json")) {
    throw new Stop("The server did not answer as expected. Reload the page, then try again.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Stop(answer.error.message, answer.error);
  return answer;
}

async function chainOf(wallet) {
  return Number.parseInt(await wallet.request({ method: "eth_chainId" }), 16);
}

async function switchChain(wallet, chainId) {
  const hex = `0x${chainId.toString(16)}`;
  await wallet.request({ method: "wallet_switchEthereumChain", params: [{ chainId: hex }] });
}

// The server names the chain that it wants; the wallet is asked to switch once.
async function askForText(part, wallet, address) {
  const url = part.dataset.challengeUrl;
  try {
    return await post(part, url, { address, chain_id: await chainOf(wallet) });
  } catch (error) {
    if (error.details?.code !== "wrong_chain") throw error;
    await switchChain(wallet, error.details.chain_id);
    return post(part, url, { address, chain_id: await chainOf(wallet) });
  }
}

function hexOf(text) {
  const bytes = new TextEncoder().encode(text);
  return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function run(part, say) {
  const wallet = window.ethereum;
  if (!wallet) throw new Stop("No wallet was found in this browser. Install one, then reload.");
  say("Choose an account in your wallet.");
  const [address] = await wallet.request({ method: "eth_requestAccounts" });
  const challenge = await askForText(part, wallet, address);
  say("Read the text in your wallet and sign it.");
  const signature = await wallet.request({
    method: "personal_sign",
    params: [hexOf(challenge.text), challenge.address],
  });
  say("Checking the signature.");
  const answer = await post(part, part.dataset.verifyUrl, {
    challenge: challenge.challenge,
    signature,
    next: part.dataset.next || "",
  });
  window.location.assign(answer.next);
}

function explain(error) {
  if (error instanceof Stop) return error.message;
  if (error?.code === REFUSED) return "You declined in your wallet. Nothing was changed.";
  if (error?.code === UNKNOWN_CHAIN) {
    return "Your wallet does not know this chain yet. Add it there, then try again.";
  }
  return `Your wallet answered: ${error?.message || "an error without a text"}`;
}

function connect(part) {
  const button = part.querySelector("[data-wallet-start]");
  const status = part.querySelector("[data-wallet-status]");
  const failure = part.querySelector("[data-wallet-error]");
  const say = (text) => {
    status.textContent = text;
    status.hidden = !text;
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    failure.hidden = true;
    try {
      await run(part, say);
    } catch (error) {
      say("");
      failure.querySelector("p").textContent = explain(error);
      failure.hidden = false;
      button.disabled = false;
    }
  });
}

document.querySelectorAll("[data-wallet]").forEach(connect);
