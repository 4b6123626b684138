// The chat page: one question to one or two models, each answer streamed into its own pane.

import { makeBlend } from "./playground-blend.js";
import { makeMemory } from "./playground-memory.js";

const root = document.getElementById("playground");

if (root) {
  const deployments = JSON.parse(document.getElementById("deployments").textContent);
  const settings = document.getElementById("settings");
  const composer = document.getElementById("composer");
  const panesBox = document.getElementById("panes");
  const quoteLine = document.getElementById("quote");
  const problem = document.getElementById("problem");
  const sendButton = document.getElementById("send");
  const stopButton = document.getElementById("stop");
  let panes = [];
  let running = null; // the answers under way: an AbortController and their completions
  let quoteTimer = null;
  let quoteTurn = 0;
  let quotedFor = "";

  const byName = (name) => deployments.find((one) => one.name === name);
  const csrfToken = () => JSON.parse(document.body.getAttribute("hx-headers:inherited"))["X-CSRFToken"];

  const baseName = () => {
    const model = byName(settings.model.value);
    return model.is_base ? model.name : model.base;
  };
  const blend = makeBlend({ root, base: baseName, changed: layOut });

  // Several adapters that answer as one stand in place of the model.
  function blended() {
    const wish = blend.chosen();
    if (!wish) return null;
    const title = wish.adapters.map(({ model, weight }) => `${weight} × ${byName(model).title}`).join(" + ");
    return { ...byName(wish.model), title, is_base: false, base: wish.model, blend: wish };
  }

  function chosen() {
    const first = blended() ?? byName(settings.model.value);
    const wish = settings.other.value;
    const second = wish === "base" ? byName(first.base) : byName(wish);
    // The base stands left, as what was before.
    if (!second || (second.name === first.name && !first.blend)) return [first];
    return second.is_base ? [second, first] : [first, second];
  }

  function makePane(deployment) {
    const element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    element.querySelector(".pane__name").textContent = deployment.title + (deployment.is_base ? " (base)" : "");
    element.querySelector(".pane__price").textContent = deployment.blend
      ? "at the dearest adapter's price, more where the weights add up to more than 1"
      : `${deployment.input_price} OPEN read, ${deployment.output_price} OPEN written, per 1,000 tokens`;
    return { deployment, element, log: element.querySelector(".pane__log"), messages: [], turns: [] };
  }

  function layOut() {
    panes = chosen().map(makePane);
    panesBox.replaceChildren(...panes.map((pane) => pane.element));
    panesBox.classList.toggle("panes--two", panes.length === 2);
    scheduleQuote();
  }

  function bodyFor(pane, question) {
    const body = {
      model: pane.deployment.name,
      messages: [...pane.messages, { role: "user", content: question }],
      temperature: Number(settings.temperature.value || 0),
    };
    Object.assign(body, pane.deployment.blend);
    if (settings.max_tokens.value) body.max_tokens = Number(settings.max_tokens.value);
    return body;
  }

  function post(url, body, signal) {
    return fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
      body: JSON.stringify(body),
      signal,
    });
  }

  async function errorOf(response) {
    try {
      return (await response.json()).error;
    } catch {
      return { message: `The server answered ${response.status}. Try again in a moment.` };
    }
  }

  function showProblem(error) {
    const notice = document.createElement("div");
    notice.className = "notice notice--bad";
    const text = document.createElement("p");
    text.textContent = error.message;
    notice.append(text);
    if (["insufficient_funds", "budget_reached", "spending_blocked"].includes(error.code)) {
      const link = document.createElement("a");
      link.href = "/wallet/";
      link.textContent = "Open your wallet";
      notice.append(link);
    }
    problem.replaceChildren(notice);
  }

  // ---- the quote: asked for while typing, the newest one counts

  function scheduleQuote() {
    clearTimeout(quoteTimer);
    quoteTimer = setTimeout(showQuote, 350);
    if (composer.question.value.trim()) quoteLine.textContent = "Computing what it costs at most…";
  }

  // What a price is for: the same question to another model, or with more tokens, has another one.
  const priced = (question) => JSON.stringify(panes.map((pane) => bodyFor(pane, question)));

  async function showQuote() {
    const question = composer.question.value.trim();
    const turn = ++quoteTurn;
    if (!question) {
      quoteLine.textContent = "Type a question to see what it costs at most.";
      return;
    }
    const parts = await Promise.all(panes.map(async (pane) => {
      const response = await post(root.dataset.quoteUrl, bodyFor(pane, question));
      if (!response.ok) return { pane, error: await errorOf(response) };
      return { pane, quote: await response.json() };
    })).catch(() => null);
    if (turn !== quoteTurn) return;
    if (!parts) {
      quoteLine.textContent = "The price could not be computed. Look at your connection, then go on typing.";
      return;
    }
    quotedFor = priced(question);
    quoteLine.textContent = parts.map(({ pane, quote, error }) => {
      if (error) return `${pane.deployment.title}: ${error.message}`;
      const records = quote.retrieval_tokens ? ` and up to ${quote.retrieval_tokens} of records` : "";
      const words = `${pane.deployment.title}: at most ${quote.highest_fee} OPEN (${quote.prompt_tokens} tokens read${records}, up to ${quote.max_tokens} written)`;
      return quote.affordable ? words : `${words}. ${quote.refusal}`;
    }).join(" · ");
  }

  // ---- asking

  async function* eventsOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
      }
    }
  }

  function addTurn(pane, question) {
    const element = document.getElementById("turn").content.firstElementChild.cloneNode(true);
    element.querySelector(".turn__question").textContent = question;
    pane.log.append(element);
    // Between a long first answer and the question below, on a phone the new one is out of sight.
    if (pane === panes[0]) element.scrollIntoView({ block: "nearest" });
    return {
      element,
      answer: element.querySelector(".turn__answer"),
      cost: element.querySelector(".turn__cost"),
      panel: element.querySelector(".turn__panel"),
    };
  }

  // Returns whether the model took the question.
  async function ask(pane, question, { signal, completions }) {
    const turn = addTurn(pane, question);
    const body = bodyFor(pane, question);
    const kept = { question, answer: "", completion: "", end: null, failure: "" };
    let completion = "";
    try {
      const response = await post(root.dataset.askUrl, body, signal);
      if (!response.ok) throw await errorOf(response);
      for await (const event of eventsOf(response)) {
        if (event.type === "start") {
          kept.completion = completion = event.completion;
          completions.add(completion);
          pane.turns.push(kept);
        }
        if (event.type === "piece") {
          kept.answer += event.text;
          turn.answer.textContent = kept.answer;
        }
        if (event.type === "error") throw { message: event.message };
        if (event.type === "end") showEnd(turn, (kept.end = event), completion);
      }
      addMessages(pane, kept);
    } catch (error) {
      showFailure(turn, toldOf(error));
      kept.failure = turn.cost.textContent;
      if (!completion) turn.element.remove();
    } finally {
      turn.answer.removeAttribute("aria-busy");
    }
    return Boolean(completion);
  }

  function addMessages(pane, { question, answer }) {
    pane.messages.push({ role: "user", content: question }, { role: "assistant", content: answer });
  }

  function showEnd(turn, event, completion) {
    if (!turn.answer.textContent) turn.answer.textContent = "(an empty answer)";
    const link = document.createElement("a");
    link.href = event.url;
    link.textContent = "details";
    const stopped = event.state === "CANCELLED" ? "Stopped. " : "";
    turn.cost.replaceChildren(
      `${stopped}${event.fee} OPEN for ${event.prompt_tokens} tokens read and ${event.completion_tokens} written · `,
      link,
    );
    if (event.completion_tokens) showPanel(turn, completion);
  }

  // What the house says stands as it is; the browser's own words help nobody.
  function toldOf(error) {
    if (error.name === "AbortError") return { message: "Stopped before it began." };
    return error instanceof Error || !error.message
      ? { message: "The connection broke before this answer was whole." }
      : error;
  }

  function showFailure(turn, error) {
    turn.cost.textContent = error.message;
    showProblem({ message: turn.cost.textContent, code: error.code });
  }

  function showPanel(turn, completion) {
    turn.panel.setAttribute("hx-get", root.dataset.panelUrl.replace("ID", completion));
    turn.panel.setAttribute("hx-trigger", "load");
    window.htmx.process(turn.panel);
  }

  // ---- what a reload brings back

  const memory = makeMemory(root.dataset.owner);
  const WISHES = ["model", "other", "max_tokens", "temperature"];

  function remember() {
    memory.save({
      wishes: Object.fromEntries(WISHES.map((name) => [name, settings[name].value])),
      blend: blend.saved(),
      draft: composer.question.value,
      panes: panes.map(({ deployment, turns }) => ({ name: deployment.name, turns })),
    });
  }

  function recall() {
    const state = memory.load();
    if (!state || !byName(state.wishes.model)) return layOut();
    for (const name of WISHES) settings[name].value = state.wishes[name];
    blend.restore(state.blend);
    blend.refresh();
    composer.question.value = state.draft;
    layOut();
    for (const [place, pane] of panes.entries()) {
      const kept = state.panes[place];
      if (kept?.name === pane.deployment.name) for (const turn of kept.turns) showAgain(pane, turn);
    }
  }

  function showAgain(pane, kept) {
    const turn = addTurn(pane, kept.question);
    pane.turns.push(kept);
    turn.answer.textContent = kept.answer;
    turn.answer.removeAttribute("aria-busy");
    if (kept.end) {
      showEnd(turn, kept.end, kept.completion);
      addMessages(pane, kept);
      return;
    }
    const link = document.createElement("a");
    link.href = root.dataset.completionUrl.replace("ID", kept.completion);
    link.textContent = "details";
    turn.cost.replaceChildren(kept.failure || "You left before this answer was whole.", " · ", link);
  }

  // Whoever is quicker than the price sees it before anything is held.
  async function quoteFirst() {
    clearTimeout(quoteTimer);
    quoteLine.textContent = "Computing what it costs at most…";
    await showQuote();
  }

  async function send() {
    const question = composer.question.value.trim();
    if (!question || running) return;
    problem.replaceChildren();
    const controller = new AbortController();
    running = { controller, signal: controller.signal, completions: new Set() };
    sendButton.disabled = true;
    stopButton.disabled = false;
    if (quotedFor !== priced(question)) await quoteFirst();
    const priceIsShown = quotedFor === priced(question) && !running.signal.aborted;
    if (priceIsShown) composer.question.value = "";
    const taken = priceIsShown
      ? await Promise.all(panes.map((pane) => ask(pane, question, running)))
      : [];
    running = null;
    // What no model took is given back to be changed.
    if (!taken.some(Boolean) && !composer.question.value) composer.question.value = question;
    sendButton.disabled = false;
    stopButton.disabled = true;
    remember();
    if (priceIsShown) scheduleQuote();
  }

  // The answer's stream stays open: its end tells what the stopped answer cost.
  async function stop() {
    if (!running) return;
    const { controller, completions } = running;
    if (!completions.size) {
      controller.abort();
      return;
    }
    for (const completion of completions) {
      await fetch(root.dataset.cancelUrl.replace("ID", completion), {
        method: "POST",
        headers: { "X-CSRFToken": csrfToken() },
        redirect: "manual",
      });
    }
  }

  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  composer.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      send();
    }
  });
  stopButton.addEventListener("click", stop);
  composer.addEventListener("input", scheduleQuote);
  settings.addEventListener("submit", (event) => event.preventDefault());
  settings.addEventListener("input", scheduleQuote);
  settings.model.addEventListener("change", () => {
    blend.refresh();
    layOut();
  });
  settings.other.addEventListener("change", layOut);
  document.getElementById("clear").addEventListener("click", layOut);
  window.addEventListener("pagehide", remember);
  blend.refresh();
  recall();
}
