// Thumbs, an optional comment, and copying. One listener on the list serves every answer on it.
import { describeProblem } from "./problems.js";

const PROMPTS = { up: "What was good? (optional)", down: "What could be better? (optional)" };

export class Feedback {
  #api;

  constructor(list, { api }) {
    this.#api = api;
    list.addEventListener("click", (event) => {
      const button = event.target.closest("[data-action]");
      const message = button?.closest("[data-reply-id]");
      if (!message) return;
      if (button.dataset.action === "up" || button.dataset.action === "down") this.#rate(message, button);
      if (button.dataset.action === "skip-comment") this.#closeComment(message, "");
      if (button.dataset.action === "copy") this.#copy(message, button);
    });
    list.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#comment(event.target.closest("[data-reply-id]"));
    });
    list.addEventListener("keydown", (event) => {
      const form = event.target.closest("[data-part='comment']");
      if (form && event.key === "Escape") this.#closeComment(form.closest("[data-reply-id]"), "");
    });
  }

  async #rate(message, button) {
    const before = currentRating(message);
    const rating = button.dataset.action;
    const form = part(message, "comment");
    press(message, rating);
    try {
      await this.#api.feedback(message.dataset.replyId, { rating });
    } catch (problem) {
      press(message, before);
      return say(message, describeProblem(problem.code ? problem : { detail: "That could not be saved. Please try again." }));
    }
    part(message, "comment-label").textContent = PROMPTS[rating];
    form.hidden = false;
    say(message, "Thank you.");
    form.scrollIntoView({ block: "nearest" });
  }

  async #comment(message) {
    const form = part(message, "comment");
    const comment = form.elements.comment.value.trim();
    if (!comment) return this.#closeComment(message, "");
    try {
      await this.#api.feedback(message.dataset.replyId, { rating: currentRating(message), comment });
      this.#closeComment(message, "Thank you, your comment is saved.");
    } catch (problem) {
      say(message, describeProblem(problem.code ? problem : { detail: "That could not be saved. Please try again." }));
    }
  }

  #closeComment(message, words) {
    const form = part(message, "comment");
    form.hidden = true;
    form.reset();
    say(message, words);
    message.querySelector(".tool[aria-pressed='true']")?.focus(); // focus must not fall off the page with the form
  }

  async #copy(message, button) {
    try {
      await navigator.clipboard.writeText(message.rawText);
    } catch {
      return say(message, "Copying is not possible here. Select the text instead.");
    }
    button.dataset.copied = "";
    say(message, "Copied.");
    setTimeout(() => {
      delete button.dataset.copied;
      say(message, "");
    }, 2000);
  }
}

const part = (message, name) => message.querySelector(`[data-part="${name}"]`);

const say = (message, words) => {
  part(message, "feedback-status").textContent = words;
};

const currentRating = (message) => message.querySelector(".tool[aria-pressed='true']")?.dataset.action ?? null;

function press(message, rating) {
  for (const action of ["up", "down"]) {
    message.querySelector(`[data-action="${action}"]`).setAttribute("aria-pressed", String(action === rating));
  }
}
