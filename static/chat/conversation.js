// What each frame means: the one place where socket, transcript, delivery and composer meet.

const ACK_EVERY_DELTAS = 20;
const ACK_EVERY_MS = 1_000;
const WATCH_EVERY_MS = 5_000;
const SILENCE_LIMIT_MS = 30_000;
const FINAL_STATES = ["completed", "failed", "cancelled"];

export class Conversation {
  #socket;
  #api;
  #transcript;
  #delivery;
  #composer;
  #escalation;
  #chat;
  #unacknowledged = 0;
  #ackTimer = 0;

  constructor({ socket, api, transcript, delivery, composer, escalation, chat }) {
    this.#socket = socket;
    this.#api = api;
    this.#transcript = transcript;
    this.#delivery = delivery;
    this.#composer = composer;
    this.#escalation = escalation;
    this.#chat = chat;
    socket.addEventListener("open", () => this.#onOpen());
    socket.addEventListener("frame", ({ detail }) => this.#onFrame(detail));
    setInterval(() => this.#watch(), WATCH_EVERY_MS);
    this.#refresh();
  }

  /** The reply that was running when the page was made, even if its row came after the list was read. */
  adoptRunning(replyId) {
    if (replyId) this.#transcript.ensureReply(replyId);
    this.#refresh();
  }

  async stop() {
    for (const view of this.#transcript.running) {
      view.stopping();
      if (this.#socket.send({ type: "cancel", reply_id: view.id })) continue;
      await this.#api.cancel(view.id).catch(() => {}); // offline: the answer simply goes on
    }
  }

  #onOpen() {
    for (const view of this.#transcript.running) this.#resume(view);
    this.#delivery.reconnected();
    this.#catchUp();
  }

  /** After the last event seen, or from the first one. */
  #resume(view) {
    const frame = { type: "resume", reply_id: view.id };
    if (view.cursor) frame.after = view.cursor;
    else view.expectReplay();
    this.#socket.send(frame);
  }

  /** Messages and states that passed by between the page and the socket, or while it was gone. */
  async #catchUp() {
    try {
      const { status } = await this.#api.conversation();
      if (status) this.#escalation.show(status);
      for await (const message of this.#api.messages()) {
        if (message.role === "assistant" && this.#transcript.reply(message.id)?.isRunning) continue; // its events come
        this.#transcript.upsert(message);
        const view = message.role === "assistant" && this.#transcript.reply(message.id);
        if (view && view.isRunning) this.#resume(view);
      }
      this.#refresh();
    } catch {
      /* the next connection tries again; live events are not affected */
    }
  }

  #onFrame(frame) {
    const handler = {
      accepted: () => this.#onAccepted(frame),
      delta: () => this.#onDelta(frame),
      reset: () => this.#known(frame)?.reset(frame.cursor),
      tool: () => this.#known(frame)?.tool(frame.name, frame.status),
      message: () => this.#onMessage(frame.message),
      error: () => this.#onError(frame),
    }[frame.type];
    if (handler) handler();
    else if (FINAL_STATES.includes(frame.type)) this.#onFinal(frame);
    // An unknown type is a newer server's: ignore it.
  }

  #onAccepted(frame) {
    const resent = frame.client_id ? this.#delivery.accepted(frame.client_id, frame.user_message_id) : false;
    if (this.#chat.dataset.status === "resolved") this.#escalation.show("open"); // writing reopens it
    if (!frame.reply_id) return this.#refresh();
    const known = this.#transcript.reply(frame.reply_id);
    const view = this.#transcript.ensureReply(frame.reply_id, frame.user_message_id);
    if (resent && !known) this.#resume(view);
    if (frame.user_message_id && !this.#transcript.has(frame.user_message_id)) this.#catchUp();
    this.#refresh();
  }

  #onDelta(frame) {
    const view = this.#known(frame);
    if (!view) return;
    view.append(frame.text, frame.cursor);
    this.#acknowledge(view);
  }

  #onFinal(frame) {
    const view = this.#transcript.ensureReply(frame.reply_id);
    view.finish(frame.type, frame.reply);
    if (frame.cursor) this.#sendAck(view.id, frame.cursor);
    this.#refresh();
    this.#delivery.flush();
  }

  #onMessage(message) {
    this.#transcript.upsert(message);
    this.#refresh();
  }

  #onError({ client_id: clientId, reply_id: replyId, error }) {
    if (clientId) return this.#delivery.refused(clientId, error);
    // A refused resume or cancel: look at the reply itself.
    for (const view of this.#transcript.running) if (!replyId || view.id === replyId) this.#look(view);
  }

  async #look(view) {
    try {
      const reply = await this.#api.reply(view.id);
      if (FINAL_STATES.includes(reply.status)) view.finish(reply.status, reply);
    } catch (problem) {
      if (problem.code === "not_found") view.finish("failed", { content: view.text, error: problem });
    }
    this.#refresh();
    this.#delivery.flush();
  }

  /** A reply met in its middle (started in another window) is asked for from its beginning. */
  #known(frame) {
    const view = this.#transcript.reply(frame.reply_id);
    if (view) return view;
    this.#resume(this.#transcript.ensureReply(frame.reply_id));
    this.#refresh();
    return null;
  }

  /** Lets the server see how far a slow reader is. */
  #acknowledge(view) {
    this.#unacknowledged += 1;
    if (this.#unacknowledged >= ACK_EVERY_DELTAS) return this.#sendAck(view.id, view.cursor);
    this.#ackTimer ||= setTimeout(() => this.#sendAck(view.id, view.cursor), ACK_EVERY_MS);
  }

  #sendAck(replyId, cursor) {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = this.#unacknowledged = 0;
    if (cursor) this.#socket.send({ type: "ack", reply_id: replyId, cursor });
  }

  /** Something is due and nothing comes: the connection may be dead without saying so. */
  #watch() {
    const due = this.#transcript.running.length > 0 || this.#delivery.isWaitingForAnswer;
    if (due && this.#socket.isOpen && this.#socket.silentForMs > SILENCE_LIMIT_MS) this.#socket.replace();
  }

  #refresh() {
    const busy = this.#transcript.running.length > 0;
    this.#chat.dataset.busy = String(busy);
    this.#composer.setBusy(busy);
  }
}
