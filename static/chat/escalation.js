// "Talk to a person": asks, and then shows that a person has been asked.
import { describeProblem } from "./problems.js";

export class Escalation {
  #chat;
  #tenant;
  #dialog;
  #button;
  #line;

  constructor(chat, { api, tenantName, onEscalated }) {
    this.#chat = chat;
    this.#tenant = tenantName;
    this.#dialog = document.getElementById("escalate-dialog");
    this.#button = chat.querySelector("#escalate");
    this.#line = chat.querySelector("#status-line");
    const form = this.#dialog.querySelector("form");
    this.#button.addEventListener("click", () => this.#dialog.showModal());
    form.querySelector("[data-action='close']").addEventListener("click", () => this.#dialog.close());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      await this.#ask(form, api, onEscalated);
    });
  }

  /** `status`: open | escalated | resolved, as the conversation has it. */
  show(status) {
    if (status === this.#chat.dataset.status) return;
    this.#chat.dataset.status = status;
    this.#button.hidden = status === "escalated";
    this.#line.hidden = status === "open";
    this.#line.textContent =
      status === "escalated"
        ? `A person from ${this.#tenant} has been told and will answer here. You can keep writing.`
        : "This conversation is closed. Write a message to open it again.";
  }

  async #ask(form, api, onEscalated) {
    const error = form.querySelector("#escalate-error");
    const submit = form.querySelector("[type='submit']");
    const reason = form.elements.reason.value.trim();
    error.hidden = true;
    submit.disabled = true;
    try {
      const conversation = await api.escalate(reason ? { reason } : {});
      this.#dialog.close();
      form.reset();
      this.show(conversation.status ?? "escalated");
      onEscalated();
    } catch (problem) {
      error.textContent = describeProblem(problem.code ? problem : { detail: "That did not get through. Please try again." });
      error.hidden = false;
    } finally {
      submit.disabled = false;
    }
  }
}
