// The same hop on Node: http.request, or fetch with CLIENT=fetch.
import http from "node:http";

const next = process.env.NEXT ?? "";
const agent = new http.Agent({ keepAlive: true });

function request(path) {
  return new Promise((resolve, reject) => {
    http
      .get(next + path, { agent }, (response) => {
        let body = "";
        response.on("data", (chunk) => (body += chunk));
        response.on("end", () => resolve([response.statusCode, body]));
        response.on("error", reject);
      })
      .on("error", reject);
  });
}

async function fetched(path) {
  const response = await fetch(next + path);
  return [response.status, await response.text()];
}

const call = process.env.CLIENT === "fetch" ? fetched : request;

http
  .createServer(async (incoming, response) => {
    try {
      const [status, body] = next ? await call(incoming.url) : [200, "end"];
      response.writeHead(status, { "Content-Length": Buffer.byteLength(body) });
      response.end(body);
    } catch {
      response.writeHead(502);
      response.end();
    }
  })
  .listen(Number(process.env.PORT), "127.0.0.1", 256);

const hertz = Number(process.env.BG_HZ ?? 0);
if (next && hertz) {
  let count = 0;
  setInterval(() => call(`/bg/${process.pid}-${++count}`).catch(() => {}), 1000 / hertz);
}
