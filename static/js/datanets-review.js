// Keys of the review queue: the letter on a button presses it, unless one is writing.

const root = document.querySelector("[data-review]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const button = root && root.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (!button) return;
  event.preventDefault();
  button.click();
});

// A rejection without a reason helps nobody, so the reason is asked for before the form is sent.
const form = document.querySelector("[data-verdict]");
if (form) {
  form.addEventListener("submit", (event) => {
    const reason = form.querySelector('[name="reason"]');
    if (event.submitter && event.submitter.value === "REJECTED" && !reason.value) {
      event.preventDefault();
      form.querySelector("[data-hint]").hidden = false;
      reason.focus();
    }
  });
}
