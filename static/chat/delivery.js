// Gets the reader's messages to the server: in order, one answer at a time, over lost connections and refusals.
import { describeProblem, isFinal, needsEditing, retryAfter, seconds } from "./problems.js";

const BUSY_RETRY_MS = 3_000;
const MOVING_MS = 1_000;

export class Delivery {
  #outbox;
  #transcript;
  #socket;
  #onEdit;
  #timer = 0;
  #ticker = 0;
  #blockedUntil = 0;

  constructor({ outbox, transcript, socket, list, onEdit }) {
    this.#outbox = outbox;
    this.#transcript = transcript;
    this.#socket = socket;
    this.#onEdit = onEdit;
    for (const item of outbox.items) {
      transcript.addPending(item.clientId, item.content);
      if (item.state === "failed") this.#showFailed(item, null);
    }
    list.addEventListener("click", (event) => this.#onClick(event));
    socket.addEventListener("state", () => this.#showWaiting());
  }

  get isWaitingForAnswer() {
    return this.#outbox.sending !== undefined;
  }

  send(content) {
    const item = this.#outbox.add(content);
    this.#transcript.addPending(item.clientId, content);
    this.flush();
  }

  /** A new socket: what was on its way over the old one may or may not have arrived; the client_id makes it safe. */
  reconnected() {
    for (const item of this.#outbox.items) if (item.state === "sending") this.#outbox.mark(item, "waiting");
    this.flush();
  }

  flush() {
    const item = this.#outbox.next;
    const ready = this.#socket.isOpen && !this.#outbox.sending && this.#transcript.running.length === 0;
    if (item && ready && Date.now() >= this.#blockedUntil) {
      item.tries += 1;
      if (this.#socket.send({ type: "message", content: item.content, client_id: item.clientId })) {
        this.#outbox.mark(item, "sending");
        this.#transcript.markPending(item.clientId, "sending");
      }
    }
    this.#showWaiting();
  }

  /** → whether this message may have been accepted long ago, so that its events have to be asked for. */
  accepted(clientId, messageId) {
    const item = this.#outbox.find(clientId);
    if (!item) return false;
    this.#outbox.remove(item);
    this.#transcript.confirm(clientId, messageId);
    return item.tries > 1;
  }

  refused(clientId, problem) {
    const item = this.#outbox.find(clientId);
    if (!item) return;
    // The server is about to go; the message goes to the next one, once the socket has moved.
    if (problem.code === "shutting_down") return this.#postpone(item, MOVING_MS, null);
    if (problem.code === "reply_in_progress") return this.#postpone(item, BUSY_RETRY_MS, null);
    if (problem.code === "rate_limited" && retryAfter(problem)) {
      return this.#postpone(item, retryAfter(problem) * 1000, (left) => `A little too fast. Sending in ${seconds(left)}…`);
    }
    this.#outbox.mark(item, "failed");
    this.#showFailed(item, problem);
    this.flush();
  }

  #postpone(item, delayMs, words) {
    this.#outbox.mark(item, "waiting");
    this.#blockedUntil = Date.now() + delayMs;
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    this.#timer = setTimeout(() => {
      clearInterval(this.#ticker);
      this.flush();
    }, delayMs + 50);
    if (!words) return this.#showWaiting();
    const tick = () => {
      const left = Math.max(1, Math.ceil((this.#blockedUntil - Date.now()) / 1000));
      this.#transcript.markPending(item.clientId, "waiting", { text: words(left) });
    };
    tick();
    this.#ticker = setInterval(tick, 1000);
  }

  #showWaiting() {
    if (Date.now() < this.#blockedUntil) return;
    const text = this.#socket.isOpen ? "Will be sent after this answer" : "Will be sent when you’re back online";
    for (const item of this.#outbox.items) {
      if (item.state === "waiting") this.#transcript.markPending(item.clientId, "waiting", { text });
    }
  }

  #showFailed(item, problem) {
    this.#transcript.markPending(item.clientId, "failed", {
      text: problem ? describeProblem(problem) : "Not sent.",
      canResend: !needsEditing(problem) && !isFinal(problem),
      canEdit: true,
    });
  }

  #onClick(event) {
    const button = event.target.closest("[data-action='resend'], [data-action='edit']");
    const item = this.#outbox.find(button?.closest("[data-client-id]")?.dataset.clientId);
    if (!item) return;
    if (button.dataset.action === "resend") {
      this.#outbox.mark(item, "waiting");
      return this.flush();
    }
    this.#outbox.remove(item);
    this.#transcript.removePending(item.clientId);
    this.#onEdit(item.content);
  }
}
