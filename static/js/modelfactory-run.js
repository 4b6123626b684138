// Keeps a run's page alive: asks for curve and state, draws the one and replaces the other.

const INTERVAL = 2000;
const box = document.querySelector(".curve");
const state = document.querySelector("#run-state");
let chart = null;
let drawn = null; // the curve that stands there

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Canvas takes no light-dark(): let the browser resolve it on an element first.
function resolved(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  box.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value || colour(name);
}

// uPlot wants one list of steps with a value or null for each series.
function columns(curve) {
  const training = new Map(curve.training);
  const evaluation = new Map(curve.evaluation);
  const steps = [...new Set([...training.keys(), ...evaluation.keys()])].sort((a, b) => a - b);
  return [
    steps,
    steps.map((step) => training.get(step) ?? null),
    steps.map((step) => evaluation.get(step) ?? null),
  ];
}

function options() {
  const ink = resolved("--ink-soft");
  const line = resolved("--line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
  return {
    width: box.clientWidth,
    height: 300,
    scales: { x: { time: false } },
    axes: [
      { ...axis, label: "step", incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000] },
      { ...axis, label: "loss" },
    ],
    series: [
      { label: "step" },
      { label: "training", stroke: resolved("--info"), width: 2, spanGaps: true },
      {
        label: "held out",
        stroke: resolved("--accent"),
        width: 2,
        spanGaps: true,
        points: { show: true, size: 7 },
      },
    ],
  };
}

function draw(curve) {
  const data = columns(curve);
  if (!data[0].length) return;
  drawn = curve;
  if (chart) {
    chart.setData(data);
    return;
  }
  box.replaceChildren();
  chart = new window.uPlot(options(), data, box);
}

async function refresh() {
  let again = true;
  try {
    const response = await fetch(box.dataset.live, { headers: { Accept: "application/json" } });
    if (response.ok) {
      const told = await response.json();
      draw(told.curve);
      // A button that is being used must not be taken away under the finger.
      if (!state.contains(document.activeElement)) state.innerHTML = told.html;
      again = told.active;
    }
  } catch {
    // The server is away for a moment; the next try finds it.
  }
  if (again) setTimeout(refresh, INTERVAL);
}

// The canvas has its colours from when it was made.
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (!chart) return;
  chart.destroy();
  chart = null;
  draw(drawn);
});
window.addEventListener("resize", () => {
  if (chart) chart.setSize({ width: box.clientWidth, height: 300 });
});
refresh();
