// The list of messages: adopts what the server rendered, adds what arrives, never shows one twice.
import { MarkdownStream, adoptRendered } from "./markdown.js";
import { ReplyView, localizeTime } from "./reply-view.js";

export class Transcript {
  #chat;
  #list;
  #announcer;
  #follower;
  #templates = {};
  #replies = new Map();
  #pending = new Map(); // client_id → element

  constructor(chat, { announcer, follower }) {
    this.#chat = chat;
    this.#list = chat.querySelector("#messages");
    this.#announcer = announcer;
    this.#follower = follower;
    for (const name of ["user", "assistant", "agent", "source"]) {
      this.#templates[name] = document.getElementById(`template-${name}`);
    }
    for (const element of this.#list.querySelectorAll("[data-role='assistant']")) this.#adoptReply(element);
    for (const text of this.#list.querySelectorAll("[data-role='agent'] .prose")) adoptRendered(text);
    this.#list.querySelectorAll("time").forEach(localizeTime);
  }

  get running() {
    return [...this.#replies.values()].filter((reply) => reply.isRunning);
  }

  reply(id) {
    return this.#replies.get(id);
  }

  has(messageId) {
    return this.#find(messageId) !== null;
  }

  /** The view of a reply; a new one goes under the message that it answers. */
  ensureReply(id, userMessageId) {
    const known = this.#replies.get(id);
    if (known) return known;
    const element = this.#clone("assistant");
    element.dataset.replyId = id;
    const asked = userMessageId && this.#find(userMessageId);
    if (userMessageId) element.dataset.answers = userMessageId;
    if (asked) asked.after(element);
    else this.#list.insertBefore(element, this.#firstPending());
    const view = this.#adoptReply(element);
    view.start(id);
    this.#changed();
    return view;
  }

  addPending(clientId, content) {
    const element = this.#clone("user");
    element.querySelector("[data-part='text']").textContent = content;
    element.dataset.clientId = clientId;
    element.dataset.state = "waiting";
    this.#list.append(element);
    this.#pending.set(clientId, element);
    this.#changed();
    this.#follower.toEnd();
  }

  /** `state`: waiting | sending | failed, with words and what the reader can do. */
  markPending(clientId, state, { text = "", canResend = false, canEdit = false } = {}) {
    const element = this.#pending.get(clientId);
    if (!element) return;
    element.dataset.state = state;
    element.querySelector("[data-part='delivery']").hidden = text === "";
    element.querySelector("[data-part='delivery-text']").textContent = text;
    element.querySelector("[data-action='resend']").hidden = !canResend;
    element.querySelector("[data-action='edit']").hidden = !canEdit;
    if (state === "failed") this.#announcer.say(`Not sent. ${text}`);
    this.#follower.follow();
  }

  confirm(clientId, messageId) {
    const element = this.#pending.get(clientId);
    if (!element) return;
    this.markPending(clientId, "sent");
    this.#pending.delete(clientId);
    if (this.has(messageId)) element.remove(); // it had arrived before a reload; the history shows it already
    else {
      element.dataset.messageId = messageId;
      this.#list.insertBefore(element, this.#firstPending());
    }
  }

  removePending(clientId) {
    this.#pending.get(clientId)?.remove();
    this.#pending.delete(clientId);
    this.#changed();
  }

  /** A message that came another way: an agent, another window, or one missed while the connection was gone. */
  upsert(message) {
    if (message.role === "assistant") return this.#upsertReply(message);
    if (this.has(message.id)) return;
    const element = this.#clone(message.role === "agent" ? "agent" : "user");
    const text = element.querySelector("[data-part='text']");
    element.dataset.messageId = message.id;
    if (message.role === "agent") {
      new MarkdownStream(text).finish(message.content);
      const time = element.querySelector("time");
      time.dateTime = message.created_at;
      localizeTime(time);
      this.#announcer.say(`${element.querySelector(".author").textContent}: ${text.textContent}`);
    } else text.textContent = message.content;
    // From another window, the answer can be here before the question.
    const answer = this.#list.querySelector(`:scope > [data-answers="${CSS.escape(message.id)}"]`);
    this.#list.insertBefore(element, answer ?? this.#firstPending());
    this.#changed();
  }

  /** The text that a reply answers. */
  questionFor(replyElement) {
    let element = replyElement;
    while (element && element.dataset.role !== "user") element = element.previousElementSibling;
    return element?.querySelector("[data-part='text']").textContent ?? "";
  }

  #upsertReply(message) {
    const view = this.ensureReply(message.id);
    const { reply } = message;
    if (["completed", "failed", "cancelled"].includes(reply?.status)) view.finish(reply.status, reply);
  }

  #adoptReply(element) {
    const view = new ReplyView(element, {
      narration: this.#announcer.follow(),
      sourceTemplate: this.#templates.source,
      onDrawn: () => this.#follower.follow(),
    });
    this.#replies.set(view.id, view);
    return view;
  }

  #clone(name) {
    return this.#templates[name].content.firstElementChild.cloneNode(true);
  }

  #find(messageId) {
    return this.#list.querySelector(`:scope > [data-message-id="${CSS.escape(messageId)}"]`);
  }

  /** What is still to be sent stays at the end; what was refused stays where that happened. */
  #firstPending() {
    return [...this.#pending.values()].find((element) => element.dataset.state !== "failed") ?? null;
  }

  #changed() {
    this.#chat.dataset.empty = String(this.#list.childElementCount === 0);
    this.#follower.follow();
  }
}
