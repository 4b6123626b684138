// Sends the chosen file to the tus endpoint in small chunks, so that a broken connection or a
// closed page costs one chunk. Without this script the form posts the file in one piece.

for (const form of document.querySelectorAll("form[data-upload]")) setUp(form);

function setUp(form) {
  const input = form.querySelector('input[type="file"]');
  const drop = form.querySelector(".drop");
  const parts = {
    state: form.querySelector("[data-state]"),
    name: form.querySelector("[data-name]"),
    text: form.querySelector("[data-text]"),
    bar: form.querySelector("progress"),
    pause: form.querySelector("[data-pause]"),
    resume: form.querySelector("[data-resume]"),
    error: form.querySelector("[data-error]"),
  };
  input.addEventListener("change", () => input.files[0] && send(form, parts, input.files[0]));
  form.addEventListener("submit", (event) => event.preventDefault());
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.dataset.over = "";
  });
  drop.addEventListener("dragleave", () => delete drop.dataset.over);
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    delete drop.dataset.over;
    const file = event.dataTransfer.files[0];
    if (file) send(form, parts, file);
  });
}

async function send(form, parts, file) {
  if (form.uploading) return;
  parts.error.hidden = true;
  const limit = Number(form.dataset.limit);
  if (file.size > limit) {
    fail(parts, `The file has ${size(file.size)}; ${size(limit)} are allowed now. Split it.`);
    return;
  }
  form.uploading = true;
  parts.state.hidden = false;
  parts.name.textContent = file.name;
  const upload = new tus.Upload(file, {
    endpoint: form.dataset.endpoint,
    chunkSize: Number(form.dataset.chunk),
    retryDelays: [0, 1000, 3000, 5000, 10000, 20000],
    metadata: { filename: file.name },
    headers: { "X-CSRFToken": form.querySelector("[name=csrfmiddlewaretoken]").value },
    removeFingerprintOnSuccess: true,
    // A refusal by the server will not change by asking again; a broken line may.
    onShouldRetry: (error) => {
      const status = error.originalResponse ? error.originalResponse.getStatus() : 0;
      return status === 0 || status === 409 || status === 423 || status >= 500;
    },
    onProgress: (sent, total) => {
      parts.bar.value = total ? (100 * sent) / total : 0;
      parts.text.textContent = `${size(sent)} of ${size(total)}`;
    },
    onError: (error) => {
      form.uploading = false;
      const response = error.originalResponse;
      fail(parts, (response && response.getBody()) || "The connection broke. Choose the file again to go on where it stopped.");
    },
    onSuccess: ({ lastResponse }) => {
      parts.text.textContent = "uploaded";
      const page = lastResponse && lastResponse.getHeader("OpenLedger-Contribution");
      location.assign(page || "/datanets/contributions/");
    },
  });
  parts.pause.onclick = async () => {
    await upload.abort();
    parts.pause.hidden = true;
    parts.resume.hidden = false;
  };
  parts.resume.onclick = () => {
    upload.start();
    parts.pause.hidden = false;
    parts.resume.hidden = true;
  };
  const earlier = await upload.findPreviousUploads();
  if (earlier.length) upload.resumeFromPreviousUpload(earlier[0]);
  upload.start();
}

function fail(parts, message) {
  parts.error.hidden = false;
  parts.error.querySelector("p").textContent = message;
}

function size(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
