// The few REST calls that the page makes, with the visitor's session and its CSRF token.

export class Problem extends Error {
  constructor(document, status) {
    super(document.detail ?? document.title ?? `HTTP ${status}`);
    Object.assign(this, document, { status });
  }
}

export function createApi({ api_base: base, conversation_id: conversation, csrf_token: csrfToken }) {
  const here = `${base}/conversations/${conversation}`;

  async function call(method, url, body) {
    const response = await fetch(url, {
      method,
      credentials: "same-origin",
      headers: {
        Accept: "application/json, application/problem+json",
        ...(body && { "Content-Type": "application/json" }),
        ...(method !== "GET" && { "X-CSRFToken": csrfToken }),
      },
      body: body && JSON.stringify(body),
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Problem(answer, response.status);
    return answer;
  }

  return {
    conversation: () => call("GET", here),
    reply: (id) => call("GET", `${here}/replies/${id}`),
    cancel: (id) => call("POST", `${here}/replies/${id}/cancel`, {}),
    feedback: (id, body) => call("POST", `${here}/messages/${id}/feedback`, body),
    escalate: (body) => call("POST", `${here}/escalate`, body),
    async probe() {
      return (await fetch(here, { credentials: "same-origin", headers: { Accept: "application/json" } })).status;
    },
    /** Oldest first, over all pages. */
    async *messages() {
      let url = `${here}/messages?page_size=200`;
      while (url) {
        const page = await call("GET", url);
        yield* page.results;
        // Absolute or bare cursor: keep to this origin whatever host the server thinks it has.
        const next = page.next && new URL(page.next, location.href);
        url = next ? next.pathname + next.search : null;
      }
    },
  };
}
