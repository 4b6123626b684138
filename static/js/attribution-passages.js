// Marks in the answer the passages that stand verbatim in records, each with the number of its entry
// in the list. The list is complete without this; the marks show where in the answer they are.

// Positions are counted in characters, as Python does, not in UTF-16 units.
function cut(text, start, end) {
  return Array.from(text).slice(start, end).join("");
}

function answerOf(list) {
  const turn = list.closest(".turn");
  return turn ? turn.querySelector(".turn__answer") : document.querySelector("[data-answer]");
}

function passagesOf(list, text) {
  return Array.from(list.children)
    .map((item, place) => ({
      id: item.id,
      number: place + 1,
      start: Number(item.dataset.start),
      end: Number(item.dataset.end),
      words: item.querySelector("blockquote")?.textContent,
    }))
    // An answer that was shown otherwise than it was stored is left alone.
    .filter((one) => one.words && cut(text, one.start, one.end) === one.words)
    .sort((one, other) => one.start - other.start);
}

function mark(list) {
  const answer = answerOf(list);
  if (!answer || answer.dataset.marked) return;
  // Links to cited records are worth more than marks, which would take their place.
  if (answer.querySelector("[data-citation]")) return;
  const text = answer.textContent;
  const pieces = [];
  let done = 0;
  for (const one of passagesOf(list, text)) {
    // Passages may overlap: the later one begins where the earlier one ends.
    const start = Math.max(one.start, done);
    if (start >= one.end) continue;
    pieces.push(cut(text, done, start));
    const words = document.createElement("mark");
    words.className = "passage";
    words.dataset.passage = one.id;
    words.textContent = cut(text, start, one.end);
    const link = document.createElement("a");
    link.href = `#${one.id}`;
    link.className = "passage__number";
    link.textContent = one.number;
    link.setAttribute("aria-label", `Passage ${one.number}, to its records`);
    pieces.push(words, link);
    done = one.end;
  }
  if (!pieces.length) return;
  pieces.push(cut(text, done));
  answer.replaceChildren(...pieces);
  answer.dataset.marked = "yes";
}

function markAll() {
  document.querySelectorAll("[data-passages]").forEach(mark);
}

document.addEventListener("htmx:after:swap", markAll);
markAll();
