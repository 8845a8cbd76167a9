"use strict";
// Loads the page anew and puts what changed in place: scroll, focus and selection stay. Without it the page reloads.
const EVERY = 5000, PATIENCE = 4000;
let busy = false, answered = new Date();

function put(fresh, old) {
  if (fresh.innerHTML === old.innerHTML) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const moved = [...old.querySelectorAll(".wide")].map((each) => [each.id, each.scrollLeft]);
  const target = focused && (focused.id || focused.getAttribute("href"));
  old.innerHTML = fresh.innerHTML;
  for (const [id, left] of moved) {
    const region = document.getElementById(id);
    if (region) region.scrollLeft = left;
  }
  if (target) {
    const again = [...old.querySelectorAll("[id], a")].find((e) => e.id === target || e.getAttribute("href") === target);
    if (again) again.focus({ preventScroll: true });
  }
}

async function refresh() {
  if (busy || document.hidden) return;
  busy = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = [...fresh.querySelectorAll("[data-live]")];
    const known = [...document.querySelectorAll("[data-live]")];
    if (parts.map((e) => e.id).join() === known.map((e) => e.id).join()) {
      parts.forEach((part, i) => put(part, known[i]));
    } else {
      put(fresh.querySelector("main"), document.querySelector("main"));
    }
    document.title = fresh.title;
    answered = new Date();
    document.getElementById("lost").hidden = true;
  } catch {
    const lost = document.getElementById("lost");
    lost.hidden = false;
    lost.textContent = `No answer since ${answered.toLocaleTimeString()}: what stands below is of then.`;
    document.title = "no answer · stream_moe";
  } finally {
    busy = false;
  }
}

setInterval(refresh, EVERY);
document.addEventListener("visibilitychange", refresh);
