// An EIP-1193 provider for the local chain, for people without a browser wallet.
// Pages load it only where the chain id is the local one; a real wallet goes first.
(() => {
  const rpc = document.currentScript.dataset.rpc;
  if (window.ethereum) return;

  const token = () => JSON.parse(
    document.body.getAttribute("hx-headers:inherited") || "{}",
  )["X-CSRFToken"];

  const request = async ({ method, params }) => {
    if (method === "wallet_switchEthereumChain" || method === "wallet_addEthereumChain") return null;
    const response = await fetch(rpc, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token() },
      body: JSON.stringify({ method, params: params || [] }),
    });
    const reply = response.ok
      ? await response.json()
      : { error: { code: -32603, message: "The local wallet could not sign. Reload the page and try again." } };
    if (reply.error) throw Object.assign(new Error(reply.error.message), { code: reply.error.code, data: reply.error.data });
    return reply.result;
  };

  window.ethereum = { isLocalWallet: true, request, on() {}, removeListener() {} };
})();
