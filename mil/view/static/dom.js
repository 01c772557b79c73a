/* Elements of the page. Whatever comes from files becomes text, never markup. */

export const byId = (id) => document.getElementById(id);

/** Make an element; an attribute that is true stands alone, false or null is left out, on... listens. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Remember a choice in this browser, where it may. */
export function keep(name, value) {
  put("localStorage", name, value);
}

/** Return a kept choice, or null. */
export function kept(name) {
  return get("localStorage", name);
}

/** Remember something for the other pages of this tab, where it may: text, numbers, lists. */
export function keepInTab(name, value) {
  put("sessionStorage", name, JSON.stringify(value));
}

/** Return what was kept in this tab, or null. */
export function keptInTab(name) {
  return JSON.parse(get("sessionStorage", name));
}

function put(storage, name, value) {
  try {
    window[storage].setItem(`slidebag-${name}`, value);
  } catch {
    // storage is switched off: the choice holds for this page
  }
}

function get(storage, name) {
  try {
    return window[storage].getItem(`slidebag-${name}`);
  } catch {
    return null;
  }
}
