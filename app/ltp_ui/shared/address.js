// Streamlit adds an entry to the browser's history for every value that a page puts into its address,
// so that Back would undo a token or a slider first. An address of the same page replaces the entry.
function keepOneEntryAPage() {
  if (window.history.keepsOneEntryAPage) return;
  window.history.keepsOneEntryAPage = true;
  const push = window.history.pushState.bind(window.history);
  window.history.pushState = (state, title, url) => {
    const next = new URL(url ?? "", window.location.href);
    const isSamePage = next.pathname === window.location.pathname;
    if (isSamePage) window.history.replaceState(state, title, url);
    else push(state, title, url);
  };
}

export default function ({ parentElement }) {
  keepOneEntryAPage();
  const button = parentElement.querySelector("button");
  const said = parentElement.querySelector("output");
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(window.location.href);
      said.textContent = "Copied";
    } catch {
      said.textContent = "Not allowed here: copy the address above the page";
    }
    setTimeout(() => { said.textContent = ""; }, 4000);
  };
}
