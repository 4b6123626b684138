// The conversation outlives a reload and a look at another page, in this tab alone.

const PREFIX = "playground:";

// `owner` is who is signed in: what somebody else left in this tab is thrown away.
export function makeMemory(owner) {
  const key = PREFIX + owner;

  function forgetOthers() {
    for (const name of Object.keys(sessionStorage)) {
      if (name.startsWith(PREFIX) && name !== key) sessionStorage.removeItem(name);
    }
  }

  // Null where there is nothing, or nothing for the model that a link to this page names.
  function load() {
    try {
      forgetOthers();
      const state = JSON.parse(sessionStorage.getItem(key));
      const wanted = new URLSearchParams(location.search).get("model");
      const [navigation] = performance.getEntriesByType("navigation");
      const isLink = navigation?.type === "navigate";
      return isLink && wanted && wanted !== state?.wishes.model ? null : state;
    } catch {
      return null;
    }
  }

  // A browser that keeps nothing, or has no room, only loses the memory.
  function save(state) {
    try {
      sessionStorage.removeItem(key);
      sessionStorage.setItem(key, JSON.stringify(state));
    } catch {
      // Nothing is remembered.
    }
  }

  return { load, save };
}
