// Hashes the chosen file in the browser and asks for its hash alone. Without this script, or where
// the browser offers no hashing (pages that are not served safely), the form sends the file.

const form = document.querySelector("[data-by-file]");

if (form && window.crypto?.subtle) {
  const input = form.querySelector('input[type="file"]');
  const drop = form.querySelector(".drop");
  const state = form.querySelector("[data-state]");

  async function look(file) {
    state.textContent = `Reading ${file.name}…`;
    let digest;
    try {
      digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    } catch {
      state.textContent =
        "Your browser cannot read this file in one piece. Run sha256sum on it and paste the result below.";
      return;
    }
    const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    window.location.assign(`${form.getAttribute("action")}?sha256=${hex}`);
  }

  input.addEventListener("change", () => input.files[0] && look(input.files[0]));
  form.addEventListener("submit", (event) => event.preventDefault());
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.dataset.over = "";
  });
  drop.addEventListener("dragleave", () => delete drop.dataset.over);
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    delete drop.dataset.over;
    if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0]);
  });
} else if (form) {
  form.querySelector('input[type="file"]').addEventListener("change", () => form.requestSubmit());
}
