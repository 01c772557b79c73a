/* What the pages ask of the server. */

const root = new URL("../", import.meta.url); // below the token, where there is one

/** What the server could not do, and the way out. */
export class Problem extends Error {
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}

/** The server was not reached: it may be next time. */
export class NoAnswer extends Problem {}

/** The address of a path of the viewer. */
export function address(path) {
  return new URL(path, root).href;
}

/** Return what is answered, read as "json", "arrayBuffer" or "blob". */
async function ask(path, kind, signal) {
  let response, body;
  try {
    response = await fetch(address(path), { signal });
    body = await response[response.ok ? kind : "json"]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoAnswer("slidebag does not answer", "start `slidebag view` again and open the address it prints");
  }
  if (response.ok) return body;
  throw new Problem(body.error, body.hint);
}

export const askJson = (path) => ask(path, "json");

export const askBytes = (path) => ask(path, "arrayBuffer");

export async function askPicture(path, signal) {
  return createImageBitmap(await ask(path, "blob", signal), { colorSpaceConversion: "none" });
}
