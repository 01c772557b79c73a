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
  try {
    localStorage.setItem(`slidebag-${name}`, value);
  } catch {
    // storage is switched off: the choice holds for this page
  }
}

/** Return a kept choice, or null. */
export function kept(name) {
  try {
    return localStorage.getItem(`slidebag-${name}`);
  } catch {
    return null;
  }
}
