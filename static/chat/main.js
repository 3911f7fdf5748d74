// Puts the page together.
import { createApi } from "./api.js";
import { Announcer } from "./announcer.js";
import { Composer } from "./composer.js";
import { ConnectionBanner } from "./connection-banner.js";
import { Conversation } from "./conversation.js";
import { Delivery } from "./delivery.js";
import { Escalation } from "./escalation.js";
import { Feedback } from "./feedback.js";
import { Follower } from "./follower.js";
import { Draft, Outbox } from "./outbox.js";
import { ChatSocket } from "./socket.js";
import { Transcript } from "./transcript.js";

const config = JSON.parse(document.getElementById("chat-config").textContent);
const chat = document.getElementById("chat");
const list = document.getElementById("messages");

const socketUrl = new URL(config.ws_path, location.href);
socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";

const api = createApi(config);
const socket = new ChatSocket(socketUrl, { probe: () => api.probe() });
const announcer = new Announcer(document.getElementById("announcer"));
const follower = new Follower(document.getElementById("scroller"), document.getElementById("jump"));
const transcript = new Transcript(chat, { announcer, follower });
const composer = new Composer(document.getElementById("composer"), {
  draft: new Draft(config.conversation_id),
  onSend: (text) => delivery.send(text),
  onStop: () => conversation.stop(),
});
const escalation = new Escalation(chat, {
  api,
  tenantName: config.tenant_name,
  onEscalated: () => {
    follower.toEnd();
    composer.focus();
  },
});
const delivery = new Delivery({
  outbox: new Outbox(config.conversation_id),
  transcript,
  socket,
  list,
  onEdit: (text) => composer.putBack(text),
});
const conversation = new Conversation({ socket, api, transcript, delivery, composer, escalation, chat });

new Feedback(list, { api });
new ConnectionBanner(chat, socket);

list.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action='retry']");
  if (!button) return;
  const question = transcript.questionFor(button.closest("[data-reply-id]"));
  button.hidden = true; // one failed answer, one retry; the next answer brings its own
  composer.focus();
  if (question) delivery.send(question);
});

socket.addEventListener("state", ({ detail }) => {
  if (detail.state === "stopped") composer.close();
});

conversation.adoptRunning(config.running_reply_id);
follower.toEnd();
// On a phone, focus would pull up the keyboard over the greeting.
if (matchMedia("(hover: hover) and (pointer: fine)").matches) composer.focus();
socket.open();
