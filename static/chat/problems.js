// What went wrong, in the reader's words. Codes are the closed list of the API's problem documents.

const TEXTS = {
  malformed: "That could not be understood. Please reload the page and try again.",
  invalid_request: "That could not be accepted. Please change it and try again.",
  not_authenticated: "Your visit has timed out. Please reload the page.",
  not_allowed: "That is not possible here.",
  tenant_mismatch: "That is not possible here.",
  tenant_suspended: "This chat is not available right now.",
  origin_not_allowed: "This chat can’t be used from this address.",
  not_found: "That no longer exists.",
  reply_in_progress: "The current answer has to finish first.",
  too_large: "This message is too long. Please shorten it.",
  idempotency_mismatch: "That was already sent with another text. Please try again.",
  idempotency_in_progress: "That is already on its way.",
  internal_error: "Something broke on our side. Please try again.",
  provider_error: "The assistant could not answer. Please try again.",
  provider_unavailable: "The assistant can’t be reached right now. Please try again in a moment.",
  database_unavailable: "The service is briefly unavailable. Please try again in a moment.",
  shutting_down: "The service is being updated. Please try again in a moment.",
  deadline_exceeded: "The answer took too long. Please try again.",
};

const BUDGET_TEXTS = {
  conversation: "This conversation has used up its allowance. You can start a new one, or talk to a person.",
  user: "You have used up your allowance for now. You can still talk to a person.",
  tenant: "The assistant has used up its allowance for now. You can still talk to a person.",
};

const EDITABLE = new Set(["too_large", "invalid_request", "malformed"]);
const FINAL = new Set(["budget_exceeded", "not_authenticated", "not_allowed", "tenant_suspended", "not_found"]);

export function describeProblem(problem) {
  if (problem?.code === "rate_limited") {
    if (problem.retry_after === null) return "This message is larger than is allowed here in a minute. Please shorten it.";
    return `That was a lot at once. Please wait ${seconds(retryAfter(problem))}.`;
  }
  if (problem?.code === "budget_exceeded") return BUDGET_TEXTS[problem.level] ?? BUDGET_TEXTS.tenant;
  return TEXTS[problem?.code] ?? problem?.detail ?? TEXTS.internal_error;
}

/** Sending the same again cannot help: the text itself is refused. */
export const needsEditing = (problem) => EDITABLE.has(problem?.code);

/** Sending again would meet the same answer, at least on this page. */
export const isFinal = (problem) => FINAL.has(problem?.code);

/** Whole seconds to wait before the next try, or 0. */
export const retryAfter = (problem) => Math.max(0, Math.ceil(Number(problem?.retry_after) || 0));

export const seconds = (count) => (count === 1 ? "1 second" : `${count} seconds`);

/**
 * What to do when the server closes the socket.
 * `stop`: trying again is pointless, `text` says what the reader can do. Otherwise wait at least `minimumMs`.
 */
export function reactionToClose(code) {
  switch (code) {
    case 4400:
      return { stop: true, action: "reload", text: "This page is out of step with the server. Please reload it." };
    case 4401:
      return { stop: true, action: "reload", text: "Your visit has timed out. Reload the page to go on." };
    case 4403:
      return { stop: true, action: null, text: "This chat is not available right now." };
    case 4404:
      return { stop: true, action: "new", text: "This conversation no longer exists." };
    case 4408:
      return { minimumMs: 1000, text: "Your connection is slow. Catching up…" };
    case 4429:
      return { minimumMs: 10_000, text: "Too many open windows or messages. Trying again shortly." };
    case 4503:
      return { minimumMs: 300, quick: true, text: "The service is being updated. Back in a moment." };
    default:
      return { minimumMs: 0, text: "The connection was lost. Reconnecting…" };
  }
}

/** The same for an HTTP answer where the handshake was refused (a browser hides the status of that). */
export function reactionToStatus(status) {
  const codes = { 401: 4401, 403: 4403, 404: 4404, 429: 4429, 503: 4503 };
  return reactionToClose(codes[status] ?? 1006);
}
