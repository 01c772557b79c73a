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

async function ask(path, signal) {
  let response;
  try {
    response = await fetch(address(path), { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoAnswer("slidebag does not answer", "start `slidebag view` again and open the address it prints");
  }
  if (response.ok) return response;
  const { error, hint } = await response.json();
  throw new Problem(error, hint);
}

export async function askJson(path) {
  return (await ask(path)).json();
}

export async function askBytes(path) {
  return (await ask(path)).arrayBuffer();
}

export async function askPicture(path, signal) {
  const blob = await (await ask(path, signal)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}
