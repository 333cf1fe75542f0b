// Node's http2 without TLS, one session to the next hop. The background caller is a timer of the same loop.
import http2 from 'node:http2';

const { PORT, NEXT = '', SERVICE, BG_HZ = '0', BG_SECONDS = '600' } = process.env;

let session;
function connected() {
  if (!session || session.closed || session.destroyed) {
    session = http2.connect(NEXT);
    session.on('error', (error) => console.error(`session: ${error}`));
  }
  return session;
}

function call(path) {
  return new Promise((resolve, reject) => {
    const stream = connected().request({ ':path': path });
    const parts = [];
    let status;
    stream.setTimeout(20000, () => stream.destroy(new Error('timeout')));
    stream.on('response', (headers) => (status = headers[':status']));
    stream.on('data', (part) => parts.push(part));
    stream.on('error', reject);
    stream.on('end', () => {
      if (status !== 200) reject(new Error(`status ${status}`));
      else resolve(Buffer.concat(parts).toString());
    });
    stream.end();
  });
}

const server = http2.createServer();
server.on('stream', async (stream, headers) => {
  const path = headers[':path'];
  stream.on('error', (error) => console.error(`stream: ${error}`));
  let status = 200;
  let body;
  try {
    body = `${SERVICE} ${NEXT && !path.startsWith('/bg/') ? await call(path) : path}`;
  } catch (error) {
    status = 502;
    body = String(error);
  }
  if (stream.destroyed) return;
  stream.respond({ ':status': status, 'content-length': Buffer.byteLength(body) });
  stream.end(body);
});
server.listen(Number(PORT), '127.0.0.1', 256);

const hz = Number(BG_HZ);
if (NEXT && hz > 0) {
  let n = 0;
  const timer = setInterval(() => {
    if (n >= hz * Number(BG_SECONDS)) return clearInterval(timer);
    call(`/bg/${SERVICE}/${process.pid}-${n++}`).catch((error) => console.error(`background: ${error}`));
  }, 1000 / hz);
}
