// The server's API. A refusal becomes an Error that says why.

export class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(`api/${path}`, options);
  } catch {
    throw new Refusal(0, "The server does not answer: is davel serve running?");
  }
  if (answer.ok) return answer;
  let text = answer.statusText;
  try {
    text = (await answer.json()).detail;
  } catch { /* the status must do */ }
  throw new Refusal(answer.status, text);
}

const json = async (path, options) => (await ask(path, options)).json();
const send = (method, body) => ({ method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const info = () => json("info");
export const folder = () => json("folder");
export const jobs = () => json("jobs");
export const job = (id) => json(`jobs/${id}`);
export const choose = (file) => json(`folder/${file}`, { method: "POST" });
export const cancel = (id) => json(`jobs/${id}/cancel`, { method: "POST" });
export const remove = (id) => ask(`jobs/${id}`, { method: "DELETE" });
export const result = (id) => json(`jobs/${id}/result`);
export const events = (id) => json(`jobs/${id}/events`);
export const truth = (id) => json(`jobs/${id}/truth`);
export const peaks = (id, start, end, bins) => json(`jobs/${id}/peaks?start=${start}&end=${end}&bins=${bins}`);
export const save = (id, revision, events) => json(`jobs/${id}/events`, send("PUT", { revision, events }));
export const media = (id) => `api/jobs/${id}/media`;
export const copy = (id) => json(`jobs/${id}/copy`);
export const makeCopy = (id) => json(`jobs/${id}/copy`, { method: "POST" });
export const removeCopy = (id) => ask(`jobs/${id}/copy`, { method: "DELETE" });
export const copyMedia = (id) => `api/jobs/${id}/copy/media`;

// The events as a file: its name, its content, and what the format does not hold.
export async function written(id, format, events) {
  const answer = await ask(`jobs/${id}/export`, send("POST", { format, events }));
  const name = decodeURIComponent(answer.headers.get("content-disposition").split("''")[1]);
  return { name, content: await answer.blob(), lost: answer.headers.get("davel-not-held") };
}

// Sends a file; `onProgress` is told the part that is done. Returns { promise, abort }.
export function upload(file, onProgress) {
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    request.open("POST", `api/jobs?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (e) => onProgress(e.total ? e.loaded / e.total : 0);
    request.onload = () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Refusal(request.status, request.response?.detail ?? request.statusText));
    };
    request.onerror = () => reject(new Refusal(0, `${file.name}: the connection broke, or the server refused it (too large?)`));
    request.onabort = () => reject(new Refusal(0, `${file.name}: cancelled`));
    request.send(file);
  });
  return { promise, abort: () => request.abort() };
}
