// Asks the browser for a passkey: to make one ("create"), or to show one ("get"). What it answers goes with the form.

const form = document.querySelector("form[data-passkey]");
const deed = form.dataset.passkey;
const said = JSON.parse(document.getElementById("passkey-options").textContent);

async function ask() {
  if (!window.PublicKeyCredential?.parseRequestOptionsFromJSON) {
    throw new Error("This browser has no passkeys, or is too old for them.");
  }
  const publicKey =
    deed === "create"
      ? PublicKeyCredential.parseCreationOptionsFromJSON(said)
      : PublicKeyCredential.parseRequestOptionsFromJSON(said);
  return navigator.credentials[deed]({ publicKey });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const complaint = form.querySelector("p[role=alert][hidden], p[data-said]");
  try {
    form.elements.answer.value = JSON.stringify((await ask()).toJSON());
    form.submit();
  } catch (error) {
    complaint.dataset.said = "";
    complaint.hidden = false;
    complaint.textContent =
      error.name === "NotAllowedError"
        ? "Nothing came from a passkey. Try again."
        : error.name === "InvalidStateError"
          ? "This device has a passkey of yours already."
          : error.message;
  }
});
