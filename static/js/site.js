// Small behaviours that any page may ask for by a data attribute.

// Told to those who do not see the button change.
function announce(text) {
  const region = document.getElementById("announce");
  if (region) region.textContent = text;
}

// Off HTTPS there is no clipboard object; a selected field does there.
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("not copied");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button || button.dataset.label) return;
  button.dataset.label = button.textContent;
  try {
    await copy(button.dataset.copy);
    button.textContent = "Copied";
    announce("Copied.");
  } catch {
    button.textContent = "Failed";
    announce("Your browser did not let the page copy. Select the text instead.");
  }
  setTimeout(() => {
    button.textContent = button.dataset.label;
    delete button.dataset.label;
    announce("");
  }, 1200);
});

// What is wider than its frame is moved by keyboard too, once the frame can have the focus.
function letScroll() {
  for (const frame of document.querySelectorAll(".table-wrap:not([tabindex])")) {
    if (frame.scrollWidth <= frame.clientWidth) continue;
    const title = frame.querySelector("caption") || frame.previousElementSibling;
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", title?.textContent.trim().slice(0, 80) || "Table");
  }
}

letScroll();
window.addEventListener("resize", letScroll);
document.addEventListener("htmx:after:swap", letScroll);

// On a phone the place where one is may stand outside of its row.
for (const here of document.querySelectorAll("nav [aria-current=page]")) {
  const row = here.closest("nav");
  if (row.scrollWidth > row.clientWidth) {
    row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.offsetWidth) / 2;
  }
}

// A double click must not send a form twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => { delete form.dataset.sent; }, 5000);
});
