/* Tries an operation of the API from the reference page. */
(() => {
  "use strict";
  for (const part of document.querySelectorAll("[data-only-script]")) part.hidden = false;
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches(".try")) return;
    event.preventDefault();
    let path = form.dataset.path;
    const query = new URLSearchParams();
    const headers = {};
    for (const input of form.querySelectorAll("input[data-in]")) {
      if (input.dataset.in === "path") path = path.replace(`{${input.dataset.name}}`, encodeURIComponent(input.value));
      else if (!input.value) continue;
      else if (input.dataset.in === "query") query.set(input.dataset.name, input.value);
      else headers[input.dataset.name] = input.value;
    }
    const body = form.querySelector("[data-body]")?.value;
    if (body) headers["content-type"] = "application/json";
    const shown = form.querySelector(".answer");
    shown.hidden = false;
    shown.textContent = "…";
    try {
      const address = path + (query.size ? `?${query}` : "");
      const answer = await fetch(address, { method: form.dataset.verb, headers, body });
      const text = await answer.text();
      shown.textContent = `${answer.status} ${answer.statusText}\n\n${pretty(text)}`;
    } catch (error) {
      shown.textContent = String(error);
    }
  });

  function pretty(text) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }
})();
