// "Blend adapters": weights of several adapters of one base, and the code that asks them as one.

const SPARE = { linear: false, cat: false, ties: true, dare_linear: true, dare_ties: true };

// `base()` names the base whose adapters are offered; `changed` is called when the blend is another.
export function makeBlend({ root, base, changed }) {
  const box = root.querySelector("#blend");
  if (!box) return { chosen: () => null, refresh() {}, saved: () => null, restore() {} };
  const form = box.querySelector("form");
  const code = box.querySelector("#blend-code");
  const rows = [...form.querySelectorAll("[data-base]")];

  function chosen() {
    if (!box.open) return null;
    const adapters = rows
      .filter((row) => !row.hidden)
      .map((row) => row.querySelector("input"))
      .filter((input) => input.value !== "" && Number(input.value) !== 0)
      .map((input) => ({ model: input.dataset.model, weight: Number(input.value) }));
    if (!adapters.length) return null;
    const merge = { method: form.elements.method.value };
    if (SPARE[merge.method]) merge.density = Number(form.elements.density.value);
    if (merge.method.startsWith("dare")) merge.seed = Number(form.elements.seed.value);
    return { model: base(), adapters, merge };
  }

  function refresh() {
    for (const row of rows) row.hidden = row.dataset.base !== base();
    const offered = rows.filter((row) => !row.hidden).length;
    box.querySelector("#blend-none").hidden = offered > 0;
    form.hidden = offered === 0;
    form.elements.density.closest("label").hidden = !SPARE[form.elements.method.value];
    form.elements.seed.closest("label").hidden = !form.elements.method.value.startsWith("dare");
    code.textContent = codeOf(chosen(), box.dataset.address);
  }

  function tell() {
    refresh();
    changed();
  }

  const inputs = () => [...rows.map((row) => row.querySelector("input")), ...["method", "density", "seed"].map((name) => form.elements[name])];
  const named = (input) => input.dataset.model ?? input.name;

  function saved() {
    return { open: box.open, values: Object.fromEntries(inputs().map((input) => [named(input), input.value])) };
  }

  function restore(state) {
    if (!state) return;
    for (const input of inputs()) input.value = state.values[named(input)] ?? input.value;
    box.open = state.open;
  }

  form.addEventListener("input", tell);
  form.addEventListener("submit", (event) => event.preventDefault());
  box.addEventListener("toggle", tell);
  return { chosen, refresh, saved, restore };
}

function codeOf(blend, address) {
  if (!blend) return "Give an adapter a weight to see the code.";
  const extra = JSON.stringify({ adapters: blend.adapters, merge: blend.merge }, null, 2);
  const body = JSON.stringify(
    { model: blend.model, messages: [{ role: "user", content: "Hello" }], adapters: blend.adapters, merge: blend.merge },
    null, 2,
  );
  return `curl ${address}/chat/completions \\
  -H "Authorization: Bearer $OPENLEDGER_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${body}'

# Python
client = OpenAI(base_url="${address}", api_key=os.environ["OPENLEDGER_API_KEY"])
client.chat.completions.create(
    model="${blend.model}",
    messages=[{"role": "user", "content": "Hello"}],
    extra_body=${extra.replaceAll("\n", "\n    ")},
)`;
}
