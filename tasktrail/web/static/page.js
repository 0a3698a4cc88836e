// Adds to the page where scripts run: parts that change while it is open, and ages that stay right.
// Everything works without it, by plain links and forms.
"use strict";

// --- live parts: the server sends a whole part; only differences are applied, so focus and selections stay -----------

function sameKind(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id || "") === (other.id || "");
}

function morph(shown, wanted) {
  if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== wanted.data) shown.data = wanted.data;
    return;
  }
  if (shown.nodeType !== Node.ELEMENT_NODE || shown.isEqualNode(wanted)) return;
  const kept = shown.nodeName === "DETAILS" ? ["open"] : shown.matches("input, select, textarea") ? ["value", "checked"] : [];
  for (const { name, value } of [...wanted.attributes]) {
    if (!kept.includes(name) && shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  for (const { name } of [...shown.attributes]) {
    if (!kept.includes(name) && !wanted.hasAttribute(name)) shown.removeAttribute(name);
  }
  morphInside(shown, wanted);
}

function morphInside(shown, wanted) {
  let place = shown.firstChild;
  for (const next of [...wanted.childNodes]) {
    const found = next.id ? [...shown.children].find((one) => one.id === next.id) : null;
    if (found?.contains(document.activeElement)) {
      // Moving the focused element would take its focus. So the elements before it are moved to the end.
      while (place && place !== found) {
        const passed = place;
        place = place.nextSibling;
        shown.append(passed);
      }
    } else if (found && found !== place) {
      shown.insertBefore(found, place);
      place = found;
    }
    if (place && sameKind(place, next)) {
      morph(place, next);
      place = place.nextSibling;
    } else {
      shown.insertBefore(document.importNode(next, true), place);
    }
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

// A hidden page follows nothing: a browser has few connections to one host, and other pages need them.
function follow(address, state) {
  let source = null;
  const tell = (text, lost) => {
    state.hidden = false;
    state.classList.toggle("is-lost", lost);
    if (state.textContent !== text) state.textContent = text;
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    source = new EventSource(address);
    source.addEventListener("open", () => tell("live", false));
    source.addEventListener("part", (event) => take(JSON.parse(event.data)));
    source.addEventListener("error", async () => {
      tell("not live: connecting again", true);
      const lost = source;
      if (lost?.readyState !== EventSource.CLOSED) return;
      // The browser does not say why the stream was refused. Without permission it should not ask for ever.
      const asked = new AbortController();
      const answer = await fetch(address, { signal: asked.signal }).catch(() => null);
      asked.abort();
      if (source !== lost) return;
      if (answer?.status !== 401) setTimeout(() => source === lost && open(), 3000);
      else tell("not live: log in again", true);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  if (!document.hidden) open();
}

function take(part) {
  const shown = document.getElementById(part.id);
  if (!shown) return;
  const read = new DOMParser().parseFromString(`<body>${part.html}`, "text/html"); // without <body>, spaces at its start go
  for (const field of read.querySelectorAll('input[name="csrf"]')) field.setAttribute("value", document.body.dataset.csrf);
  morphInside(shown, read.body);
  keepAges();
}

// --- ages -----------------------------------------------------------------------------------------------------------

const UNITS = [["s", 1, 90], ["m", 60, 90], ["h", 3600, 48], ["d", 86400, 100]];

function age(seconds) {
  for (const [unit, length, most] of UNITS) {
    const number = Math.round(Math.abs(seconds) / length);
    if (number < most) return seconds >= 0 ? `${number} ${unit} ago` : `in ${number} ${unit}`;
  }
  return "";
}

// How far this clock is ahead of the service's, which all times come from. The two may be hours apart.
function clockAhead() {
  const asked = performance.getEntriesByType("navigation")[0]?.requestStart ?? performance.now();
  return Date.now() - (performance.now() - asked) - Date.parse(document.body.dataset.now);
}

function keepAges() {
  if (document.body.classList.contains("past")) return;
  const now = Date.now() - ahead;
  for (const one of document.querySelectorAll("time[data-relative]")) {
    const text = age((now - Date.parse(one.dateTime)) / 1000);
    if (text && one.textContent !== text) one.textContent = text;
  }
}

// --- forms ----------------------------------------------------------------------------------------------------------

// A form is sent once, however often its button is pressed.
addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// The box in the heading of a list ticks all boxes below it.
addEventListener("change", (event) => {
  if (!event.target.matches("input[data-choose-all]")) return;
  for (const box of event.target.form.querySelectorAll('input[name="id"]')) box.checked = event.target.checked;
});

// Escape closes dialogs that were opened over the page.
addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest?.("details.moment[open], details.confirm[open]");
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

const ahead = clockAhead();
const live = document.body.dataset.live;
if (live) follow(live, document.querySelector("[data-live-state]"));
setInterval(keepAges, 5000);
