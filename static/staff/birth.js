// Follows a tenant's birth until it is over. The server decides; this only shows.

const page = document.getElementById("birth");
const said = page.querySelector("[data-said]");
const name = document.querySelector(".cp-head-name h2")?.textContent ?? "";
const FASTEST = 400; // ms between two looks at first, growing while nothing happens
const SLOWEST = 3000;

// The page may be the answer to the form: from now on a reload shows the progress, not the form again.
history.replaceState(null, "", page.dataset.pageUrl);

function show(progress) {
  page.querySelectorAll("[data-step]").forEach((step) => {
    const place = Number(step.dataset.step);
    const next = place === progress.reached + 1;
    step.classList.toggle("is-done", place <= progress.reached);
    step.classList.toggle("is-next", next && !progress.failed);
    step.classList.toggle("is-failed", next && progress.failed);
  });
  const words = progress.finished ? `${name} is provisioned.` : progress.failed ? "Provisioning failed." : `Provisioning ${name}…`;
  if (said.textContent.trim() !== words) said.textContent = words;
  page.querySelector("[data-why]").textContent = progress.why;
  page.querySelector("[data-failure]").hidden = !progress.failed;
  page.querySelector("[data-retry]").hidden = !progress.may_retry;
  page.querySelectorAll("[data-done]").forEach((link) => (link.hidden = !progress.finished));
}

async function follow() {
  let pause = FASTEST;
  let before = "";
  for (;;) {
    try {
      const answer = await fetch(page.dataset.statusUrl, { headers: { Accept: "application/json" } });
      if (answer.redirected || answer.status === 403) return location.reload(); // signed out
      if (answer.ok) {
        const text = await answer.text();
        const progress = JSON.parse(text);
        show(progress);
        if (progress.finished) return;
        pause = text === before ? Math.min(pause * 1.3, SLOWEST) : FASTEST;
        before = text;
      }
    } catch {
      pause = SLOWEST; // the server is away: keep what is shown and ask again
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

if (page.dataset.finished !== "true") follow();
