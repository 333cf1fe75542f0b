// Node: CLIENT=http (kept-alive agent) or fetch (undici). The background caller is a timer of the same loop.
import http from 'node:http';

const { PORT, NEXT = '', SERVICE, CLIENT = 'http', BG_HZ = '0', BG_SECONDS = '600' } = process.env;
const agent = new http.Agent({ keepAlive: true });

function callHttp(path) {
  return new Promise((resolve, reject) => {
    const request = http.get(NEXT + path, { agent, timeout: 20000 }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('error', reject);
      answer.on('end', () => {
        if (answer.statusCode !== 200) reject(new Error(`status ${answer.statusCode}`));
        else resolve(Buffer.concat(parts).toString());
      });
    });
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.on('error', reject);
  });
}

async function callFetch(path) {
  const answer = await fetch(NEXT + path, { signal: AbortSignal.timeout(20000) });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`status ${answer.status}`);
  return text;
}

const call = CLIENT === 'fetch' ? callFetch : callHttp;

http
  .createServer({ keepAliveTimeout: 60000 }, async (request, response) => {
    const path = request.url;
    try {
      const body = `${SERVICE} ${NEXT && !path.startsWith('/bg/') ? await call(path) : path}`;
      response.setHeader('Content-Length', Buffer.byteLength(body));
      response.end(body);
    } catch (error) {
      response.statusCode = 502;
      response.end(String(error));
    }
  })
  .listen(Number(PORT), '127.0.0.1', 256);

const hz = Number(BG_HZ);
if (NEXT && hz > 0) {
  let n = 0;
  const timer = setInterval(() => {
    if (n >= hz * Number(BG_SECONDS)) return clearInterval(timer);
    call(`/bg/${SERVICE}/${process.pid}-${n++}`).catch((error) => console.error(`background: ${error}`));
  }, 1000 / hz);
}
