/* Kiti's own script: the seat grid, the clock of a hold, seats that others take, printing, the ticket offline.
   Every page works without it. */
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  /* ---- the seat grid: one tab stop, arrows, Home, End, Space ---- */

  const seatsOf = (form) => $$("input[name=seat]", form);
  const wordsOf = (form) => JSON.parse(form.dataset.words);

  function enhance(form) {
    if (form.dataset.ready) return;
    form.dataset.ready = "1";
    for (const table of $$("table", form)) {
      table.setAttribute("role", "grid");
      table.setAttribute("aria-multiselectable", "true");
    }
    if ($("table", form)) oneTabStop(form, $("input[name=seat]:checked", form));
    tell(form, false);
  }

  function oneTabStop(form, wanted) {
    const stop = wanted && !wanted.disabled ? wanted : $("table input:not(:disabled)", form);
    for (const input of $$("table input", form)) input.tabIndex = input === stop ? 0 : -1;
  }

  const cellOf = (input) => input.closest("td");
  const placeOf = (input) => ({ row: cellOf(input).parentElement, column: cellOf(input).cellIndex });

  function beside(input, step) {
    const cells = [...placeOf(input).row.cells];
    for (let at = placeOf(input).column + step; at >= 0 && at < cells.length; at += step) {
      const found = $("input:not(:disabled)", cells[at]);
      if (found) return found;
    }
    return null;
  }

  /* The next row, also of the next deck, that has a free seat: the one that is nearest sideways. */
  function across(form, input, step) {
    const rows = $$("tbody tr", form);
    const { row, column } = placeOf(input);
    for (let at = rows.indexOf(row) + step; at >= 0 && at < rows.length; at += step) {
      const free = $$("input:not(:disabled)", rows[at]);
      if (free.length) {
        const far = (one) => Math.abs(cellOf(one).cellIndex - column);
        return free.reduce((best, one) => (far(one) < far(best) ? one : best));
      }
    }
    return null;
  }

  function edge(form, input, key, all) {
    const free = $$("input:not(:disabled)", all ? form.querySelector("fieldset") : placeOf(input).row);
    return key === "Home" ? free[0] : free[free.length - 1];
  }

  document.addEventListener("keydown", (event) => {
    const input = event.target;
    if (!input.matches?.(".seating table input") || event.altKey || event.metaKey) return;
    const form = input.form;
    const moves = {
      ArrowLeft: () => beside(input, -1),
      ArrowRight: () => beside(input, 1),
      ArrowUp: () => across(form, input, -1),
      ArrowDown: () => across(form, input, 1),
      Home: () => edge(form, input, "Home", event.ctrlKey),
      End: () => edge(form, input, "End", event.ctrlKey),
    };
    if (event.key === "Enter") {
      event.preventDefault();
      input.click();
    } else if (moves[event.key]) {
      event.preventDefault();
      const next = moves[event.key]();
      if (next) {
        oneTabStop(form, next);
        next.focus();
      }
    }
  });

  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.(".seating table input")) oneTabStop(event.target.form, event.target);
  });

  document.addEventListener("change", (event) => {
    const input = event.target;
    if (input.matches?.(".seating input[name=seat]")) tell(input.form, true);
  });

  /* What is chosen and what it costs: in the bar, and said politely. */
  function tell(form, aloud) {
    const bar = $("#chosen", form);
    const words = wordsOf(form);
    const chosen = seatsOf(form).filter((input) => input.checked);
    bar.replaceChildren();
    const add = (tag, text) => bar.append(Object.assign(document.createElement(tag), { textContent: text }));
    if (chosen.length) {
      const fares = chosen.map((input) => Number(input.dataset.amount));
      const minor = sum(fares) + onTop(fares, JSON.parse(form.dataset.ways));
      add("b", (chosen.length === 1 ? words.one : words.many).replace("#", chosen.length));
      add("span", chosen.map((input) => input.value).join(", "));
      add("strong", money(minor, form.dataset));
    } else {
      add("span", words.none);
    }
    if (aloud) $("#said", form).textContent = [...bar.children].map((part) => part.textContent).join(", ");
  }

  const sum = (amounts) => amounts.reduce((all, amount) => all + amount, 0);

  /* What is asked beside the fares, by the dearest way to pay: as kiti/fees/model.py computes it, in whole minor units. */
  function onTop(fares, ways) {
    const of = (way) => way.reduce((before, rule) => before + asked(rule, fares, before), 0);
    return Math.max(0, ...ways.map(of));
  }

  function asked(rule, fares, before) {
    const share = (amount) => halfEven(amount * rule.points, 10000) + rule.fixed;
    const limited = (amount) => Math.max(rule.least, Math.min(share(amount), rule.most ?? Infinity));
    return sum((rule.perSeat ? fares : [sum(fares) + (rule.ofAll ? before : 0)]).map(limited));
  }

  function halfEven(dividend, divisor) {
    const whole = Math.floor(dividend / divisor);
    const twice = 2 * (dividend % divisor);
    return whole + Number(twice > divisor || (twice === divisor && whole % 2 === 1));
  }

  function money(minor, { currency, digits }) {
    const amount = minor / 10 ** digits;
    const fraction = Number.isInteger(amount) ? 0 : Number(digits);
    const lang = document.documentElement.lang;
    const format = { minimumFractionDigits: fraction, maximumFractionDigits: fraction };
    return `${currency}\u00a0${amount.toLocaleString(lang, format)}`;
  }

  /* ---- seats that others take while I look ---- */

  const POLL_MS = 12000;
  const POLLS = 300;
  let etag = "";
  let polls = 0;

  async function look() {
    const form = $(".seating");
    if (!form || document.hidden || polls >= POLLS) return;
    polls += 1;
    const headers = etag ? { "If-None-Match": etag } : {};
    const answer = await fetch(form.dataset.taken, { headers, cache: "no-store" });
    if (answer.status !== 200) return;
    etag = answer.headers.get("etag") || "";
    const taken = new Set((await answer.text()).split(" "));
    const lost = [];
    const words = wordsOf(form);
    for (const input of seatsOf(form)) {
      const gone = taken.has(input.value);
      if (gone === input.disabled) continue;
      if (gone && input.checked) lost.push(input.value);
      if (gone) input.checked = false;
      input.disabled = gone;
      const said = input.getAttribute("aria-label") || "";
      const [was, is] = gone ? [words.free, words.taken] : [words.taken, words.free];
      input.setAttribute("aria-label", said.replace(`, ${was},`, `, ${is},`));
    }
    const focused = document.activeElement?.matches(".seating table input") ? document.activeElement : null;
    if ($("table", form)) oneTabStop(form, focused);
    if (lost.length) {
      const said = document.createElement("p");
      said.className = "notice stop";
      said.textContent = words.lost.replace("#", lost.join(", "));
      $("#lost").replaceChildren(said);
      tell(form, false);
    }
  }

  /* ---- the clock of a hold, by the server's clock ---- */

  /* An answer takes its time to arrive, and a page that comes back from the cache is old: both make the server's
     clock seem slower than it is. So the largest difference that was ever seen is the nearest to the truth. */
  function offsetOf(clock) {
    const seen = Number(clock.dataset.now) - Date.now();
    const kept = Number(sessionStorage.getItem("kiti-clock") ?? -Infinity);
    const offset = Math.max(seen, kept);
    sessionStorage.setItem("kiti-clock", offset);
    return offset;
  }

  function tick() {
    const clock = $("#clock");
    if (!clock) return;
    const left = Math.max(0, Math.ceil((Number(clock.dataset.until) - Date.now() - offsetOf(clock)) / 1000));
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    const face = $(".mmss", clock);
    if (face.textContent !== text) face.textContent = text;
    clock.classList.toggle("is-last", left <= 60);
    const offer = $(".extend", clock);
    if (offer) offer.hidden = left > 45 || left === 0;
    const over = left === 0;
    $(".over", clock).hidden = !over;
    if (over) $(".words", clock).textContent = clock.dataset.over;
    const due = over ? "over" : left <= 120 ? "two" : left <= 300 ? "five" : "";
    if (due && clock.dataset.said !== due) {
      clock.dataset.said = due;
      $("[role=status]", clock).textContent = clock.dataset[due];
    }
  }

  /* ---- printing, and the ticket without a connection ---- */

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-print]")) window.print();
  });

  function start() {
    for (const form of $$(".seating")) enhance(form);
    for (const button of $$("[data-print]")) button.hidden = false;
    tick();
  }

  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("htmx:after:swap", start);
  window.addEventListener("pageshow", start);
  setInterval(tick, 500);
  /* Without a connection there is nothing to learn; the next look may learn more. */
  setInterval(() => look().catch(() => {}), POLL_MS);
  document.addEventListener("visibilitychange", () => look().catch(() => {}));
  if ($(".tickets")) keep().catch(() => {});

  /* This page and what it needs, for the service worker; a dozen pages at most. */
  async function keep() {
    if (!("serviceWorker" in navigator && "caches" in window)) return;
    await navigator.serviceWorker.register("/offline.js");
    const cache = await caches.open("kiti-tickets");
    const needed = $$("link[rel=stylesheet], link[rel=icon], script[src]").map((part) => part.href || part.src);
    await cache.addAll([location.href, ...needed]);
    const pages = (await cache.keys()).filter((one) => one.url.includes("/ticket"));
    for (const old of pages.slice(0, -12)) await cache.delete(old);
  }
})();
