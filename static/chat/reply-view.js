// One reply on the page: its text while it grows, and what is known of it at the end.
import { MarkdownStream, adoptRendered } from "./markdown.js";
import { describeProblem } from "./problems.js";

const DRAW_EVERY_MS = 80;
const RESET_GRACE_MS = 400;
const PATIENCE_MS = 8_000;
const RUNNING = new Set(["queued", "streaming"]);
const TOOL_DONE = new Set(["completed", "succeeded", "failed", "done", "ok", "error"]);

export class ReplyView {
  #part;
  #stream;
  #narration;
  #onDrawn;
  #drawTimer = 0;
  #drawCostMs = 0;
  #patience = 0;
  #keepUntilLength = 0;
  #cursors = new Set();

  constructor(element, { narration, sourceTemplate, onDrawn }) {
    this.element = element;
    this.sourceTemplate = sourceTemplate;
    this.cursor = null;
    this.#part = Object.fromEntries(
      [...element.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]),
    );
    this.#stream = new MarkdownStream(this.#part.text);
    this.#narration = narration;
    this.#onDrawn = onDrawn;
    this.#adopt();
  }

  get id() {
    return this.element.dataset.replyId;
  }

  get state() {
    return this.element.dataset.state;
  }

  get isRunning() {
    return RUNNING.has(this.state);
  }

  /** The exact Markdown so far; tests read it from the element too. */
  get text() {
    return this.element.rawText;
  }

  set text(text) {
    this.element.rawText = text;
  }

  /** A new reply, or a stored one whose events will be replayed from the start. */
  #adopt() {
    const stored = this.element.querySelector(":scope > script[type='application/json']");
    this.text = stored ? JSON.parse(stored.textContent) : "";
    if (!this.isRunning) {
      adoptRendered(this.#part.text);
      this.element.dataset.raw = this.text;
      const code = this.element.dataset.errorCode;
      if (code) this.#part["failure-text"].textContent = describeProblem({ code });
      return;
    }
    this.#beginPatience();
  }

  start(id) {
    Object.assign(this.element.dataset, { replyId: id, messageId: id, state: "queued" });
    this.#showTime(new Date().toISOString());
  }

  /** Before a replay: events come again from the first one. What is shown stays until there is as much again. */
  expectReplay() {
    this.#keepUntilLength = Math.max(this.#keepUntilLength, this.text.length);
    this.#forget();
  }

  append(text, cursor) {
    if (!this.isRunning || this.#isRepeat(cursor)) return;
    this.element.dataset.state = "streaming";
    clearTimeout(this.#patience);
    this.#showTool(null);
    this.text += text;
    this.#narration.update(this.text);
    this.#scheduleDraw(this.#part.text.childNodes.length === 0 ? 0 : Math.max(DRAW_EVERY_MS, 8 * this.#drawCostMs));
  }

  /** Start again: usually the whole text follows at once, so the old one is not wiped from under the reader's eyes. */
  reset(cursor) {
    if (!this.isRunning || this.#isRepeat(cursor)) return;
    this.#keepUntilLength = 0;
    this.#forget();
    this.#cursors.add(cursor);
    this.#narration.restart();
    this.#beginPatience("Starting again…");
    clearTimeout(this.#drawTimer);
    this.#drawTimer = 0;
    this.#scheduleDraw(RESET_GRACE_MS);
  }

  tool(name, status) {
    if (!this.isRunning) return;
    this.#showTool(TOOL_DONE.has(status) ? null : name);
  }

  stopping() {
    this.#showWorking("Stopping…", "stop");
  }

  finish(state, reply) {
    if (!this.isRunning) return;
    clearTimeout(this.#drawTimer);
    clearTimeout(this.#patience);
    // The stored reply is the truth, whatever was or was not received.
    if (typeof reply?.content === "string") this.text = reply.content;
    this.element.dataset.state = state;
    this.element.dataset.raw = this.text;
    this.#stream.finish(this.text);
    this.#showOutcome(state, reply ?? {});
    this.#narration.finish(this.text, closingWords(state, reply, this.#part));
    this.#onDrawn(this);
  }

  #showOutcome(state, reply) {
    if (state === "failed") {
      this.#part["failure-text"].textContent = describeProblem(reply.error);
      this.element.dataset.errorCode = reply.error?.code ?? "internal_error";
    }
    this.#part.failure.hidden = state !== "failed";
    this.#part.stopped.hidden = state !== "cancelled";
    this.#part.notice.hidden = !reply.notice && !reply.degraded;
    if (reply.notice) this.#part.notice.textContent = reply.notice;
    this.#part.origin.hidden = reply.provider !== "local";
    this.#showSources(reply.sources ?? []);
    if (reply.created_at) this.#showTime(reply.created_at);
  }

  #showSources(sources) {
    this.#part.sources.hidden = sources.length === 0;
    this.#part.sources.querySelector("ol").replaceChildren(
      ...sources.map((source, index) => {
        const card = this.sourceTemplate.content.cloneNode(true);
        const part = (name) => card.querySelector(`[data-part="${name}"]`);
        part("number").textContent = index + 1;
        part("title").textContent = source.title;
        part("quote").textContent = source.quote;
        if (/^https?:\/\//i.test(source.url ?? "")) part("link").href = source.url;
        else part("link").remove();
        return card;
      }),
    );
  }

  #showTime(iso) {
    this.#part.time.dateTime = iso;
    localizeTime(this.#part.time);
  }

  #showTool(name) {
    if (name) this.#showWorking(`Using ${name.replaceAll(/[_-]+/g, " ")}…`, name);
    else if ("tool" in this.#part.working.dataset) {
      delete this.#part.working.dataset.tool;
      this.#part["working-text"].textContent = "Thinking…";
    }
  }

  #showWorking(text, tool) {
    this.#part["working-text"].textContent = text;
    if (tool) this.#part.working.dataset.tool = tool;
  }

  #beginPatience(text = "Thinking…") {
    clearTimeout(this.#patience);
    this.#showWorking(text);
    this.#patience = setTimeout(() => this.#showWorking("Still working on it…"), PATIENCE_MS);
  }

  #forget() {
    this.text = "";
    this.cursor = null;
    this.#cursors.clear();
  }

  /** Live events and a replay can overlap by some; a cursor is never used twice in one reply. */
  #isRepeat(cursor) {
    if (cursor == null) return false;
    if (this.#cursors.has(cursor)) return true;
    this.#cursors.add(cursor);
    this.cursor = cursor;
    return false;
  }

  #scheduleDraw(delayMs) {
    if (this.#drawTimer) return;
    this.#drawTimer = setTimeout(() => {
      if (document.visibilityState === "visible") requestAnimationFrame(() => this.#draw());
      else this.#draw();
    }, delayMs);
  }

  #draw() {
    this.#drawTimer = 0;
    if (!this.isRunning || this.text.length < this.#keepUntilLength) return;
    if (this.#keepUntilLength) this.#stream.reset();
    this.#keepUntilLength = 0;
    const before = performance.now();
    if (this.text === "") this.#stream.reset();
    else this.#stream.update(this.text);
    this.#drawCostMs = performance.now() - before;
    this.#onDrawn(this);
  }
}

function closingWords(state, reply, part) {
  if (state === "failed") return part["failure-text"].textContent;
  if (state === "cancelled") return "Answer stopped.";
  const count = reply?.sources?.length ?? 0;
  const sources = count ? ` ${count === 1 ? "1 source" : `${count} sources`}.` : "";
  return `Answer complete.${sources}${reply?.notice ? ` ${reply.notice}` : ""}`;
}

export function localizeTime(element) {
  const when = new Date(element.dateTime);
  if (Number.isNaN(when.getTime())) return;
  const today = when.toDateString() === new Date().toDateString();
  element.textContent = when.toLocaleString([], today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}
