// grpc-js: any method, messages are bytes. The background caller is a timer of the same loop.
import grpc from '@grpc/grpc-js';

const { PORT, NEXT = '', SERVICE, BG_HZ = '0', BG_SECONDS = '600' } = process.env;
const PREFIX = '/hop.Chain/';
const bytes = (value) => value;
const options = { 'grpc.enable_http_proxy': 0 };
const client = NEXT && new grpc.Client(NEXT.replace('http://', ''), grpc.credentials.createInsecure(), options);

function call(path) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + 20000;
    client.makeUnaryRequest(path, bytes, bytes, Buffer.alloc(0), { deadline }, (error, answer) => {
      if (error) reject(error);
      else resolve(answer.toString());
    });
  });
}

async function answer(path, callback) {
  try {
    const body = NEXT && !path.startsWith(PREFIX + 'bg-') ? await call(path) : path;
    callback(null, Buffer.from(`${SERVICE} ${body}`));
  } catch (error) {
    callback({ code: grpc.status.UNAVAILABLE, details: String(error) });
  }
}

// A table that has every method.
class Any extends Map {
  get(path) {
    const func = (_, callback) => answer(path, callback);
    return { func, serialize: bytes, deserialize: bytes, type: 'unary', path };
  }
}

const server = new grpc.Server();
server.handlers = new Any();
server.bindAsync(`127.0.0.1:${PORT}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});

const hz = Number(BG_HZ);
if (NEXT && hz > 0) {
  let n = 0;
  const timer = setInterval(() => {
    if (n >= hz * Number(BG_SECONDS)) return clearInterval(timer);
    const path = `${PREFIX}bg-${SERVICE}-${process.pid}-${n++}`;
    call(path).catch((error) => console.error(`background: ${error}`));
  }, 1000 / hz);
}
