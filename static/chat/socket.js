// One WebSocket that stays open: back-off with jitter, sensible reactions to close codes, planned moves before a deploy.
// It knows nothing about messages; who listens to "frame" and "open" resumes what has to be resumed.
import { reactionToClose, reactionToStatus } from "./problems.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;
const STABLE_AFTER_MS = 5_000;
const SILENCE_BEFORE_CHECK_MS = 30_000;
const HANDSHAKE_TIMEOUT_MS = 15_000;

export class ChatSocket extends EventTarget {
  #url;
  #probe;
  #socket = null;
  #attempts = 0;
  #timer = 0;
  #handshakeTimer = 0;
  #openedAt = 0;
  #lastFrameAt = 0;
  #everOpen = false;
  #stopped = false;
  #malformedCloses = 0;

  /** `probe`: () => Promise<status>, an HTTP look at the same conversation; rejects when offline. */
  constructor(url, { probe }) {
    super();
    this.#url = url;
    this.#probe = probe;
    window.addEventListener("online", () => this.retryNow());
    window.addEventListener("offline", () => this.#announce("offline", { text: "You are offline." }));
    window.addEventListener("pagehide", () => this.#socket?.close(1000));
    window.addEventListener("pageshow", (event) => event.persisted && this.retryNow());
    document.addEventListener("visibilitychange", () => this.#onVisible());
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  get silentForMs() {
    return Date.now() - this.#lastFrameAt;
  }

  open() {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    const socket = new WebSocket(this.#url);
    let wasOpen = false;
    this.#socket = socket;
    this.#announce("connecting");
    this.#handshakeTimer = setTimeout(() => this.#abandon(socket), HANDSHAKE_TIMEOUT_MS);
    socket.addEventListener("open", () => {
      wasOpen = true;
      this.#onOpen(socket);
    });
    socket.addEventListener("message", (event) => this.#onMessage(socket, event.data));
    socket.addEventListener("close", (event) => this.#onClose(socket, event.code, wasOpen));
  }

  send(frame) {
    if (!this.isOpen) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** The reader, the network or a new page view says: now. */
  retryNow() {
    if (this.#stopped || this.isOpen) return;
    if (this.#socket?.readyState === WebSocket.CONNECTING) return;
    this.#attempts = 0;
    this.open();
  }

  /** A socket can be dead without knowing it (a phone slept, a cable went). A fresh one costs little. */
  replace() {
    if (this.#stopped) return;
    this.#abandon(this.#socket);
  }

  #abandon(socket) {
    if (!socket || socket !== this.#socket) return;
    this.#socket = null;
    socket.close();
    this.#scheduleRetry({ minimumMs: 0, text: "The connection was lost. Reconnecting…" });
  }

  #onOpen(socket) {
    if (socket !== this.#socket) return socket.close();
    clearTimeout(this.#handshakeTimer);
    this.#openedAt = this.#lastFrameAt = Date.now();
    const first = !this.#everOpen;
    this.#everOpen = true;
    this.#announce("open");
    this.dispatchEvent(new CustomEvent("open", { detail: { first } }));
  }

  #onMessage(socket, data) {
    if (socket !== this.#socket) return; // an old one, still draining after a planned move
    this.#lastFrameAt = Date.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame.type === "reconnect") return this.#planMove(socket, Number(frame.after_ms) || 0);
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  /** Everybody is told at once; spread the arrivals. Until then the old socket goes on delivering. */
  #planMove(socket, afterMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      socket.close(1000);
      this.open();
    }, afterMs + Math.random() * Math.max(250, afterMs * 0.2));
  }

  async #onClose(socket, code, wasOpen) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#handshakeTimer);
    this.#socket = null;
    if (wasOpen && Date.now() - this.#openedAt > STABLE_AFTER_MS) this.#attempts = 0;
    let reaction = reactionToClose(code);
    if (code === 4400 && ++this.#malformedCloses === 1) reaction = reactionToClose(1006); // once may be an accident
    // A refused handshake looks like any lost connection; only a plain request can tell which.
    if (!wasOpen && this.#attempts >= 1) reaction = await this.#askWhy();
    if (this.#socket || this.#stopped) return; // somebody pressed "Try now" meanwhile
    if (reaction.stop) {
      this.#stopped = true;
      return this.#announce("stopped", reaction);
    }
    this.#scheduleRetry(reaction);
  }

  async #askWhy() {
    try {
      return reactionToStatus(await this.#probe());
    } catch {
      return reactionToClose(1006);
    }
  }

  #scheduleRetry({ minimumMs, quick, text }) {
    clearTimeout(this.#timer);
    const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempts);
    const delay = minimumMs + (quick && this.#attempts < 3 ? 1000 : ceiling) * (0.5 + Math.random() / 2);
    this.#attempts += 1;
    const offline = navigator.onLine === false;
    this.#announce(offline ? "offline" : "waiting", {
      text: offline ? "You are offline." : text,
      retryAt: Date.now() + delay,
    });
    this.#timer = setTimeout(() => this.open(), delay);
  }

  #onVisible() {
    if (document.visibilityState !== "visible") return;
    if (!this.isOpen) this.retryNow();
    else if (this.silentForMs > SILENCE_BEFORE_CHECK_MS) this.replace();
  }

  #announce(state, more = {}) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, ...more } }));
  }
}
